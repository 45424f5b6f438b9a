"""Which of the paper's findings hold on a folder of boards, with the differences that decide it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.published_numbers import load_published
from implicit_if.harness.replicate.comparison import compare_with_paper, read_results
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.comparison import compare
from implicit_if.harness.storage import read_rows
from implicit_if.harness.system_kinds import SYSTEM_KINDS

PUBLISHED_NAMES = {"rules": "all rules", "response": "response tuning"}


class Claim(NamedTuple):
    """A finding of the paper: one system beats another.

    Attributes:
        text: In words.
        better: Kind and label of the system that does better there.
        worse: Of the other one.
        gain: Whether the paper found a gain; False where it found none.
    """

    text: str
    better: str
    worse: str
    gain: bool = True


CLAIMS = (
    Claim("Tuned on responses alone, a base model follows instructions (Table 1)", "response", "base"),
    Claim("Tuned on instructions as well, it follows them better still (Table 1)", "instruction", "response"),
    Claim("So does one tuned on maths problems (Table 3)", "gsm", "base"),
    Claim("... on Python functions (Table 3)", "mbpp", "base"),
    Claim("... on recipes (Table 3)", "recipes", "base"),
    Claim("... on poems (Table 3)", "poetry", "base"),
    Claim("... but not on chess games, by Llama-2 (Table 3)", "chess", "base", gain=False),
    Claim("Maths problems do more than Python functions (Table 3)", "gsm", "mbpp"),
    Claim("Three hand-written rules make a base model follow instructions (Table 4)", "rules", "base"),
    Claim("The rules need the rising end of the answer (Table 4)", "rules", "without eos"),
    Claim("... the penalty on tokens used before (Table 4)", "rules", "without diversity"),
    Claim("... the uniform changes of token weights (Table 4)", "rules", "without uniform"),
)


class Results:
    """The boards of one folder, as `implicit-if leaderboard` makes them.

    Args:
        root: The folder with `leaderboard.json`, `rules.json` and `submissions/`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.board, self.preferences = cache(self._board), cache(self._preferences)

    def _board(self, name: str) -> dict[str, Any]:
        """The first board of a file."""
        board: dict[str, Any] = json.loads((self.root / name).read_text(encoding="utf-8"))["boards"][0]
        return board

    @cached_property
    def systems(self) -> dict[str, dict[str, Any]]:
        """The boards' rows, controls apart, by a short name: a kind, a single task, or an ablation's label."""
        order = list(SYSTEM_KINDS)
        known: dict[str, dict[str, Any]] = {}
        rows = [*self.board("leaderboard.json")["rows"], *self.board("rules.json")["rows"]]
        for row in sorted(rows, key=lambda row: order.index(row["kind"])):
            if row["kind"] == "control":
                continue
            own = row["kind"] == "single_task" or row["system"].startswith(("without ", "only "))
            known.setdefault(row["system"] if own else row["kind"], row)
        return known

    def _preferences(self, name: str) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
        """`[s, n]` preferences for a system, a row a seed, and the instructions' ids."""
        seeds = []
        for submission in self.systems[name]["submissions"]:
            told: dict[str, list[float]] = defaultdict(list)
            for _, row in read_rows(self.root / "submissions" / submission / "annotations.jsonl", "annotations"):
                told[row["instruction_id"]].append(row["preference"])
            ids = tuple(sorted(told))
            seeds.append([float(np.mean(told[key])) for key in ids])
        return np.array(seeds), ids

    def win_difference(self, better: str, worse: str) -> Score:
        """Win rate of the one minus that of the other, paired over instructions."""
        (first, ids), (second, others) = self.preferences(better), self.preferences(worse)
        assert ids == others, f"{better} and {worse} answer different instructions"
        return compare(first, second, ids, n_permutations=0).difference

    def attempts_difference(self, better: str, worse: str) -> tuple[float, float, float]:
        """Attempt rate of the one minus that of the other with Newcombe's interval: value, low, high."""
        (a, la, ua), (b, lb, ub) = (
            (s["value"], s["interval"]["low"], s["interval"]["high"])
            for s in (self.systems[better][ATTEMPTS], self.systems[worse][ATTEMPTS])
        )
        return a - b, a - b - math.hypot(a - la, ub - b), a - b + math.hypot(ua - a, b - lb)

    @cached_property
    def findings(self) -> list[list[str]]:
        """A row for each claim about systems that are here: text, both differences, published numbers, verdict."""
        return [
            [claim.text, *self._differences(claim), published(claim), self.verdict(claim)]
            for claim in CLAIMS
            if {claim.better, claim.worse} <= self.systems.keys()
        ]

    def _differences(self, claim: Claim) -> tuple[str, str]:
        value, low, high = self.attempts_difference(claim.better, claim.worse)
        wins = self.win_difference(claim.better, claim.worse)
        ends = wins.interval.ends if wins.interval else (math.nan, math.nan)
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]", f"{wins.value:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"

    def verdict(self, claim: Claim) -> str:
        """Whether a claim holds, from the two differences' intervals."""
        _, low, high = self.attempts_difference(claim.better, claim.worse)
        interval = self.win_difference(claim.better, claim.worse).interval
        lows, highs = (low, interval.low if interval else -math.inf), (high, interval.high if interval else math.inf)
        if not claim.gain:
            return "reversed" if min(lows) > 0 else "holds" if max(lows) <= 0 else "holds in part"
        if min(highs) < 0:
            return "reversed"
        above = sum(end > 0 for end in lows)
        return ("not shown", "holds in part", "holds")[above]

    def order(self) -> str:
        """How the order of the systems correlates with the paper's."""
        told = compare_with_paper(read_results(self.root)).orders
        parts = [f"{rho:.2f} with {base}'s ({n} systems)" for base, (rho, n) in told.items()]
        return f"In length-controlled win rate the order of the systems correlates {' and '.join(parts)} (Spearman)."


def published(claim: Claim) -> str:
    """A claim's two systems' published numbers, Llama-2's before OLMo's."""
    source = load_published()[0]
    shown = []
    for base in dict.fromkeys(row.base_model for row in source.rows):
        means = {row.system: row.mean for row in source.rows if row.base_model == base}
        pair = [
            50.0 if name == "instruction" else means.get(PUBLISHED_NAMES.get(name, name))
            for name in (claim.better, claim.worse)
        ]
        if None not in pair:
            shown.append(f"{pair[0]:g} and {pair[1]:g}")
    return "; ".join(shown)
