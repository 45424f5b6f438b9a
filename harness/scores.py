"""The scores contract: a number with its interval, its coverage and its signature."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from implicit_if.harness.signature import Signature


def _parsed(value: Any) -> Any:
    return Signature.parse(value) if isinstance(value, str) else value


SignatureText = Annotated[
    Signature,
    BeforeValidator(_parsed),
    PlainSerializer(str, return_type=str),
]
"""A signature that is text wherever it is stored."""


class Interval(BaseModel):
    """A confidence interval.

    Attributes:
        low: Lower end, in the score's unit.
        high: Upper end.
        method: How it was made, e.g. "mean;score".
        level: Nominal coverage, between 0 and 1.
        seed: Seed of the resampling; None if nothing was drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    method: str = Field(min_length=1)
    level: float = Field(gt=0, lt=1)
    seed: int | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, high is {self.high}: expected low <= high")
        return self

    def show(self, digits: int = 1) -> str:
        """The interval as tables show it, e.g. "[43.5, 46.9]"."""
        return f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"

    @property
    def ends(self) -> tuple[float, float]:
        """`low` and `high`."""
        return self.low, self.high


class Score(BaseModel):
    """A number with its uncertainty, its coverage and the settings behind it: what every statistic returns.

    What cannot be computed is None, never NaN and never a made-up value. Only a signed score may be shown or stored;
    it is stored without `standard_error` and `method`.

    Attributes:
        value: The number, in its metric's unit (win rates: percent); None without data.
        standard_error: In the same unit; None below two instructions, and for a score read from a file.
        interval: Its confidence interval, or None if there is none (e.g. one instruction).
        method: How value and interval were made, e.g. "mean;score"; empty for a score read from a file.
        n_judged: Instructions with a verdict, all of which are in `value`.
        n_expected: Instructions that should have one.
        signature: The settings that produced it; None until it is signed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = Field(allow_inf_nan=False)
    standard_error: float | None = Field(default=None, exclude=True, allow_inf_nan=False)
    interval: Interval | None
    method: str = Field(default="", exclude=True)
    n_judged: int = Field(ge=0)
    n_expected: int = Field(ge=0)
    signature: SignatureText | None

    @classmethod
    def estimate(
        cls,
        value: float | None,
        method: str,
        n: int,
        n_expected: int,
        error: float | None = None,
        ends: tuple[float, float] | None = None,
        level: float = 0.95,
        seed: int | None = None,
    ) -> Score:
        """A score that is not signed yet; `ends` are its interval's, at `level`, from draws with `seed`."""
        interval = None
        if ends is not None:
            interval = Interval(low=ends[0], high=ends[1], method=method, level=level, seed=seed)
        return cls(
            value=value,
            standard_error=error,
            interval=interval,
            method=method,
            n_judged=n,
            n_expected=n_expected,
            signature=None,
        )

    @model_validator(mode="after")
    def _consistent(self) -> Score:
        if self.n_judged > self.n_expected:
            raise ValueError(f"n_judged is {self.n_judged}, n_expected is {self.n_expected}: expected at most as many")
        if self.signature is not None and (self.value is None) != (self.n_judged == 0):
            raise ValueError(
                f"value is {self.value} with n_judged {self.n_judged}: expected a value if and only if judged"
            )
        if self.value is None and self.interval is not None:
            raise ValueError("found an interval without a value")
        return self

    def signed(self, signature: Signature) -> Score:
        """This score under its signature."""
        return Score.model_validate({**dict(self), "signature": signature})

    @property
    def settings(self) -> Signature:
        """The signature.

        Raises:
            ValueError: If the score was never signed.
        """
        if self.signature is None:
            raise ValueError("a score without a signature may not be shown or stored")
        return self.signature

    @property
    def complete(self) -> bool:
        """True if every expected instruction was judged; only then may the score be submitted."""
        return self.n_judged == self.n_expected

    def bracketed(self, spread: float | None = None) -> str:
        """The score in a column: "45.2 [43.5, 46.9]", or "45.2 ± 0.8 [43.5, 46.9]" with a spread, e.g. over seeds.

        Without an interval the brackets are left out; "-" where nothing was judged.
        """
        if self.value is None:
            return "-"
        plus = "" if spread is None else f" ± {spread:.1f}"
        brackets = "" if self.interval is None else f" {self.interval.show()}"
        return f"{self.value:.1f}{plus}{brackets}"

    def render(self, digits: int = 1) -> str:
        """The score as people read it.

        Returns:
            "45.2 ± 1.7 (n 80)" where the interval reaches equally far up and down (after rounding), "2.5 [0.8, 6.1]
            (n 80)" where it does not, "(78 of 80 judged)" instead of "(n 80)" where verdicts are missing, and
            "- (0 of 80 judged)" without any.
        """
        coverage = f"(n {self.n_judged})" if self.complete else f"({self.n_judged} of {self.n_expected} judged)"
        if self.value is None:
            return f"- {coverage}"
        return f"{self.value:.{digits}f}{self._margin(self.value, digits)} {coverage}"

    def _margin(self, value: float, digits: int) -> str:
        if self.interval is None:
            return ""
        low, high = self.interval.low, self.interval.high
        below, above = f"{value - low:.{digits}f}", f"{high - value:.{digits}f}"
        return f" ± {above}" if below == above else f" [{low:.{digits}f}, {high:.{digits}f}]"


def _signed(score: Score) -> Score:
    score.settings  # noqa: B018  raises
    return score


StoredScore = Annotated[Score, AfterValidator(_signed)]
"""A score as files hold it: signed."""
