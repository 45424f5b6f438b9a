"""Model cards: what a stranger must know, and the notices that licences ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from implicit_if.harness.provenance import Provenance
from implicit_if.harness.tuning import model_card
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.recipe_schema import Recipe


@pytest.mark.parametrize(
    ("name", "model_type", "licence", "notice"),
    [
        ("embedded", "gemma3_text", "gemma", "Gemma Terms of Use found at https://ai.google.dev/gemma/terms"),
        ("google/gemma-3-270m", "gemma3_text", "gemma", "Gemma Terms of Use"),
        ("meta-llama/Llama-2-7b-hf", "llama", "llama2", "LLAMA 2 Community License"),
        ("/models/Llama_2_7b", "llama", "llama2", "LLAMA 2 Community License"),
        ("meta-llama/Llama-3.1-8B", "llama", "other", "Built with Llama"),
        ("allenai/OLMo-7B-hf", "olmo", "apache-2.0", "Apache-2.0"),
        ("some/model", "llama", "other", "licence of the base model, some/model, applies"),
        ("/home/me/secret/model", "gpt2", "other", "licence of the base model, model, applies"),
    ],
)
def test_notices(name: str, model_type: str, licence: str, notice: str) -> None:
    found, text = model_card.base_licence(name, model_type)
    assert found == licence
    assert notice in text
    assert "secret" not in text


def make_card(
    tiny: Path, pairs_file: Path, template: str = "tulu", base: str = "google/gemma-3-270m", **train: int
) -> str:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "summary": "eight questions",
            "base": base,
            "data": {"format": "pairs", "path": str(pairs_file), "licence": "CC0 1.0", "drop_instructions": True},
            "encoding": {"template": template, "max_length": 25},
            "train": {"epochs": 2, "learning_rate": 2e-4, "seed": 3, "lora": {"r": 4}, **train},
        }
    )
    prepared = prepare(recipe, tiny)
    provenance = {
        "recipe": "small",
        "identity": {},
        "base": {"name": recipe.base, "revision": "abc", "model_type": "gemma3_text"},
        "data": {
            "origin": "a|b",
            "revision": None,
            "licence": prepared.rows.licence,
            "conversations_sha256": prepared.rows.sha256,
            **prepared.statistics(),
        },
        "template": {"name": template, "sha256": "0" * 64},
        "training": {"steps": 4, "processes": 1, "device": "cpu", "first_loss": 2.5, "last_loss": None},
    }
    return model_card.render(prepared, Provenance.model_validate(provenance))


def test_the_card_says_what_was_done(tiny: Path, pairs_file: Path) -> None:
    text = make_card(tiny, pairs_file)
    head = yaml.safe_load(text.split("---")[1])
    assert head["base_model"] == "google/gemma-3-270m"
    assert head["license"] == "gemma"
    for part in (
        "google/gemma-3-270m @ abc",
        "small, seed 3",
        "| data licence | CC0 1.0 |",
        "| instructions seen | none |",
        "LoRA r=4, merged, 2 epochs, learning rate 0.0002",
        "2.5000 at the first step, not logged at the last",
        "a\\|b",
        "rows are cut at 25 tokens",
        "lm_eval --model hf --model_args pretrained=<this folder> --tasks alpaca_winrate\n",
    ):
        assert part in text


def test_local_paths_stay_local(tiny: Path) -> None:
    assert model_card._hub_name(str(tiny)) is None
    assert model_card._shown(str(tiny)) == tiny.name
    assert model_card._shown("embedded") == "embedded (google/gemma-3-270m)"
    assert model_card._shown("google/gemma-3-270m") == "google/gemma-3-270m"


@pytest.mark.parametrize(("template", "asked"), [("ab", " --metadata template=ab\n"), ("tulu_no_user", "winrate\n")])
def test_evaluation_names_the_template(tiny: Path, pairs_file: Path, template: str, asked: str) -> None:
    text = make_card(tiny, pairs_file, template)
    assert f"--tasks alpaca_winrate{asked}" in text or asked == "winrate\n"
    assert ("template=" in text.split("## Evaluate")[1]) == (template == "ab")


def test_the_reference_is_the_one_the_task_takes(tiny: Path, pairs_file: Path) -> None:
    shipped = make_card(tiny, pairs_file)
    assert "judged against `gemma-3-270m/instruction-full-s1`, shipped answers of the same base" in shipped
    assert "--metadata reference=" not in shipped
    for base in ("allenai/OLMo-7B-hf", str(tiny)):
        other = make_card(tiny, pairs_file, "ab", base)
        asked = "--metadata template=ab reference=<outputs of your instruction-tuned model>\n"
        assert f"--tasks alpaca_winrate {asked}" in other
        assert "`gemma-3-270m/instruction-full-s1`, which is another model" in other
        assert str(tiny) not in other
    for text in (shipped, other):
        assert "`instruction` with this model's seed, 3" in " ".join(text.split())


def test_a_run_ended_early_claims_no_epochs(tiny: Path, pairs_file: Path) -> None:
    text = make_card(tiny, pairs_file, max_steps=1)
    assert "ended by train.max_steps=1, learning rate" in text
    assert "2 epochs" not in text
