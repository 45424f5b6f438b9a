"""The judge `human:<sheet>`, the name that people's sheets had before `sheet:<sheet>`; stored verdicts keep it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends import sheet
from implicit_if.harness.judging.sheets.export import SHEETS
from implicit_if.harness.judging.sheets.read import read_sheets
from implicit_if.harness.storage import sha256_json


def build(argument: str | None, options: Mapping[str, Any]) -> sheet.SheetJudge:
    """A person's verdicts under the old name and fingerprint, so that those already stored stand; says the new name.

    Args:
        argument: See `sheet.build`.
        options: `rater`, a name that tells raters apart. Without it, all verdicts are one judge's, "human".

    Raises:
        UserError: As `sheet.build`.
    """
    if not argument or options.keys() - {"rater"}:
        raise UserError(
            f"judge 'human': found sheet {argument!r} and options {dict(options)}. Expected a sheet, and no option but "
            f"rater=NAME, up to 40 letters, digits, dots, hyphens and underscores."
        )
    print("judge 'human' is named 'sheet' now: --judge sheet --option kind=person --option rater=NAME", file=sys.stderr)
    given = {"kind": "person", **options}
    rows = sheet.chosen_rows(read_sheets(argument, SHEETS), given, f"judge 'human:{argument}'", anonymous=True)
    name = next(iter(sheet.raters_of(rows))).name if rows else str(options.get("rater", ""))
    identity = sheet.Identity(
        f"human:{name}" if name else "human", sha256_json({"judge": "human", "version": 2, "rater": name})
    )
    return sheet.SheetJudge(rows, identity, sheet.folder_of(argument))
