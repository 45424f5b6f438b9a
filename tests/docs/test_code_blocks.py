"""Every block of the documentation is run or read by a test, or the reason why not stands here."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.cli import main
from implicit_if.harness.judging.attempts import is_installed

ROOT = Path(__file__).parents[2]


def _commands() -> Any:
    spec = importlib.util.spec_from_file_location("docs_commands", Path(__file__).with_name("test_commands.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = _commands()
CARDS = "docs/judges/"  # generated; their one command is docs/judges.md's
PAGES = [page for page in COMMANDS.PAGES if not page.startswith(CARDS)]
RUN_HERE = {
    "docs/start/outputs.md": ("implicit-if attempts", "implicit-if judge", "implicit-if score", "implicit-if view"),
    "docs/compare.md": ("implicit-if compare A.annotations",),
    "docs/start/narrow-task.md": ("implicit-if tune", "implicit-if openings"),
}
PYTHON = {
    "docs/python.md": "tests/docs/test_python.py",
    "docs/attempts.md": "tests/docs/test_attempts.py",
    "docs/rules.md": "tests/docs/test_rules.py",
    "docs/start/outputs.md": "tests/docs/test_code_blocks.py",
    "tasks/alpaca_winrate/README.md": "tests/docs/test_code_blocks.py",
}
PYTHON_NOT_RUN = {
    "docs/embedded-model.md": "converts the embedded model, a minute; tests/model_wrappers/test_embedded_model.py does",
    "docs/analyses/response-ranking.md": "10,000 likelihoods; tests/harness/analysis/ ranks fewer",
}
NOT_RUN = {
    r"meta-llama/|allenai/|Qwen/|openai:|anthropic:|gpt-|weighted_": "needs weights or a server out of reach",
    r"^(accelerate|vllm|torchrun|ACCELERATE_|hf auth)": "needs a GPU or an account",
    r"^(pip|python -m venv|git clone|git |cd )": "installs or clones: tests/packaging and CI do",
    r"^(pytest|ruff|python -m sphinx|\.ci/run|implicit-if leaderboard|python (tools|benchmarks|examples)/|tools/)": (
        "CI or the script's own test runs it"
    ),
    r"^(while|done|do|python tools/make_reference|--name|--base|CELLS|(instruction|response|gsm|mbpp) )": (
        "made the committed rows, hours on a GPU; the scripts have tests"
    ),
    r"^lm_eval ": "minutes a model: tests/tasks and tests/model_wrappers run these through lm-eval with small ones",
    r"YOUR|REVISION|NAME|PRESET|MODEL|PATH|DIR|FILE|\.\.\.": "a placeholder; the command's own tests run it",
    r"^implicit-if (ablate|chat|embedded-model|audit|token-shift|response-ranking|adherence|openings|attempts)": (
        "minutes on the embedded model; the command's own tests run it with a small one"
    ),
    r"^implicit-if (judge|judge-card|tune|select|view|table|figure|compare|score|submit|replicate|agreement|export)": (
        "needs files of the reader's; the command's own tests run it with theirs"
    ),
    r"^implicit-if (verify|rerun|audit-verdicts|doctor|cache|list|completion)": "the command's own tests run it",
    r"^(eval|source|complete|snakemake|sbatch|export|ls|cat) ": "the reader's shell",
}


def test_the_pages_run_here_are_pages() -> None:
    assert set(RUN_HERE) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_says_why_not(page: str) -> None:
    lines = [line for line in COMMANDS.command_lines(page) if not line.startswith(RUN_HERE.get(page, ("\n",)))]
    assert [line for line in lines if not any(re.search(pattern, line) for pattern in NOT_RUN)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_known_language_and_is_sound(page: str) -> None:
    for language, text in COMMANDS.blocks(page):
        if language == "yaml":
            yaml.safe_load(text)
        elif language == "json":
            json.loads(text)
        elif language == "python":
            compile(text, page, "exec")
            assert (page in PYTHON) != (page in PYTHON_NOT_RUN), f"{page}: name the test that runs its Python"
        else:
            known = ("bash", "text", "bibtex", "{toctree}", "{eval-rst}")
            assert language in known or language.startswith("{include}"), f"{page}: a block of {language!r}"


def test_the_tests_that_run_a_page_name_it() -> None:
    for page, test in PYTHON.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


def test_a_page_s_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (text for language, text in COMMANDS.blocks("docs/start/outputs.md") if language == "python")
    exec(compile(example, "outputs.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("0")  # the shorter answer of the two, judged by `longest`


def test_the_results_of_lm_eval_are_read_as_the_task_s_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in; tests/tasks/test_alpaca_winrate.py shows that lm-eval's results have these keys."""
    monkeypatch.chdir(tmp_path)
    scores = {"win_rate_ci_low,none": 20.4, "win_rate_ci_high,none": 30.5}
    found = {
        "results": {"alpaca_winrate": scores},
        "configs": {"alpaca_winrate": {"metadata": {"signature": "task:x"}}},
    }
    (tmp_path / "results.json").write_text(json.dumps(found))
    (example,) = (text for language, text in COMMANDS.blocks("tasks/alpaca_winrate/README.md") if language == "python")
    space: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), space)  # noqa: S102
    assert (space["interval"], space["signature"]) == ((20.4, 30.5), "task:x")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: str) -> Path:
    """A folder with the files that the pages speak of."""
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.outputs import Output, save_outputs

    monkeypatch.chdir(tmp_path)
    items = load_instructions("builtin").items

    def outputs(name: str, generator: str, text: str) -> None:
        rows = [
            {"instruction": i.text, "output": text * (1 + n % 3), "generator": generator} for n, i in enumerate(items)
        ]
        save_outputs(name, [Output.model_validate(row) for row in rows])

    outputs("outputs.json", "mine", "Yes. ")
    outputs("A.json", "a", "Yes. ")
    outputs("B.json", "b", "No, never. ")
    for name in ("reference.json", "REF.json"):
        outputs(name, "reference", "Perhaps. ")
    for name in "AB":
        assert main(["judge", f"{name}.json", "--reference", "REF.json", "--judge", "longest"]) == 0
    (tmp_path / "tickets.csv").write_text("product,question,reply\nbike,Where is it?,In the shed.\nlamp,Old?,No.\n")
    rows = [{"instruction": "Where is it?", "response": "In the shed."}, {"instruction": "Old?", "response": "No."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_reader_with_outputs_only(reader: Path, real_attempts: None, capsys: pytest.CaptureFixture[str]) -> None:
    if not is_installed():
        pytest.skip("needs the extra embedded")
    alpaca = [
        {
            "instruction": f"q{n}",
            "output_1": "b",
            "output_2": "aa",
            "generator_1": "r",
            "generator_2": "s",
            "preference": 2,
        }
        for n in range(3)
    ]
    (reader / "annotations.json").write_text(json.dumps(alpaca))
    for line in COMMANDS.command_lines("docs/start/outputs.md"):
        limited = line
        if line.startswith("implicit-if attempts"):
            limited += " --limit 3"
        elif line.startswith("implicit-if judge"):
            limited += " --judge longest --judge-attempts none"
        elif line.startswith("implicit-if view"):
            limited += " --judge-attempts none --no-browser"
        if line.startswith(RUN_HERE["docs/start/outputs.md"]):
            assert main(shlex.split(limited)[1:]) in (0, 1), line
    assert "win rate" in capsys.readouterr().out.replace("_", " ")


def test_the_reader_who_compares(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = 0
    for line in COMMANDS.command_lines("docs/compare.md"):
        if line.startswith(RUN_HERE["docs/compare.md"]):
            assert main(shlex.split(line)[1:]) == 0, line
            ran += 1
    assert ran == 3
    assert "detectable" in capsys.readouterr().out


@pytest.mark.slow
def test_the_reader_with_a_task(reader: Path, tiny_model_folder: str) -> None:
    (recipe,) = (text for language, text in COMMANDS.blocks("docs/start/narrow-task.md") if language == "yaml")
    (reader / "tickets.yaml").write_text(recipe)
    for line in COMMANDS.command_lines("docs/start/narrow-task.md"):
        if line.startswith(RUN_HERE["docs/start/narrow-task.md"]):
            assert main(shlex.split(line.replace("MODEL", tiny_model_folder))[1:]) == 0, line
    assert (reader / "tuned" / "tickets" / "tuning.json").is_file()
