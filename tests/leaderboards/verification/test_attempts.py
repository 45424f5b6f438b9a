"""The attempt rate of submissions: decided anew, or following from a model's words; in boards one judge a column."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory
import numpy as np
import pytest
import yaml
from board_samples import make_verified
from factory import attempts_by_model, edit_rows, edit_scores, make_submission, rehash

from implicit_if.harness.judging import attempts
from implicit_if.harness.judging.attempts import is_installed
from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.signature import make_signature
from implicit_if.harness.web.document import page_columns
from implicit_if.leaderboards.boards import tables
from implicit_if.leaderboards.boards.board import make_boards
from implicit_if.leaderboards.site import page_data
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.submitting.write import update
from implicit_if.leaderboards.verification import attempts as verification
from implicit_if.leaderboards.verification import result_cache
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.verify import verify

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the extra embedded")
NOT_SAID = "does not follow from what the judge said"
SHORT = "a7a7a7a7"
"""First digits of the stand-in's fingerprint; see `tests/conftest.py`."""


def expected_rate(name: str = "parrot", seed: int = 1) -> float:
    """By the stand-in: answers of an even number of characters."""
    made = factory.outputs(name, 80, seed)
    return 100 * sum(len(o.output) % 2 == 0 for o in made) / 80


def rate(verified: Verified) -> Score:
    return verified.scores["attempt_rate"]


# ------------------------------------------------------------------ the shipped classifier
def test_it_is_decided_from_the_answers_and_stored_first(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80)
    assert not (folder / "attempts.jsonl").exists()
    verified = verify(folder)
    assert rate(verified).value == pytest.approx(expected_rate())
    assert (rate(verified).n_judged, rate(verified).n_expected) == (80, 80)
    assert f"|attempts:embedded@{SHORT}|" in str(rate(verified).signature)
    assert verified.attempts.shape == (80,)
    assert "attempt_rate" in json.loads((folder / "scores.json").read_bytes())["scores"]
    again = result_cache.decode(result_cache.encode(verified), folder)
    assert np.array_equal(again.attempts, verified.attempts)
    assert again.scores == verified.scores
    assert np.array_equal(again.by_order["system_first"], verified.by_order["system_first"])


def test_a_changed_rate_is_refused(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80)
    edit_scores(folder, lambda s: s["scores"]["attempt_rate"].update(value=99.0, interval=None))
    with pytest.raises(SubmissionError, match=r"attempt_rate is 99\.0"):
        verify(folder)


def test_an_older_submission_loads_and_gets_one(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80)
    edit_scores(folder, lambda s: s["scores"].pop("attempt_rate"))
    before = (folder / "scores.json").read_bytes()
    assert rate(verify(folder)).value == pytest.approx(expected_rate())
    assert (folder / "scores.json").read_bytes() == before
    assert any(line.startswith("attempt_rate: absent") for line in update(folder))
    assert "attempt_rate" in json.loads((folder / "scores.json").read_bytes())["scores"]


def test_one_by_an_older_classifier_is_replaced(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80)

    def older(scores: dict[str, Any]) -> None:
        told = scores["scores"]["attempt_rate"]
        told.update(value=1.0, interval=None, signature=told["signature"].replace(SHORT, "00000000"))

    edit_scores(folder, older)
    assert rate(verify(folder)).value == pytest.approx(expected_rate())


def test_without_the_package_a_rate_of_this_version_stands_and_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_submission(tmp_path, n=80)
    for module in (attempts, verification):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    assert rate(verify(folder)).value == pytest.approx(expected_rate())
    edit_scores(
        folder,
        lambda s: s["scores"]["attempt_rate"].update(
            signature=s["scores"]["attempt_rate"]["signature"].replace(SHORT, "00000000")
        ),
    )
    assert "attempt_rate" not in verify(folder).scores
    edit_scores(folder, lambda s: s["scores"].pop("attempt_rate"))
    assert "attempt_rate" not in verify(folder).scores


def test_its_verdicts_are_remembered_by_texts_and_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_submission(tmp_path, n=80)
    monkeypatch.setattr(verification, "classify", lambda answers: pytest.fail("asked again"))
    assert rate(verify(folder)).value == pytest.approx(expected_rate())


def test_without_texts_there_is_none(tmp_path: Path) -> None:
    verified = verify(make_submission(tmp_path, n=12))
    assert "attempt_rate" not in verified.scores
    assert not verified.attempts.size
    assert not result_cache.decode(result_cache.encode(verified), verified.folder).attempts.size


