"""How lm_eval finds us: what our entry points name is registered right after lm_eval's own modules ran.

lm_eval 0.4.13 discovers no external models or tasks. The start-up hook (build_backend/_implicit_if_autoload.py) sends
the imports of `lm_eval.models` and `lm_eval.tasks` here; a process whose start-up ran no `.pth` files (a folder made
by `pip install --target`, `python -S`) calls `activate()` instead. Where a newer lm_eval discovers entry points by
itself, nothing is registered twice.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from implicit_if.harness.cpu_threads import spin_briefly
from implicit_if.harness.errors import UserError
from implicit_if.harness.model_folders import check_model_folders
from implicit_if.harness.safe_text import one_line, printable

DISTRIBUTION = "implicit-if"
MODELS = "lm_eval.models"  # lm_eval named its entry-point groups after these modules
TASKS = "lm_eval.tasks"
PREFLIGHT = "implicit_if.preflight"

_MARK = "_implicit_if"
_search = threading.local()
_matched: set[str] = set()
"""Our tasks that this process runs."""


def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """Returns the spec any other finder has for `name`; its loader calls `register` once the module has run.

    Args:
        name: `lm_eval.models` or `lm_eval.tasks`.
        path: The parent package's `__path__`, as for any meta-path finder.
        target: As for any meta-path finder.
    """
    if getattr(_search, "active", False):
        return None  # another package's hook of this kind asked all finders, us included
    if _runs_our_model():  # lm_eval imports its tasks before torch
        spin_briefly()
    _search.active = True
    try:
        spec = _ask_other_finders(name, path, target)
    finally:
        _search.active = False
    if spec is not None and hasattr(spec.loader, "exec_module"):
        _call_after_execution(spec.loader, name)
    return spec


def activate() -> None:
    """Registers models and tasks now, for a process that did not run the start-up hook. May be called again.

    Raises:
        ImportError: If lm_eval cannot be imported.
    """
    for name, extend in _EXTEND.items():
        importlib.import_module(name)
        extend()


def register(module_name: str) -> None:
    """Registers what belongs to one of lm_eval's modules; a failure is one line on stderr, lm_eval goes on."""
    try:
        _print_user_errors()
        _EXTEND[module_name]()
    except Exception as error:  # whatever is wrong with us must not stop a run that does not use us
        print(
            f"implicit-if: not registered with {module_name}: {error!r}. "
            f"Fix it with `pip install --force-reinstall --no-deps {DISTRIBUTION}`.",
            file=sys.stderr,
        )


def declared(group: str) -> list[str]:
    """The names that our distribution declares in a group of entry points, sorted."""
    return sorted(point.name for point in _own_entry_points(group))


def task_folders() -> list[Path]:
    """The folders our `lm_eval.tasks` entry points name.

    Raises:
        ModuleNotFoundError: If a package an entry point names is not there.
    """
    folders = []
    for point in _own_entry_points(TASKS):
        spec = importlib.util.find_spec(point.value)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {point.value}", name=point.value)
        folders.append(Path(next(iter(spec.submodule_search_locations))))
    return folders


def task_files() -> list[Path]:
    """The YAML files of our tasks, each in a folder of the task's name."""
    return [path for folder in task_folders() for path in sorted(folder.glob("*/*.yaml"))]


def runs_lm_eval(argv: Sequence[str]) -> bool:
    """Whether a command line is lm_eval's own command."""
    program = Path(argv[0])
    name = program.parent.name if program.stem == "__main__" else program.stem
    return name.replace("-", "_") == "lm_eval"


def on_command_line(*flags: str) -> bool | None:
    """Whether lm_eval's command line has one of these flags; None if it is not what runs."""
    if not runs_lm_eval(sys.argv):
        return None
    return any(argument.split("=")[0] in flags for argument in sys.argv[1:])


def option_values(argv: Sequence[str], *flags: str) -> list[str]:
    """The values of an option on a command line, which may take several, in either spelling."""
    found: list[str] = []
    taking = False
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            taking = name in flags
            found += [value] if taking and equals else []
        elif taking:
            found.append(argument)
    return found


@functools.cache
def _print_user_errors() -> None:
    """Makes lm_eval's command end in one line on a mistake or Ctrl-C; LMEVAL_LOG_LEVEL=DEBUG keeps the traceback."""
    hook = sys.excepthook
    if on_command_line() is None or os.environ.get("LMEVAL_LOG_LEVEL", "").upper() == "DEBUG":
        return

    def print_user_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, UserError):
            print(f"implicit-if: {printable(str(error))}", file=sys.stderr)
        elif _is_about_a_model(error, trace):
            told = one_line(str(error).partition("\n")[0], 300)
            print(
                f"implicit-if: the model cannot be loaded ({told}). Expected --model_args pretrained= with a model's "
                f"folder or its hub name; LMEVAL_LOG_LEVEL=DEBUG shows where it failed.",
                file=sys.stderr,
            )
        elif isinstance(error, KeyboardInterrupt):
            print("\ninterrupted", file=sys.stderr)
        else:
            hook(kind, error, trace)

    sys.excepthook = print_user_error


