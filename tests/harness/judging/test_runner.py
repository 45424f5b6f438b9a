from __future__ import annotations

import errno
import fcntl
import itertools
import json
import math
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judging_fakes import FakeJudge, make_pair

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import (
    Comparison,
    CostLimitError,
    Estimate,
    JudgeError,
    Pair,
    Verdict,
    annotate,
    get_judge,
)


def lines(store: Path) -> list[dict]:
    return [json.loads(line) for line in store.read_text().splitlines()]


def shown_first(comparison: Comparison) -> str:
    return comparison.first.split()[0]


def test_each_pair_is_shown_in_both_orders_and_averaged(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.9 if shown_first(c) == "system" else 0.3)
    result = annotate([make_pair(1), make_pair(2)], judge, store, progress=False)
    assert [(shown_first(c), c.second.split()[0]) for c in judge.asked] == [
        ("system", "reference"),
        ("reference", "system"),
    ] * 2
    # 0.9 for the system when first; 0.3 for the reference when first is 0.7 for the system
    assert list(result.in_order("system_first")) == [0.9, 0.9]
    assert result.in_order("reference_first") == pytest.approx([0.7, 0.7])
    assert result.preferences == pytest.approx([0.8, 0.8])
    assert (result.n_judged, result.n_expected, result.complete) == (2, 2, True)
    assert [v.preference for v in result] == pytest.approx([0.8, 0.8])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_a_judge_that_only_looks_at_the_position_gives_exactly_one_half(
    tmp_path_factory: pytest.TempPathFactory, biases: list[float]
) -> None:
    store = tmp_path_factory.mktemp("bias") / "a.jsonl"
    pairs = [make_pair(i) for i in range(len(biases))]
    bias = {pair.instruction: value for pair, value in zip(pairs, biases, strict=True)}
    result = annotate(pairs, FakeJudge(lambda c: bias[c.instruction]), store, progress=False)
    assert result.preferences == pytest.approx([0.5] * len(pairs), abs=1e-12)


def test_a_judge_without_order_is_asked_once(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.2, ordered=False)
    result = annotate([make_pair(1)], judge, store, progress=False)
    assert [shown_first(c) for c in judge.asked] == ["system"]
    assert result.orders == ("none",)
    assert [v.by_order for v in result] == [{"none": 0.2}]
    assert lines(store)[0]["order"] == "none"


def test_stored_verdicts_are_not_asked_again(store: Path) -> None:
    first = FakeJudge(lambda c: 0.9, price=0.5)
    annotate([make_pair(1)], first, store, progress=False)
    again = FakeJudge(lambda c: 0.1)
    result = annotate([make_pair(2), make_pair(1)], again, store, progress=False)
    assert {c.instruction for c in again.asked} == {make_pair(2).instruction}
    assert result.in_order("system_first") == pytest.approx([0.1, 0.9])
    assert len(lines(store)) == 4
    assert (result.cost, result.spent) == (1.0, 0.0)  # paid by the first run


@pytest.mark.parametrize(
    "changed",
    [
        {"pair": make_pair(1, system="another answer")},
        {"pair": make_pair(1, reference="another answer")},
        {"pair": make_pair(2, system="system says 1", reference="reference says 1")},
        {"version": "2"},
    ],
    ids=["system", "reference", "instruction", "fingerprint"],
)
def test_anything_that_changes_is_never_a_stale_hit(store: Path, changed: dict) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: 0.9), store, progress=False)
    judge = FakeJudge(lambda c: 0.5, version=changed.get("version", "1"))
    result = annotate([changed.get("pair", make_pair(1))], judge, store, progress=False)
    assert len(judge.asked) == 2
    assert list(result.preferences) == [0.5]
    assert len(AnnotationStore(store).read().verdicts) == 4


def test_identical_answers_are_a_tie_without_a_call(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.9)
    pairs = [make_pair(1, "same", "same"), make_pair(2, "", ""), make_pair(3)]
    result = annotate(pairs, judge, store, progress=False)
    assert {c.instruction for c in judge.asked} == {make_pair(3).instruction}
    assert list(result.preferences[:2]) == [0.5, 0.5]
    assert [r["raw"] for r in lines(store)[:4]] == ["identical answers"] * 4


