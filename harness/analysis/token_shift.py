"""Token shift (Lin et al. 2023, arXiv 2312.01552): which tokens of a system's answers the base model would not choose.

After the same prompt and the same beginning of the answer, each token has a rank under the base model: unshifted is the
base's first choice, marginal its second or third, shifted anything beyond, as the authors define it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from implicit_if import __version__
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.references.recitation import MARK
from implicit_if.harness.scores import Interval
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.storage import sha256_json

CATEGORIES = ("unshifted", "marginal", "shifted")
MARGINAL = 3
"""The last rank that is not shifted."""
PUBLISHED = (("Llama-2-7b-chat", 7.8), ("Vicuna-7b-v1.5", 4.8), ("Mistral-7b-instruct", 5.2))
"""Shifted tokens in percent against each model's base, published with the authors' code, Re-Align/AlignTDS."""
BINS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 256), (257, None))
"""Positions in an answer that are counted together, from 1."""


@dataclass(frozen=True)
class RankedToken:
    """One token of an answer.

    Attributes:
        text: What the token adds to the answer's text; the end-of-sequence token's name for that.
        rank: Under the base model, 1 for its first choice; of equal scores the lower id comes first.
        base_choice: The base model's first choice, as text.
        moved: By rule, how far it moved this token against the base's first choice, in nats; they add up to the whole
            shift. Empty without rules.
    """

    text: str
    rank: int
    base_choice: str
    moved: Mapping[str, float] = field(default_factory=dict)

    @property
    def category(self) -> str:
        """One of `CATEGORIES`."""
        return CATEGORIES[0] if self.rank == 1 else CATEGORIES[1] if self.rank <= MARGINAL else CATEGORIES[2]

    @property
    def mover(self) -> str | None:
        """The rule that moved a token furthest up; None for the base's own choice, or where no rule moved it up."""
        if self.rank == 1 or not self.moved:
            return None
        name = max(self.moved, key=lambda rule: self.moved[rule])
        return name if self.moved[name] > 0 else None


@dataclass(frozen=True)
class RankedAnswer:
    """One answer's tokens.

    Attributes:
        instruction: The user's text.
        tokens: Of the answer.
        end: The end-of-sequence token, if the answer ended by itself. It counts in no share of `TokenShift`.
        exact: Whether the tokens, decoded, are the stored text.
        cut: Whether a passage was withheld from the stored text (`harness.references.recitation`); only the tokens
            before it are here.
    """

    instruction: str
    tokens: tuple[RankedToken, ...]
    end: RankedToken | None = None
    exact: bool = True
    cut: bool = False


class TokenRanker(Protocol):
    """A base model that ranks the tokens of answers: `RulesPoE` and its kin."""

    def rank_tokens(
        self, prompt: str, answer: str, *, ended: bool, token_ids: Sequence[int] | None = None, rules: Any = None
    ) -> tuple[tuple[RankedToken, ...], RankedToken | None, bool]:
        """The tokens of an answer, its end, and whether they spell it exactly; see `RankedAnswer`."""


@dataclass(frozen=True)
class Share:
    """Percent of tokens, with an interval over answers (bootstrap; an answer's tokens stay together)."""

    percent: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.percent:.1f} {self.interval.show()}"


