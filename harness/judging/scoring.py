"""From verdicts to scores: the one place where a judgement gets its numbers, for the command and the task alike."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import make_signature, outputs_sha256
from implicit_if.harness.stats.length_control.estimator_choice import LengthControl, Method, control_length
from implicit_if.harness.storage import check_writable, sha256_json, write_json

if TYPE_CHECKING:
    from implicit_if.harness.stats.length_control.priors import LengthPrior


def score_judgement(
    judgement: Judgement,
    pairs: Sequence[Pair],
    instruction_set: str,
    instruction_revision: str | None,
    reference: str,
    *,
    seed: int = 0,
    control: LengthControl | None = None,
    answers: AnswerSettings = NOTHING_KNOWN,
) -> dict[str, Score]:
    """The scores of a judgement, over the pairs with a verdict in every order.

    Args:
        judgement: What `annotate` returned for these pairs.
        pairs: The pairs, in the same order.
        instruction_set: The instruction set's name.
        instruction_revision: Its revision; None takes a hash over the instructions judged.
        reference: The reference's name.
        seed: Seed of the resampling.
        control: What `control_judgement` gave for the same arguments; computed if not given.
        answers: What shaped the system's answers.

    Returns:
        `win_rate`, `discrete_win_rate` and `length_controlled_win_rate` in percent, lengths in characters; for
        judges that see an order also `position_bias` in percentage points, positive if the first answer gains.
    """
    from implicit_if.harness import stats

    keep = judgement.judged
    preferences, n = judgement.preferences[keep], judgement.n_expected
    control = control or control_judgement(judgement, pairs, instruction_set, seed=seed)
    plain = make_signature(
        instruction_set=instruction_set,
        instruction_revision=instruction_revision or sha256_json(sorted(judgement.instruction_ids)),
        n=n,
        reference=reference,
        reference_sha256=outputs_sha256(pair.reference for pair in pairs),
        judge=judgement.judge,
        fingerprint=judgement.fingerprint,
        orders=len(judgement.orders),
        answers=answers,
    )
    lc = replace(plain, lc=control.method)
    scores = {
        "win_rate": stats.win_rate(preferences, n_expected=n).signed(plain),
        "discrete_win_rate": stats.discrete_win_rate(preferences, n_expected=n).signed(plain),
        "length_controlled_win_rate": control.estimate.signed(lc),
    }
    if len(judgement.orders) == 2:
        first, second = (judgement.in_order(order)[keep] for order in ("system_first", "reference_first"))
        scores["position_bias"] = stats.position_bias(first, second, n_expected=n).signed(plain)
    return scores


def control_judgement(
    judgement: Judgement,
    pairs: Sequence[Pair],
    instruction_set: str,
    *,
    method: Method = "auto",
    prior: LengthPrior | None = None,
    seed: int = 0,
) -> LengthControl:
    """The length control of a judgement; arguments as in `score_judgement` and `control_length`."""
    judged = [pair for pair, kept in zip(pairs, judgement.judged, strict=True) if kept]
    return control_length(
        judgement.preferences[judgement.judged],
        [len(pair.shown[0]) for pair in judged],
        [len(pair.shown[1]) for pair in judged],
        [pair.instruction_id for pair in judged],
        judge_prior=length_prior(judgement.judge),
        instruction_set=instruction_set,
        n_expected=judgement.n_expected,
        method=method,
        prior=prior,
        seed=seed,
    )


def check_report(path: Path | None, keys: set[str]) -> None:
    """Checks, before anything is judged, that `--out` can be written and replaces nothing but an earlier report.

    Args:
        path: The file; None if none was asked for.
        keys: Some of what a report of this command holds.

    Raises:
        UserError: If it cannot, or there is a file that holds something else.
    """
    if path is None:
        return
    check_writable(path)
    if not os.path.isfile(path) or not path.stat().st_size:
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not keys <= found.keys():
        raise UserError(f"--out {path}: holds something else than a report, and would be replaced. Give another name.")


def show_report(content: Any, table: Callable[[], str], as_json: bool) -> None:
    """Prints a command's result, for people or, with `--json`, as what `--out` writes."""
    if as_json:
        write_json("-", content)
    else:
        print(table())


def read_with(*arguments: object) -> str:
    """The line that says which command shows the answers in a browser."""
    return f"read the answers: implicit-if view {shlex.join(map(str, arguments))}"


def write_report(path: Path, content: Any) -> None:
    """Writes a command's `--out`.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        write_json(path, content)
    except OSError as error:
        raise UserError(
            f"--out {path}: cannot be written ({error}). Expected a file in a folder you may write to; the verdicts "
            f"are kept, so run the same command again with another --out."
        ) from error