def test_equal_comparisons_are_asked_once_and_counted_for_each_pair(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.9)
    result = annotate([make_pair(1)] * 3, judge, store, progress=False)
    assert len(judge.asked) == 2
    assert result.n_judged == 3
    assert len(lines(store)) == 2


def test_a_failed_verdict_is_stored_not_counted_and_retried(store: Path) -> None:
    def fails_once(c: Comparison) -> float | Verdict:
        if c.instruction == make_pair(2).instruction and shown_first(c) == "reference":
            return Verdict(c.key, None, raw="hmm", error="could not read the verdict")
        return 0.9 if shown_first(c) == "system" else 0.1

    pairs = [make_pair(1), make_pair(2), make_pair(3)]
    result = annotate(pairs, FakeJudge(fails_once), store, progress=False)
    assert (result.n_judged, result.n_expected, result.complete) == (2, 3, False)
    assert [v.preference for v in result] == [0.9, None, 0.9]
    assert math.isnan(result.preferences[1])
    assert list(result.judged) == [True, False, True]
    assert [tuple(u) for u in result.unjudged] == [
        (pairs[1].instruction_id, "reference_first", "could not read the verdict")
    ]
    assert [r["error"] for r in lines(store) if r["preference"] is None] == ["could not read the verdict"]

    again = FakeJudge(lambda c: 0.2)
    result = annotate(pairs, again, store, progress=False)
    assert [shown_first(c) for c in again.asked] == ["reference"]
    assert result.in_order("reference_first")[1] == pytest.approx(0.8)
    assert result.complete


@pytest.mark.parametrize("value", [math.nan, -0.01, 1.01, math.inf])
def test_a_preference_that_is_no_probability_is_a_failed_verdict(store: Path, value: float) -> None:
    result = annotate([make_pair(1)], FakeJudge(lambda c: value), store, progress=False)
    assert result.n_judged == 0
    assert "expected a probability" in result.unjudged[0].error


def test_a_verdict_with_both_a_preference_and_an_error_is_failed(store: Path) -> None:
    result = annotate([make_pair(1)], FakeJudge(lambda c: Verdict(c.key, 0.5, error="cut off")), store, progress=False)
    assert [u.error for u in result.unjudged] == ["cut off", "cut off"]


def test_comparisons_the_judge_never_answers_are_reported(store: Path) -> None:
    class Forgetful(FakeJudge):
        def judge(self, comparisons):
            for number, verdict in enumerate(super().judge(comparisons)):
                if number == 3:
                    return
                if number != 1:
                    yield verdict

    result = annotate([make_pair(i) for i in range(3)], Forgetful(lambda c: 1.0), store, progress=False)
    assert [u.error for u in result.unjudged] == ["the judge returned no verdict"] * 4
    assert list(result.judged) == [False, False, False]
    assert len(lines(store)) == 6


def test_a_verdict_that_was_not_asked_for_stops(store: Path) -> None:
    with pytest.raises(JudgeError, match="was not asked"):
        annotate([make_pair(1)], FakeJudge(lambda c: Verdict("other", 0.5)), store, progress=False)


def test_a_permanent_fault_keeps_what_was_judged_and_says_how_to_resume(store: Path) -> None:
    def breaks(c: Comparison) -> float:
        if c.instruction == make_pair(2).instruction:
            raise JudgeError("the key was refused (401).")
        return 0.9

    pairs = [make_pair(i) for i in range(4)]
    with pytest.raises(JudgeError, match=r"401\).* 4 of 8 verdicts are kept in .*run the same command again"):
        annotate(pairs, FakeJudge(breaks), store, progress=False)
    assert len(lines(store)) == 4
    rest = FakeJudge(lambda c: 0.9)
    assert annotate(pairs, rest, store, progress=False).complete
    assert len(rest.asked) == 4


