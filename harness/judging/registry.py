"""Judges by name: `get_judge("longest")`, `get_judge("openai:gpt-4.1-mini", base_url=...)`, `get_judge("my.yaml")`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.judging.protocol import Judge, is_pointwise
from implicit_if.harness.storage import read_yaml

if TYPE_CHECKING:
    from implicit_if.harness.stats.length_control.priors import LengthPrior

ENTRY_POINTS = "implicit_if.judges"
BACKENDS = Path(__file__).parent / "backends"
Rereader = Callable[[str], tuple[float, float] | None]
CONFIGS = Path(__file__).parent / "configs"


class Backend(BaseModel):
    """What is known of a backend without importing it: `backends/NAME.yaml`, beside the module `backends/NAME.py`.

    Attributes:
        name: The first part of its judges' names.
        target: "module:function"; the function is `build(argument: str | None, options: Mapping) -> Judge`.
        argument: What the part after a colon names, e.g. "model"; "none" if there is none, "optional" if there may be.
        example: A spec that works, for messages.
        kind: What gives the verdicts.
        orders: Presentation orders judged, for the card; "both" where the order can matter.
        length_prior: Its judges' prior in the length control, by its name in `priors.PRIORS`.
        length_priors: Priors of single arguments that have another one.
        offline: True if this package alone gives every verdict again, without options; the module then has a function
            `fingerprint(argument=None)`.
        earlier: Arguments that name earlier versions of an offline backend, whose verdicts can be given again.
        reads_instruction: False if its verdicts depend on the answers alone.
        attempts: "module:function" of a function `build(argument, options)` whose judge decides whether single answers
            attempt their instructions; empty if none of the backend's can.
        reread: "module:function" of a function `reread(raw, argument) -> (low, high) | None`: which preferences for the
            first answer may follow from what an annotation keeps of the words of the judge with this argument (None:
            they are incomplete); empty if it cannot be told. Of single answers it is `reread_attempt`.
        fingerprint_of_name: True if a judge's name alone decides its fingerprint; the module then has a function
            `fingerprint_of_name(name) -> str | None`, which gives None for a name that its judges cannot have.
        renamed: The name by which it is called now, where this is only an earlier one.
        caution: What stands above every board that it judged.
        card: What its card says; see `cards.page.About`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: str
    argument: str = "optional"
    example: str
    kind: Literal["baseline", "language model", "reward model", "raters", "other"] = "other"
    orders: str = ""
    length_prior: str = "weak"
    length_priors: dict[str, str] = {}
    offline: bool = False
    earlier: tuple[str, ...] = ()
    reads_instruction: bool = True
    attempts: str = ""
    reread: str = ""
    fingerprint_of_name: bool = False
    renamed: str = ""
    caution: str = ""
    card: dict[str, Any] = {}

    @property
    def ordered(self) -> bool:
        """True if its judges can prefer an answer for its place, so that both orders are judged."""
        return self.orders.startswith("both")


@dataclass(frozen=True)
class JudgeSpec:
    """A spec taken apart: which backend, with which argument and options, and what a YAML adds to its card."""

    backend: Backend
    argument: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)


def backend_names() -> list[str]:
    """The names of this package's backends, sorted."""
    return sorted(path.stem for path in BACKENDS.glob("*.yaml"))


def current_backends() -> list[str]:
    """The backends' names without those that are only earlier ones."""
    return [name for name in backend_names() if (backend := get_backend(name)) and not backend.renamed]


@cache
def get_backend(name: str) -> Backend | None:
    """A backend of this package by the first part of a judge's name; None if it is another's."""
    import yaml

    path = BACKENDS / f"{name}.yaml"
    if name not in backend_names():
        return None
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Backend(name=name, target=f"implicit_if.harness.judging.backends.{name}:build", **content)


def backend_of(judge: str) -> Backend | None:
    """The backend of a judge's name as annotations carry it, e.g. "openai:gpt-4.1-mini"; None if it is unknown."""
    return get_backend(judge.partition(":")[0])


