"""Which length control verdicts get: alpaca-eval's own where it applies and its data are at hand, else the offline one.

The `implicit-if judge` command, the task and every other caller choose here, so that equal verdicts get equal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from implicit_if.harness.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from implicit_if.harness.scores import Score
    from implicit_if.harness.stats.length_control.alpaca_eval_glm import Gamed
    from implicit_if.harness.stats.length_control.priors import LengthPrior

Method = Literal["auto", "alpaca_eval", "offline"]
SET = "alpaca_eval"
METHODS: tuple[Method, ...] = ("auto", "alpaca_eval", "offline")


@dataclass(frozen=True)
class LengthControl:
    """A length-controlled win rate and how it came about.

    Attributes:
        estimate: Percent; its method begins with the estimator's name.
        reason: Why this estimator.
        prior: The offline estimator's prior; None for alpaca-eval's.
        sensitivity: The value with the prior's mean one standard deviation lower and higher; None for alpaca-eval's,
            and without verdicts.
    """

    estimate: Score
    reason: str
    prior: LengthPrior | None = None
    sensitivity: tuple[float, float] | None = None

    @property
    def method(self) -> str:
        """The estimator's name, as signatures carry it: "alpaca_eval", or e.g. "offline(gpt4-turbo)"."""
        return self.estimate.method.split(";")[0]

    def as_dict(self) -> dict[str, Any]:
        """A value JSON can hold."""
        return {
            "method": self.method,
            "reason": self.reason,
            "prior": None if self.prior is None else asdict(self.prior),
            "prior_sensitivity": None if self.sensitivity is None else list(self.sensitivity),
        }

    def render(self) -> str:
        """One line for people."""
        line = f"length control: {self.method}, {self.reason}"
        if self.sensitivity is None:
            return line
        low, high = sorted(self.sensitivity)
        return f"{line}; {low:.1f} to {high:.1f} if the prior's mean moves by one sd"


def control_length(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    ids: Sequence[str],
    *,
    judge_prior: LengthPrior,
    instruction_set: str,
    n_expected: int | None = None,
    method: Method = "auto",
    prior: LengthPrior | None = None,
    seed: int = 0,
) -> LengthControl:
    """The length-controlled win rate of verdicts averaged over the orders judged.

    Args:
        preferences: `[n]` in [0, 1], no missing values.
        system_lengths: `[n]` characters of the system's answers.
        reference_lengths: `[n]` characters of the reference's answers.
        ids: `[n]` instruction ids, by which alpaca-eval's data are looked up.
        judge_prior: What is known of the judge's taste for length (`judging.registry.length_prior`).
        instruction_set: The instruction set's name.
        n_expected: Instructions in the set; `n` if not given.
        method: "auto" takes alpaca-eval's estimator for a language model's verdicts on AlpacaEval if `df_gamed.csv` is
            at hand and sound (its rows hold GPT-4 Turbo's taste for length, which other judges do not have). Nothing
            is downloaded.
        prior: Another prior than the judge's; asks for the offline estimator.
        seed: Seed of the resampling.

    Raises:
        UserError: If alpaca-eval's estimator is asked for and cannot be had; says why.
    """
    from implicit_if.harness import stats
    from implicit_if.harness.instructions.alpaca_eval import official_ids
    from implicit_if.harness.stats.length_control import alpaca_eval_glm as glm

    check_length_control(method, ids, instruction_set, prior)
    reason, gamed = _why_offline(method, judge_prior, instruction_set, prior), None
    if reason is None:
        gamed, obstacle = _alpaca_evals_data(ids, instruction_set)
        reason = f"because {obstacle}"
    data = (preferences, system_lengths, reference_lengths)
    if gamed is not None:
        positions = glm.positions_of(ids, official_ids())
        estimate = glm.alpaca_eval_length_controlled(*data, positions, gamed, n_expected=n_expected, seed=seed)
        return LengthControl(estimate, f"with {glm.FILE} of AlpacaEval's hub dataset")
    prior = prior or judge_prior
    estimate = stats.length_controlled_win_rate(*data, ids=ids, n_expected=n_expected, seed=seed, prior=prior)
    return LengthControl(estimate, reason, prior, stats.prior_sensitivity(*data, ids=ids, prior=prior))


def check_length_control(
    method: Method, ids: Sequence[str], instruction_set: str, prior: LengthPrior | None = None
) -> None:
    """Checks, before anything is judged, that verdicts on these instructions can get the length control asked for.

    Raises:
        UserError: If alpaca-eval's estimator is asked for and cannot be had; says why.
    """
    if method != "alpaca_eval":
        return
    if prior is not None:
        raise UserError(
            "--length-prior is of the offline length control; leave out it or --length-control alpaca_eval."
        )
    if obstacle := _alpaca_evals_data(ids, instruction_set)[1]:
        raise UserError(f"--length-control alpaca_eval: {obstacle}. {_NEEDED}")


_NEEDED = (
    "Expected verdicts on AlpacaEval's instructions and df_gamed.csv of the dataset tatsu-lab/alpaca_eval in the cache "
    "(hf download tatsu-lab/alpaca_eval df_gamed.csv --repo-type dataset), or --length-control offline."
)


def _why_offline(
    method: Method, judge_prior: LengthPrior, instruction_set: str, prior: LengthPrior | None
) -> str | None:
    """Why the offline estimator is taken without a look at alpaca-eval's data; None if that is what decides."""
    from implicit_if.harness.stats.length_control.priors import WEAK

    if method == "alpaca_eval":
        return None
    if method == "offline" or prior is not None:
        return "as asked for"
    if instruction_set != SET:
        return f"because {_other_set(instruction_set)}"
    if judge_prior is WEAK:
        return "because alpaca-eval's holds GPT-4 Turbo's taste for length (--length-control alpaca_eval for it still)"
    return None


def _alpaca_evals_data(ids: Sequence[str], instruction_set: str) -> tuple[Gamed | None, str | None]:
    """The hub file's content, or why it is of no use."""
    from implicit_if.harness.instructions.alpaca_eval import official_ids
    from implicit_if.harness.stats.length_control import alpaca_eval_glm as glm

    if instruction_set != SET:
        return None, _other_set(instruction_set)
    if len(ids) < glm.FEWEST:
        return None, f"{len(ids)} verdicts are too few for alpaca-eval's"
    file = glm.find_gamed()
    if file is None:
        return None, f"{glm.FILE} of AlpacaEval's hub dataset is not in the cache"
    try:
        gamed = glm.load_gamed(file)
    except UserError as error:
        return None, f"it cannot be used: {str(error).rstrip('.')}"
    if gamed.difficulty.size != len(official_ids()):
        return (
            None,
            f"{file} holds {gamed.difficulty.size} instructions, expected {len(official_ids())}",
        )
    return gamed, None


def _other_set(name: str) -> str:
    return f"the instruction set is {name!r}, not AlpacaEval's"
