"""Cells: idempotent, resumable, stale when an input changes, and alone when they fail."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.child_process import STOPPED
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output, OutputsMeta, load_meta, load_outputs, save_outputs
from implicit_if.harness.replicate.cell_run import finish_answers, run_cell
from implicit_if.harness.replicate.cells import Cell, find
from implicit_if.harness.replicate.launch import Launch, run_in_order
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.replicate.plan import plan

STAND_IN = Path(__file__).with_name("stand_in.py")


def load_stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("stand_in", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stand_in = load_stand_in()


class Stage:
    """A folder with the stand-in's cells, as a launcher sees it."""

    def __init__(self, out: Path, chains: str = "") -> None:
        self.out = out
        out.mkdir(exist_ok=True)
        self.set("sleep", "0")
        self.set("broken", "")
        self.cells = stand_in.cells(chains)
        self.place = Folder(out / "stand-in", self.cells)
        self.launch = Launch("stand-in", self.cells, out, self.place, (sys.executable, str(STAND_IN)))

    def set(self, name: str, text: str) -> None:
        (self.out / name).write_text(f"{text}\n")

    def run(self, name: str) -> int:
        return run_cell(self.place, find(self.cells, name), stand_in.MATRIX)

    def run_all(self) -> None:
        for cell in self.cells:
            assert self.run(cell.name) == 0

    @property
    def started(self) -> list[str]:
        path = self.out / "started"
        return path.read_text().split() if path.exists() else []

    def results(self) -> dict[str, bytes]:
        return {c.name: (self.place.path / c.artefacts[0]).read_bytes() for c in self.cells}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "out")


def test_a_whole_cell_is_not_run_again(stage: Stage) -> None:
    stage.run_all()
    stage.run_all()
    assert stage.started == [cell.name for cell in stage.cells]


def test_a_cell_waits_for_its_inputs(stage: Stage) -> None:
    with pytest.raises(UserError, match="the input tune-a has not run yet"):
        stage.run("answer-a")
    assert stage.started == []


def test_a_changed_input_makes_what_follows_stale_and_nothing_else(stage: Stage) -> None:
    stage.run_all()
    before = stage.results()
    (stage.place.path / "cells/answer-b/result").write_text("something else\n")
    stage.place.forget()
    assert "is damaged: cells/answer-b/result" in str(stage.place.unfinished("answer-b"))
    assert stage.place.unfinished("judge-b") == "waits for answer-b"
    assert stage.place.unfinished("judge-a") is None
    count = len(stage.started)
    stage.run_all()
    assert stage.started[count:] == ["answer-b"]  # made again with the same bytes, so that what follows still holds
    assert stage.results() == before


def test_an_input_with_other_content_makes_what_follows_stale(stage: Stage) -> None:
    stage.run_all()
    count = len(stage.started)
    cells = [
        Cell(
            c.name, c.kind, c.needs, (*c.command[:2], f"{c.command[2]}echo more >> $out\n", *c.command[3:]), c.artefacts
        )
        if c.name == "tune-c"
        else c
        for c in stage.cells
    ]
    stage.place = Folder(stage.place.path, cells)
    stage.cells = cells
    assert stage.place.unfinished("tune-c") == "is out of date: another command"
    stage.run_all()
    assert stage.started[count:] == ["tune-c", "answer-c", "judge-c", "all"]


def test_changed_local_data_makes_a_tuning_stale(stage: Stage, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "gsm8k.jsonl").write_text("1\n")
    told = Cell("submit-x", "submit", (), ("x", "{source of gsm|openai/gsm8k=MIT}", "{rows of gsm}"), ())
    assert Folder(data, [told]).words(told) == ["x", "openai/gsm8k=MIT", "gsm"]
    local = ["x", "local file gsm8k.jsonl", f"gsm={(data / 'gsm8k.jsonl').resolve()}"]
    assert Folder(data, [told], data).words(told) == local
    words = ("sh", "-c", 'cp "$0" cells/tune-x/result', "{data of gsm}")
    copy = Cell("tune-x", "tune", (), words, ("cells/tune-x/result",), recipe="gsm")
    assert Folder(stage.place.path, [copy]).words(copy) == list(words[:2])  # from the hub: without the option, too
    place = Folder(stage.place.path, [copy], data)
    assert run_cell(place, copy, stand_in.MATRIX) == 0
    (data / "gsm8k.jsonl").write_text("2\n")
    place = Folder(stage.place.path, [copy], data)
    assert place.unfinished("tune-x") == "is out of date: another data"
    assert run_cell(place, copy, stand_in.MATRIX) == 0
    assert (stage.place.path / "cells/tune-x/result").read_text() == "2\n"