# ------------------------------------------------------------------ a model's verdicts
def by_model(root: Path, n: int = 12, **more: Any) -> Path:
    own = factory.outputs("parrot", n, 1)
    return make_submission(root, n=n, answers=own, attempts=attempts_by_model(own, **more))


def test_a_model_s_verdicts_are_stored_and_counted(tmp_path: Path) -> None:
    folder = by_model(tmp_path)
    verified = verify(folder)
    assert rate(verified).value == pytest.approx(100 * 8 / 12)
    assert "|attempts:openai:oracle@" in str(rate(verified).signature)
    rows = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    assert sorted(rows[0]) == ["fingerprint", "instruction_id", "judge", "probability", "raw", "system_sha256"]
    assert verified.attempts.tolist() == [row["probability"] for row in rows]
    assert "attempts.jsonl" in yaml.safe_load((folder / "metadata.yaml").read_bytes())["files"]


def test_a_model_s_verdicts_stand_where_the_classifier_could_decide(tmp_path: Path) -> None:
    assert "openai:oracle" in str(rate(verify(by_model(tmp_path, 80))).signature)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0].update(probability=1 - rows[0]["probability"]),
            NOT_SAID,
        ),
        (lambda rows: rows[0].update(raw='{"said": "perhaps"}'), NOT_SAID),
        (lambda rows: rows[0].update(raw="torn"), "incomplete"),
        (lambda rows: rows[0].update(system_sha256="0" * 64), "about another answer"),
        (lambda rows: rows[0].update(judge="openai:other"), "several judges"),
        (lambda rows: rows[:-1], "one verdict on each answer"),
        (lambda rows: rows[::-1], "one verdict on each answer"),
        (lambda rows: [{**row, "judge": "longest"} for row in rows], "cannot decide about one"),
        (
            lambda rows: [{**row, "judge": "embedded", "raw": ""} for row in rows],
            "is not that of this",
        ),
        (lambda rows: [{**row, "judge": "0penai:x"} for row in rows], "is taken for 'openai'"),
    ],
    ids="flipped unreadable torn other-answer two-judges missing unsorted longest old-embedded lookalike".split(),
)
def test_verdicts_that_cannot_be_are_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    folder = by_model(tmp_path)
    edit_rows(folder, "attempts.jsonl", lambda rows: found if isinstance(found := change(rows), list) else rows)
    with pytest.raises(SubmissionError, match=message):
        verify(folder)


def test_the_classifier_s_own_verdicts_are_not_believed(tmp_path: Path) -> None:
    own = factory.outputs("parrot", 80, 1)
    with pytest.raises(SubmissionError, match="are computed here; leave the file out"):
        make_submission(tmp_path, n=80, answers=own, attempts=attempts_by_model(own, "embedded"))


def test_an_empty_answer_is_no_attempt_whatever_was_said(tmp_path: Path) -> None:
    own = factory.outputs("parrot", 12, 1)
    own[1] = own[1].model_copy(update={"output": " "})
    with pytest.raises(SubmissionError, match="does not follow"):
        make_submission(tmp_path, answers=own, attempts=attempts_by_model(own))


def test_attempts_alone_are_no_submission(tmp_path: Path) -> None:
    folder = by_model(tmp_path)
    for stem in ("outputs", "reference", "annotations"):
        (folder / f"{stem}.jsonl").unlink()
    rehash(folder)
    with pytest.raises(SubmissionError, match="found attempts alone"):
        verify(folder)


def test_a_self_reported_rate_must_fit_the_metadata(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80, self_reported=True)
    assert rate(verify(folder)).value == pytest.approx(expected_rate())
    edit_scores(folder, lambda s: s["scores"]["attempt_rate"].update(signature=s["scores"]["win_rate"]["signature"]))
    with pytest.raises(SubmissionError, match="attempt_rate: its signature does not fit"):
        verify(folder)


# ------------------------------------------------------------------ boards
def with_rate(verified: Verified, value: float, judge: str = "embedded", fingerprint: str = "a7" * 32) -> Verified:
    info = verified.metadata.instruction_set
    signature = make_signature(
        instruction_set=info.name, instruction_revision=info.revision, n=info.n, judge=judge, fingerprint=fingerprint
    )
    interval = Interval(low=value - 5, high=value + 5, method="made", level=0.95)
    score = Score(value=value, interval=interval, n_judged=info.n, n_expected=info.n, signature=signature)
    decided = np.array([0.9] * round(info.n * value / 100) + [0.1] * (info.n - round(info.n * value / 100)))
    verified.scores["attempt_rate"] = score
    object.__setattr__(verified, "attempts", decided)
    return verified