def test_ctrl_c_keeps_what_was_judged(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(c: Comparison) -> float:
        if c.instruction == make_pair(1).instruction:
            raise KeyboardInterrupt
        return 0.9

    with pytest.raises(KeyboardInterrupt):
        annotate([make_pair(i) for i in range(3)], FakeJudge(interrupted), store, progress=False)
    assert len(lines(store)) == 2
    assert "2 of 6 verdicts are kept" in capsys.readouterr().err


def test_the_judges_generator_is_closed_when_judging_stops(store: Path) -> None:
    closed = []

    class Careful(FakeJudge):
        def judge(self, comparisons):
            self.verdicts = self._judge(comparisons)  # kept, so that it does not end just because it is forgotten
            return self.verdicts

        def _judge(self, comparisons):
            try:
                yield from super().judge(comparisons)
            finally:
                closed.append(True)

    judge = Careful(lambda c: 0.5, price=2.0)
    with pytest.raises(CostLimitError):
        annotate([make_pair(1)], judge, store, progress=False, max_cost=1)
    assert closed == [True]


def test_verdicts_are_written_in_batches(store: Path) -> None:
    written = []

    def watch(c: Comparison) -> float:
        written.append(len(lines(store)) if store.exists() else 0)
        return 0.5

    annotate([make_pair(i) for i in range(5)], FakeJudge(watch), store, progress=False, flush_every=4, flush_seconds=60)
    assert written == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    assert len(lines(store)) == 10


def test_a_slow_judges_verdicts_are_written_as_they_come(store: Path) -> None:
    written = []

    def watch(c: Comparison) -> float:
        written.append(len(lines(store)) if store.exists() else 0)
        return 0.5

    annotate([make_pair(i) for i in range(2)], FakeJudge(watch), store, progress=False, flush_seconds=0)
    assert written == [0, 1, 2, 3]


def test_verdicts_are_written_while_nothing_more_arrives(store: Path) -> None:
    written = []

    def stalls(c: Comparison) -> float:
        if c.instruction == make_pair(2).instruction and shown_first(c) == "system":
            end = time.monotonic() + 10
            while time.monotonic() < end and (not store.exists() or len(lines(store)) < 4):
                time.sleep(0.02)
            written.append(len(lines(store)))
        return 0.5

    annotate([make_pair(i) for i in range(3)], FakeJudge(stalls), store, progress=False, flush_seconds=0.1)
    assert written == [4]


def test_the_lock_is_tried_before_anything_is_asked_and_waiting_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = store.open("ab")
    fcntl.flock(held, fcntl.LOCK_EX)
    judge = FakeJudge(lambda c: 0.5, paid=True, price=0.1)
    asking = threading.Thread(target=lambda: annotate([make_pair(1)], judge, store, progress=False))
    asking.start()
    time.sleep(2.5)
    assert judge.asked == []
    assert f"waiting for {store}" in capsys.readouterr().err
    held.close()
    asking.join(20)
    assert len(lines(store)) == 2
    assert [path.name for path in store.parent.iterdir()] == [store.name]  # no lock file is left beside it


def test_a_full_disk_is_found_by_the_timer_too(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    judge = FakeJudge(lambda c: 0.5, delay=0.15)
    with pytest.raises(UserError, match="No space left on device"):
        annotate([make_pair(i) for i in range(50)], judge, store, progress=False, flush_seconds=0.1, flush_every=999)
    assert len(judge.asked) < 20


@pytest.mark.parametrize(
    "content",
    [
        '{"a": "settings of mine"}',
        "my notes",
        '[{"cost": 1}]',
        '{"cost": 3, "mine": true}\n{"cost',
        "\x00\x01\x02",
        '{"instruction": "one row of mine"}\n{"instruction": "and a torn one',
    ],
)
@pytest.mark.parametrize("judged", ["pairs", "ties only"])
def test_a_file_that_is_no_store_is_left_alone(store: Path, content: str, judged: str) -> None:
    store.write_text(content)
    judge = FakeJudge(lambda c: 0.5)
    pair = make_pair(1) if judged == "pairs" else make_pair(1, "x", "x")
    with pytest.raises(UserError, match=re.escape(str(store))):
        annotate([pair], judge, store, progress=False)
    assert store.read_text() == content
    assert judge.asked == []


def test_a_torn_line_of_ours_is_cut_off(store: Path) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)
    whole = store.read_text()
    for torn in ("{", '{"cost": ', '{"cost": null, "err', whole.splitlines()[0]):
        store.write_text(whole + torn)
        annotate([make_pair(1), make_pair(1000 + len(torn))], FakeJudge(lambda c: 0.5), store, progress=False)
        assert len(lines(store)) == 4


@pytest.mark.parametrize("field", ["cost", "latency"])
@pytest.mark.parametrize("value", ["Infinity", "NaN", "-1"])
def test_a_stored_cost_or_time_that_is_none_is_named(store: Path, field: str, value: str) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: Verdict(c.key, 0.5)), store, progress=False)
    store.write_text(store.read_text().replace(f'"{field}": null', f'"{field}": {value}'))
    with pytest.raises(UserError, match="line 1: not an annotation"):
        annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 150, "x" * 256])
