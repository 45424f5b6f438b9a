"""A judge's card: one page from its configuration, what its YAML says of it, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.controls import CONTROLS, WORTHLESS
from implicit_if.harness.judging.cards.measurements import Agreement, Controls, Measure, Measured
from implicit_if.harness.judging.protocol import Comparison, Estimate
from implicit_if.harness.judging.registry import CONFIGS, Backend, current_backends, get_backend, resolve_spec
from implicit_if.harness.safe_text import markdown_cell

_NOWHERE = "http://127.0.0.1:9/v1"
"""A server on this machine needs no key; none is asked to estimate a price."""
_TYPICAL = Comparison("typical", "i" * 200, "a" * 1000, "b" * 1000)


_UNKNOWN = {
    "summary": "A judge that is not of this package: see its own documentation.",
    "use": ["as its authors say."],
    "avoid": ["before its agreement and its control rows below are measured."],
    "needs": "what its authors say",
}


class About(BaseModel):
    """What people should know of a judge before they use it.

    Attributes:
        title: Its heading, e.g. "openai:MODEL".
        summary: What it is.
        use: What it is good for.
        avoid: What it must not be used for.
        published: Facts others measured, each with its source.
        needs: What measuring it takes, for the note where nothing was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    summary: str
    use: list[str]
    avoid: list[str]
    published: list[str] = []
    needs: str


def card_names() -> list[str]:
    """Every judge that has a card: shipped configurations and backends under their current names, sorted."""
    return sorted({*current_backends(), *(path.stem for path in CONFIGS.glob("*.yaml"))})


def about(name: str) -> About:
    """What a judge's YAML says of it, else its backend's; a judge of another package says nothing here."""
    backend = get_backend(name)
    card = backend.card if backend is not None else (spec := resolve_spec(name)).card or spec.backend.card
    return About.model_validate({"title": name, **(card or _UNKNOWN)})


def render_card(name: str, measured: Measured | None = None) -> str:
    """The page, in Markdown; the same arguments give the same bytes.

    Args:
        name: One of `card_names`, or another judge's spec, which gets the page of its backend's family.
        measured: What was measured; its absence is said.
    """
    known = about(name)
    backend, rows = _configuration(name)
    title = known.title if name in card_names() else name
    parts = [
        f"# Judge card: `{title}`",
        "<!-- Written by implicit-if judge-card and tools/judge_cards.py; edit the judge's YAML, not this. -->",
        known.summary.strip(),
        "## Use it\n" + _list(known.use),
        "## Do not use it\n" + _list(known.avoid),
        "## Configuration\n" + table(["", ""], rows),
        "## Agreement\n" + _agreement(known, measured),
        "## Position bias\n" + _position_bias(backend, known, measured),
        "## Controls\n" + _not_measured(known) if measured is None else "## Controls\n" + controls_text(measured),
        "## Time and cost\n" + (cost_text(measured) or _no_cost(backend, known)),
        *(["## Published by others\n" + _list(known.published)] if known.published else []),
        "## Measure it\n" + _how(title, backend, known),
    ]
    return "\n\n".join(parts) + "\n"


def _configuration(name: str) -> tuple[Backend, list[tuple[str, str]]]:
    """A judge's backend and what its configuration says, without its key, its weights or its server."""
    own = get_backend(name)
    spec = resolve_spec(name) if own is None or own.argument in ("none", "optional") else None
    backend = spec.backend if spec is not None else own
    assert backend is not None
    rows = [("backend", f"`{backend.name}`")]
    argument, options = (spec.argument, dict(spec.options)) if spec is not None else (None, {})
    if argument:
        rows.append(("model" if backend.argument == "optional" else backend.argument, f"`{argument}`"))
    rows += [(key, f"`{value}`") for key, value in sorted(options.items())]
    if backend.kind == "language model":
        rows += _api_rows(backend.name, argument, options)
    if backend.orders:
        rows.append(("presentation orders", backend.orders))
    return backend, rows


