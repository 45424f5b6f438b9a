"""The embedded judge's card: what is measured of it, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from embedded_attempts_measures import AttemptsMeasured, Spread
from embedded_judge_measures import TITLES, Accuracy, Measured
from embedded_judge_panel_measures import PanelMeasured
from numpy.typing import NDArray

from implicit_if.harness.judging.backends.embedded import CONFIG, ENOUGH_SIMILARITY, Config
from implicit_if.harness.judging.backends.embedded_attempts import CONFIG as ATTEMPTS
from implicit_if.harness.judging.backends.embedded_attempts import read_config
from implicit_if.harness.judging.cards.measurements import Measured as StoredMeasured
from implicit_if.harness.judging.cards.page import controls_text, cost_text, table
from implicit_if.harness.judging.text_features import MAX_CHARS
from implicit_if.harness.judging.topic_features import OWN_CHARS

Floats = NDArray[np.float64]

OTHER_ANSWERS = {"falcon-7b-instruct": "falcon-7b-instruct (AlpacaEval 1's answers)"}
"""Names under which AlpacaEval 1 and 2 publish different answers: another model or decoding, so another row."""


def page(stored: StoredMeasured | None, path: Path = CONFIG) -> str:
    """The card of a fitted judge, from the measures in its file and those of `implicit-if judge-card`."""
    config = Config.model_validate_json(path.read_text(encoding="utf-8"))
    return render(config, Measured.model_validate(config.fit["measured"]), stored)


def render(config: Config, measured: Measured, stored: StoredMeasured | None) -> str:
    """The card, in Markdown."""
    coefficients = sorted(config.coefficients.items(), key=lambda item: -abs(item[1].weight))
    n_fitted = {f"n_{source}": f"{config.fit['pairs'][source]:,}" for source in TITLES}
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
        calibration=table(
            ["prediction", "n", "mean prediction", "mean published"],
            [[f"{b.low} to {b.high}", b.n, b.predicted, b.published] for b in measured.calibration],
        ),
        lowest_weak=min(predicted for predicted, _ in weak.values()),
        lowest_strong=min(predicted for predicted, _ in strong.values()),
        max_chars=MAX_CHARS,
        own_chars=OWN_CHARS,
        builtin="Not measured." if stored is None else controls_text(stored),
        cost=cost_text(stored),
        sampled=_sampled(config),
        **_attempts_parts(),
        **_panel_parts(PanelMeasured.model_validate(config.fit["panel"])),
    )


def _attempts_parts() -> dict[str, str]:
    found = AttemptsMeasured.model_validate(read_config(ATTEMPTS).fit["measured"])
    return {
        "attempts_accuracy": f"{found.accuracy:.3f}",
        "attempts_majority": f"{found.majority:.3f}",
        "attempts_auc": f"{found.auc:.3f}",
        "attempts_by_system": f"{found.by_system_accuracy:.3f}, AUC {found.by_system_auc:.3f}",
        "attempts_n": str(found.n),
        "attempts_parts": _parts(found.parts),
        "attempts_systems": table(
            ["system", "n", "rater", "decided", "mean probability"],
            [[name, r.n, r.rater, r.decided, r.mean_probability] for name, r in found.systems.items()],
        ),
    }


def _panel_parts(found: PanelMeasured) -> dict[str, str]:
    return {
        "panel_n": str(found.n),
        "panel_decided": str(found.decided),
        "panel_majority": f"{found.majority:.3f}",
        "panel_accuracy": f"{found.accuracy:.3f}",
        "panel_error": f"{found.win_rate_error:.1f}",
        "panel_rho": f"{found.rho:.2f}",
        "panel_by_system": f"{found.by_system_accuracy:.3f} of decided pairs, win rates off by "
        f"{found.by_system_win_rate_error:.1f} points, Spearman {found.by_system_rho:.2f}",
        "panel_parts": _parts(found.parts),
        "panel_systems": table(
            ["system", "rater", "without the instruction", "without the system"],
            [[name, *rates] for name, rates in found.systems.items()],
        ),
        "panel_controls": table(
            ["answers", "against `instruction`", "against `rules`"],
            [[name, *rates] for name, rates in sorted(found.controls.items(), key=lambda item: -item[1][0])],
        ),
        "run_on": f"{100 * found.run_on:.0f} %",
        "run_on_wins": f"{100 * found.run_on_wins:.0f} %",
    }


def _parts(found: dict[str, Spread]) -> str:
    return table(
        ["on 20 instructions", "mean", "worst part", "best part"],
        [[name, s.mean, s.worst, s.best] for name, s in found.items()],
    )


def _sampled(config: Config) -> str:
    sampled = {source: len(range(*ends)) for source, ends in config.fit["sampled"].items()}
    return ", ".join(f"{n} of 805 instructions for {source}" for source, n in sampled.items())


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
    "attempted": "log of 1 + the distinct content words that are the answer's own (not copied from the instruction, "
    "not part of further requests, not repeated) times how likely it is an attempt (0 up to a probability of 0.35, 1 "
    "from 0.5 on)",
    "quality": "how much the rater would like it more than other answers to the instruction, as trees expect",
    "loops": "share of words that only repeat an earlier sentence or run of five words",
    "broken": "share of sentences that start in lower case (word salad)",
    "unfinished": "breaks off in mid-sentence or in a code block",
    "topic": f"cosine of MiniLM embeddings of the instruction and the answer's own text, at most {ENOUGH_SIMILARITY}",
    "untold": "1 if less than a fifth of the answer tells something of its own",
    "echo": "share of the instruction that such an answer repeats",
    "ran_on": "a role tag of any shape stands after the beginning of an attempt",
    "repeats": "share of words in repeated segments of an attempt",
    "lists": "log of 1 + lines of a list, at most 2",
    "distinct": "share of different words",
    "order_gap": "how far the order of words is below that of prose, if the instruction's is not",
}

TEMPLATE = """\
# Judge card: `embedded`