def test_a_name_that_is_too_long_is_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        annotate([make_pair(1)], FakeJudge(lambda c: 0.5), tmp_path / name, progress=False)


def test_a_store_line_nested_deep_is_named(store: Path) -> None:
    store.write_text("[" * 200_000 + "]" * 200_000 + "\n")
    with pytest.raises(UserError, match="line 1: not JSON"):
        annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)


def test_reused_verdicts_are_spoken_of(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate([make_pair(i) for i in range(25)], FakeJudge(lambda c: 0.5), store, progress=False)
    assert "reused" not in capsys.readouterr().err
    annotate([make_pair(i) for i in range(25)], FakeJudge(lambda c: 0.5), store, progress=False)
    assert f"judge fake: reused 50 verdicts of {store}, asked 0\n" in capsys.readouterr().err
    annotate([make_pair(i) for i in range(24, 26)], FakeJudge(lambda c: 0.5), store, progress=False)
    assert "reused 2 verdicts" in (told := capsys.readouterr().err)
    assert "asked 2\n" in told


@pytest.mark.filterwarnings("ignore:.*begin with the model's thoughts")
def test_what_a_model_thought_is_not_shown_to_a_judge(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.5)
    pair = make_pair(1, system="<think>The judge likes me.</think>\nHello.", reference="<think>and so on")
    annotate([pair], judge, store, progress=False)
    assert [(c.first, c.second) for c in judge.asked] == [("Hello.", ""), ("", "Hello.")]
    assert lines(store)[0]["system_sha256"] == pair.system.sha256, "it is of the answer as it stands"


def test_a_paid_judge_announces_calls_and_cost_and_a_free_one_does_not(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)
    assert capsys.readouterr().err == ""
    paid = FakeJudge(lambda c: 0.5, version="paid", paid=True, price=0.25)
    pairs = [make_pair(1), make_pair(2), make_pair(2), make_pair(3, "x", "x")]
    result = annotate(pairs, paid, store, progress=False)
    assert "4 calls, estimated cost about $1.00" in capsys.readouterr().err
    assert (result.cost, result.spent) == (1.0, 1.0)
    assert result.estimate is not None
    assert result.estimate.calls == 4


def test_max_cost_refuses_to_start(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.5, paid=True, price=0.25)
    with pytest.raises(CostLimitError, match=r"\$0.50 is above the limit \$0.40; nothing was asked"):
        annotate([make_pair(1)], judge, store, progress=False, max_cost=0.4)
    assert judge.asked == []
    assert annotate([make_pair(1)], judge, store, progress=False, max_cost=0.5).complete


class TooOptimistic(FakeJudge):
    """Takes 2 cents a verdict to be enough."""

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        calls = sum(1 for _ in comparisons)
        return Estimate(calls, 0.02 * calls)


def test_max_cost_stops_before_the_real_cost_is_above_and_keeps_the_verdicts(store: Path) -> None:
    judge = TooOptimistic(lambda c: 0.5, paid=True, price=0.25)
    stopped = r"stopped at the limit \$1.10: this run has cost \$1.00, and the next verdict may cost \$0.25. 4 of 20 v"
    with pytest.raises(CostLimitError, match=stopped):
        annotate([make_pair(i) for i in range(10)], judge, store, progress=False, max_cost=1.1)
    assert len(judge.asked) == 4
    assert len(lines(store)) == 4


def test_max_cost_keeps_every_verdict_of_a_judge_that_reads_ahead(store: Path) -> None:
    class Batches(TooOptimistic):
        def judge(self, comparisons):
            while batch := list(itertools.islice(comparisons, 6)):
                yield from super().judge(batch)

    judge = Batches(lambda c: 0.5, paid=True, price=0.25)
    with pytest.raises(CostLimitError, match=r"has cost \$1.50, .* 6 of 20 verdicts are kept"):
        annotate([make_pair(i) for i in range(10)], judge, store, progress=False, max_cost=1)
    assert len(lines(store)) == len(judge.asked) == 6


def test_verdicts_of_unknown_cost_count_as_estimated(store: Path) -> None:
    judge = TooOptimistic(lambda c: 0.75, paid=True)
    assert annotate([make_pair(i) for i in range(10)], judge, store, progress=False, max_cost=0.4).complete
    judge = TooOptimistic(lambda c: Verdict(c.key, 0.75, cost=0.5 if "number 13" in c.instruction else None), paid=True)
    with pytest.raises(CostLimitError, match=r"\$0.58, and the next verdict may cost \$0.50. 5 of 20"):
        annotate([make_pair(i) for i in range(11, 21)], judge, store, progress=False, max_cost=1)


def silent(c: Comparison) -> Verdict:
    return Verdict(c.key, None, error="no verdict in 'Well'", remedy="Try another prompt.")


def test_a_judge_that_never_gives_a_verdict_is_stopped(store: Path) -> None:
    judge = FakeJudge(silent)
    with pytest.raises(JudgeError, match=r"none of 16 answers .* in 'Well'\. Try another prompt\. 0 of 60 verdicts"):
        annotate([make_pair(i) for i in range(30)], judge, store, progress=False)
    assert len(judge.asked) == len(lines(store)) == 16


@pytest.mark.parametrize("when", ["in this run", "in an earlier run"])
def test_a_judge_that_gave_a_verdict_is_asked_to_the_end(store: Path, when: str) -> None:
    pairs = [make_pair(i) for i in range(30)]
    now = when == "in this run"
    if not now:
        annotate([make_pair(99)], FakeJudge(lambda c: 0.5), store, progress=False)
    judge = FakeJudge(lambda c: 0.5 if now and c.instruction == pairs[7].instruction else silent(c))
    result = annotate([*pairs, make_pair(40, "x", "x")], judge, store, progress=False)
    assert len(judge.asked) == 60
    assert result.n_judged == (2 if now else 1)


def test_ties_without_a_call_prove_nothing_of_a_judge(store: Path) -> None:
    ties = [make_pair(100 + i, "x", "x") for i in range(3)]
    annotate(ties, FakeJudge(silent), store, progress=False)
    with pytest.raises(JudgeError, match="none of 16 answers"):
        annotate([*ties, *(make_pair(i) for i in range(30))], FakeJudge(silent), store, progress=False)


def test_max_cost_without_prices_is_refused_but_not_when_all_is_judged(store: Path) -> None:
    judge = FakeJudge(lambda c: 0.5, paid=True)
    with pytest.raises(CostLimitError, match="prices are not known"):
        annotate([make_pair(1)], judge, store, progress=False, max_cost=5)
    annotate([make_pair(1)], judge, store, progress=False)
    assert annotate([make_pair(1)], judge, store, progress=False, max_cost=5).complete


def test_a_store_that_cannot_be_written_is_found_out_before_anything_is_asked(tmp_path: Path) -> None:
    judge = FakeJudge(lambda c: 0.5)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="annotations cannot be written"):
        annotate([make_pair(1)], judge, tmp_path / "file" / "annotations.jsonl", progress=False)
    with pytest.raises(UserError, match="cannot be read"):
        annotate([make_pair(1)], judge, tmp_path, progress=False)  # a folder
    assert judge.asked == []


