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
        notes: What a reader of the number must know, a sentence each.
    """

    estimate: Score
    reason: str
    prior: LengthPrior | None = None
    sensitivity: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The estimator's name, as signatures carry it: "alpaca_eval", or e.g. "offline(gpt4-turbo,c0.3)"."""
        return self.estimate.method.split(";")[0]

    def as_dict(self) -> dict[str, Any]:
        """A value JSON can hold."""
        return {
            "method": self.method,
            "reason": self.reason,
            "prior": None if self.prior is None else asdict(self.prior),
            "prior_sensitivity": None if self.sensitivity is None else list(self.sensitivity),
            "notes": list(self.notes),
        }

    def render(self) -> str:
        """One line for people, and one a note."""
        line = f"length control: {self.method}, {self.reason}"
        if self.sensitivity is not None:
            low, high = sorted(self.sensitivity)
            line += f"; {low:.1f} to {high:.1f} if the prior's mean moves by one sd"
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])


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
        UserError: If alpaca-eval's estimator is asked for and not available; says why.
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
        notes = [departure(stats.win_rate(preferences).value, estimate)]
        return LengthControl(
            estimate, f"with {glm.FILE} of AlpacaEval's hub dataset", notes=tuple(note for note in notes if note)
        )
    prior = prior or judge_prior
    estimate = stats.length_controlled_win_rate(*data, ids=ids, n_expected=n_expected, seed=seed, prior=prior)
    notes = [_far_answers(system_lengths, reference_lengths, ids), _prior_decides(estimate, *data, ids, prior)]
    sensitivity = stats.prior_sensitivity(*data, ids=ids, prior=prior)
    return LengthControl(estimate, reason, prior, sensitivity, tuple(note for note in notes if note))


def departure(win_rate: float | None, controlled: Score) -> str | None:
    """A sentence where a length-controlled win rate lies further from the win rate than its own interval, else None."""
    if win_rate is None or controlled.value is None or controlled.interval is None:
        return None
    low, high = controlled.interval.ends
    if low <= win_rate <= high:
        return None
    return (
        f"LC {controlled.value:.1f} differs from the win rate {win_rate:.1f} by more than its interval "
        f"[{low:.1f}, {high:.1f}]"
    )


def prior_moves(win_rate: float, controlled: float, alone: float | None) -> bool:
    """Whether the greater part of the way from the win rate to LC is the prior's doing; arguments as in `cause`."""
    return alone is not None and abs(controlled - alone) > abs(alone - win_rate)


def cause(win_rate: float, controlled: float, alone: float | None, prior: str) -> str:
    """What moved a length-controlled win rate away from the win rate, in a few words.

    Args:
        win_rate: Percent.
        controlled: Percent.
        alone: Percent: the same by the prior `WEAK`, which lets the verdicts decide; None if that is the prior.
        prior: The prior's name.
    """
    if prior_moves(win_rate, controlled, alone):
        return f"the prior {prior} decides: these verdicts alone give {alone:.1f}"
    return "these verdicts go with the answers' lengths"


def _prior_decides(
    estimate: Score,
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    ids: Sequence[str],
    prior: LengthPrior,
) -> str | None:
    from implicit_if.harness import stats
    from implicit_if.harness.stats.length_control.priors import WEAK

    if estimate.value is None or estimate.interval is None:
        return None
    win_rate = stats.win_rate(preferences).value
    far = departure(win_rate, estimate)
    data = (preferences, system_lengths, reference_lengths)
    alone = None if prior == WEAK else stats.length_controlled_win_rate(*data, ids=ids, n_resamples=0, prior=WEAK).value
    if far is not None and win_rate is not None:
        return f"{far}: {cause(win_rate, estimate.value, alone, prior.name)}."
    low, high = estimate.interval.ends
    if alone is not None and 2 * abs(estimate.value - alone) > high - low:
        return f"the prior {prior.name} decides: these verdicts alone give {alone:.1f}, not {estimate.value:.1f}."
    return None


def _far_answers(system_lengths: ArrayLike, reference_lengths: ArrayLike, ids: Sequence[str]) -> str | None:
    import numpy as np

    from implicit_if.harness.stats.length_control.length_scale import far_lengths

    system, reference = (np.asarray(lengths, dtype=float) for lengths in (system_lengths, reference_lengths))
    far = np.flatnonzero(far_lengths(system, reference))
    if not far.size:
        return None
    shown = ", ".join(f"{ids[i]} ({system[i]:.0f} characters, the reference's {reference[i]:.0f})" for i in far[:3])
    more = f" and {far.size - 3} more" if far.size > 3 else ""
    return f"far from usual lengths, and left out of the scale of length differences: {shown}{more}."


def check_length_control(
    method: Method, ids: Sequence[str], instruction_set: str, prior: LengthPrior | None = None
) -> None:
    """Checks, before anything is judged, that verdicts on these instructions can get the length control asked for.

    Raises:
        UserError: If alpaca-eval's estimator is asked for and not available; says why.
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
