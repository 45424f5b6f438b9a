"""examples/panel: its commands run, and print what an independent reading of the verdicts and the answers gives."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.cli import main

ROOT = Path(__file__).parents[2]
PANEL = ROOT / "examples" / "panel"
README = (PANEL / "README.md").read_text(encoding="utf-8")
VERDICTS = [json.loads(line) for line in (PANEL / "panel_builtin.jsonl").read_text().splitlines()]


def by_system() -> dict[str, dict[str, list[dict[str, Any]]]]:
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for row in VERDICTS:
        found[row["system"]][row["instruction_id"]] = row["verdicts"]
    return found


def folder_of(system: str) -> Path:
    """The committed submission whose answers are those that the verdicts name, of all that lie in leaderboards/."""
    wanted = {(row["instruction_id"], row["system_sha256"]) for row in VERDICTS if row["system"] == system}
    folders = (path.parent for path in sorted((ROOT / "leaderboards").rglob("outputs.jsonl")))
    return next(folder for folder in folders if wanted <= set(answers_in(folder).items()))


def answers_in(folder: Path) -> dict[str, str]:
    """sha256 of each answer by instruction."""
    rows = map(json.loads, (folder / "outputs.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["instruction_id"]: hashlib.sha256(row["output"].encode()).hexdigest() for row in rows}


@pytest.fixture(scope="module")
def printed() -> str:
    """What the first command of the page prints."""
    command = shlex.split(re.findall(r"```bash\n(.*?)```", README, re.S)[0])
    ran = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    return ran.stdout


def test_the_page_shows_what_the_command_prints(printed: str) -> None:
    shown = re.findall(r"```text\n(.*?)```", README, re.S)[0]
    lines = re.sub(r" \([0-9a-f]{8}\)", "", printed).splitlines()  # where a later judge's verdicts are there, too
    assert [line for line in shown.splitlines() if line not in lines] == []


def test_rates_are_those_of_an_independent_reading(printed: str) -> None:
    """Identical answers, which no verdict is about, are ties, and attempts as the same text is elsewhere."""
    ids = {row["instruction_id"] for row in VERDICTS}
    assert len(ids) == 60
    said: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in VERDICTS:
        for verdict in row["verdicts"]:
            for side in ("system", "reference"):
                said[row["instruction_id"], row[f"{side}_sha256"]].append(verdict[f"{side}_attempts"])
    reference = {row["instruction_id"]: row["reference_sha256"] for row in VERDICTS}
    answers = {(row["system"], row["instruction_id"]): row["system_sha256"] for row in VERDICTS}
    table = {line.split()[0]: line.split() for line in printed.splitlines() if line.endswith("60 of 80")}
    assert len(table) == 11
    for system, verdicts in by_system().items():
        wins = [np.mean([v["preference"] for v in verdicts.get(i, [{"preference": 0.5}])]) for i in ids]
        attempts = [np.mean(said[i, answers.get((system, i), reference[i])]) >= 0.5 for i in ids]
        assert table[system][1:3] == [f"{100 * np.mean(attempts):.1f}", f"{100 * np.mean(wins):.1f}"], system
    own = [np.mean(said[i, reference[i]]) >= 0.5 for i in ids]
    assert table["instruction"][2] == f"{100 * np.mean(own):.1f}"


def test_pairs_left_out_are_those_of_identical_answers() -> None:
    ids = {row["instruction_id"] for row in VERDICTS}
    reference = {row["instruction_id"]: row["reference_sha256"] for row in VERDICTS}
    for system, verdicts in by_system().items():
        own = answers_in(folder_of(system))
        assert {i for i in ids if own[i] == reference[i]} == ids - verdicts.keys(), system


def test_agreement_is_that_of_an_independent_computation(printed: str) -> None:
    panel: dict[tuple[str, str], list[float]] = defaultdict(list)
    twice = []
    for row in VERDICTS:
        panel[row["instruction_id"], row["system_sha256"]] += [v["preference"] for v in row["verdicts"]]
        if len(row["verdicts"]) == 2:
            by_order = {v["order"]: v["preference"] for v in row["verdicts"]}
            twice.append((by_order["system_first"], by_order["reference_first"]))
    reference = {row["instruction_id"]: row["reference_sha256"] for row in VERDICTS}
    stored: dict[tuple[str, str], float] = {}
    for system in by_system():  # whose verdicts by the embedded judge's first version lie beside the answers
        for line in (folder_of(system) / "annotations.jsonl").read_text().splitlines():
            row = json.loads(line)
            key = row["instruction_id"], row["system_sha256"]
            if key in panel and row["reference_sha256"] == reference[key[0]]:
                stored[key] = row["preference"]
    both = np.array([(np.mean(panel[key]), value) for key, value in sorted(stored.items())])
    for values, name in ((both, "with embedded"), (np.array(twice), "with itself, in the other order")):
        line = next(li for li in printed.splitlines() if li.startswith(name) and f"{len(values)} pairs" in li)
        a, b = np.sign(values - 0.5).T
        decided = (a != 0) & (b != 0)
        assert f"same verdict {100 * np.mean(a == b):.1f} %" in line
        assert f"kappa {cohen_kappa_score(a, b):.2f}" in line
        assert f"correlation {np.corrcoef(values.T)[0, 1]:.2f}" in line
        assert f"same winner {int((a == b)[decided].sum())} of {int(decided.sum())} decided" in line


def test_one_system_by_commands_says_its_coverage_and_cannot_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "leaderboards"):
        Path(name).symlink_to(ROOT / name)
    judging, agreement, attempts = re.findall(r"```bash\n(.*?)```", README, re.S)[1].splitlines()
    found = re.search(r"\$\(find leaderboards -path '(.*?)'\)", judging)
    assert found is not None
    (outputs,) = (str(p) for p in (ROOT / "leaderboards").rglob("outputs.jsonl") if p.match(found[1]))
    assert main(shlex.split(judging.replace(found[0], outputs))[1:]) == 1
    shown = capsys.readouterr().out
    assert "judged: 60 of 80" in shown
    assert "(60 of 80 judged)" in shown
    assert "judge:sheet:language-model/panel@" in shown
    verdicts = AnnotationStore("rules.annotations.jsonl").read().verdicts.values()
    kept = [json.loads(v.raw)["verdicts"][0] for v in verdicts if v.raw.startswith("{")]
    assert {(one["kind"], one["rater"]) for one in kept} == {("language-model", "panel")}
    assert main(shlex.split(agreement)[1:]) == 0
    assert "panel / sheet:language-model/panel" in capsys.readouterr().out
    assert main(shlex.split(attempts.replace(found[0], outputs))[1:]) == 1
    assert "attempt rate 26.7 [17.1, 39.0] (60 of 80 judged)" in capsys.readouterr().out  # as the first command has it
    reference = ROOT / "harness/references/gemma-3-270m/instruction/builtin@b0ca9101.json"
    options = "--annotations rules.annotations.jsonl --name a/b --licence CC0-1.0 --root out --system rules"
    command = ["submit", outputs, "--reference", str(reference), *options.split(), "--base-model", "a/b"]
    assert main([*command, "--judge", "sheet:language-model/panel"]) == 2
    assert "20 of 80 verdicts of sheet:language-model/panel are missing" in capsys.readouterr().err
    assert not any(Path("out").rglob("scores.json"))


def test_answers_that_are_not_there_are_named(tmp_path: Path) -> None:
    script = runpy.run_path(str(PANEL / "panel.py"))
    with pytest.raises(SystemExit, match=r"no outputs.jsonl holds these 60 answers"):
        script["main"](str(tmp_path))