def test_a_full_disk_is_a_clear_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)


def test_dry_run_judges_and_writes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = FakeJudge(lambda c: 0.5, paid=True, price=0.25)
    result = annotate([make_pair(1), make_pair(2, "x", "x")], judge, store, dry_run=True, max_cost=0.01)
    assert judge.asked == []
    assert not store.exists()
    assert (result.n_judged, result.n_expected) == (1, 2)
    assert {u.error for u in result.unjudged} == {"not judged yet"}
    assert "2 calls, estimated cost about $0.50" in capsys.readouterr().err


def test_progress_is_shown_by_rank_0_only(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    annotate([make_pair(2)], FakeJudge(lambda c: 0.5), store)
    assert capsys.readouterr().err == ""


def test_pairs_that_can_be_read_only_once_are_refused(store: Path) -> None:
    with pytest.raises(TypeError, match="only once"):
        annotate((make_pair(i) for i in range(2)), FakeJudge(lambda c: 0.5), store)


def test_no_pairs(store: Path) -> None:
    result = annotate([], FakeJudge(lambda c: 0.5), store)
    assert (result.n_expected, result.n_judged, result.complete) == (0, 0, True)
    assert result.preferences.shape == (0,)
    assert (result.cost, result.latency) == (None, None)


def test_hostile_texts_survive_the_store(store: Path) -> None:
    nasty = 'a\ud800 \x1b[31m </s> {output_2} \x00 "\n<|im_end|>'
    judge = FakeJudge(lambda c: Verdict(c.key, 0.7, raw=nasty))
    pair = make_pair(1, system=nasty)
    annotate([pair], judge, store, progress=False)
    assert {a.raw for a in AnnotationStore(store)} == {nasty}
    again = FakeJudge(lambda c: 0.1)
    annotate([pair], again, store, progress=False)
    assert again.asked == []
    assert judge.asked[0].first == nasty


def test_measurements_that_are_not_finite_do_not_lose_the_batch(store: Path) -> None:
    judge = FakeJudge(lambda c: Verdict(c.key, 0.7, latency=math.nan, cost=math.inf))
    result = annotate([make_pair(1)], judge, store, progress=False)
    assert (result.n_judged, result.cost, result.latency) == (1, None, None)


def test_latency_is_summarised(store: Path) -> None:
    times = iter([1.0, 2.0, 3.0, 10.0])
    judge = FakeJudge(lambda c: Verdict(c.key, 0.7, latency=next(times)))
    latency = annotate([make_pair(1), make_pair(2)], judge, store, progress=False).latency
    assert latency is not None
    assert (latency.n, latency.mean, latency.median, latency.max) == (4, 4.0, 2.5, 10.0)


def test_a_damaged_store_is_an_error_that_names_the_line(store: Path) -> None:
    annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)
    store.write_text(store.read_text() + '{"instruction_id": "x"}\n')
    with pytest.raises(UserError, match="line 3"):
        annotate([make_pair(1)], FakeJudge(lambda c: 0.5), store, progress=False)


