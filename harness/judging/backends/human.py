"""The judge `human:<sheet>`: people's verdicts, read from a blind sheet (`human_sheet.py`).

The judge is the rater, not the sheet: a rater's verdicts on any number of sheets, filled in at any time, are one
judge's. The sheet is read again by every run, so that what is changed on it counts at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.human_sheet import PREFERENCES, read_folder, read_sheet, row_key
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict
from implicit_if.harness.storage import sha256_json

_RATER = re.compile(r"[A-Za-z0-9._-]{1,40}")


class HumanJudge(LocalJudge):
    """One rater's verdicts, read from a sheet; see `Judge`.

    Attributes:
        name: "human", or "human:" and the rater.
        fingerprint: Hash of the rater, so that verdicts of several sheets and sittings may stand together.
        folder: Where the sheet lies.
    """

    def __init__(self, verdicts: Mapping[str, str], rater: str = "", folder: Path = Path()) -> None:
        self.name = f"human:{rater}" if rater else "human"
        self.fingerprint = sha256_json({"judge": "human", "version": 2, "rater": rater})
        self.folder = folder
        self._verdicts = verdicts

    @property
    def for_answer_1(self) -> list[float]:
        """Preferences for the answer shown as number 1, of every row with a verdict."""
        return [PREFERENCES[said] for said in self._verdicts.values() if said]

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields the verdict of each comparison's row, whichever answer the row shows first.

        A row without verdict is an error, "not judged yet", and so is a comparison without a row.
        """
        for c in comparisons:
            verdict = self._look_up(c)
            yield verdict or Verdict(c.key, None, error="not on the sheet", cost=0.0)

    def stands(self, comparison: Comparison, prefers_first: float) -> bool:
        """See `Judge`: a row that was changed or emptied refutes a stored verdict, a missing row does not."""
        verdict = self._look_up(comparison)
        return verdict is None or verdict.prefers_first == prefers_first

    def _look_up(self, c: Comparison) -> Verdict | None:
        """The verdict of the comparison's row; None if there is no such row."""
        for key, flip in (
            (row_key(c.instruction, c.first, c.second), False),
            (row_key(c.instruction, c.second, c.first), True),
        ):
            said = self._verdicts.get(key)
            if said == "":
                return Verdict(c.key, None, error="not judged yet", cost=0.0)
            if said is not None:
                preference = PREFERENCES[said]
                return Verdict(c.key, 1 - preference if flip else preference, raw=f"{key}: {said}", cost=0.0)
        return None


def build(argument: str | None, options: Mapping[str, Any]) -> HumanJudge:
    """The judge.

    Args:
        argument: The sheet, as CSV, or the folder of `implicit-if judge --sheet`.
        options: `rater`, a name or number that tells raters apart. Without it, all verdicts are one judge's, "human".

    Raises:
        UserError: If there is no such sheet, a verdict on it is none, or the rater is no plain name.
    """
    rater = str(options.get("rater", ""))
    if not argument or options.keys() - {"rater"} or (rater and not _RATER.fullmatch(rater)):
        raise UserError(
            f"judge 'human': found sheet {argument!r} and options {dict(options)}. Expected a sheet, and no option but "
            f"rater=NAME, up to 40 letters, digits, dots, hyphens and underscores."
        )
    path = Path(os.path.expanduser(argument))
    if os.path.isdir(path):
        return HumanJudge(read_folder(path), rater, path)
    return HumanJudge(read_sheet(path), rater, path.parent)
