"""Response ranking (Hewitt et al. 2024, section 4.2): does a model prefer an instruction's own response to another's?

A base model that ranks responses well has the mapping from instructions to responses already, though it does not
answer: what it writes by itself is something else that is likelier still. Shapes: `n` pairs; row i is the instruction,
column j the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from implicit_if import __version__
from implicit_if.harness.analysis.response_pairs import ResponsePairs
from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.scores import Interval
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.storage import sha256_json, sha256_text

TASK = "response_ranking"
MEASURES = {
    "sum": "log p(response | instruction), summed over tokens, as in the paper",
    "per_character": "the same, divided by the response's characters",
    "pmi": "log p(response | instruction) - log p(response | no instruction): pointwise mutual information",
}

PUBLISHED = (("Llama-2-7B", 80.4, 77.4), ("OLMo-7B-Feb2024", 74.5, 74.3))
"""Table 2 of the paper: model, base, instruction-tuned; percent, by sum, on Alpaca's first pairs."""


class ResponseScorer(Protocol):
    """What can tell how likely responses are: every model class of this package but the one on vLLM.

    One that `wants_bare_instructions` is given instructions as prompts, and wraps them itself.
    """

    def log_probs(self, prompt: str, responses: Sequence[str]) -> Sequence[float]:
        """Natural log of p(response | prompt) for each response, summed over its tokens, without end-of-sequence."""


@dataclass(frozen=True)
class RankingScore:
    """How often an instruction's own response ranks above another's.

    Attributes:
        percent: Over all n(n-1) ordered couples of an instruction and a foreign response; a tie counts half.
        interval: Two-way bootstrap, in percent: instructions and responses are drawn with replacement, independently.
        signature: The settings behind the number.
    """

    percent: float
    interval: Interval
    signature: str

    def __str__(self) -> str:
        return f"{self.percent:.1f} {self.interval.show()}"


@dataclass(frozen=True)
class ResponseRanking:
    """One system's ranking of one set of pairs under one prompt format.

    Attributes:
        system: What the user called the model.
        n: Pairs.
        scores: By measure; see `MEASURES`.
        log_probs: Float64 `[n, n]`, log p(response j | instruction i).
        unconditional: Float64 `[n]`, log p(response j | empty instruction).
    """

    system: str
    n: int
    scores: Mapping[str, RankingScore]
    log_probs: Floats
    unconditional: Floats

    def as_dict(self) -> dict[str, Any]:
        """All but the log-probabilities, ready for JSON."""
        return {
            "system": self.system,
            "n": self.n,
            "scores": {
                name: {
                    "percent": round(score.percent, 4),
                    "interval": score.interval.model_dump(),
                    "signature": score.signature,
                }
                for name, score in self.scores.items()
            },
        }


def rank_responses(
    scorer: ResponseScorer,
    pairs: ResponsePairs,
    template: str | ChatTemplate = "tulu",
    *,
    tags: bool = True,
    system: str = "model",
    store: Path | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: bool = False,
) -> ResponseRanking:
    """Scores every response after every instruction, and counts how often an instruction's own one ranks higher.

    Args:
        scorer: The model.
        pairs: Independent pairs.
        template: Chat template of the prompts.
        tags: Without, a prompt is the instruction and a line end, whatever the template. Neither counts for a scorer
            that wants bare instructions.
        system: A name for the model; with `store`, one that identifies it.
        store: A JSON Lines file that keeps every instruction's scores; a rerun with it scores what it does not hold,
            after an interruption or with more pairs.
        n_resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Of the interval.
        progress: Shows a bar.

    Returns:
        The scores. Only `[n, n]` numbers grow with the number of pairs.

    Raises:
        UserError: If the template shows no instruction, or a text is too long for the model.
    """
    from tqdm import tqdm

    chosen = require_instruction(template, tags)
    bare = bool(getattr(scorer, "wants_bare_instructions", False))
    responses = [pair.response for pair in pairs.items]
    instructions = ["", *(pair.instruction for pair in pairs.items)]
    prompts = instructions if bare else [prompt_of(text, chosen) for text in instructions]
    kept: dict[str, dict[str, float]] = {}
    for row in () if store is None else read_records(store):
        kept.setdefault(str(row["of"]), {}).update(row["log_probs"])
    names = [sha256_text(response)[:16] for response in responses]
    rows: list[list[float]] = []
    for prompt in tqdm(prompts, desc="ranking responses", unit="instruction", disable=not progress):
        known = kept.get(of := sha256_json([system, prompt]), {})
        missing = [(name, text) for name, text in zip(names, responses, strict=True) if name not in known]
        if missing:
            scored = scorer.log_probs(prompt, [text for _, text in missing])
            new = dict(zip([name for name, _ in missing], map(float, scored), strict=True))
            known = known | new
            if store is not None:
                append_records(store, [{"of": of, "log_probs": new}])
        rows.append([known[name] for name in names])
    matrix = np.array(rows[1:], dtype=np.float64)
    unconditional = np.array(rows[0], dtype=np.float64)
    settings = settings_text(pairs, chosen, "own" if bare else None)
    scores = {
        measure: ranking_score(values, f"{settings}|measure:{measure}|v:{__version__}", n_resamples, seed, level)
        for measure, values in measures(matrix, unconditional, responses).items()
    }
    return ResponseRanking(system, len(responses), scores, matrix, unconditional)