<!-- Written by tools/judge_cards.py from tools/embedded_judge_card.py; edit that, not this. -->

A logistic regression over differences of text features, of which the probability that an answer is an attempt at all
and the quality that a panel's rater would see in it are trees' outputs. It runs offline on a CPU, costs nothing and
sees no presentation order. It reads form and topic, **not whether an answer is right**. This is version {version};
`embedded:1` gives version 1's verdicts. The numbers on this page are made by `python tools/fit_embedded_judge.py FOLDER
PANEL LIMA`, those of attempts by `python tools/fit_embedded_attempts.py PANEL LIMA`, but for those by `implicit-if
judge-card`, which say so.

## Use it
- to see a pipeline work end to end, in tests and in the offline default of the main job;
- to order a plain base model, which runs on, loops, echoes and leaks role tags, against its rule-adapted and tuned
  siblings.

## Do not use it
- to publish a win rate as an AlpacaEval win rate, or in a column beside one;
- to compare systems that all answer fluently and stop: there it says little more than which answers longer;
- to judge facts, reasoning, code, safety or tone: a long wrong answer wins over a short right one;
- as a training or selection signal: it is easily gamed by on-topic, varied, long text;
- for other languages than English without looking yourself: most of what it was fitted and measured on is English.

## Position bias
None by construction: no verdict depends on which answer is shown first.

## Attempts
Does an answer attempt its instruction at all: no echo, no copy, no unrelated text, no mere format? It may be wrong.
The labels are a blind rater's (a large language model) on {attempts_n} answers of Gemma 3 270M systems to 60 builtin
instructions. Over all answers, each decided by fits that did not see its instruction, {attempts_accuracy} of the
decisions are the rater's (calling none an attempt: {attempts_majority}), AUC {attempts_auc}; by fits that did not see
the answer's system {attempts_by_system}. A test on few instructions may find more or less; rates in points:

{attempts_parts}

Attempt rates in percent, by fits without the instruction:

{attempts_systems}

## The panel's preferences
The same rater on {panel_n} pairs of a system's answer and the instruction-tuned sibling's. Of {panel_decided} decided
pairs {panel_accuracy} are right by fits without the instruction (always naming the sibling: {panel_majority}); over all
60 instructions win rates are off by {panel_error} points, Spearman {panel_rho}; by fits without the system
{panel_by_system}.

{panel_parts}

{panel_systems}

### Controls on the panel's instructions
Win rates in percent by the shipped coefficients, which were fitted to put tuned systems above controls.

{panel_controls}

An answer beats itself with a further turn under an unusual role tag with {run_on} on average, in {run_on_wins} of the
cases.

## AlpacaEval: agreement on held-out models and instructions
Every number is made by fits that saw neither the instruction nor any answer of the models in the pair, nor of a model
of their family. The two references are in every fit. `longest` prefers more characters. Accuracy is the share of
decided pairs where the judge names the better answer; humans agree with each other on about 0.66 of AlpacaEval pairs.
`majority` always names the side that the labels prefer more often: against GPT-4 Turbo "the reference wins" is right
more often than this judge, which therefore says little about single pairs there. Read for this fit: {sampled}. Version
1 had 0.713, 0.927, 0.797 and 0.969 on all of them.

{accuracy}

The first row is uncertain by ±{margin}: between models that answer and stop, this judge is hardly better than
`longest`. What sets it apart are the corrupted answers. Implied pairs are two models' answers judged against the same
reference, where the two verdicts differ clearly.

Spearman correlation of predicted and published win rates: {spearman_weak:.2f} over {n_weak} models against
text_davinci_003, {spearman_strong:.2f} over {n_strong} models against GPT-4 Turbo. With so few models, a single swap
moves it.

### Corrupted answers
A real answer should win against itself corrupted, and, where nothing of it is left, a weak model's answer should too.

{corruptions}

### Win rates
Predicted, on held-out models and instructions, and published (the mean of the judge's preferences). Read down a column
for the order; the levels do not agree. AlpacaEval 1 and 2 publish different answers under the name falcon-7b-instruct
(5 of 805 are the same), so it has two rows.

{win_rates}

The lowest predicted are {lowest_weak} and {lowest_strong}.

### Calibration
Pairs of weak models against text_davinci_003.

{calibration}

## Controls
{builtin}

## Time and cost
{cost} Most of it goes into the sentence embeddings; there are no calls and no money. At most {max_chars:,} characters
of a text are read, and of what is an answer's own the first {own_chars} are embedded.

## How it was made
P(first) = sigmoid(w · (f(first) - f(second))), with a ridge penalty, fitted to GPT-4's preferences on AlpacaEval 1
({n_ae1} pairs) and 2 ({n_ae2}), preferences between models that these imply ({n_implied}), thirteen corruptions
({n_corruption}), the panel, controls, answers that run on, and fifteen kinds of worthless answers. Weights are for one
standard deviation of a difference:

{features}

The preferences and answers are AlpacaEval's (CC BY-NC 4.0), a table of word order was counted on LIMA (CC BY-NC-SA);
nothing of them is in this package but numbers. Fit again: `python tools/fit_word_order.py LIMA`,
`python tools/fit_embedded_attempts.py PANEL LIMA`, then `python tools/fit_embedded_judge.py FOLDER PANEL LIMA`.
"""
