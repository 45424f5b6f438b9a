"""Committed answers of the embedded model are made again: in float32 every machine gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.instructions import load_instructions
from implicit_if.model_wrappers.answer_cache import AnswerMemory
from implicit_if.model_wrappers.rules_poe import RulesPoE

SUBMISSIONS = Path(__file__).parents[2] / "leaderboards" / "submissions"
SHORTEST = {"rules": 7, "base": 3}
"""How many answers of which row: the shortest, then those to the first instructions by id."""
PREFIX = 64
"""Tokens of an answer that are made again, so that the test takes half a minute on one thread."""


def committed(system: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metadata and answers of the embedded model's row, the answers to be made again first."""
    (folder,) = (SUBMISSIONS / f"implicit-if__gemma-3-270m-{system}").iterdir()
    metadata = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "outputs.jsonl").read_text(encoding="utf-8").splitlines()]
    return metadata, sorted(rows, key=lambda row: (row["n_tokens"], row["instruction_id"]))[: SHORTEST[system]]


@pytest.fixture(scope="module")
def model() -> RulesPoE:
    return RulesPoE(device="cpu", batch_size=16)


@pytest.mark.parametrize("system", ["rules", "base"])
def test_ten_committed_answers_are_made_again_token_by_token(model: RulesPoE, system: str) -> None:
    metadata, rows = committed(system)
    assert metadata["dtype"] == "float32", "the rows are of float32 answers"
    texts, template = load_instructions(metadata["instruction_set"]["name"]).texts(), load_template("tulu")
    assert metadata["template"]["sha256"] == template.sha256
    prompts = [template.render_prompt(texts[row["instruction_id"]]) for row in rows]
    settings = model.generation_settings({**metadata["generation"], "max_gen_toks": PREFIX})
    answers = dict(model.answer(prompts, "none" if system == "base" else "paper", settings, AnswerMemory(None)))
    for place, row in enumerate(rows):
        made = answers[place]
        expected = model.tokenizer(row["output"], add_special_tokens=False)["input_ids"]
        if row["n_tokens"] < PREFIX:
            assert (made.finish_reason, made.n_tokens) == (row["finish_reason"], row["n_tokens"])
            assert str(made) == row["output"]
        else:
            assert (made.finish_reason, made.n_tokens) == ("length", PREFIX)
            assert row["output"].startswith(str(made).rstrip("\ufffd"))  # a cut may fall into a character
        found = model.tokenizer(str(made), add_special_tokens=False)["input_ids"]
        assert found[:-2] == expected[: len(found[:-2])]
    assert len(rows) == SHORTEST[system]