def offline_judges() -> dict[str, str]:
    """Fingerprints of the judges that give every verdict again anywhere, without options, by name."""
    found = [backend for name in backend_names() if (backend := get_backend(name)) is not None and backend.offline]
    return {backend.name: _load(backend, "fingerprint")() for backend in found} | {
        f"{backend.name}:{version}": _load(backend, "fingerprint")(version)
        for backend in found
        for version in backend.earlier
    }


def offline_judge(name: str, fingerprint: str) -> str | None:
    """The offline judge that gives the verdicts of this name and fingerprint again, e.g. an earlier version of it."""
    spec = {found: spec for spec, found in offline_judges().items()}.get(fingerprint)
    return spec if spec is not None and name in (spec, spec.partition(":")[0]) else None


def rereader(judge: str, *, attempts: bool = False) -> Rereader | None:
    """The function that reads a judge's stored words again, by the judge's name; None if it has none.

    With `attempts` what it said about single answers.
    """
    backend = backend_of(judge)
    if backend is None or not backend.reread:
        return None
    module, _, function = (f"{backend.reread}_attempt" if attempts else backend.reread).partition(":")
    return partial(getattr(importlib.import_module(module), function), argument=judge.partition(":")[2])


def fingerprint_of_name(judge: str) -> tuple[bool, str | None]:
    """Whether a judge's name alone decides its fingerprint, and which it is; None for a name that no judge has."""
    backend = backend_of(judge)
    if backend is None or not backend.fingerprint_of_name:
        return False, None
    return True, _load(backend, "fingerprint_of_name")(judge)


def length_prior(judge: str) -> LengthPrior:
    """The length control's prior for a judge's name, as annotations carry it; `WEAK` for judges that are unknown."""
    from implicit_if.harness.stats.length_control.priors import PRIORS, WEAK

    name, _, argument = judge.partition(":")
    if name in _configs():
        spec = _from_yaml(_configs()[name])
        name, argument = spec.backend.name, spec.argument or ""
    backend = get_backend(name)
    if backend is not None:
        return PRIORS[backend.length_priors.get(argument, backend.length_prior)]
    for backend in filter(None, map(get_backend, backend_names())):
        if judge in backend.length_priors:  # published annotations hold an annotator's bare name
            return PRIORS[backend.length_priors[judge]]
    return WEAK


def get_judge(spec: str, *, dry_run: bool = False, **options: Any) -> Judge:
    """Builds a judge that may be asked at once.

    Args:
        spec: A backend's name, with its argument after a colon where it takes one; the name of a shipped
            configuration; or the path of a YAML file (`backend:`, `argument:`, every other key an option).
        dry_run: True for a judge that is only to estimate, which needs no key.
        **options: Passed to the backend; they override the YAML's.

    Raises:
        UserError: If the spec, the YAML or the options are wrong, or an extra is missing.
    """
    found = resolve_spec(spec)
    judge = cast(Judge, _load(found.backend, "build")(found.argument, {**found.options, **options}))
    if not dry_run and (check := getattr(judge, "check_ready", None)) is not None:
        check()
    return judge


def get_attempt_judge(spec: str, *, dry_run: bool = False, **options: Any) -> Judge:
    """Builds a judge that decides whether single answers attempt their instructions; arguments as of `get_judge`.

    Raises:
        UserError: As `get_judge`, and for a judge that compares answers only.
    """
    found = resolve_spec(spec)
    if not (target := found.backend.attempts):
        able = [b.example for name in backend_names() if (b := get_backend(name)) is not None and b.attempts]
        raise UserError(
            f"judge of attempts {spec!r}: it compares two answers and cannot decide about one. Expected e.g. "
            f"{', '.join(able)}, or none."
        )
    backend = found.backend.model_copy(update={"target": target})
    judge = cast(Judge, _load(backend, "build")(found.argument, {**found.options, **options}))
    if not is_pointwise(judge):
        raise UserError(f"judge of attempts {spec!r}: its prompt shows two answers. Expected one that shows `answer`.")
    if not dry_run and (check := getattr(judge, "check_ready", None)) is not None:
        check()
    return judge


