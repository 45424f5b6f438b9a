"""The record beside a tuned model, of this version and of version 0.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.provenance import PROVENANCE, Provenance, load_provenance
from implicit_if.harness.storage import write_json

# As version 0.1.0 wrote it; it had no seed, which stood in the recipe alone.
OLD: dict[str, Any] = {
    "identity": {"recipe": "ab" * 32, "data": "cd" * 32, "base": "ef" * 32},
    "recipe": "response",
    "base": {"name": "google/gemma-3-270m", "revision": None, "model_type": "gemma3_text"},
    "data": {
        "origin": "GAIR/lima",
        "revision": "68958e9",
        "licence": "CC",
        "conversations_sha256": "0" * 64,
        "rows": 9,
    },
    "template": {"name": "tulu", "sha256": "1" * 64},
    "notes": [],
    "training": {"steps": 78, "first_loss": 3.3},
    "versions": {"torch": "2.13.0"},
}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Provenance.model_validate({**OLD, "seed": 7})
    write_json(tmp_path / PROVENANCE, written.model_dump())
    assert load_provenance(tmp_path) == written


@pytest.mark.parametrize(
    ("recipe", "seed"),
    [("train: {seed: 42}\n", 42), ("train: {}\n", None), ("- 1\n", None), ("train: [\n", None), (None, None)],
)
def test_a_record_of_version_0_1_finds_its_seed_in_the_recipe(tmp_path: Path, recipe: str | None, seed: object) -> None:
    write_json(tmp_path / PROVENANCE, OLD)
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    found = load_provenance(str(tmp_path))
    assert found is not None
    assert found.seed == seed
    assert (found.recipe, found.recipe_fingerprint) == ("response", "ab" * 32)
    assert found.base.name == "google/gemma-3-270m"


@pytest.mark.parametrize("text", ["[]", "{}", "{", json.dumps({**OLD, "base": "x"}), json.dumps({**OLD, "seed": "s"})])
def test_another_program_s_file_is_none_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / PROVENANCE).write_text(text)
    assert load_provenance(tmp_path) is None
    assert load_provenance(tmp_path / "missing") is None
