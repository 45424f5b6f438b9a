"""What goes wrong outside of a cell ends it with its reason: a judge that is down, a missing key, a full disk."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.outputs import Output, load_outputs, save_outputs
from implicit_if.harness.replicate.cell_run import run_cell
from implicit_if.harness.replicate.cells import Cell, find
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.matrix import MATRICES, Matrix, load_matrix
from implicit_if.harness.replicate.plan import plan

JUDGED, READ = "judge-gemma-3-270m-base-s1", "answer-gemma-3-270m-instruction-s1"


def replication(tmp_path: Path, judge: dict[str, Any]) -> tuple[Folder, Matrix]:
    """A folder in which the base and its sibling have answered two instructions, and nothing else was done."""
    (tmp_path / "set.json").write_text('[{"instruction": "Say a."}, {"instruction": "Say b."}]')
    values = yaml.safe_load((MATRICES / "embedded.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(values | {"judge": judge, "instructions": str(tmp_path / "set.json"), "n_instructions": 2})
    )
    matrix = load_matrix(tmp_path / "mine.yaml")
    cells = plan(matrix)
    place = Folder(tmp_path / "out", cells)
    for name in ("tune-gemma-3-270m-instruction-s1", READ, "answer-gemma-3-270m-base"):
        cell = find(cells, name)
        place.begin(cell)
        if cell.kind == "tune":
            (place.path / cell.artefacts[0]).mkdir(parents=True)
            (place.path / cell.artefacts[0] / "config.json").write_text("{}")
        else:
            texts = [f"Say {letter}." for letter in "ab"]
            rows = [
                {"instruction": t, "output": f"{name} {t}" * (1 + (name == READ)), "generator": name} for t in texts
            ]
            for artefact in cell.artefacts[1:]:
                (place.path / artefact).write_text("{}")
            save_outputs(place.path / cell.artefacts[0], [Output.model_validate(row) for row in rows])
            (place.path / cell.artefacts[1]).unlink()
            _meta(place.path / cell.artefacts[1], name)
        place.finish(cell)
    return place, matrix


def _meta(path: Path, name: str) -> None:
    from implicit_if.harness.chat_templates import load_template
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.judging.judged_run import sidecar
    from implicit_if.harness.storage import write_json

    instructions = load_instructions(str(path.parents[3] / "set.json"))
    write_json(path, sidecar(name, instructions, load_template("tulu"), {"max_gen_toks": 256}, {}).model_dump())


def test_a_judge_that_is_down_ends_its_cell_with_the_reason_and_the_next_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"base_url": "http://127.0.0.1:9/v1", "retries": 0}
    place, matrix = replication(tmp_path, {"name": "openai:m", "options": options, "attempts": "none"})
    assert run_cell(place, place.cells[JUDGED], matrix) == 2
    err = capsys.readouterr().err
    assert "--option retries=0 " in err
    assert "no answer from 127.0.0.1:9 after 1 attempts" in err
    assert place.unfinished(JUDGED) == "has not run yet"
    (tmp_path / "again").mkdir()
    place, matrix = replication(tmp_path / "again", {"name": "longest", "orders": 1, "attempts": "none"})
    assert run_cell(place, place.cells[JUDGED], matrix) == 0
    assert run_cell(place, place.cells[JUDGED], matrix) == 0
    assert f"{JUDGED} is whole" in capsys.readouterr().err


def test_a_missing_key_ends_its_cell_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    place, matrix = replication(tmp_path, {"name": "weighted-gpt-4.1-mini", "api": True, "attempts": "none"})
    assert run_cell(place, place.cells[JUDGED], matrix) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert place.unfinished(JUDGED) == "has not run yet"
    assert place.unfinished(READ) is None


def test_a_full_disk_leaves_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, matrix = replication(tmp_path, {"name": "longest", "orders": 1, "attempts": "none"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write over the limit fails as one on a full disk
    cell = Cell("tune-x", "tune", (), ("sh", "-c", "head -c 100000 /dev/zero > cells/tune-x/m"), ("cells/tune-x/m",))
    small = Folder(place.path, [cell])
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        status = run_cell(small, cell, matrix)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert status != 0
    assert small.unfinished("tune-x") == "has not run yet"
    assert run_cell(small, cell, matrix) == 0


def test_a_submission_follows_from_a_verdict(tmp_path: Path) -> None:
    place, matrix = replication(tmp_path, {"name": "longest", "orders": 1, "attempts": "none"})
    assert run_cell(place, place.cells[JUDGED], matrix) == 0
    submission = place.cells["submit-gemma-3-270m-base-s1"]
    assert run_cell(place, submission, matrix) == 0
    metadata = yaml.safe_load((place.path / submission.artefacts[0] / "metadata.yaml").read_text())
    assert metadata["reference"]["name"] == READ
    assert metadata["system"] == {"kind": "base"} | metadata["system"]
    assert load_outputs(place.path / f"cells/{READ}/outputs.json")[0].generator == READ
