from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import Comparison, backends, check_judge_spec, get_judge, known_judges, registry
from implicit_if.harness.stats.length_control.priors import WEAK

PLUGIN = """
class Mine:
    name, ordered, paid = "mine", False, False
    def __init__(self, argument, options):
        self.argument, self.options = argument, dict(options)
        self.fingerprint = "f" * 64
def build(argument, options):
    return Mine(argument, options)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package, as pip lays it out, that brings the judges `mine`, `broken` and, in vain, `longest`."""
    (tmp_path / "my_judges.py").write_text(PLUGIN)
    info = tmp_path / "my_judges-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-judges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[implicit_if.judges]\nmine = my_judges:build\nbroken = my_judges_missing:build\nlongest = my_judges:build\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._plugins.cache_clear()
    yield
    registry._plugins.cache_clear()
    sys.modules.pop("my_judges", None)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_longest_by_name() -> None:
    assert get_judge("longest").name == "longest"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("longst", "Did you mean 'longest'"),
        ("opnai:gpt-4.1-mini", "unknown judge 'opnai'. Did you mean 'openai'"),
        ("", "unknown judge ''"),
        ("longest:x", "takes no argument, found 'x'"),
        ("longest:", "takes no argument"),
        ("openai", "needs an argument after a colon, found none. Use e.g. 'openai:"),
        ("reward:", "needs an argument"),
        ("nowhere/judge.yaml", "no such file"),
    ],
)
@pytest.mark.parametrize("function", [check_judge_spec, get_judge])
def test_wrong_specs(function, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        function(spec)


@pytest.mark.parametrize("name", registry.backend_names())
def test_every_backends_example_passes_the_check_without_importing_it(name: str) -> None:
    backend = registry.get_backend(name)
    assert backend is not None
    module = backend.target.partition(":")[0]
    before = module in sys.modules
    check_judge_spec(backend.example)
    assert (module in sys.modules) == before
    assert (backend.renamed or name) in known_judges()


@pytest.mark.parametrize("path", sorted(registry.CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_passes_the_check_and_hides_no_backend(path: Path) -> None:
    check_judge_spec(path.stem)
    assert path.stem not in registry.backend_names()


def test_a_backend_is_one_module_and_one_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "shortest.yaml", "argument: none\nexample: shortest\nkind: baseline\norders: both\n")
    code = "from implicit_if.harness.judging.backends.longest import LongestJudge\n"
    write(tmp_path / "shortest.py", code + "def build(argument, options):\n    return LongestJudge()\n")
    monkeypatch.setattr(registry, "BACKENDS", tmp_path)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    registry.get_backend.cache_clear()
    assert "shortest" in known_judges()
    assert get_judge("shortest").name == "longest"
    found = registry.backend_of("shortest")
    assert found is not None
    assert found.ordered
    assert registry.length_prior("shortest") is WEAK
    registry.get_backend.cache_clear()
    sys.modules.pop("implicit_if.harness.judging.backends.shortest")


def test_offline_judges_are_those_that_the_package_gives_again() -> None:
    found = registry.offline_judges()
    assert found == {name: get_judge(name).fingerprint for name in ("embedded", "embedded:1", "longest")}


def test_a_judge_from_a_yaml_file(tmp_path: Path) -> None:
    judge = get_judge(write(tmp_path / "short.yaml", "backend: longest\n"))
    assert next(judge.judge([Comparison("k", "", "aa", "a")])).prefers_first == 1.0


@pytest.mark.usefixtures("plugin")
def test_options_of_the_call_override_the_yamls(tmp_path: Path) -> None:
    path = write(tmp_path / "j.yaml", "backend: mine\nargument: model-x\ntemperature: 0.5\nseed: 1\n")
    judge = get_judge(path, seed=2)
    assert judge.argument == "model-x"
    assert judge.options == {"temperature": 0.5, "seed": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found NoneType"),
        ("- longest\n", "found list"),
        ("argument: x\n", "found backend None"),
        ("backend: longest\nargument: 3\n", "argument 3"),
        ("backend: longst\n", "unknown backend 'longst'. Did you mean 'longest'"),
        ("backend: openai\n", "needs an argument"),
        ("backend: [", "cannot be read as YAML"),
        ("backend: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
    ],
)
def test_wrong_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "j.yaml", text)
    with pytest.raises(UserError, match=message) as caught:
        check_judge_spec(path)
    assert "j.yaml" in str(caught.value) or "openai" in str(caught.value)


def test_a_shipped_configuration_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CONFIGS", tmp_path)
    write(tmp_path / "mylongest.yaml", "backend: longest\n")
    assert get_judge("mylongest").name == "longest"
    assert "mylongest" in known_judges()
    with pytest.raises(UserError, match="takes no argument"):
        check_judge_spec("mylongest:x")


@pytest.mark.usefixtures("plugin")
def test_judges_of_other_packages(capsys: pytest.CaptureFixture[str]) -> None:
    check_judge_spec("mine")
    assert get_judge("mine:arg", a=1).argument == "arg"
    assert "mine" in known_judges()
    check_judge_spec("broken")
    with pytest.raises(UserError, match="my_judges_missing"):
        get_judge("broken")
    assert get_judge("longest").name == "longest"
    assert capsys.readouterr().err.count("the judge 'longest' of my-judges") == 1