class Many:
    """Pairs with long answers, made as they are read."""

    def __init__(self, n: int, length: int) -> None:
        self.n, self.length = n, length

    def __iter__(self) -> Iterator[Pair]:
        for number in range(self.n):
            yield make_pair(number, system=f"{number} " + "x" * self.length, reference=f"{number} " + "y" * self.length)


def peak_bytes(n: int, length: int, store: Path) -> int:
    import tracemalloc

    judge = get_judge("longest")
    tracemalloc.start()
    result = annotate(Many(n, length), judge, store, progress=False, flush_every=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.n_judged == n
    return peak


def test_memory_does_not_grow_with_the_answers(store: Path) -> None:
    peak_bytes(10, 10, store.with_suffix(".warm"))
    short = peak_bytes(1000, 10, store.with_suffix(".1"))
    long = peak_bytes(1000, 10_000, store.with_suffix(".2"))
    assert long < short + 2e5  # the texts are 20 MB


@pytest.mark.slow
def test_memory_is_flat_at_100_000_pairs(store: Path) -> None:
    small = peak_bytes(20_000, 1000, store.with_suffix(".1"))
    large = peak_bytes(100_000, 1000, store.with_suffix(".2"))
    assert (large - small) / 80_000 < 500  # bytes a pair; its texts are 2000