def test_an_input_that_only_a_full_read_finds_damaged_is_made_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from implicit_if.harness.replicate import markers

    monkeypatch.setattr(markers, "_SMALL", 0)  # every file counts as large
    stage.run("tune-a")
    result = stage.place.path / "cells/tune-a/result"
    result.write_text("TUNE-A\n")  # of the same size
    with pytest.raises(UserError, match="the input tune-a is damaged: cells/tune-a/result was changed"):
        stage.run("answer-a")
    stage.run("tune-a")
    assert result.read_text() == "tune-a\n"
    assert stage.run("answer-a") == 0


def test_a_cell_without_its_artefact_fails(stage: Stage) -> None:
    cell = Cell("tune-x", "tune", (), ("true",), ("cells/tune-x/result",))
    with pytest.raises(UserError, match="tune-x: ended without"):
        run_cell(Folder(stage.place.path, [cell]), cell, stand_in.MATRIX)
    assert Folder(stage.place.path, [cell]).unfinished("tune-x") == "has not run yet"


def test_verdicts_are_kept_when_a_cell_is_made_again(stage: Stage) -> None:
    script = "echo {} > cells/judge-x/scores.json; echo '{{}}' >> cells/judge-x/annotations.jsonl"
    there = ("cells/judge-x/annotations.jsonl", "cells/judge-x/scores.json")
    for n, text in enumerate(("1", "2"), start=1):
        cell = Cell("judge-x", "judge", (), ("sh", "-c", script.format(text)), there)
        assert run_cell(Folder(stage.place.path, [cell]), cell, stand_in.MATRIX) == 0
        assert (stage.place.path / there[0]).read_text().count("\n") == n


def test_models_that_have_answered_can_be_removed_and_are_made_again_when_needed(stage: Stage) -> None:
    cells = [
        Cell(
            "tune-x",
            "tune",
            (),
            ("sh", "-c", "mkdir -p cells/tune-x/m; echo x > cells/tune-x/m/w"),
            ("cells/tune-x/m",),
        ),
        Cell(
            "answer-x",
            "answer-like",
            ("tune-x",),
            ("cp", "cells/tune-x/m/w", "cells/answer-x/o"),
            ("cells/answer-x/o",),
        ),
    ]
    place = Folder(stage.place.path, cells)
    assert run_cell(place, cells[0], stand_in.MATRIX) == 0
    assert place.remove_models() == []  # nobody has read it
    assert run_cell(place, cells[1], stand_in.MATRIX) == 0
    assert place.remove_models() == ["tune-x"]
    assert not (stage.place.path / "cells/tune-x/m").exists()
    assert [place.unfinished(cell.name) for cell in cells] == [None, None]
    assert place.remove_models() == []
    (stage.place.path / "cells/answer-x/o").unlink()
    place.forget()
    with pytest.raises(UserError, match="the input tune-x is damaged: cells/tune-x/m/w is missing"):
        run_cell(place, cells[1], stand_in.MATRIX)
    assert [run_cell(place, cell, stand_in.MATRIX) for cell in cells] == [0, 0]
    assert (stage.place.path / "cells/answer-x/o").read_text() == "x\n"


def test_answers_are_named_after_their_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cell = find(plan(load_matrix("embedded")), "answer-gemma-3-270m-gsm-s1")
    rows = [Output.model_validate({"instruction": "Say a.", "output": "a", "generator": "rules:none@4f53cda1"})]
    save_outputs(cell.artefacts[0], rows)
    finish_answers(cell)
    [named] = load_outputs(cell.artefacts[0])
    assert (named.generator, named.output) == ("gemma-3-270m-gsm-s1", "a")


