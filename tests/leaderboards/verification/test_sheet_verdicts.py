"""A sheet's verdicts on a board: submitted, verified as far as they can be, refused when they do not fit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import factory
import pytest
from factory import LongestJudge, make_submission

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.human import build as build_human
from implicit_if.harness.judging.backends.sheet import SheetJudge, build
from implicit_if.harness.outputs import Output, save_outputs
from implicit_if.leaderboards.boards import build as boards
from implicit_if.leaderboards.boards.tables import board_markdown
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.submitting.write import write_submission
from implicit_if.leaderboards.verification.between_submissions import cross_problems
from implicit_if.leaderboards.verification.rejudge import audit, rejudge
from implicit_if.leaderboards.verification.verify import verify

N = 12
OTHER = factory.outputs("base", N, factory.LOOKALIKE_SEED)


def sheet(path: Path, own: Sequence[Output], seed: int = 0, **rater: str) -> SheetJudge:
    """A rater who says anything about each pair."""
    rng, other = random.Random(seed), {o.instruction_id: o for o in OTHER}
    rows = [
        {
            "instruction_id": o.instruction_id,
            "system_sha256": o.sha256,
            "reference_sha256": other[o.instruction_id].sha256,
            "order": rng.choice(["system_first", "reference_first"]),
            "preference": rng.choice([0, 0.25, 0.5, 0.75, 1]),
            "system_attempts": True,
            "reference_attempts": False,
            "why": "because <b>I</b> say so",
        }
        for o in own
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build(str(path), {"rater": "anna", "kind": "person", **rater})


def submission(root: Path, judge: Any, name: str = "acme/parrot", change: Callable[[Any], Any] = lambda a: a) -> Path:
    """A submission whose verdicts are changed."""
    own = factory.outputs("parrot", N, 1)
    verdicts = [change(a) for a in factory.judge_all(judge, own, OTHER)]
    metadata = factory.metadata_for(name, "v1", {"kind": "base"}, OTHER, judge)
    return write_submission(root, metadata, own, OTHER, verdicts)


@pytest.fixture
def judge(tmp_path: Path) -> SheetJudge:
    return sheet(tmp_path / "v.jsonl", factory.outputs("parrot", N, 1))


def test_verdicts_of_a_sheet_are_believed_and_the_badge_says_so(tmp_path: Path, judge: SheetJudge) -> None:
    found = verify(submission(tmp_path / "s", judge))
    assert found.badge == "rescored"
    expected = [json.loads(line)["preference"] for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert found.scores["win_rate"].value == pytest.approx(100 * sum(expected) / N)
    rows = [json.loads(line) for line in (found.folder / "annotations.jsonl").read_text().splitlines()]
    kept = [json.loads(row["raw"])["verdicts"][0] for row in rows]
    assert {(one["rater"], one["kind"]) for one in kept} == {("anna", "person")}
    with pytest.raises(UserError, match="cannot be made again offline"):
        rejudge(found)
    with pytest.raises(UserError, match="Verdicts of a sheet cannot be judged again"):
        audit(found, judge, 3, 0, None, None)


def test_each_rater_has_a_board_of_its_own(tmp_path: Path, judge: SheetJudge) -> None:
    root = tmp_path / "leaderboards"
    own = factory.outputs("parrot", N, 1)
    ben = sheet(tmp_path / "b.jsonl", own, seed=1, rater="ben", kind="language-model")
    submission(root / "submissions", judge)
    submission(root / "submissions", ben, "acme/parrot-ben")
    make_submission(root / "submissions", name="acme/longest", n=N, judge=LongestJudge(), seed=3)
    built = boards.build(root, cache=tmp_path / "cache")
    assert sorted(board.key.judge for board in built.boards) == [
        "longest",
        "sheet:language-model/ben",
        "sheet:person/anna",
    ]
    assert [len(board.rows) for board in built.boards] == [1, 1, 1]
    (anna,) = (board for board in built.boards if board.key.judge == "sheet:person/anna")
    assert "They are believed: nothing here can make them again." in anna.warnings[0]
    assert "judged by sheet:person/anna" in board_markdown(anna, []).replace("\\", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.model_copy(update={"preference": 1 - 0.9 * (a.preference or 0)}), "does not follow"),
        (lambda a: a.model_copy(update={"raw": "1"}), "does not follow"),
        (lambda a: a.model_copy(update={"raw": a.raw.replace("anna", "eve")}), "does not follow"),
        (lambda a: a.model_copy(update={"raw": a.raw.replace("person", "other")}), "does not follow"),
    ],
    ids=["another preference", "no words", "another rater", "another kind"],
)
def test_verdicts_that_do_not_fit_their_words_are_refused(
    tmp_path: Path, judge: SheetJudge, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(SubmissionError, match=message):
        submission(tmp_path / "s", judge, change=change)


@pytest.mark.parametrize(
    ("name", "fingerprint", "message"),
    [
        ("sheet:person/eve", None, "judge.fingerprint: is not that of 'sheet:person/eve'"),
        ("sheet", None, "names no rater"),
        ("sheet:anna", None, "names no rater"),
        ("sheet:oracle/anna", None, "names no rater"),
        ("sheet:person/anna", "0" * 64, "judge.fingerprint: is not that of"),
        ("Sheet:person/anna", None, "is taken for 'sheet'"),
    ],
)
def test_the_judge_s_name_is_its_raters(
    tmp_path: Path, judge: SheetJudge, name: str, fingerprint: str | None, message: str
) -> None:
    judge.name, judge.fingerprint = name, fingerprint or judge.fingerprint
    with pytest.raises(SubmissionError, match=message):
        submission(tmp_path / "s", judge)


def test_a_rater_has_one_verdict_on_two_answers(tmp_path: Path, judge: SheetJudge) -> None:
    """Two submissions of one system under two revisions, the same rater, unequal verdicts."""
    first = verify(submission(tmp_path / "s", judge))
    again = sheet(tmp_path / "w.jsonl", factory.outputs("parrot", N, 1), seed=5)
    second = verify(submission(tmp_path / "t", again, "acme/parrot2"))
    problems = cross_problems([first, second])
    assert any("verdicts differ from those of" in problem for problem in problems[first.id])
    equal = verify(submission(tmp_path / "u", judge, "acme/parrot3"))
    assert not any("verdicts differ" in problem for problem in cross_problems([first, equal]).get(first.id, []))


def test_the_earlier_name_still_verifies(tmp_path: Path) -> None:
    own = factory.outputs("parrot", N, 1)
    sheet(tmp_path / "v.jsonl", own)
    old = build_human(str(tmp_path / "v.jsonl"), {"rater": "anna"})
    found = verify(submission(tmp_path / "s", old, change=lambda a: a.model_copy(update={"raw": "k00: 1"})))
    assert (found.metadata.judge.name, found.badge) == ("human:anna", "rescored")


def test_submit_takes_a_rater_s_verdicts_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a sheet to a verified submission by commands; a store of two raters needs the name."""
    monkeypatch.chdir(tmp_path)
    own = factory.outputs("parrot", N, 1)
    save_outputs("own.json", own)
    save_outputs("other.json", OTHER)
    for seed, rater in enumerate(("anna", "ben")):
        sheet(tmp_path / f"{rater}.jsonl", own, seed=seed)
        judged = f"judge own.json --reference other.json --judge sheet:{rater}.jsonl --option rater={rater}"
        assert main([*judged.split(), "--option", "kind=person"]) == 0
    submit = "submit own.json --reference other.json --annotations own.annotations.jsonl --name acme/parrot"
    rest = "--licence CC0-1.0 --system base --base-model acme/base --root out"
    assert main([*submit.split(), *rest.split()]) == 2
    assert "Choose one with --judge" in capsys.readouterr().err
    assert main([*submit.split(), *rest.split(), "--judge", "sheet:person/ben"]) == 0
    printed = capsys.readouterr().out
    assert ": rescored" in printed
    assert "judge:sheet:person/ben@" in printed
    stored = {a.judge for a in AnnotationStore("own.annotations.jsonl")}
    assert stored == {"sheet:person/anna", "sheet:person/ben"}
