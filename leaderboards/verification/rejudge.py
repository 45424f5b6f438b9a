"""Judges a submission's answers again: all of them where the judge runs offline, a random sample where it does not."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import backend_of, get_judge, offline_judge, offline_judges
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.storage import atomic_write, cache_dir, json_bytes, sha256_json
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.maintainer_files import Audit
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.verification.result import Verified, read_again, read_pairs

TOLERANCE = 1e-3
"""How far two verdicts of one offline judge may be apart: processors round sentence embeddings differently."""
NOISE = 0.05
"""The same for a judge behind an API, which need not say the same twice."""


def judged_again(name: str, fingerprint: str, pairs: Sequence[Pair], stored: Sequence[float]) -> list[str] | None:
    """What differs from the verdicts of a judge that runs offline, a line each; None if it cannot be asked here.

    It cannot where it reads instructions and their texts are not known. What agreed once is not judged again: it is
    remembered in the user's cache by the judge's fingerprint, the answers and the verdicts.
    """
    if (spec := offline_judge(name, fingerprint)) is None:
        return None
    backend = backend_of(name)
    if (backend is None or backend.reads_instruction) and not all(pair.instruction for pair in pairs):
        return None
    rows = [
        [pair.instruction_id, pair.system.output, pair.reference.output, value]
        for pair, value in zip(pairs, stored, strict=True)
    ]
    known = cache_dir() / "leaderboards" / "judged-again" / sha256_json([fingerprint, rows])
    if known.exists():
        return []
    judgement = _judge(pairs, get_judge(spec))
    wrong = [
        f"annotations: {name} gives {verdict.preference}, not {value}, for instruction {verdict.instruction_id}"
        for value, verdict in zip(stored, judgement, strict=True)
        if verdict.preference is None or abs(verdict.preference - value) > TOLERANCE
    ]
    if not wrong:
        with atomic_write(known) as file:
            file.write("")
    return wrong


def rejudge(verified: Verified, instructions: str | None = None) -> str:
    """Judges again with a judge that runs offline and says so in one line.

    Args:
        verified: The submission.
        instructions: The instruction set, if the submission holds no texts and it is not builtin.

    Raises:
        SubmissionError: If a verdict differs.
        UserError: If the judge does not run offline, or a text is missing.
    """
    judge = verified.metadata.judge
    pairs = read_pairs(verified, _texts(instructions))
    wrong = judged_again(judge.name, judge.fingerprint, pairs, verified.preferences.tolist()) if pairs else None
    if wrong is None and judge.name in offline_judges() and pairs:
        raise _no_text(pairs)
    if wrong is None:
        names = ", ".join(offline_judges())
        raise UserError(f"{verified.id}: its verdicts cannot be made again offline; expected {names}.")
    if wrong:
        raise SubmissionError(verified.folder, wrong)
    return f"  rejudged by {judge.name}: all {len(pairs)} verdicts are the same"


def audit(
    verified: Verified, judge: Judge, sample: int, seed: int, instructions: str | None, max_cost: float | None
) -> Audit:
    """Judges a random sample of the pairs again, twice, and writes `audit.json` into the submission.

    A verdict is off if it differs from both new ones by more than `NOISE`. As many may be as pairs on which the judge
    itself changes its mind, which is none for most judges: then 60 pairs find a share of 5 % false verdicts with 95 %.
    Which pairs are drawn depends on the seed and on the files, so nobody can prepare for it.

    Args:
        verified: The submission.
        judge: Its judge.
        sample: Pairs to judge.
        seed: Of the sample.
        instructions: The instruction set, if its texts are not at hand.
        max_cost: US dollars that each of the two rounds may spend.

    Raises:
        UserError: If it is another judge, or a sheet's raters, the submission holds no answers, or a text or verdict
            is missing.
    """
    info = verified.metadata.judge
    backend = backend_of(info.name)
    if backend is not None and backend.kind == "raters":
        raise UserError(
            f"{verified.id}: judged by {info.name}. Verdicts of a sheet cannot be judged again, and reading the sheet "
            f"once more proves nothing. Compare raters instead: implicit-if agreement."
        )
    if judge.fingerprint != info.fingerprint:
        raise UserError(
            f"{verified.id}: judged by {info.name} ({info.fingerprint[:12]}), not by {judge.name} "
            f"({judge.fingerprint[:12]}). Give the same judge with the same options: --judge SPEC"
        )
    pairs = read_pairs(verified, _texts(instructions))
    if not pairs:
        raise UserError(f"{verified.id}: is self-reported; there is no verdict to audit.")
    hashes = {name: h for name, h in read_again(verified).hashes.items() if name not in read.BY_MAINTAINERS}
    content = read.content_sha256(hashes)
    chosen = sorted(random.Random(f"{content}:{seed}").sample(range(len(pairs)), min(sample, len(pairs))))
    drawn = [pairs[i] for i in chosen]
    if not all(pair.instruction for pair in drawn):
        raise _no_text(drawn)
    first, second = (_judge(drawn, judge, max_cost) for _ in range(2))
    for judgement in (first, second):
        if judgement.unjudged:
            raise UserError(f"{verified.id}: {len(judgement.unjudged)} verdicts are missing; run the audit again.")
    off = changing = 0
    for order in first.orders:
        told = verified.by_order[order][chosen]
        one, two = first.in_order(order), second.in_order(order)
        off += int(np.count_nonzero(np.minimum(abs(told - one), abs(told - two)) > NOISE))
        changing += int(np.count_nonzero(abs(one - two) > NOISE))
    found = Audit(
        submission_sha256=content, seed=seed, n=len(chosen), n_expected=len(pairs), off=off, changing=changing
    )
    with atomic_write(verified.folder / read.AUDIT, "wb") as file:
        file.write(json_bytes(found.model_dump(mode="json")))
    return found


def _judge(pairs: Sequence[Pair], judge: Judge, max_cost: float | None = None) -> Judgement:
    with tempfile.TemporaryDirectory() as folder:
        return annotate(pairs, judge, Path(folder) / "annotations.jsonl", progress=False, max_cost=max_cost)


def _texts(instructions: str | None) -> Mapping[str, str]:
    return load_instructions(instructions).texts() if instructions else {}


def _no_text(pairs: Sequence[Pair]) -> UserError:
    missing = next(pair.instruction_id for pair in pairs if not pair.instruction)
    return UserError(f"instruction {missing}: its text is not at hand. Name the set: --instructions SPEC")
