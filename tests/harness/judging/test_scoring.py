from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judging_fakes import FakeJudge, make_pair

from implicit_if.harness.judging import Comparison, Verdict, annotate, get_judge
from implicit_if.harness.judging.scoring import control_judgement, score_judgement
from implicit_if.harness.outputs import Output
from implicit_if.harness.signature import outputs_sha256


def test_scores_are_over_the_judged_pairs_of_all_expected(store: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [make_pair(i, system="x" * int(rng.integers(1, 50))) for i in range(40)]
    first = {p.instruction: (float(a), float(b)) for p, (a, b) in zip(pairs, rng.random((40, 2)), strict=True)}
    lost = {pairs[3].instruction, pairs[20].instruction}

    def answer(c: Comparison) -> float | Verdict:
        if c.instruction in lost and c.first.startswith("x"):
            return Verdict(c.key, None, error="lost")
        return first[c.instruction][0 if c.first.startswith("x") else 1]

    scores = score_judgement(annotate(pairs, FakeJudge(answer), store, progress=False), pairs, "mine", None, "ref")
    kept = np.array([first[p.instruction] for p in pairs if p.instruction not in lost])
    wins = (kept[:, 0] + 1 - kept[:, 1]) / 2
    assert scores["win_rate"].value == pytest.approx(100 * wins.mean())
    assert scores["discrete_win_rate"].value == pytest.approx(100 * (wins > 0.5).mean())
    assert scores["position_bias"].value == pytest.approx(100 * (kept[:, 0] - (1 - kept[:, 1])).mean())
    assert {(s.n_judged, s.n_expected, s.complete) for s in scores.values()} == {(38, 40, False)}
    assert {s.signature.orders for s in scores.values()} == {2}
    controlled = scores["length_controlled_win_rate"]
    assert controlled.interval is not None
    assert (controlled.interval.seed, controlled.signature.lc) == (0, "offline(weak)")


def test_nothing_judged_is_no_number(store: Path) -> None:
    pairs = [make_pair(1), make_pair(2)]
    judge = FakeJudge(lambda c: Verdict(c.key, None, error="down"))
    scores = score_judgement(annotate(pairs, judge, store, progress=False), pairs, "mine", None, "ref")
    assert {s.value for s in scores.values()} == {None}
    assert {s.render() for s in scores.values()} == {"- (0 of 2 judged)"}


def test_the_signature_hashes_the_reference_answers_that_were_judged(store: Path) -> None:
    pairs = [make_pair(1), make_pair(2)]
    judge = FakeJudge(lambda c: 0.5)
    scores = score_judgement(annotate(pairs, judge, store, progress=False), pairs, "mine", None, "ref")
    signature = scores["win_rate"].signature
    answers = [
        Output(instruction=f"Tell me about the number {n}.", output=f"reference says {n}", generator="?")
        for n in (2, 1)
    ]
    assert signature.reference_hash == outputs_sha256(answers)[:8]
    assert (signature.n, signature.judge, signature.judge_hash) == (2, "fake", judge.fingerprint[:8])


@pytest.mark.filterwarnings("ignore:.*begin with the model's thoughts")
def test_thoughts_are_no_length(tmp_path: Path) -> None:
    """A system that thinks at length and answers like another has the other's length-controlled win rate."""
    plain = [make_pair(n, system="w" * (5 + n % 7), reference="r" * (4 + n % 5)) for n in range(60)]
    thought = [
        replace(p, system=p.system.model_copy(update={"output": f"<think>{'hm ' * 500}</think>\n{p.system.output}"}))
        for p in plain
    ]
    judged = [
        annotate(pairs, get_judge("longest"), tmp_path / f"{i}.jsonl") for i, pairs in enumerate((plain, thought))
    ]
    lcs = [control_judgement(j, p, "mine").estimate.value for j, p in zip(judged, (plain, thought), strict=True)]
    assert lcs[0] == lcs[1]
