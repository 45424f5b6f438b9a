"""Which of a submission's answers are attempts: decided again by the shipped classifier, else from stored verdicts.

The classifier's own verdicts are never stored where an instruction's text is at hand: they are computed, here and at
every build. Those of other judges must follow from what they said.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence

from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.judging.attempts import EMBEDDED, Attempts, EmbeddedAttempts, classify, is_installed
from implicit_if.harness.judging.pairs import Pair, SingleAnswer
from implicit_if.harness.judging.registry import backend_of, fingerprint_of_name, rereader
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import cache_dir, sha256_json, sha256_text, write_json
from implicit_if.harness.thoughts import without_thoughts
from implicit_if.leaderboards.submission.data_files import AttemptRow, OutputRow
from implicit_if.leaderboards.submission.schema import Scores
from implicit_if.leaderboards.verification import names
from implicit_if.leaderboards.verification.checks import Findings

_ROUNDING = 1e-3
_DIGITS = 6


def attempts_of(pairs: Sequence[Pair], rows: Sequence[AttemptRow] | None) -> Attempts | None:
    """Which answers are attempts, and by whom.

    Args:
        pairs: The answers, sorted by instruction; "" where an instruction's text is not known.
        rows: Stored verdicts, checked; None if there are none.

    Returns:
        None without stored verdicts where a text is not known or the classifier is not installed.
    """
    answers = [SingleAnswer(pair.instruction_id, pair.instruction, pair.system) for pair in pairs]
    if rows is not None:
        told = [row["probability"] for row in rows]
        return Attempts.at_hand(answers, told, rows[0]["judge"], rows[0]["fingerprint"])
    if not computable(pairs):
        return None
    return _classified(answers)


def _classified(answers: Sequence[SingleAnswer]) -> Attempts:
    """What the shipped classifier says; remembered in the user's cache by its fingerprint and the texts."""
    fingerprint = EmbeddedAttempts().fingerprint
    texts = [[answer.instruction, answer.system.output] for answer in answers]
    path = cache_dir() / "leaderboards" / "attempts" / f"{sha256_json([fingerprint, texts])}.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_bytes())
        if isinstance(known, list) and len(known) == len(answers):
            return Attempts.at_hand(answers, known, EMBEDDED, fingerprint)
    found = classify(answers)
    write_json(path, found.probabilities)
    return found


def computable(pairs: Sequence[Pair]) -> bool:
    """Whether the shipped classifier can decide about the answers here."""
    return is_installed() and all(pair.instruction for pair in pairs)


def check_attempts(
    rows: Sequence[AttemptRow], outputs: Sequence[OutputRow], texts: Mapping[str, str], findings: Findings
) -> None:
    """One judge's verdict on every answer, which follows from what it said; problems go to `findings`."""
    name = "attempts"
    judge, fingerprint = rows[0]["judge"], rows[0]["fingerprint"]
    reread = rereader(judge, attempts=True)
    if [row["instruction_id"] for row in rows] != [row["instruction_id"] for row in outputs]:
        findings.add(f"{name}: does not hold one verdict on each answer, sorted by instruction_id")
        return
    for row, output in zip(rows, outputs, strict=True):
        key = row["instruction_id"]
        if (row["judge"], row["fingerprint"]) != (judge, fingerprint):
            findings.add(f"{name}: holds verdicts of several judges", key)
        if row["system_sha256"] != sha256_text(output["output"]):
            findings.add(f"{name}: holds a verdict about another answer than this", key)
        empty = not without_thoughts(output["output"]).strip()
        allowed: tuple[float, float] | None = (0.0, 0.0)
        if not empty:
            allowed = (0.0, 1.0) if reread is None else reread(row["raw"])
        if allowed is None:
            findings.add(f"{name}: holds words of the judge that are incomplete, so that no verdict follows", key)
        elif not allowed[0] - _ROUNDING <= row["probability"] <= allowed[1] + _ROUNDING:
            findings.add(f"{name}: holds a verdict that does not follow from what the judge said", key)
    _check_judge(judge, fingerprint, all(texts.get(row["instruction_id"]) for row in outputs), findings)


def _check_judge(judge: str, fingerprint: str, with_texts: bool, findings: Findings) -> None:
    backend, shown = backend_of(judge), one_line(judge, 60)
    if (other := names.alike(judge.partition(":")[0], names.judge_names())) is not None:
        findings.add(f"attempts: judge {shown!r} is taken for {other!r}; expected the judge's own name")
    if backend is not None and not backend.attempts:
        findings.add(f"attempts: judge {shown!r} compares two answers and cannot decide about one")
    named, by_name = fingerprint_of_name(judge)
    if named and fingerprint != by_name:
        findings.add(f"attempts: the fingerprint is not that of {shown!r}, which its raters' names decide")
    if judge == EMBEDDED and with_texts:
        findings.add("attempts: verdicts of 'embedded' are computed here; leave the file out")
    elif judge == EMBEDDED and fingerprint != EmbeddedAttempts().fingerprint:
        findings.add("attempts: the fingerprint is not that of this program's 'embedded'; judge again with it")


def settle(stored: Scores, computed: Scores) -> tuple[Scores, Scores]:
    """Stored and computed scores that may be compared.

    A stored attempt rate by an older version of the classifier, or one that is missing, is replaced by the computed
    one. Where the classifier cannot be asked, one by its present version stands as it is, and another is left out.
    """
    told, found = stored.scores.get(ATTEMPTS), computed.scores.get(ATTEMPTS)
    if found is not None and (told is None or _is_outdated(told, found)):
        return _with_rate(stored, _rounded(found)), computed
    if found is None and told is not None and told.settings.judge == EMBEDDED and not is_installed():
        current = told.settings.judge_hash == EmbeddedAttempts().fingerprint[:8]
        return (stored, _with_rate(computed, told)) if current else (_with_rate(stored, None), computed)
    return stored, computed


def _is_outdated(told: Score, found: Score) -> bool:
    mine, theirs = found.settings, told.settings
    return mine.judge == theirs.judge == EMBEDDED and mine.judge_hash != theirs.judge_hash


def _with_rate(scores: Scores, rate: Score | None) -> Scores:
    others = {name: score for name, score in scores.scores.items() if name != ATTEMPTS}
    return scores.model_copy(update={"scores": others if rate is None else {ATTEMPTS: rate, **others}})


def _rounded(score: Score) -> Score:
    """What no file holds is rounded, since processors round differently."""
    interval = score.interval
    if interval is not None:
        ends = {"low": round(interval.low, _DIGITS), "high": round(interval.high, _DIGITS)}
        interval = interval.model_copy(update=ends)
    value = None if score.value is None else round(score.value, _DIGITS)
    return score.model_copy(update={"value": value, "interval": interval})