def check_judge_spec(spec: str) -> None:
    """Checks a spec in milliseconds, without importing a backend: the name is known, its argument is there.

    Raises:
        UserError: As `get_judge` for the spec and the YAML.
    """
    resolve_spec(spec)


def known_judges() -> list[str]:
    """Every name a spec may start with: backends, shipped configurations, other packages' judges; sorted."""
    return sorted({*current_backends(), *_configs(), *_plugins()})


def resolve_spec(spec: str) -> JudgeSpec:
    """Takes a spec apart; see `get_judge`."""
    name, colon, rest = spec.partition(":")
    argument = rest if colon else None
    if (backend := get_backend(name)) is not None:
        return JudgeSpec(_checked(backend, argument), argument)
    if spec.endswith((".yaml", ".yml")):
        return _from_yaml(Path(spec))
    if name in _configs():
        if argument is not None:
            raise UserError(f"judge {spec!r}: {name!r} is a configuration and takes no argument. Use {name!r}.")
        return _from_yaml(_configs()[name])
    if name in _plugins():
        return JudgeSpec(_plugin(name), argument)
    raise unknown_name("judge", name, known_judges(), fix="A judge of your own: the path of a YAML file.")


def _checked(backend: Backend, argument: str | None) -> Backend:
    if backend.argument == "none" and argument is not None:
        raise UserError(f"judge {backend.name!r} takes no argument, found {argument!r}. Use {backend.example!r}.")
    if backend.argument not in ("none", "optional") and not argument:
        raise UserError(
            f"judge {backend.name!r} needs an argument after a colon, found none. Use e.g. "
            f"{backend.example!r}; in a YAML file it is `argument:`."
        )
    return backend


def _plugin(name: str) -> Backend:
    return Backend(name=name, target=_plugins()[name].value, example=name)


def _from_yaml(path: Path) -> JudgeSpec:
    expected = "`backend: NAME`, `argument: TEXT` if the backend needs one, and the backend's options"
    if not os.path.isfile(path):
        raise UserError(f"judge {path}: no such file. Expected a YAML file or one of: {', '.join(known_judges())}.")
    content = read_yaml(path, expected)
    expected = f"Expected {expected}."
    options = dict(content)
    backend, argument = options.pop("backend", None), options.pop("argument", None)
    if not isinstance(backend, str) or not isinstance(argument, str | None):
        raise UserError(f"judge {path}: found backend {backend!r} and argument {argument!r}. {expected}")
    card = options.pop("card", None) or {}
    if (own := get_backend(backend)) is not None:
        return JudgeSpec(_checked(own, argument), argument, options, card)
    if backend in _plugins():
        return JudgeSpec(_plugin(backend), argument, options, card)
    raise unknown_name("backend", backend, {*backend_names(), *_plugins()}, fix=f"It is set in {path}.")


def _configs() -> dict[str, Path]:
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' judges; one whose name is taken is named on stderr and left out."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: (e.name, e.value)):
        if entry.name in {*backend_names(), *_configs()} or found.setdefault(entry.name, entry) is not entry:
            package = entry.dist.name if entry.dist else "another package"
            print(
                f"warning: the judge {entry.name!r} of {package} ({entry.value}) is not used: that name is taken.",
                file=sys.stderr,
            )
    return found


def _load(backend: Backend, function: str) -> Any:
    module, _, build = backend.target.partition(":")
    try:
        return getattr(importlib.import_module(module), build if function == "build" else function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"judge {backend.example!r}: its backend {backend.target} cannot be loaded ({error}). "
            f"Install it again, or what it needs."
        ) from error
