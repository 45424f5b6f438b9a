"""Statistics of judged pairs: estimates with intervals, comparisons, length control. NumPy, vectorised, seeded."""

from implicit_if.harness.stats.agreement import Agreement, agreement, spearman
from implicit_if.harness.stats.attempt_rate import attempt_rate
from implicit_if.harness.stats.comparison import PairedDifference, compare, holm
from implicit_if.harness.stats.length_control.offline_model import length_controlled_win_rate, prior_sensitivity
from implicit_if.harness.stats.length_control.priors import LengthPrior
from implicit_if.harness.stats.seeds import SeedSummary, over_seeds
from implicit_if.harness.stats.tie_groups import tie_groups
from implicit_if.harness.stats.win_rate import counts, discrete_win_rate, position_bias, win_rate

__all__ = [
    "Agreement",
    "LengthPrior",
    "PairedDifference",
    "SeedSummary",
    "agreement",
    "attempt_rate",
    "compare",
    "counts",
    "discrete_win_rate",
    "holm",
    "length_controlled_win_rate",
    "over_seeds",
    "position_bias",
    "prior_sensitivity",
    "spearman",
    "tie_groups",
    "win_rate",
]
