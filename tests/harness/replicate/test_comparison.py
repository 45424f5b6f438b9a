"""A replication beside the paper: who is matched, the interval of a difference, and verdicts that claim no more."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.published_numbers import load_published
from implicit_if.harness.replicate.cli import add_arguments, run
from implicit_if.harness.replicate.comparison import compare_with_paper, judge_agreement, read_results, render
from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.signature import make_signature

LLAMA = "meta-llama/Llama-2-7b-hf"


def row(
    system: str,
    value: float,
    kind: str,
    *,
    base: str = LLAMA,
    judge: str = "alpaca-eval-2",
    half: float = 2.0,
    judged: int = 805,
    instructions: str = "alpaca_eval",
    name: str = "acme/x",
) -> dict[str, Any]:
    """A board's row, as `implicit-if leaderboard` writes it."""
    signature = make_signature(
        instruction_set=instructions,
        instruction_revision="r",
        n=805,
        judge=judge,
        fingerprint="a" * 64,
        reference="sibling",
        reference_sha256="b" * 64,
        orders=2,
        lc="offline(gpt4-turbo)",
    )
    interval = Interval(low=value - half, high=value + half, method="made", level=0.95)
    score = Score(value=value, interval=interval, n_judged=judged, n_expected=805, signature=signature)
    told = {"base_model": base, "system": system, "kind": kind, "name": f"{name}-{system}", "seeds": [1, 2, 3, 4, 5]}
    return {**told, "lc": score.model_dump(mode="json"), "lc_sd": 1.0}


def write(folder: Path, *rows: dict[str, Any], rules: tuple[dict[str, Any], ...] = ()) -> Path:
    (folder / "leaderboard.json").write_text(json.dumps({"boards": [{"rows": rows}]}))
    (folder / "rules.json").write_text(json.dumps({"boards": [{"rows": rules}]}))
    return folder


def test_verdicts_by_an_interval_computed_by_hand(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        row("gsm", 25.0, "single_task"),
        row("mbpp", 27.0, "single_task"),
        row("base", 2.4, "base"),
        rules=(row("without eos", 10.4, "rules"), row("rules paper", 24.4, "rules")),
    )
    found = {c.published.system: c for c in compare_with_paper(read_results(folder)).rows}
    assert list(found) == ["base", "all rules", "without eos", "mbpp", "gsm"]
    gsm = found["gsm"]
    # Student's t of 4 degrees of freedom at 97.5 % is 2.776 (any table); the paper's sd of gsm is 0.74 over 5 seeds
    half = math.hypot(2.0, 2.776 * 0.74 / math.sqrt(5))
    assert gsm.difference == pytest.approx(25.0 - 23.7)
    assert gsm.interval == pytest.approx((1.3 - half, 1.3 + half), abs=1e-3)
    assert (gsm.verdict, gsm.reasons) == ("agrees", ())
    assert (found["mbpp"].verdict, found["mbpp"].difference) == ("differs", pytest.approx(27.0 - 16.9))
    assert {c.verdict for name, c in found.items() if name != "mbpp"} == {"agrees"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"judge": "embedded"}, "judged by embedded, the paper's judge is retired"),
        ({"base": "google/gemma-3-270m"}, "another base model than Llama-2-7B"),
        ({"instructions": "builtin"}, "other instructions (builtin, n 805)"),
        ({"judged": 800}, "800 of 805 judged"),
    ],
)
def test_what_does_not_compare_gets_no_verdict(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    comparison = compare_with_paper(read_results(write(tmp_path, row("gsm", 23.7, "single_task", **changes))))
    first = comparison.rows[0]
    assert first.verdict == "not comparable"
    assert first.reasons == (reason,)
    assert first.published.base_model == "Llama-2-7B"
    assert f"not comparable: {reason}" in render(comparison).replace("\\", "")


def test_another_base_model_stands_beside_both_and_its_order_is_told(tmp_path: Path) -> None:
    values = {"base": 1.0, "mbpp": 9.0, "gsm": 30.0, "chess": 2.0}
    rows = [row(s, v, "base" if s == "base" else "single_task", base="b/x") for s, v in values.items()]
    comparison = compare_with_paper(read_results(write(tmp_path, *rows)))
    assert len(comparison.rows) == 8
    # ranks of base, mbpp, gsm, chess: here 1 3 4 2; Llama-2 2 3 4 1 (rho 1 - 6*2/60 = 0.8); OLMo 1 3 4 2 (rho 1)
    assert comparison.orders == {"Llama-2-7B": (pytest.approx(0.8), 4), "OLMo-7B-Feb2024": (pytest.approx(1.0), 4)}
    assert "poetry" in {absent.system for absent in comparison.absent}
    assert "which is retired" in render(comparison)


def test_systems_of_one_value_have_no_order(tmp_path: Path) -> None:
    rows = [row(s, 50.0, "single_task", base="b/x") for s in ("mbpp", "gsm", "chess")]
    comparison = compare_with_paper(read_results(write(tmp_path, *rows)))
    assert comparison.orders == {"Llama-2-7B": (None, 3), "OLMo-7B-Feb2024": (None, 3)}
    assert "against Llama-2-7B's: none, all 3 systems have one value." in render(comparison)


def test_variants_of_response_tuning_are_told_apart(tmp_path: Path) -> None:
    plain = row("response tuning", 43.0, "response")
    tags = row("response tuning", 42.0, "response", name="acme/llama2-7b-response_ab_tags")
    found = compare_with_paper(read_results(write(tmp_path, plain, tags))).rows
    assert [(c.published.system, c.result.score.value) for c in found] == [
        ("response tuning", 43.0),
        ("response tuning, A/B tags", 42.0),
    ]


def test_every_row_of_the_paper_can_be_matched(tmp_path: Path) -> None:
    names = {"response tuning, A/B tags": "response_ab_tags", "response tuning, no rephrasing rows": "no_rephrasing"}
    rows = []
    for number, published in enumerate(load_published()[0].rows):
        base = LLAMA if published.base_model == "Llama-2-7B" else "allenai/OLMo-7B-hf"
        kind = "rules" if published.kind == "ablation" else published.kind
        label = {"rules": "rules paper", "response": "response tuning"}.get(published.kind, published.system)
        rows.append(
            row(label, published.mean, kind, base=base, name=f"acme/{number}-{names.get(published.system, '')}")
        )
    comparison = compare_with_paper(read_results(write(tmp_path, *rows)))
    assert comparison.absent == ()
    assert {c.verdict for c in comparison.rows} == {"agrees"}
    assert all(c.difference == pytest.approx(0) for c in comparison.rows)


def test_the_command_prints_it_and_the_judge_s_measured_agreement(tmp_path: Path, capsys: Any) -> None:
    import argparse

    root = Path(__file__).parents[3]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert (
        run(parser.parse_args(["compare", str(root / "leaderboards"), "--cards", str(root / "docs" / "judges")])) == 0
    )
    printed = capsys.readouterr().out
    assert "not comparable" in printed
    assert "Signature: `task:alpaca_winrate|set:builtin" in printed
    (first, *_) = judge_agreement("longest", root / "docs" / "judges")
    card = json.loads((root / "docs" / "judges" / "longest.json").read_text())["agreement"][0]
    assert f"{card['accuracy']['value']:.1f} %" in first
    with pytest.raises(UserError, match="no leaderboard.json there"):
        run(parser.parse_args(["compare", str(tmp_path)]))
    (tmp_path / "leaderboard.json").write_text("{}")
    with pytest.raises(UserError, match="not a board"):
        run(parser.parse_args(["compare", str(tmp_path / "leaderboard.json")]))
