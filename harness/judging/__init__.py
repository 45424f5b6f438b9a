"""Judging: pairs of answers, judges by name, and the runner that keeps every verdict."""

from implicit_if.harness.judging.cost_limit import CostLimitError
from implicit_if.harness.judging.judgement import Judgement, Latency, PairVerdict, Unjudged
from implicit_if.harness.judging.pairs import Pair, make_pairs
from implicit_if.harness.judging.protocol import Comparison, Estimate, Judge, JudgeError, Verdict
from implicit_if.harness.judging.registry import check_judge_spec, get_judge, known_judges
from implicit_if.harness.judging.runner import annotate

__all__ = [
    "Comparison",
    "CostLimitError",
    "Estimate",
    "Judge",
    "JudgeError",
    "Judgement",
    "Latency",
    "Pair",
    "PairVerdict",
    "Unjudged",
    "Verdict",
    "annotate",
    "check_judge_spec",
    "get_judge",
    "known_judges",
    "make_pairs",
]
