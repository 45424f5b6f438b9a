"""What is measured of the embedded judge on held-out models and instructions, and the card that says it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from embedded_judge_data import Pair
from numpy.typing import NDArray
from pydantic import BaseModel

from implicit_if.harness.judging.backends.embedded import CONFIG, EMBEDDED_CHARS, ENOUGH_SIMILARITY, Config
from implicit_if.harness.judging.cards.measurements import Measured as StoredMeasured
from implicit_if.harness.judging.cards.page import controls_text, cost_text, table
from implicit_if.harness.judging.text_features import MAX_CHARS
from implicit_if.harness.stats import spearman

Floats = NDArray[np.float64]

SURE = 0.1
"""An implied pair counts as decided if its probability is within this of 0 or 1."""
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
OTHER_ANSWERS = {"falcon-7b-instruct": "falcon-7b-instruct (AlpacaEval 1's answers)"}
"""Names under which AlpacaEval 1 and 2 publish different answers: another model or decoding, so another row."""
TITLES = {
    "ae1": "weak models against text_davinci_003 (GPT-4's verdicts)",
    "ae2": "models against GPT-4 Turbo (GPT-4 Turbo's verdicts)",
    "implied": "weak models against each other (implied by those verdicts)",
    "corruption": "real answers against corrupted ones",
}


class Accuracy(BaseModel):
    """Shares of n decided pairs on which a judge names the better answer; a tie counts half.

    `majority` always names the side that the labels prefer more often; None where the order of a pair means nothing.
    """

    n: int
    embedded: float
    longest: float
    random: float
    majority: float | None = None


class Bin(BaseModel):
    """Pairs whose prediction lies in [low, high): the mean prediction and the mean published preference."""

    low: float
    high: float
    n: int
    predicted: float | None
    published: float | None


class Measured(BaseModel):
    """All measures, made on held-out models and instructions; win rates are in percent.

    Attributes:
        accuracy: By source of pairs.
        corruptions: By kind.
        win_rates: By set and model, predicted and published.
        spearman: By set, over its models, between the two.
        controls: By set and control, predicted.
        calibration: Of the pairs of weak models against text_davinci_003.
    """

    accuracy: dict[str, Accuracy]
    corruptions: dict[str, Accuracy]
    win_rates: dict[str, dict[str, tuple[float, float]]]
    spearman: dict[str, float | None]
    controls: dict[str, dict[str, float]]
    calibration: list[Bin]


def measure(pairs: Sequence[Pair], predictions: Floats) -> Measured:
    """All measures of held-out predictions, one per pair."""
    coin = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "source": [p.source for p in pairs],
            "kind": [p.kind for p in pairs],
            "system": [p.system for p in pairs],
            "label": [p.label for p in pairs],
            "embedded": predictions,
            "longest": [0.5 + 0.5 * np.sign(len(p.first) - len(p.second)) for p in pairs],
            "random": coin.integers(0, 2, len(pairs)).astype(float),
        }
    )
    of = dict(iter(table.groupby("source")))
    win_rates = {
        name: {
            str(model): (_percent(rows["embedded"]), _percent(rows["label"]))
            for model, rows in of[name].groupby("system")
        }
        for name in ("ae1", "ae2")
    }
    return Measured(
        accuracy={source: _accuracy(of[source]) for source in TITLES},
        corruptions={str(kind): _accuracy(rows) for kind, rows in of["corruption"].groupby("kind", sort=False)},
        win_rates=win_rates,
        spearman={name: _spearman(list(rates.values())) for name, rates in win_rates.items()},
        controls={
            str(name): {str(kind): _percent(r["embedded"]) for kind, r in rows.groupby("kind", sort=False)}
            for name, rows in of["control"].groupby("system")
        },
        calibration=[_bin(of["ae1"], low, high) for low, high in pairwise(BINS)],
    )


def _percent(values: pd.Series[float]) -> float:
    return round(100 * float(values.mean()), 1)


def _accuracy(rows: pd.DataFrame) -> Accuracy:
    sure = rows["label"] != 0.5
    if (rows["source"] == "implied").all():
        sure = (rows["label"] - 0.5).abs() >= 0.5 - SURE
    decided = rows[sure]
    right = {
        judge: round(float((0.5 + 0.5 * np.sign((decided[judge] - 0.5) * (decided["label"] - 0.5))).mean()), 3)
        for judge in ("embedded", "longest", "random")
    }
    wins = float((decided["label"] > 0.5).mean())
    judged = rows["source"].isin(["ae1", "ae2"]).all()
    return Accuracy(n=len(decided), **right, majority=round(max(wins, 1 - wins), 3) if judged else None)


def _spearman(rates: list[tuple[float, float]]) -> float | None:
    rho = spearman([predicted for predicted, _ in rates], [published for _, published in rates])
    return None if rho is None else round(rho, 2)


def _bin(rows: pd.DataFrame, low: float, high: float) -> Bin:
    inside = rows[(rows["embedded"] >= low) & (rows["embedded"] < high)]
    means = [None if inside.empty else round(float(inside[c].mean()), 2) for c in ("embedded", "label")]
    return Bin(low=low, high=high, n=len(inside), predicted=means[0], published=means[1])


def page(stored: StoredMeasured | None, path: Path = CONFIG) -> str:
    """The card of a fitted judge, from the measures in its file and those of `implicit-if judge-card`."""
    config = Config.model_validate_json(path.read_text(encoding="utf-8"))
    return render(config, Measured.model_validate(config.fit["measured"]), stored)


def render(config: Config, measured: Measured, stored: StoredMeasured | None) -> str:
    """The card, in Markdown."""
    coefficients = sorted(config.coefficients.items(), key=lambda item: -abs(item[1].weight))
    n_fitted = {f"n_{source}": f"{n:,}" for source, n in config.fit["pairs"].items()}
    weak = {OTHER_ANSWERS.get(model, model): rates for model, rates in measured.win_rates["ae1"].items()}
    strong = measured.win_rates["ae2"]
    return TEMPLATE.format(
        features=table(
            ["feature", "weight", "what it is"],
            [[f"`{name}`", f"{c.weight:+.2f}", FEATURES.get(name, "")] for name, c in coefficients],
        ),
        version=config.version,
        **n_fitted,
        accuracy=_accuracies("pairs", [(TITLES[source], a) for source, a in measured.accuracy.items()]),
        margin=f"{1.96 * math.sqrt(0.25 / measured.accuracy['ae1'].n):.2f}",
        corruptions=_accuracies("corruption", measured.corruptions.items()),
        spearman_weak=measured.spearman["ae1"],
        n_weak=len(weak),
        spearman_strong=measured.spearman["ae2"],
        n_strong=len(strong),
        win_rates=table(
            ["model", "against text_davinci_003", "published", "against GPT-4 Turbo", "published"],
            [
                [model, *weak.get(model, ("", "")), *strong.get(model, ("", ""))]
                for model in sorted({*weak, *strong}, key=lambda m: -strong.get(m, weak.get(m, (0.0, 0.0)))[1])
            ],
        ),
        controls=table(
            ["control", "against text_davinci_003", "against GPT-4 Turbo"],
            [[kind, rate, measured.controls["ae2"][kind]] for kind, rate in measured.controls["ae1"].items()],
        ),
        lowest_weak=min(predicted for predicted, _ in weak.values()),
        lowest_strong=min(predicted for predicted, _ in strong.values()),
        calibration=table(
            ["prediction", "n", "mean prediction", "mean published"],
            [[f"{b.low} to {b.high}", b.n, b.predicted, b.published] for b in measured.calibration],
        ),
        enough=ENOUGH_SIMILARITY,
        max_chars=MAX_CHARS,
        embedded_chars=EMBEDDED_CHARS,
        builtin="Not measured." if stored is None else controls_text(stored),
        cost=cost_text(stored),
    )


def _accuracies(title: str, rows: Iterable[tuple[str, Accuracy]]) -> str:
    measured = list(rows)
    judges = ["embedded", "longest", "random"] + ["majority"] * any(a.majority is not None for _, a in measured)
    return table(
        [title, "n", *judges],
        [[name, f"{a.n:,}", *(_share(getattr(a, judge)) for judge in judges)] for name, a in measured],
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


FEATURES = {
    "content": "log of 1 + the distinct content words that are the answer's own: not copied from the instruction, not "
    "part of further requests, not repeated",
    "loops": "share of words that only repeat an earlier sentence or run of five words",
    "cut": "share of the text after the first role tag or prompt header",
    "broken": "share of sentences that start in lower case (word salad)",
    "unfinished": "breaks off in mid-sentence or in a code block",
    "topic": f"cosine of MiniLM embeddings of answer and instruction, at most {ENOUGH_SIMILARITY}",
}

TEMPLATE = """\
# Judge card: `embedded`