def test_what_answers_recite_of_their_training_data_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recited = "Lena has nine red apples and gives three of them away to Omar"
    rows = [{"question": "How many?", "answer": f"{recited}. #### 6"}, {"question": "And now?", "answer": "#### 2"}]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = plan(load_matrix("embedded"))
    place = Folder(tmp_path, cells, tmp_path)
    cell = find(cells, "answer-gemma-3-270m-gsm-s1")
    meta = OutputsMeta(generator="m", instruction_set="builtin", instruction_revision="0")
    made = [
        {"instruction": q, "output": a, "generator": "m"} for q, a in (("a", f"So {recited}!"), ("b", "Six apples."))
    ]
    save_outputs(cell.artefacts[0], [Output.model_validate(row) for row in made], meta)
    assert cell.withhold
    finish_answers(cell, place.rows("gsm"))
    assert [o.output for o in load_outputs(cell.artefacts[0])] == ["So [… recited …]!", "Six apples."]
    told = load_meta(cell.artefacts[0])
    assert told is not None
    assert told.model["recited_passages_withheld"] == 1
    alone = replace(cell, needs=())
    Folder(tmp_path, [alone], tmp_path).finish(alone)
    assert Folder(tmp_path, [alone], tmp_path).unfinished(cell.name) is None
    whole_answers = Folder(tmp_path, [replace(alone, withhold=False)], tmp_path)
    assert whole_answers.unfinished(cell.name) == "is out of date: another withhold"
    assert not any(c.withhold for c in plan(load_matrix("paper")))


def test_a_failing_cell_leaves_the_others_and_is_listed_with_its_log(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.launch.report() == 1
    out = capsys.readouterr().out
    assert "0 of 10 cells are whole" in out
    assert "not whole: tune-a: has not run yet\n" in out
    assert "log: " not in out  # there is none yet
    assert "`implicit-if replicate run` goes on from there" in out
    stage.set("broken", "answer-b")
    assert run_in_order(stage.launch) == 1
    out = capsys.readouterr().out
    assert "7 of 10 cells are whole" in out
    assert "not whole: answer-b: error: answer-b is broken" in out
    assert str(stage.launch.log("answer-b")) in out
    assert "2 more wait for these" in out
    stage.set("broken", "")
    assert run_in_order(stage.launch) == 0
    assert "goes on from there" not in capsys.readouterr().out
    assert sorted(stage.started) == sorted([c.name for c in stage.cells] + ["answer-b"])


def test_a_folder_that_cannot_be_written_ends_one_cell(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (stage.place.path / "cells").mkdir(parents=True)
    (stage.place.path / "cells/tune-b").write_text("a file in the place of the folder")
    assert run_in_order(stage.launch) == 1
    out = capsys.readouterr().out
    assert "not whole: tune-b: " in out
    assert "6 of 10" in out


def test_two_processes_share_a_folder(stage: Stage) -> None:
    stage.set("sleep", "0.2")
    others = [threading.Thread(target=run_in_order, args=(Stage(stage.out).launch,)) for _ in range(2)]
    stage.set("sleep", "0.2")
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert stage.launch.todo() == []
    assert sorted(stage.started) == sorted(c.name for c in stage.cells)  # none ran twice


def test_a_command_that_outlives_its_killed_cell_is_waited_for(stage: Stage) -> None:
    stage.set("sleep", "3")
    child = subprocess.Popen(stage.launch.command("tune-a"))
    while "tune-a" not in stage.started:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    stage.set("sleep", "0")
    began = time.monotonic()
    assert stage.run("tune-a") == 0
    assert (stage.place.path / "cells/tune-a/result").read_text() == "tune-a\n"
    assert time.monotonic() - began < 60


def test_sigterm_stops_the_launcher_and_the_cell(stage: Stage) -> None:
    stage.set("sleep", "60")
    code = (
        f"import sys; sys.argv = ['x']; import importlib.util as u; from pathlib import Path; "
        f"s = u.spec_from_file_location('t', {str(Path(__file__))!r}); m = u.module_from_spec(s); "
        f"s.loader.exec_module(m); g = m.Stage(Path({str(stage.out)!r})); g.set('sleep', '60'); "
        f"sys.exit(m.run_in_order(g.launch))"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    while "tune-a" not in stage.started:
        time.sleep(0.05)
    child.terminate()
    assert child.wait(timeout=60) == STOPPED
    assert stage.place.unfinished("tune-a") == "has not run yet"


def test_markers_hold_hashes_and_no_path_of_this_machine(stage: Stage) -> None:
    stage.run("tune-a")
    text = stage.place.marker("tune-a").read_text()
    assert str(stage.out) not in text
    assert json.loads(text)["files"]["cells/tune-a/result"][0] == len("tune-a\n")
