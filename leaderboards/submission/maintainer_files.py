"""What maintainers add to a submission: `rerun.json` and `audit.json`, typed and strict."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, model_validator

from implicit_if.harness.scores import Score, StoredScore
from implicit_if.leaderboards.submission.field_types import Finite, Sha256, Versions, Whole
from implicit_if.leaderboards.submission.schema import MAX_INSTRUCTIONS, Strict


class Rerun(Strict):
    """`rerun.json`: a maintainer made the answers again and had them judged.

    Attributes:
        submission_sha256: `Verified.sha256` of the submission without this file.
        win_rate: Of the rerun.
        submitted: Of the submission.
        agrees: Whether the rerun's value lies within the submission's interval.
        identical_answers: Share of the answers that came out the same, 0 to 1.
        versions: Of the rerun.
    """

    submission_sha256: Sha256
    win_rate: StoredScore
    submitted: StoredScore
    agrees: StrictBool
    identical_answers: Annotated[Finite, Field(ge=0, le=1)]
    versions: Versions = Field(default={})

    @model_validator(mode="after")
    def _consistent(self) -> Rerun:
        if self.agrees != within(self.win_rate, self.submitted):
            raise ValueError("`agrees` does not follow from the two scores")
        return self


class Audit(Strict):
    """`audit.json`: a maintainer had a random sample of the pairs judged again, twice.

    Attributes:
        submission_sha256: Hash over the submission's files but for the maintainers'.
        seed: Of the sample, which also depends on the files.
        n: Pairs judged again.
        n_expected: Pairs of the submission.
        off: Verdicts, one an order, that differ from both new ones.
        changing: Verdicts on which the judge itself changed its mind.
    """

    submission_sha256: Sha256
    seed: Whole
    n: Annotated[Whole, Field(ge=1, le=MAX_INSTRUCTIONS)]
    n_expected: Annotated[Whole, Field(ge=1, le=MAX_INSTRUCTIONS)]
    off: Annotated[Whole, Field(ge=0)]
    changing: Annotated[Whole, Field(ge=0)]

    @property
    def agrees(self) -> bool:
        """Whether no more verdicts are off than the judge changes its mind on."""
        return self.off <= self.changing


def within(rerun: Score, submitted: Score) -> bool:
    """Whether a rerun's win rate lies in the submission's interval; without an interval it must be equal."""
    if rerun.value is None or submitted.value is None:
        return False
    if submitted.interval is None:
        return rerun.value == submitted.value
    return submitted.interval.low <= rerun.value <= submitted.interval.high