def test_the_attempt_rate_is_the_first_number_of_every_table() -> None:
    one = with_rate(make_verified("a/one", value=40), 25)
    two = make_verified("a/two", value=30)
    (board, _), *rest = make_boards([one, two], {})
    assert not rest  # one without a rate stands on the same table
    head, _, first, second, *_ = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in tables.board_markdown(board, []).splitlines()
        if line.startswith("|")
    ]
    assert head[3:5] == ["attempts %", "win rate %"]
    assert (first[3], second[3]) == ("25.0 [20.0, 30.0]", "-")
    assert f"Attempts: `{board.attempts}`" in tables.board_markdown(board, []).replace("\\", "")
    assert str(board.attempts).startswith(f"task:alpaca_winrate|set:made@aaaaaaaa|n:20|attempts:embedded@{SHORT}|")
    csv = tables.boards_csv([board]).decode().splitlines()
    assert csv[0].index("attempt_rate,attempt_rate_low") < csv[0].index("win_rate,win_rate_low")
    assert f"attempts:embedded@{SHORT}" in csv[1]
    (shown,) = json.loads(tables.boards_json([board], [], rules=False))["boards"]
    assert shown["rows"][0]["attempt_rate"]["value"] == 25
    assert shown["rows"][1]["attempt_rate"] is None
    (table,) = page_data.page_rows([(board, None)], [], lambda member: [])
    rate_shown = {"value": 25, "low": 20, "high": 30, "shown": "25.0", "ends": "[20.0, 30.0]"}
    assert table["rows"][0]["attempt_rate"] == rate_shown
    assert table["attempts_signature"] == str(board.attempts)
    assert next(c["name"] for c in page_columns() if c["kind"] != "text") == "attempt_rate"


def test_rates_of_another_judge_do_not_share_the_column() -> None:
    most = [with_rate(make_verified(f"a/{i}", value=40 - i), 25) for i in range(2)]
    other = with_rate(make_verified("b/other", value=10, system={"kind": "base"}), 75, "openai:x", "b" * 64)
    older = with_rate(make_verified("b/older", value=9, system={"kind": "urial"}), 75, "embedded", "c" * 64)
    ((board, _),) = make_boards([*most, other, older], {})
    told = {row.first.metadata.name: row.attempts and row.attempts.value for row in board.rows}
    assert told == {"a/0": 25, "a/1": 25, "b/other": None, "b/older": None}
    assert any("the attempt rates of" in w and "are another judge's" in w for w in board.warnings)
    assert "75.0" not in tables.board_markdown(board, [])


def test_seeds_are_averaged_with_their_spread() -> None:
    seeds = [
        with_rate(make_verified("a/s", f"r{seed}", value=40, system={"kind": "instruction", "seed": seed}), rate)
        for seed, rate in ((1, 20), (2, 40))
    ]
    ((board, _),) = make_boards(seeds, {})
    (row,) = board.rows
    assert row.attempts is not None
    assert row.attempts.value == pytest.approx(30)
    assert row.attempts_sd == pytest.approx(np.std([20, 40], ddof=1))
    assert row.attempts.interval is not None
    assert row.attempts.interval.method == "mean over 2 seeds;score"
    assert row.attempts.settings.judge == "embedded"


def test_echoes_have_the_real_rate_of_zero(real_attempts: None, tmp_path: Path) -> None:
    folder = make_submission(
        tmp_path,
        n=80,
        answers=[o.model_copy(update={"output": o.instruction or ""}) for o in factory.outputs("parrot", 80, 1)],
    )
    assert rate(verify(folder)).value == 0


def test_the_page_shows_who_decided_what_of_each_answer(tmp_path: Path) -> None:
    verified = verify(by_model(tmp_path))
    shown = page_data.payload(verified, [{"output": "x", "finish_reason": None, "n_tokens": None}] * 12)
    assert shown["attempts"] == verified.attempts.tolist()
    changed = dataclasses.replace(verified, attempts=1 - verified.attempts)
    assert page_data.payload_key(changed) != page_data.payload_key(verified)
    none = dataclasses.replace(verified, attempts=np.zeros(0))
    assert page_data.payload(none, [{"output": "x", "finish_reason": None, "n_tokens": None}] * 12)["attempts"] is None