<!-- Written by tools/judge_cards.py from tools/embedded_judge_card.py; edit that, not this. -->

A logistic regression over differences of six text features. It runs offline on a CPU, costs nothing and sees no
presentation order. It reads form and topic, **not whether an answer is
right**. The numbers on this page are made by `python tools/fit_embedded_judge.py FOLDER`, but for those by
`implicit-if judge-card`, which say so.

## Use it
- to see a pipeline work end to end, in tests and in the offline default of the main job;
- to order a plain base model, which runs on, loops, echoes and leaks role tags, against its rule-adapted and tuned
  siblings.

## Do not use it
- to publish a win rate as an AlpacaEval win rate, or in a column beside one: its win rates are compressed and follow
  length (below);
- to compare systems that all answer fluently and stop: there it says little more than which answers longer;
- to judge facts, reasoning, code, safety or tone: a long wrong answer wins over a short right one, and fluent talk
  around the question over an answer in one word;
- as a training or selection signal: it is easily gamed by on-topic, varied, long text;
- for other languages than English without looking yourself: it was fitted and measured on English instructions, and
  finds further requests in other languages only by their question marks.

## Position bias
None by construction: no verdict depends on which answer is shown first.

## Agreement on held-out models and instructions
Every number is made by fits that saw neither the instruction nor any answer of the models in the pair, nor of a model
of their family. The two references are in every fit. `longest` prefers more characters. Accuracy is the share of
decided pairs where the judge names the better answer; humans agree with each other on about 0.66 of AlpacaEval pairs.
`majority` always names the side that the labels prefer more often: against GPT-4 Turbo "the reference wins" is right
more often than this judge, which therefore says little about single pairs there.