def controls_text(measured: Measured) -> str:
    """Control rows as text and table."""
    controls = measured.controls
    if controls is None:
        return "Not measured."
    return (
        f"By `implicit-if judge-card`, too. Win rates in percent against the answers of `{controls.opponent}` on the "
        f"instruction set `{controls.instructions}`. All but the last two rows deserve no win; the longer of the two "
        f"systems' answers gains nothing with a judge that does not care about length; the last row is the other "
        f"system itself.\n\n"
        + table(
            ["answers", "win rate", "95 % interval", "n"],
            [[name, _number(m.value), _interval(m), m.n] for name, m in controls.rows.items()],
        )
        + _warning(controls)
    )


def cost_text(measured: Measured | None) -> str:
    """Time and cost in a sentence; empty if not measured."""
    if measured is None or measured.seconds is None:
        return ""
    seconds = measured.seconds
    amount, unit = (1000 * seconds, "ms") if seconds < 1 else (seconds, "s")
    took = f"{float(f'{amount:.2g}'):g} {unit}"  # two digits, and no exponent
    where = f" ({measured.machine})" if measured.machine else ""
    dollars = "not known" if measured.dollars is None else f"${measured.dollars:g}"
    return f"{took} of wall time a comparison, under the runner{where}; cost a comparison: {dollars}."


def _api_rows(backend: str, argument: str | None, options: dict[str, Any]) -> list[tuple[str, str]]:
    from implicit_if.harness.judging.api.options import ApiOptions, price_list
    from implicit_if.harness.judging.api.prompts import PAIR, load_prompt
    from implicit_if.harness.judging.registry import get_judge

    prompt = "the annotator's own, from alpaca-eval 0.6.6"
    parser = "the annotator's own"
    if backend != "alpaca_eval":
        found = load_prompt(str(options.get("prompt", "pairwise")))
        prompt = f"`{found.name}` (sha256 {found.identity['sha256'][:8]})"
        parser = f"`{PAIR.parser}`"
    limit = options.get("max_chars", ApiOptions.model_fields["max_chars"].default)
    rows = [("prompt", prompt), ("parser", parser), ("texts are cut at", f"{limit:,} characters (`max_chars`)")]
    if argument is None:
        return rows
    depends_on_server = backend == "openai" and options.get("logprobs", "auto") == "auto"
    options = {**options, "base_url": _NOWHERE} | (
        {"logprobs": "text"} if depends_on_server else {}
    )  # the costlier one
    judge: Any = get_judge(f"{backend}:{argument}", **options)
    if not depends_on_server and backend != "alpaca_eval":  # whose fingerprint holds the installed version
        rows.append(("fingerprint", f"`{judge.fingerprint[:16]}`"))
    as_of, prices = price_list()
    model = judge.identity["settings"]["model"]
    if model in prices:
        price_in, price_out = prices[model]
        rows.append(("list price", f"${price_in:.2f} in, ${price_out:.2f} out for a million tokens ({as_of})"))
        priced = get_judge(f"{backend}:{argument}", **options, price_in=price_in, price_out=price_out)
        estimate: Estimate = priced.estimate([_TYPICAL, _TYPICAL])
        rows.append(
            (
                "estimated price",
                f"about ${1000 * (estimate.cost or 0):.2f} for 1,000 comparisons of two answers of 1,000 characters, "
                f"both orders",
            )
        )
    return rows


def _agreement(known: About, measured: Measured | None) -> str:
    if measured is None or not measured.agreement:
        return _not_measured(known)
    return (
        "By `implicit-if judge-card`, as below. Accuracy: share of the pairs decided by both on which judge and label "
        "name the same answer. `majority` always names the side that the labels prefer more often, `longest` the "
        "longer answer, on the same pairs. Kappa is 0 for a judge that knows no more than that side.\n\n"
        + table(
            [
                "labels",
                "pairs decided",
                "accuracy",
                "95 % interval",
                "kappa",
                "`majority`",
                "`longest`",
                "Spearman (systems)",
            ],
            [_agreement_row(a) for a in measured.agreement],
        )
    )


