"""The task as lm-eval runs it, on a tiny model, against the function in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from implicit_if.harness.analysis.response_pairs import load_pairs
from implicit_if.harness.analysis.response_ranking import rank_responses
from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.tasks.response_ranking.task import METRICS, check


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    texts = [
        ("What is a man?", "a man"),
        ("List # |", "the ! I"),
        ("an I", "should We"),
        ("the", "What"),
        ("he", "# #"),
    ]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"instruction": i, "response": r} for i, r in texts]))
    return path


def run(model: str, tiny: str, pairs: Path, tags: str = "true", **kwargs: Any) -> dict[str, Any]:
    found = simple_evaluate(
        model=model,
        model_args={"pretrained": tiny, "dtype": "float32"} | kwargs.pop("model_args", {}),
        tasks=["response_ranking"],
        device="cpu",
        batch_size=4,
        metadata={"pairs": str(pairs), "tags": tags},
        bootstrap_iters=0,
        **kwargs,
    )
    return {k.removesuffix(",none"): v for k, v in dict(found)["results"]["response_ranking"].items()}


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("rules", [None, "paper"])
def test_the_task_gives_what_the_function_gives(
    tiny_model_folder: str, pairs: Path, tags: bool, rules: str | None
) -> None:
    found = run("rules_poe", tiny_model_folder, pairs, str(tags).lower(), model_args={"rules": rules})
    lm = RulesPoE(tiny_model_folder, rules=rules, device="cpu", dtype="float32", batch_size=4)
    ranking = rank_responses(lm, load_pairs(pairs), "tulu", tags=tags)
    for name, measure in METRICS.items():
        low, high = ranking.scores[measure].interval.ends
        assert found[name] == pytest.approx(ranking.scores[measure].percent)
        assert found[f"{name}_stderr"] == pytest.approx((high - low) / 3.92)
        assert (found[f"{name}_ci_low"], found[f"{name}_ci_high"]) == pytest.approx((low, high))


def test_a_wrapper_with_prompts_of_its_own_is_given_instructions(tiny_model_folder: str, pairs: Path) -> None:
    prefix = pairs.with_name("mine.yaml")
    prefix.write_text("name: mine\nprefix: 'Q & A'\nquery: '# {instruction}|'\nend: ['#']\n")
    found = run("urial", tiny_model_folder, pairs, model_args={"prefix": str(prefix)})
    plain = RulesPoE(tiny_model_folder, rules=None, device="cpu", dtype="float32", batch_size=4)
    items = load_pairs(pairs).items
    rows = [plain.log_probs(f"Q & A# {pair.instruction}|", [p.response for p in items]) for pair in items]
    wins = [row[i] > other for i, row in enumerate(rows) for j, other in enumerate(row) if i != j]
    assert found["response_ranking"] == pytest.approx(100 * sum(wins) / len(wins))


def test_other_model_classes_get_the_same_numbers(tiny_model_folder: str, pairs: Path) -> None:
    ours = run("rules_poe", tiny_model_folder, pairs, model_args={"rules": None})
    theirs = run("hf", tiny_model_folder, pairs)
    assert {k: v for k, v in theirs.items() if k in METRICS} == {k: v for k, v in ours.items() if k in METRICS}


def test_a_limit_ranks_the_first_pairs_among_each_other(tiny_model_folder: str, pairs: Path) -> None:
    found = run("rules_poe", tiny_model_folder, pairs, model_args={"rules": None}, limit=3)
    lm = RulesPoE(tiny_model_folder, rules=None, device="cpu", dtype="float32", batch_size=4)
    expected = rank_responses(lm, load_pairs(pairs).first(3), "tulu").scores["pmi"].percent
    assert found["response_ranking_pmi"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"pairs": "missing.json"}, "missing.json"),
        ({"template": "tullu"}, "Did you mean 'tulu'"),
        ({"template": "tulu_no_user"}, "shows no instruction"),
        ({"tags": "perhaps"}, "expected true or false"),
    ],
)
def test_wrong_arguments_are_named_before_a_model_loads(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(metadata)
    assert message in str(caught.value)