def require_instruction(template: str | ChatTemplate, tags: bool = True) -> ChatTemplate | None:
    """The template of the prompts; None without tags.

    Raises:
        UserError: If there is no such template, or it shows no instruction.
    """
    chosen = load_template(template) if isinstance(template, str) else template
    if tags and not chosen.shows_user:
        raise UserError(
            f"template {chosen.name!r} shows no instruction, so that every prompt is the same and no response can be "
            f"told from another. Expected one that does, e.g. tulu."
        )
    return chosen if tags else None


def settings_text(pairs: ResponsePairs, template: ChatTemplate | None, instead: str | None = None) -> str:
    """What a signature says of pairs and prompts; `instead` names prompts that the template did not make."""
    name = instead or ("none" if template is None else f"{template.name}@{template.sha256[:8]}")
    return f"task:{TASK}|pairs:{pairs.name}@{pairs.sha256[:8]}|n:{len(pairs.items)}|template:{name}"


def prompt_of(instruction: str, template: ChatTemplate | None) -> str:
    """The prompt of an instruction, in a template or, for None, bare with a line end."""
    return f"{instruction}\n" if template is None else template.render_prompt(instruction)


def measures(log_probs: Floats, unconditional: Floats, responses: Sequence[str]) -> dict[str, Floats]:
    """What responses are ranked by, each `[n, n]`; see `MEASURES`."""
    return {
        "sum": log_probs,
        "per_character": log_probs / np.array([len(response) for response in responses], dtype=np.float64),
        "pmi": log_probs - unconditional,
    }


def ranking_score(
    values: Floats, signature: str, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> RankingScore:
    """The share of couples (i, j), j other than i, with `values[i, i] > values[i, j]`, a tie counting half.

    Args:
        values: `[n, n]`, n at least 2.
        signature: See `RankingScore`.
        n_resamples: Resamples; a resample draws n instructions and, independently, n responses (Owen 2007, the
            pigeonhole bootstrap). A foreign response that was drawn twice counts twice; a response never counts as
            foreign to its own instruction.
        seed: Of the draws.
        level: Of the percentile interval.
    """
    own = np.diagonal(values)[:, None]
    wins = (own > values) + 0.5 * (own == values)
    foreign = 1.0 - np.eye(len(values))
    wins = wins * foreign
    generator = np.random.default_rng(seed)
    uniform = np.full(len(values), 1 / len(values))
    rows, columns = (generator.multinomial(len(values), uniform, size=n_resamples).astype(float) for _ in range(2))
    couples = ((rows @ foreign) * columns).sum(1)
    drawn = ((rows @ wins) * columns).sum(1)[couples > 0] / couples[couples > 0]
    low, high = 100 * np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(low=float(low), high=float(high), method="two-way bootstrap", level=level, seed=seed)
    return RankingScore(float(100 * wins.sum() / foreign.sum()), interval, signature)
