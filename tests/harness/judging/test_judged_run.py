"""What every judged run shares: the reference's choice, one judging of several systems, scores computed once, files."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import pytest

from implicit_if import __version__
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging import scoring
from implicit_if.harness.judging.judged_run import (
    find_reference,
    judge_pairs,
    judge_systems,
    save_answers,
    sidecar,
)
from implicit_if.harness.judging.judgement import Judgement, Unjudged, part_of
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.outputs import Output, OutputsMeta, load_meta, load_outputs


def pairs_of(generator: str, lengths: list[int]) -> list[Pair]:
    """Answers of these lengths against 20 characters; the longest wins."""
    texts = [f"question {i}" for i in range(len(lengths))]
    system = [Output(instruction=t, output="a" * n, generator=generator) for t, n in zip(texts, lengths, strict=True)]
    return [
        Pair(o.instruction_id, t, o, Output(instruction=t, output="b" * 20, generator="twenty"))
        for t, o in zip(texts, system, strict=True)
    ]


def test_several_systems_are_judged_in_one_run_and_scored_each(tmp_path: Path) -> None:
    systems = [pairs_of("long", [30, 30, 30, 10]), pairs_of("short", [10, 10, 30, 10])]
    runs = judge_systems(systems, get_judge("longest"), tmp_path / "a.jsonl", "mine", "r1", progress=False)
    assert [run.scores["win_rate"].value for run in runs] == [75, 25]
    alone = judge_pairs(systems[1], get_judge("longest"), tmp_path / "b.jsonl", "mine", "r1", progress=False)
    assert alone.scores == runs[1].scores
    signature = alone.scores["win_rate"].settings
    assert (signature.instruction_set, signature.reference, signature.n) == ("mine", "twenty", 4)
    assert ([o.generator for o in alone.outputs], {o.generator for o in alone.reference}) == (["short"] * 4, {"twenty"})


def test_scores_are_computed_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = scoring.control_length
    monkeypatch.setattr(scoring, "control_length", lambda *a, **k: calls.append(1) or real(*a, **k))
    run = judge_pairs(pairs_of("x", [30, 10]), get_judge("longest"), tmp_path / "a.jsonl", "s", "r", progress=False)
    assert not calls
    assert run.scores is run.scores
    assert run.control.estimate.value == run.scores["length_controlled_win_rate"].value
    run.save_scores(tmp_path)
    assert len(calls) == 1
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["win_rate"]["value"] == 50


def test_a_part_of_a_judgement_has_its_own_missing_verdicts() -> None:
    nan = float("nan")
    first, second = [0.1, nan, 0.3, nan, 0.5, 0.6], [nan, 0.2, 0.3, nan, 0.5, nan]
    missing = [(0, "reference_first"), (1, "system_first"), (3, "system_first"), (3, "reference_first")]
    missing.append((5, "reference_first"))
    whole = Judgement(
        judge="j",
        fingerprint="0",
        orders=("system_first", "reference_first"),
        instruction_ids=[f"i{n % 2}" for n in range(6)],
        by_order={"system_first": array("d", first), "reference_first": array("d", second)},
        unjudged=[Unjudged(f"i{row % 2}", order, f"pair {row}") for row, order in missing],  # type: ignore[arg-type]
    )
    for start, rows in ((0, ["pair 0", "pair 1"]), (2, ["pair 3", "pair 3"]), (4, ["pair 5"])):
        part = part_of(whole, slice(start, start + 2))
        assert [u.error for u in part.unjudged] == rows
        assert (part.n_expected, part.n_judged) == (2, 2 - len(set(rows)))
        assert part.by_order["system_first"][0] == first[start]


def test_the_reference_says_why_it_was_chosen() -> None:
    builtin = load_instructions("builtin")
    own = find_reference("auto", builtin, "embedded", answers_as_base=True)
    assert (own.name, own.outputs is not None) == ("gemma-3-270m/instruction-full-s1", True)
    assert "tuned on instructions; --here= chooses another" in str(own.note("--here="))
    base = find_reference("auto", builtin, "some/other", answers_as_base=True)
    assert (base.name, base.outputs) == ("base", None)
    named = find_reference("gemma-3-270m/gsm", builtin, "some/other", answers_as_base=False)
    assert (named.note("--reference"), len(named.outputs or [])) == (None, 80)
    with pytest.raises(UserError, match="unknown reference 'gemma-3-270m/gms'"):
        find_reference("gemma-3-270m/gms", builtin, "embedded", answers_as_base=True)


def test_a_sidecar_has_one_shape_and_versions(tmp_path: Path) -> None:
    builtin, tulu = load_instructions("builtin"), load_template("tulu")
    meta = sidecar("me", builtin, tulu, {"max_gen_toks": 5}, {"product": "none"})
    pairs = pairs_of("me", [3])
    save_answers(tmp_path, [pairs[0].system], [pairs[0].reference], meta)
    found = load_meta(tmp_path / "outputs.json")
    assert found is not None
    assert found.template == {"name": "tulu", "sha256": tulu.sha256}
    assert found.versions["implicit-if"] == __version__
    assert found.versions.keys() >= {"lm_eval", "torch", "transformers"}
    assert load_outputs(tmp_path / "reference.json")[0].generator == "twenty"
    assert sidecar("me", builtin, None, {}, {}).template == {"name": "model"}


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({"template": "tulu", "template_sha256": "00"}, {"name": "tulu", "sha256": "00"}),
        ({"template": "model"}, {"name": "model"}),
        ({"name": "ab", "sha256": "11"}, {"name": "ab", "sha256": "11"}),
        ({}, {}),
    ],
)
def test_sidecars_of_version_0_1_are_read(stored: dict[str, Any], read: dict[str, Any]) -> None:
    assert OutputsMeta(generator="x", template=stored).template == read
