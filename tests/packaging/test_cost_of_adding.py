"""What it costs to add things: each works in a copy of the tree and took no more files than CONTRIBUTING.md says."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")
TABLE = {
    what: re.findall(r"`((?:harness|tasks|model_wrappers)/[^`]+)`", files)
    for what, files in re.findall(r"^\| (an? [^|]+?) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
}


class Tree:
    """A copy of the installed package that can be added to and run.

    Attributes:
        package: The folder `implicit_if`.
        touched: Files that were added or changed, relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self.package, self.touched = folder / "implicit_if", set[str]()
        unshipped = shutil.ignore_patterns("__pycache__", "submissions", "page.html")
        for room in ROOMS:
            shutil.copytree(ROOT / room, self.package / room, copy_function=os.symlink, ignore=unshipped)
        for path in (ROOT / "src" / "implicit_if").glob("*.py"):
            (self.package / path.name).symlink_to(path)

    def add(self, path: str, text: str) -> None:
        """Writes a new file."""
        target = self.package / path
        assert not target.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        self.touched.add(path)

    def change(self, path: str, old: str, new: str) -> None:
        """Replaces a text that stands once in a file."""
        text = (self.package / path).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (self.package / path).unlink()
        (self.package / path).write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(path)

    def run(self, *arguments: str) -> str:
        """What a command of this tree prints."""
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=self.package.parent, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def cli(self, *arguments: str) -> str:
        """What `implicit-if` prints."""
        return self.run("-m", "implicit_if", *arguments)

    def cost_is_that_of(self, what: str) -> None:
        """Checks the files against the table's row."""
        allowed = [re.sub("NAME|SET", "*", path) for path in TABLE[what]]
        strange = [path for path in self.touched if not any(fnmatch.fnmatch(path, pattern) for pattern in allowed)]
        assert strange == []
        assert len(self.touched) <= len(allowed)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def write_outputs(path: Path, name: str, answers: list[str]) -> None:
    rows = [{"instruction": f"Question {n}?", "output": a, "generator": name} for n, a in enumerate(answers)]
    path.write_text(json.dumps(rows))


def test_the_copy_is_what_runs(tree: Tree) -> None:
    printed = tree.run("-c", "import implicit_if.harness.storage as s; print(s.__file__)")
    assert printed.strip() == str(tree.package / "harness" / "storage.py")


def test_every_row_of_the_table_names_files_that_fit_the_tree() -> None:
    assert len(TABLE) == 12
    folders = {re.sub(r"/NAME.*|/[\w.]+$", "", path) for paths in TABLE.values() for path in paths}
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_a_rule(tree: Tree, tmp_path: Path) -> None:
    file = "model_wrappers/rules/rules.py"
    body = (
        "def no_first(scores: Tensor, step: Step, *, weight: float = -1.0) -> None:\n    scores[:, 0] += weight\n\n\n"
    )
    tree.change(file, "RULES: dict[", f"{body}RULES: dict[")
    names = re.search(r"for f in \((.*?)\)\}", (tree.package / file).read_text())
    assert names is not None
    tree.change(file, names[0], names[0].replace(names[1], f"{names[1]}, no_first"))
    (tmp_path / "own.yaml").write_text(
        "name: own\nsource: 'ours: a test'\nrules:\n  first: {function: no_first, weight: -3}\n"
    )
    code = """
import torch
from implicit_if.model_wrappers.rules.presets import load_preset
from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor
rules = BoundRules.bind(load_preset("own.yaml"), None, [1])
print(RulesProcessor(rules, 0)(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 3)).tolist())
"""
    assert tree.run("-c", code) == "[[-3.0, 0.0, 0.0]]\n"
    tree.cost_is_that_of("a rule")


def test_a_rules_preset(tree: Tree) -> None:
    text = (tree.package / "model_wrappers/rules/presets/paper.yaml").read_text()
    tree.add("model_wrappers/rules/presets/mine.yaml", text.replace("name: paper", "name: mine"))
    code = """
from implicit_if.model_wrappers.rules.presets import load_preset, preset_names
print("mine" in preset_names(), len(load_preset("mine").rules))
"""
    assert tree.run("-c", code) == "True 3\n"
    tree.cost_is_that_of("a rules preset")


JUDGE = """
from implicit_if.harness.judging.protocol import LocalJudge, Verdict


class Shout(LocalJudge):
    name = "shout"
    fingerprint = "ab" * 32

    def judge(self, comparisons):
        for c in comparisons:
            yield Verdict(c.key, float(c.first.isupper()))


def fingerprint():
    return Shout.fingerprint


def build(argument, options):
    return Shout()
"""


def test_a_judge_backend(tree: Tree, tmp_path: Path) -> None:
    tree.add("harness/judging/backends/shout.py", JUDGE)
    traits = (tree.package / "harness/judging/backends/longest.yaml").read_text()
    tree.add("harness/judging/backends/shout.yaml", traits.replace("example: longest", "example: shout"))
    write_outputs(tmp_path / "a.json", "a", ["YES", "no", "NO"])
    write_outputs(tmp_path / "b.json", "b", ["yes", "yes", "yes"])
    printed = tree.cli("judge", "a.json", "--reference", "b.json", "--judge", "shout")
    assert re.search(r"^win rate +66\.7", printed, re.MULTILINE)
    assert "judge:shout@abababab" in printed
    assert "shout" in tree.cli("judge", "--help")
    assert tree.cli("judge-card", "shout").startswith("# ")
    tree.cost_is_that_of("a judge backend")


def test_a_judge_on_an_existing_backend(tree: Tree) -> None:
    tree.add("harness/judging/configs/cheap.yaml", "backend: openai\nargument: cheap-2030-01-01\n")
    assert "cheap" in tree.cli("judge", "--help")
    tree.cost_is_that_of("a judge on an existing backend")