{accuracy}

The first row is uncertain by ±{margin}: between models that answer and stop, this judge is hardly better than
`longest`. What sets it apart are the corrupted answers. Implied pairs are two models' answers judged against the same
reference, where the two verdicts differ clearly.

Spearman correlation of predicted and published win rates: {spearman_weak:.2f} over {n_weak} models against
text_davinci_003, {spearman_strong:.2f} over {n_strong} models against GPT-4 Turbo. With so few models, a single swap
moves it: over 12 to 48 published models that were not at hand for the fit it was .33 to .55, below that of `longest`.

### Corrupted answers
A real answer should win against itself corrupted, and, where nothing of it is left, a weak model's answer should too.

{corruptions}

### Win rates
Predicted, on held-out models and instructions, and published (the mean of the judge's preferences). Read down a column
for the order; the levels do not agree. AlpacaEval 1 and 2 publish different answers under the name falcon-7b-instruct
(5 of 805 are the same), so it has two rows.

{win_rates}

### Controls on AlpacaEval
Win rates in percent. An empty, constant or echoing answer must stay below every real model; the lowest above has
{lowest_weak} and {lowest_strong}. Taking the longer of two real answers gains nothing with a judge that ignores length.

{controls}

### Calibration
Pairs of weak models against text_davinci_003. Predictions are too kind to weak models: between 0.2 and 0.6 they win far
less often than predicted.

{calibration}

## Controls
{builtin}

The opponent is Gemma 3 270M with the rules, whose answers often repeat the instruction themselves
([the ablation](../ablations/gemma-3-270m/table.md)): against them an echo is no worse.

## Time and cost
{cost} Most of it goes into the sentence embeddings; there are no calls and no money. At most {max_chars:,} characters
of a text are read, and of what is left of an answer the first {embedded_chars} are embedded.

## How it was made
Version {version}. P(first) = sigmoid(w · (f(first) - f(second))), with a ridge penalty, fitted to GPT-4's preferences
on AlpacaEval 1 ({n_ae1} pairs) and 2 ({n_ae2}), preferences between models that these imply ({n_implied}), and thirteen
corruptions ({n_corruption}). Each source has the same total weight, pairs against GPT-4 Turbo half of it. Weights are
for one standard deviation of a difference:

{features}

Tried and left out: words in common with the instruction, and similarity beyond {enough} (both favour echoes and lower
agreement on unseen models); similarity of an answer's tail, refusals, type-token ratio, compressibility (no use); lines
and lists (agreement half a point up, order of models worse).

The preferences and answers are AlpacaEval's (CC BY-NC 4.0); nothing of them is in this package but these numbers.
Fit again: `python tools/fit_embedded_judge.py FOLDER`.
"""