@dataclass(frozen=True)
class TokenShift:
    """Token shift of one system's answers.

    Attributes:
        system: Its name.
        answers: At least one, with at least one token in all.
        shares: By category, over all tokens of all answers but end-of-sequence.
        signature: The settings behind the numbers.
    """

    system: str
    answers: tuple[RankedAnswer, ...]
    shares: Mapping[str, Share]
    signature: str

    @property
    def tokens(self) -> list[RankedToken]:
        """Of all answers, without end-of-sequence."""
        return [token for answer in self.answers for token in answer.tokens]

    @property
    def ends(self) -> list[RankedToken]:
        """End-of-sequence tokens."""
        return [answer.end for answer in self.answers if answer.end is not None]

    @property
    def by_position(self) -> list[tuple[str, int, float | None]]:
        """For each bin of positions: its name, tokens, and percent shifted (None without tokens)."""
        found: list[tuple[str, int, float | None]] = []
        for first, last in BINS:
            inside = [t for a in self.answers for t in a.tokens[first - 1 : last]]
            name = f"{first}" if first == last else f"{first}+" if last is None else f"{first}-{last}"
            shifted = sum(token.category == "shifted" for token in inside)
            found.append((name, len(inside), 100 * shifted / len(inside) if inside else None))
        return found

    @property
    def movers(self) -> dict[str, int]:
        """Tokens, end-of-sequence included, that are not the base's choice, by the rule that moved them furthest."""
        moved = [token.mover for token in [*self.tokens, *self.ends] if token.mover is not None]
        return dict(sorted(Counter(moved).items(), key=lambda item: (-item[1], item[0])))

    def most_shifted(self, n: int = 15) -> list[tuple[str, int, str]]:
        """Shifted tokens by how often they are: text, times, and what the base most often wanted instead."""
        shifted = [token for token in self.tokens if token.category == "shifted"]
        counts = Counter(token.text for token in shifted)
        best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]
        wanted = {text: Counter(t.base_choice for t in shifted if t.text == text) for text, _ in best}
        return [
            (text, count, min(wanted[text].items(), key=lambda item: (-item[1], item[0]))[0]) for text, count in best
        ]

    def as_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON; without the answers."""
        return {
            "system": self.system,
            "signature": self.signature,
            "n_answers": len(self.answers),
            "n_tokens": len(self.tokens),
            "not_exact": sum(not answer.exact for answer in self.answers),
            "cut_where_withheld": sum(answer.cut for answer in self.answers),
            "shares": {
                name: {"percent": round(share.percent, 4), "interval": share.interval.model_dump()}
                for name, share in self.shares.items()
            },
            "by_position": [
                {"position": name, "n_tokens": n, "shifted": None if value is None else round(value, 4)}
                for name, n, value in self.by_position
            ],
            "ends": {"n": len(self.ends), **dict(Counter(token.category for token in self.ends))},
            "movers": self.movers,
            "most_shifted": [{"token": t, "n": n, "base_choice": b} for t, n, b in self.most_shifted()],
        }


def shift_tokens(
    ranker: TokenRanker,
    outputs: Sequence[Output],
    render: Any,
    *,
    system: str,
    base: str,
    template: str,
    rules: Any = None,
    store: Path | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> TokenShift:
    """Ranks every token of a system's answers under a base model, one forward pass an answer.

    An answer from which recited training data were withheld counts up to the first such passage: what came after it
    depends on words that are not there.

    Args:
        ranker: The base model.
        outputs: The system's answers, with their instructions. One with `token_ids` is taken at these; others are
            tokenized again, with their prompt.
        render: A function from an instruction to the prompt the answers were made with.
        system: The system's name.
        base: The base model's name, for the signature.
        template: Name of the prompt's template, for the signature.
        rules: Rules that made the answers, for `RankedToken.moved`; None where none did.
        store: A JSON Lines file of this base and these rules that keeps every answer's ranks; a rerun with it goes on
            where the last one stopped.
        n_resamples: Of the bootstrap over answers.
        seed: Of the bootstrap.
        progress: Shows a bar.

    Raises:
        UserError: If an output has no instruction, or there is no token.
    """
    from tqdm import tqdm

    kept = {} if store is None else {str(row["of"]): row for row in read_records(store)}
    answers = []
    for output in tqdm(outputs, desc=f"ranking tokens of {system}", unit="answer", disable=not progress):
        if output.instruction is None:
            raise UserError(
                f"{system}: the answer {output.instruction_id} has no instruction. Expected joined outputs."
            )
        prompt, whole = render(output.instruction), (output.model_extra or {}).get("token_ids")
        text, withheld, _ = output.output.partition(MARK)
        answer = text.rstrip() if withheld else text
        ended, token_ids = output.finish_reason == "eos" and not withheld, None if withheld else whole
        of = sha256_json([prompt, answer, ended, token_ids, str(rules)])
        if (row := kept.get(of)) is None:
            tokens, end, exact = ranker.rank_tokens(prompt, answer, ended=ended, token_ids=token_ids, rules=rules)
            row = {"of": of, "tokens": [asdict(t) for t in tokens], "end": end and asdict(end), "exact": exact}
            if store is not None:
                append_records(store, [row])
        end = None if row["end"] is None else RankedToken(**row["end"])
        tokens = tuple(RankedToken(**token) for token in row["tokens"])
        answers.append(RankedAnswer(output.instruction, tokens, end, row["exact"], bool(withheld)))
    signature = f"task:token_shift|base:{base}|n:{len(answers)}|template:{template}|v:{__version__}"
    return TokenShift(system, tuple(answers), _shares(answers, system, n_resamples, seed), signature)


def _shares(answers: Sequence[RankedAnswer], system: str, n_resamples: int, seed: int) -> dict[str, Share]:
    totals = np.array([len(answer.tokens) for answer in answers], dtype=float)
    if totals.sum() == 0:
        raise UserError(f"{system}: its answers hold no token. Expected at least one answer that is not empty.")
    found = {}
    for category in CATEGORIES:
        counts = np.array([sum(t.category == category for t in answer.tokens) for answer in answers], dtype=float)

        def share(weights: Any, counts: Any = counts) -> Any:
            drawn = weights @ totals
            return np.divide(100 * (weights @ counts), drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)

        low, high = np.nanquantile(replicates(share, len(answers), n_resamples, seed), [0.025, 0.975])
        interval = Interval(low=float(low), high=float(high), method="bootstrap over answers", level=0.95, seed=seed)
        found[category] = Share(float(100 * counts.sum() / totals.sum()), interval)
    return found
