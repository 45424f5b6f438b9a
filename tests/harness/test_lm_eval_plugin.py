"""Registration with the real lm_eval, in this process; tests/packaging/test_install.py has the installed package."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness import lm_eval_plugin
from implicit_if.harness.errors import UserError

ROOT = Path(__file__).parents[2]
TASK = "{task: NAME, dataset_path: none, output_type: generate_until, doc_to_text: a, doc_to_target: b}"


def distribution(folder: Path, groups: dict[str, dict[str, str]]) -> Path:
    """The metadata of an installed implicit-if with these entry points."""
    info = folder / "implicit_if-0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: implicit-if\nVersion: 0.0\n")
    sections = [[f"[{group}]", *(f"{k} = {v}" for k, v in points.items())] for group, points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(line for section in sections for line in section))
    return folder


def tasks(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.yaml").write_text(TASK.replace("NAME", name))
    return folder


@pytest.fixture
def declared() -> dict[str, dict[str, str]]:
    """The entry points of pyproject.toml."""
    groups: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return groups


@pytest.fixture
def manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: dict[str, dict[str, str]]
) -> Iterator[Callable[..., Any]]:
    """lm_eval's TaskManager with our folder added, two built-in tasks, and a preflight check that takes notes."""
    declared["implicit_if.preflight"] = {"alpaca_winrate": "preflight_probe:check", "absent": "preflight_probe:check"}
    (distribution(tmp_path / "site", declared) / "preflight_probe.py").write_text(
        "seen = []\n"
        "def check(metadata):\n"
        "    seen.append(metadata)\n"
        "    if metadata.get('judge') == 'bad':\n"
        "        from implicit_if.harness.errors import UserError\n"
        "        raise UserError('unknown judge')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    lm_eval_plugin.activate()
    import lm_eval.tasks.manager as module

    built_in = tasks(tmp_path / "built-in", "alpaca_winrate", "only_built_in")
    monkeypatch.setattr(module, "__file__", str(built_in / "manager.py"))  # where it looks for built-in tasks
    yield module.TaskManager
    sys.modules.pop("preflight_probe", None)


def preflights() -> list[dict[str, Any]]:
    import preflight_probe

    seen: list[dict[str, Any]] = preflight_probe.seen
    return seen


def test_our_models_join_the_built_in_ones(manager: Callable[..., Any], declared: dict[str, dict[str, str]]) -> None:
    from lm_eval.api.registry import model_registry
    from lm_eval.models import MODEL_MAPPING

    assert model_registry.keys() >= MODEL_MAPPING.keys() | declared["lm_eval.models"].keys()


def test_a_registered_model_is_left_alone(manager: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.registry import model_registry

    monkeypatch.setitem(model_registry._objs, "rules_poe", "another.module:Model")
    lm_eval_plugin.activate()
    assert model_registry._objs["rules_poe"] == "another.module:Model"


def test_our_tasks_lie_between_the_built_in_and_the_users(manager: Callable[..., Any], tmp_path: Path) -> None:
    ours = manager().task_index
    assert ours["alpaca_winrate"].yaml_path.is_relative_to(lm_eval_plugin.task_folders()[0])
    assert ours["only_built_in"].yaml_path.is_relative_to(tmp_path / "built-in")
    mine = tasks(tmp_path / "mine", "alpaca_winrate")
    for given in (mine, str(mine), [mine], (str(mine),)):
        users = manager(include_path=given)
        assert users.task_index["alpaca_winrate"].yaml_path.is_relative_to(mine)
        assert users.include_path == given


def test_without_defaults_there_is_only_the_users_folder(manager: Callable[..., Any], tmp_path: Path) -> None:
    mine = tasks(tmp_path / "mine", "my_task")
    assert manager(include_path=mine, include_defaults=False).all_tasks == ["my_task"]
    assert manager(include_defaults=False).all_tasks == []


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["--tasks", "alpaca_winrate"], False),
        (["run", "--tasks", "alpaca_winrate,chatbot_audit"], False),
        (["run", "-t", "alpaca_winrate", "chatbot_audit", "--limit", "1"], False),
        (["--tasks=alpaca_winrate", "only_built_in"], True),
        (["--tasks", "alpaca_*"], True),
        (["ls", "tasks"], True),
        (["--config", "alpaca_winrate"], True),
    ],
)
def test_built_in_tasks_are_not_read_where_only_ours_are_asked_for(
    words: list[str], read: bool, manager: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tasks(tmp_path / "mine", "my_task")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lm_eval", *words])
    names = manager(include_path=mine).all_tasks
    assert ("only_built_in" in names) == read
    assert {"alpaca_winrate", "chatbot_audit", "my_task"} <= set(names)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/another_program", *words])
    assert "only_built_in" in manager().all_tasks


def test_activating_again_changes_nothing(manager: Callable[..., Any]) -> None:
    before = manager.__init__, manager.match_tasks  # type: ignore[misc]
    lm_eval_plugin.activate()
    assert (manager.__init__, manager.match_tasks) == before  # type: ignore[misc]


def test_native_discovery_is_not_doubled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import lm_eval.tasks.manager as module

    class Fresh(module.TaskManager):
        pass

    construct = Fresh.__init__
    monkeypatch.setattr("lm_eval.tasks.TaskManager", Fresh)
    monkeypatch.setattr(module.TaskManager, "_implicit_if", False, raising=False)
    monkeypatch.delattr(module.TaskManager, "_implicit_if")
    monkeypatch.setattr(module, "discover_plugin_task_paths", list, raising=False)
    monkeypatch.setattr(lm_eval_plugin, "task_folders", lambda: [tmp_path])
    lm_eval_plugin._extend_tasks()
    assert Fresh.__init__ is construct
    assert Fresh.match_tasks is not module.TaskManager.match_tasks


def test_preflight_gets_a_copy_of_the_metadata_once(manager: Callable[..., Any]) -> None:
    metadata = {"judge": "longest"}
    chosen = manager(metadata=metadata)
    assert chosen.match_tasks(["alpaca_*"]) == chosen.match_tasks(["alpaca_winrate"]) == ["alpaca_winrate"]
    assert preflights() == [metadata]
    assert preflights()[0] is not metadata


def test_preflight_of_a_run_without_metadata(manager: Callable[..., Any]) -> None:
    manager(metadata={}).match_tasks(["alpaca_winrate"])
    assert preflights() == [{}]


def test_a_preflight_error_reaches_the_user(manager: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^unknown judge$"):
        manager(metadata={"judge": "bad"}).match_tasks(["alpaca_winrate"])


def test_a_model_s_path_that_is_not_there_is_refused_before_it_is_loaded(manager: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^pretrained=\./nowhere: no such folder"):
        manager(metadata={"pretrained": "./nowhere"}).match_tasks(["alpaca_winrate"])


def test_no_preflight_for_listing_other_tasks_or_a_users_own(manager: Callable[..., Any], tmp_path: Path) -> None:
    manager().match_tasks(["*"])  # as `lm_eval validate` does, which starts no run
    manager(metadata={"judge": "bad"}).match_tasks(["only_built_in"])
    mine = tasks(tmp_path / "mine", "alpaca_winrate")
    manager(metadata={"judge": "bad"}, include_path=mine).match_tasks(["alpaca_winrate"])
    assert "preflight_probe" not in sys.modules


def test_preflight_runs_where_lm_eval_processes_a_command_line(manager: Callable[..., Any]) -> None:
    from lm_eval.config.evaluate_config import EvaluatorConfig

    arguments: dict[str, Any] = {"model_args": {"pretrained": "x"}, "tasks": ["alpaca_winrate"]}
    config = EvaluatorConfig(metadata={"judge": "bad"}, **arguments)._configure()
    with pytest.raises(UserError, match="unknown judge"):
        config.process_tasks(config.metadata)
    assert preflights() == [{"pretrained": "x", "judge": "bad"}]


def test_find_spec_registers_after_the_module_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plugin_target.py").write_text("print('module')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(lm_eval_plugin._EXTEND, "plugin_target", lambda: print("registered"))
    spec = lm_eval_plugin.find_spec("plugin_target", None, None)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert capsys.readouterr() == ("module\nregistered\n", "")


def test_a_failed_registration_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("damaged")

    monkeypatch.setitem(lm_eval_plugin._EXTEND, lm_eval_plugin.TASKS, fail)
    lm_eval_plugin.register(lm_eval_plugin.TASKS)
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "lm_eval.tasks: RuntimeError('damaged')" in err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("wrong path"), "implicit-if: wrong path\n"),
        (KeyboardInterrupt(), "\ninterrupted\n"),
        (OSError("x"), ""),
    ],
)
def test_a_mistake_and_ctrl_c_are_one_line(
    error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others: list[BaseException] = []
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--tasks", "alpaca_winrate"])
    monkeypatch.delenv("LMEVAL_LOG_LEVEL", raising=False)
    monkeypatch.setattr(sys, "excepthook", lambda kind, found, trace: others.append(found))
    lm_eval_plugin._print_user_errors.__wrapped__()
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == told
    assert others == ([] if told else [error])


def test_a_model_that_is_nowhere_is_one_line_in_a_run_of_our_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils.hub import cached_file

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        cached_file("no/such-model", "config.json", local_files_only=True)
    except OSError as error:
        found = error
    others: list[BaseException] = []
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--tasks", "alpaca_winrate"])
    monkeypatch.delenv("LMEVAL_LOG_LEVEL", raising=False)
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: others.append(error))
    lm_eval_plugin._print_user_errors.__wrapped__()
    monkeypatch.setattr(lm_eval_plugin, "_matched", set())
    sys.excepthook(type(found), found, found.__traceback__)
    assert (others, capsys.readouterr().err) == ([found], "")
    monkeypatch.setattr(lm_eval_plugin, "_matched", {"alpaca_winrate"})
    sys.excepthook(type(found), found, found.__traceback__)
    told = capsys.readouterr().err
    assert told.startswith("implicit-if: the model cannot be loaded (")
    assert told.count("\n") == 1
    sys.excepthook(OSError, OSError("disk"), None)
    assert len(others) == 2


def test_two_hooks_of_one_kind_do_not_call_each_other_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class OurHook:
        find_spec = staticmethod(lm_eval_plugin.find_spec)

    class TheirHook:
        @staticmethod
        def find_spec(name: str, path: Any, target: Any) -> Any:
            others = (f for f in sys.meta_path if f is not TheirHook)
            return next((spec for f in others if (spec := f.find_spec(name, path, target))), None)

    monkeypatch.setattr(sys, "meta_path", [OurHook, TheirHook, *sys.meta_path])
    spec = lm_eval_plugin.find_spec("lm_eval.tasks", list(importlib.import_module("lm_eval").__path__), None)
    assert spec is not None
    assert spec.name == "lm_eval.tasks"


def test_a_missing_module_has_no_spec() -> None:
    assert lm_eval_plugin.find_spec("no_such_module_anywhere", None, None) is None


def test_a_missing_task_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = distribution(tmp_path, {"lm_eval.tasks": {"implicit_if": "implicit_if.harness.errors"}})
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(ModuleNotFoundError, match=r"implicit_if\.harness\.errors"):
        lm_eval_plugin.task_folders()