def test_a_task_with_a_board(tree: Tree, tmp_path: Path) -> None:
    text = (tree.package / "tasks/alpaca_winrate/alpaca_winrate.yaml").read_text()
    tree.add("tasks/poem_winrate/poem_winrate.yaml", text.replace("task: alpaca_winrate", "task: poem_winrate"))
    tree.add("tasks/poem_winrate/README.md", "# Poems\n")
    assert "poem_winrate" in tree.run("-m", "lm_eval", "ls", "tasks")
    questions = [{"instruction": f"Question {n}?"} for n in range(4)]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    write_outputs(tmp_path / "reference.json", "base", ["a", "bb", "lol", "long answer"])
    metadata = ["instructions=questions.json", "reference=reference.json", "judge=longest", "template=tulu"]
    out = ["--output_path", "out", "--log_samples"]
    tree.run("-m", "lm_eval", "--model", "dummy", "--tasks", "poem_winrate", "--metadata", *metadata, *out)
    about = ["--name", "acme/dummy", "--licence", "MIT", "--system", "other", "--base-model", "acme/base"]
    tree.cli("submit", "out", *about, "--instructions", "questions.json", "--root", "boards/submissions")
    for file in ("README.md", "rules.md"):
        shutil.copy(ROOT / "leaderboards/boards/templates" / file, tmp_path / "boards" / file)
    tree.cli("leaderboard", "--root", "boards")
    assert "task:poem_winrate|" in (tmp_path / "boards/README.md").read_text()
    assert "task:poem_winrate|" in (tmp_path / "boards/leaderboard.json").read_text()
    tree.cost_is_that_of("a task with a board")


def test_a_tuning_recipe_of_a_hub_data_set(tree: Tree, tmp_path: Path, tiny_model_folder: str) -> None:
    recipe = """
summary: riddles
data:
  repo: acme/riddles
  revision: cc7b047b6e5bb11b4f1af84efc572db110a51b3c
  file: riddles.jsonl
  user: "{riddle}"
  assistant: "{solution}"
  licence: MIT
encoding: {template: tulu}
"""
    tree.add("harness/tuning/recipes/riddles.yaml", recipe)
    assert re.search(r"^ +riddles +riddles$", tree.cli("tune", "--list"), re.MULTILINE)
    (tmp_path / "rows.jsonl").write_text('{"riddle": "What has keys?", "solution": "A piano."}\n' * 3)
    printed = tree.cli("tune", "riddles", "--base", tiny_model_folder, "--data", "rows.jsonl", "--dry-run")
    assert "What has keys?" in printed
    assert "A piano." in printed
    tree.cost_is_that_of("a tuning recipe")


def test_a_base_model_with_its_sibling(tree: Tree, tmp_path: Path) -> None:
    settings = "settings: [reference]\ntrain: {learning_rate: 3.0e-5}\nepochs: {gsm: 9}\n"
    tree.add("harness/tuning/profiles/tiny-1b.yaml", f"base: acme/tiny-1b\nnames: [tiny-1b]\n{settings}")
    folder = "harness/references/tiny-1b/instruction"
    source = next((ROOT / "harness/references/gemma-3-270m/instruction").glob("builtin@*.json"))
    meta: dict[str, Any] = json.loads(source.with_suffix(".meta.json").read_text())
    meta["model"]["bases"] = ["acme/tiny-1b"]
    tree.add(f"{folder}/{source.name}", source.read_text())
    tree.add(f"{folder}/{source.stem}.meta.json", json.dumps(meta))
    code = """
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.references import choose_reference, load_reference
from implicit_if.harness.tuning.recipe import load_recipe
recipe = load_recipe("gsm", base="acme/tiny-1b")
print(recipe.profile, recipe.train.epochs, recipe.train.learning_rate)
builtin = load_instructions("builtin")
name, _ = choose_reference("auto", builtin, "acme/tiny-1b", answers_as_base=False)
print(name, len(load_reference(name, builtin)))
"""
    assert tree.run("-c", code) == "tiny-1b/reference 9 3e-05\ntiny-1b/instruction 80\n"
    tree.cost_is_that_of("a base model")


def test_a_column_of_every_table(tree: Tree, tmp_path: Path) -> None:
    make = "from factory import make_submission; make_submission(Path('boards/submissions'), name='acme/old')"
    path = f"import sys; from pathlib import Path; sys.path.insert(0, {str(ROOT / 'tests/leaderboards')!r}); "
    tree.run("-c", path + make)  # a submission from before there was such a column
    tree.change(
        "harness/answer_form.py",
        '    "avg_length": lambda',
        '    "questions": lambda o, tags: 100.0 * o.output.endswith("?"),\n    "avg_length": lambda',
    )
    tree.change(
        "harness/columns.py",
        '    Column("avg_length"',
        '    Column("questions", "questions %", "form", 1, False, "Questions: answers that end in one."),\n'
        '    Column("avg_length"',
    )
    tree.run("-c", path + make.replace("'acme/old'", "'acme/new', seed=2"))
    for file in ("README.md", "rules.md"):
        shutil.copy(ROOT / "leaderboards/boards/templates" / file, tmp_path / "boards" / file)
    tree.cli("leaderboard", "--root", "boards")
    boards = tmp_path / "boards"
    assert "questions %" in (boards / "README.md").read_text()
    assert "questions %" in (boards / "page.html").read_text()
    for file in ("leaderboard.csv", "leaderboard.json"):
        assert "questions" in (boards / file).read_text()
    assert (boards / "README.md").read_text().count("acme/old") >= 1
    tree.cost_is_that_of("a column of every table")
