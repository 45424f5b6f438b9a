"""Response ranking against a count by hand, and its bootstrap against draws written out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from implicit_if.harness.analysis.response_pairs import ResponsePair, load_pairs, of_pairs
from implicit_if.harness.analysis.response_ranking import rank_responses, ranking_score
from implicit_if.harness.errors import UserError


class Table:
    """A scorer that knows the log-probability of every prompt and response."""

    def __init__(self, table: dict[str, list[float]]) -> None:
        self.table = table
        self.asked: list[str] = []

    def log_probs(self, prompt: str, responses: Sequence[str]) -> list[float]:
        self.asked.append(prompt)
        return [self.table[prompt][["aa", "bbbb", "c"].index(response)] for response in responses]


PAIRS = of_pairs("three", [ResponsePair("one", "aa"), ResponsePair("two", "bbbb"), ResponsePair("three", "c")])
TABLE = {
    "\n": [-9.0, -1.0, -2.0],
    "one\n": [-5.0, -4.0, -5.0],
    "two\n": [-6.0, -3.0, -2.0],
    "three\n": [-8.0, -7.0, -6.0],
}


def test_percentages_equal_a_count_by_hand() -> None:
    ranking = rank_responses(Table(TABLE), PAIRS, tags=False, system="x")
    # sum: one -5 loses to -4, ties with -5; two -3 beats -6, loses to -2; three -6 beats both: 3.5 of 6
    assert ranking.scores["sum"].percent == pytest.approx(100 * 3.5 / 6)
    # a character: one [-2.5, -1, -5]: loses, wins; two [-3, -.75, -2]: wins, wins; three [-4, -1.75, -6]: loses, loses
    assert ranking.scores["per_character"].percent == pytest.approx(100 * 3 / 6)
    # pmi: one [4, -3, -3]: wins, wins; two [3, -2, 0]: loses, loses; three [1, -6, -4]: loses, wins
    assert ranking.scores["pmi"].percent == pytest.approx(100 * 3 / 6)
    assert ranking.log_probs.tolist() == [TABLE["one\n"], TABLE["two\n"], TABLE["three\n"]]
    assert "template:none" in ranking.scores["sum"].signature
    json.dumps(ranking.as_dict())


def test_the_interval_is_that_of_draws_over_instructions_and_responses() -> None:
    values = np.random.default_rng(3).normal(size=(12, 12)) + 2 * np.eye(12)
    score = ranking_score(values, "s", n_resamples=4000, seed=1)
    generator = np.random.default_rng(99)
    drawn = []
    for _ in range(4000):
        rows, columns = generator.integers(0, 12, 12), generator.integers(0, 12, 12)
        wins = [values[i, i] > values[i, j] for i in rows for j in columns if i != j]
        drawn.append(100 * np.mean(wins))
    assert score.interval.ends == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1.5)
    assert score.interval.low < score.percent < score.interval.high
    assert ranking_score(values, "s", n_resamples=50, seed=1) == ranking_score(values, "s", n_resamples=50, seed=1)


def test_prompts_are_rendered_with_the_template_and_the_empty_instruction_comes_first() -> None:
    prompts = [f"<|user|>\n{text}\n<|assistant|>\n" for text in ("", "one", "two", "three")]
    scorer = Table({prompt: list(row) for prompt, row in zip(prompts, TABLE.values(), strict=True)})
    ranking = rank_responses(scorer, PAIRS, "tulu")
    assert scorer.asked == prompts
    assert ranking.scores["sum"].percent == pytest.approx(100 * 3.5 / 6)
    assert "template:tulu@" in ranking.scores["sum"].signature


def test_a_rerun_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    class Stopping(Table):
        def log_probs(self, prompt: str, responses: Sequence[str]) -> list[float]:
            if prompt == "two\n":
                raise KeyboardInterrupt
            return super().log_probs(prompt, responses)

    store = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rank_responses(Stopping(TABLE), PAIRS, tags=False, system="x", store=store)
    scorer = Table(TABLE)
    again = rank_responses(scorer, PAIRS, tags=False, system="x", store=store)
    assert scorer.asked == ["two\n", "three\n"]
    assert again.as_dict() == rank_responses(Table(TABLE), PAIRS, tags=False, system="x").as_dict()
    other = Table(TABLE)
    rank_responses(other, PAIRS.first(2), tags=False, system="another model", store=store)
    assert len(other.asked) == 3
    other = Table(TABLE)
    more = rank_responses(other, PAIRS, tags=False, system="another model", store=store)
    assert more.as_dict()["scores"] == again.as_dict()["scores"], "a larger set adds to a smaller one"
    assert len(other.asked) == 4


def test_a_template_without_instruction_is_refused() -> None:
    with pytest.raises(UserError, match="shows no instruction"):
        rank_responses(Table({}), PAIRS, "tulu_no_user")


def test_the_shipped_pairs_are_a_hundred_different_ones() -> None:
    pairs = load_pairs()
    assert (
        len(pairs.items) == len({p.instruction for p in pairs.items}) == len({p.response for p in pairs.items}) == 100
    )


def test_files_of_pairs_are_read_and_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    rows = [{"instruction": "Add", "input": "1 and 2", "output": "3"}, {"instruction": "Say hi", "response": "hi"}]
    path.write_text(json.dumps(rows))
    assert load_pairs(path).items == (ResponsePair("Add\n1 and 2", "3"), ResponsePair("Say hi", "hi"))
    path.write_text(json.dumps([*rows, {"instruction": "x", "response": " "}]))
    with pytest.raises(UserError, match=r"row 3: expected the texts|item 3|expected the texts"):
        load_pairs(path)
    path.write_text(json.dumps(rows[:1]))
    with pytest.raises(UserError, match=r"found 1 pairs of instruction and response\. Expected at least 2"):
        load_pairs(path)
    with pytest.raises(UserError):
        load_pairs(tmp_path / "missing.json")