def _agreement_row(found: Agreement) -> list[object]:
    accuracy = found.accuracy
    return [
        found.labels + _not_counted(found),
        "-" if accuracy is None else f"{accuracy.n:,}",
        "-" if accuracy is None else _number(accuracy.value),
        "-" if accuracy is None else _interval(accuracy),
        "-" if found.kappa is None else f"{found.kappa:.2f}",
        "-" if found.majority is None else _number(found.majority),
        "-" if found.longest is None else _number(found.longest),
        "-" if found.spearman is None else f"{found.spearman:.2f} ({found.n_systems})",
    ]


def _not_counted(found: Agreement) -> str:
    kinds = ((found.unjudged, "unjudged"), (found.left_out, "left out: null"), (found.repeated, "repeated"))
    said = ", ".join(f"{n} {what}" for n, what in kinds if n)
    return f" ({said})" if said else ""


def _position_bias(backend: Backend, known: About, measured: Measured | None) -> str:
    if backend.kind == "raters":
        return _shown_first(measured)
    if backend.orders and not backend.ordered:
        return "None by construction: no verdict depends on which answer is shown first."
    found: list[tuple[str, Measure]] = []
    if measured is not None:
        found = [(a.labels, a.position_bias) for a in measured.agreement if a.position_bias is not None]
        if measured.controls is not None and measured.controls.position_bias is not None:
            found.append((f"`{measured.controls.instructions}`", measured.controls.position_bias))
    if not found:
        return _not_measured(known)
    return "Points gained by being shown first.\n\n" + table(
        ["pairs", "bias", "95 % interval", "n"], [[name, f"{m.value:+.1f}", _interval(m), m.n] for name, m in found]
    )


def _shown_first(measured: Measured | None) -> str:
    share = measured.shown_first if measured is not None else None
    return (
        "Not measured by itself: each pair is shown once, its two answers shuffled, so that a rater's leaning to the "
        "first favours no system on average and adds noise. "
    ) + (
        "The card of a sheet gives the share of its verdicts for the answer shown first."
        if share is None
        else f"Verdicts for the answer shown first, ties as half: {_number(share.value)} % {_interval(share)} of "
        f"{share.n}; 50 % is no leaning."
    )


def _no_cost(backend: Backend, known: About) -> str:
    if backend.kind == "raters":
        return "**Not measured here**: note what your raters take and are paid."
    return _not_measured(known)


def _not_measured(known: About) -> str:
    return f"**Not measured here**: it takes {known.needs}. Make it with the command below."


def _how(title: str, backend: Backend, known: About) -> str:
    raters = backend.kind == "raters"
    spec = backend.name if raters else title
    sheet = " --sheet FOLDER" if raters else ""
    last = (
        "The first call writes the sheet of all these pairs into `FOLDER`; fill it in, and the same command writes the "
        "card. `--option rater=NAME --option kind=KIND` says who filled it in, unless the sheet does."
        if raters
        else "`--dry-run` shows what it would cost."
    )
    return (
        f"With {known.needs}:\n\n```\nimplicit-if judge-card {spec} --labelled NAME=annotations.json "
        f"--answers A.json B.json{sheet} --out card.md\n```\n\n"
        "`annotations.json` is alpaca-eval's format (people's or another judge's verdicts), `A.json` and `B.json` are "
        f"answers of two systems to the same instructions. {last}"
    )


def _warning(controls: Controls) -> str:
    *_, (other, real) = controls.rows.items()
    found = {CONTROLS[name]: controls.rows.get(CONTROLS[name]) for name in WORTHLESS}
    beating = [label for label, row in found.items() if row and row.low is not None and row.low > real.value]
    if not beating or other in beating:
        return ""
    return f"\n\n**Beyond the interval above `{other}`, a real system: {', '.join(beating)}.**"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; None is an empty cell."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.1f}"


def _interval(measure: Measure) -> str:
    return "-" if measure.low is None or measure.high is None else f"[{measure.low:.1f}, {measure.high:.1f}]"