def _is_about_a_model(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether transformers found neither a folder nor the hub's model, in a run of one of our tasks."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = Path("" if trace is None else trace.tb_frame.f_code.co_filename)
    return bool(_matched) and isinstance(error, OSError) and place.parts[-3:] == ("transformers", "utils", "hub.py")


def _own_entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    """Our distribution's only: other packages' plugins are not ours to load."""
    points = importlib.metadata.distribution(DISTRIBUTION).entry_points
    return [point for point in points if point.group == group]


def _runs_our_model() -> bool:
    """Whether lm_eval's command line names one of our models."""
    if on_command_line() is None:
        return False
    ours = {point.name for point in _own_entry_points(MODELS)}
    return any(argument.rpartition("=")[2] in ours for argument in sys.argv[1:])


def _ask_other_finders(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        if getattr(finder, "__name__", "") == "ImplicitIfFinder" or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            return spec
    return None


def _call_after_execution(loader: Any, name: str) -> None:
    execute: Callable[[ModuleType], None] = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == name:  # a zip file's loader serves other modules, too
            register(name)

    loader.exec_module = exec_module


def _extend_models() -> None:
    """Adds our models after the built-in ones: lm_eval loads those only into an empty registry."""
    from lm_eval.api.registry import model_registry

    for point in _own_entry_points(MODELS):
        if point.name not in model_registry:
            model_registry.register(point.name, target=point.value)


def _extend_tasks() -> None:
    """Gives every TaskManager our folder, and checks our tasks' arguments when they are chosen for a run."""
    from lm_eval.tasks import TaskManager, manager

    if hasattr(TaskManager, _MARK):
        return
    folders = task_folders()
    if not hasattr(manager, "discover_plugin_task_paths"):  # lm_eval's own discovery, from its pull request 4015
        _add_folders(TaskManager, folders)
    _check_on_match(TaskManager, folders)
    setattr(TaskManager, _MARK, True)


def _add_folders(manager_class: Any, folders: list[Path]) -> None:
    """Puts our folders between lm_eval's and the user's; later ones win, so a user's task hides ours of that name."""
    construct = manager_class.__init__
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments["include_path"]
        if bound.arguments["include_defaults"]:
            users = [given] if isinstance(given, str | os.PathLike) else list(given or ())
            bound.arguments["include_path"] = [*folders, *users]
            bound.arguments["include_defaults"] = not _asks_for_ours_alone(folders)
        construct(*bound.args, **bound.kwargs)
        self.include_path = given

    manager_class.__init__ = __init__


def _asks_for_ours_alone(folders: list[Path]) -> bool:
    """Whether lm_eval's command line names our tasks only: its own are 13,000 files, which take seconds to read."""
    if not runs_lm_eval(sys.argv):
        return False
    asked = {name for value in option_values(sys.argv, "--tasks", "-t") for name in value.split(",")}
    return bool(asked) and asked <= {path.stem for folder in folders for path in folder.glob("*/*.yaml")}


def _check_on_match(manager_class: Any, folders: list[Path]) -> None:
    """Makes `match_tasks` run the preflight checks: a run calls it before it loads the model."""
    match = manager_class.match_tasks

    @functools.wraps(match)
    def match_tasks(self: Any, task_list: list[str]) -> list[str]:
        names: list[str] = match(self, task_list)
        if self.metadata is not None:  # `lm_eval ls` and `lm_eval validate` give none: no run follows
            _preflight(self, names, folders)
        return names

    manager_class.match_tasks = match_tasks


def _preflight(task_manager: Any, names: list[str], folders: list[Path]) -> None:
    """Calls the check of each matched task that is ours, once a TaskManager; its UserError is the user's to see."""
    checked: set[str] = task_manager.__dict__.setdefault(f"{_MARK}_checked", set())
    for point in _own_entry_points(PREFLIGHT):
        if point.name in checked or point.name not in names:
            continue
        source = task_manager.task_index[point.name].yaml_path
        if source is not None and any(Path(source).is_relative_to(folder) for folder in folders):
            check_model_folders(task_manager.metadata)
            point.load()(dict(task_manager.metadata))
            checked.add(point.name)
            _matched.add(point.name)


_EXTEND: dict[str, Callable[[], None]] = {MODELS: _extend_models, TASKS: _extend_tasks}
