"""What verification leaves in memory: numbers for a thousand submissions, texts only on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.annotations import Order
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.outputs import Output
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.leaderboards.submission.data_files import parse_rows
from implicit_if.leaderboards.submission.read import Content, SubmissionError, read_content
from implicit_if.leaderboards.submission.schema import Metadata

BADGES = {
    "self-reported": "scores only, believed",
    "rescored": "scores computed again from verdicts that are believed",
    "audited": "and a random sample of the verdicts judged again by a maintainer",
    "recomputed": "from answers, all judged again",
    "re-run": "a maintainer's rerun agrees, too",
}
"""What badges say, weakest first; behind "audited" stands how many pairs were."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verified:
    """A submission that was verified; no texts.

    Attributes:
        id: `<org>__<model>/<revision>`.
        folder: Where it is.
        metadata: As in the file, migrated.
        badge: What was done; see `BADGES`.
        scores: By metric. The stored ones, which agree with the recomputed ones to `verify.TOLERANCE`: so no machine's
            rounding reaches a generated file.
        form: Measures of form, likewise; see `scores.form_measures`.
        instruction_ids: `[n]`, sorted; empty if self-reported.
        preferences: `[n]` in [0, 1], averaged over the orders; empty if self-reported.
        attempts: `[n]` probabilities that an answer attempts its instruction; empty if nothing decided.
        by_order: `[n]` in each presentation order.
        lengths: `[2, n]` characters of the system's and the reference's answers.
        answers: `[n, 8]` what tells copies of each answer (`answers.sketches`); 0 for too short ones.
        pairs: `[n]` a hash of what each verdict is about: judge, instruction and both answers.
        outputs_sha256: Hash over all answers; None if self-reported.
        sha256: Over the bytes of all files.
        notes: What readers should know and no check forbids, e.g. answers shared with another submission.
    """

    id: str
    folder: Path
    metadata: Metadata
    badge: str
    scores: dict[str, Score]
    form: dict[str, float | None]
    instruction_ids: tuple[str, ...]
    preferences: Floats
    by_order: dict[Order, Floats]
    lengths: NDArray[np.uint32]
    answers: NDArray[np.uint32]
    pairs: NDArray[np.uint64]
    outputs_sha256: str | None
    sha256: str
    notes: tuple[str, ...] = ()
    attempts: Floats = field(default_factory=lambda: np.zeros(0))


def summary(verified: Verified) -> str:
    """A submission in a few lines, safe for a terminal."""
    lines = [f"{verified.id}: {verified.badge}"]
    lines += [f"  {name.replace('_', ' ')}: {score.render()}" for name, score in sorted(verified.scores.items())]
    lines += [f"  signature: {one_line(str(verified.scores['win_rate'].signature), 300)}"]
    lines += [f"  note: {one_line(note, 300)}" for note in verified.notes]
    return "\n".join(lines)


def read_again(verified: Verified) -> Content:
    """A verified submission's files.

    Raises:
        SubmissionError: If they changed since.
    """
    content = read_content(verified.folder)
    if content.sha256 != verified.sha256:
        raise SubmissionError(verified.folder, ["changed after it was verified; build again"])
    return content


def read_pairs(verified: Verified, texts: Mapping[str, str] | None = None) -> list[Pair]:
    """Both answers to every instruction of a verified submission, sorted by id; none if it is self-reported.

    An instruction's text comes from the submission, the builtin set or `texts`, never from a cache that another
    machine may not have; it is empty where none of them has it.

    Raises:
        SubmissionError: If the files changed since.
    """
    if not verified.instruction_ids:
        return []
    content = read_again(verified)
    known = {**load_instructions("builtin").texts(), **(texts or {})}
    reference = {row["instruction_id"]: row for row in parse_rows(content.rows("reference"), "outputs")}
    pairs = []
    for row in parse_rows(content.rows("outputs"), "outputs"):
        key, text = row["instruction_id"], row["instruction"]
        pairs.append(Pair(key, text or known.get(key, ""), Output(**row), Output(**reference[key])))
    return pairs
