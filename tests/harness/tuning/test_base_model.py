"""Finding base models: folders, hub names and registered names."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.base_model import Base, hub_commit, registered_models, resolve_base, weights_identity
from implicit_if.harness.tuning.preflight import check_model
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import tune
from implicit_if.harness.tuning.tokenizer import load_tokenizer


def test_folders_and_hub_names(tiny: Path) -> None:
    assert resolve_base(str(tiny)) == Base(str(tiny), str(tiny))
    assert resolve_base("some/model") == Base("some/model", "some/model")


def test_registered_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    # A distribution as an installer leaves it.
    info = tmp_path / "registering_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registering-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[implicit_if.models]\nmy-tiny = registering_models:find\n")
    (tmp_path / "registering_models.py").write_text(f"def find():\n    return {str(tiny)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "my-tiny" in registered_models()
    assert resolve_base("my-tiny") == Base("my-tiny", str(tiny))
    monkeypatch.delitem(sys.modules, "registering_models", raising=False)


@pytest.mark.parametrize("name", ["nothing-here", "./not/there", "/a/b", "a/b/c", ""])
def test_what_is_no_model(name: str) -> None:
    with pytest.raises(UserError, match=r"Expected a folder|holds no config"):
        resolve_base(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        resolve_base(str(tmp_path))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> str:
    """A model of the hub as its cache keeps it, without a network."""
    from huggingface_hub import constants

    repository = tmp_path / "models--some--model"
    shutil.copytree(tiny, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "some/model"


def test_a_hub_model_is_known_by_its_commit(hub: str) -> None:
    base = Base(hub, hub)
    assert hub_commit(base, None) == hub_commit(base, "main") == hub_commit(base, COMMIT) == COMMIT
    assert weights_identity(base, COMMIT) == f"some/model@{COMMIT}"
    with pytest.raises(UserError, match=r"(?s)config\.json cannot be loaded .*base_revision is 'v2'"):
        hub_commit(base, "v2")


@pytest.mark.parametrize("where", ["commit", "check"])
def test_a_hub_that_hangs_is_named_in_bounded_time(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_recipe: Callable[..., Recipe]
) -> None:
    def ask() -> None:
        if where == "commit":
            hub_commit(Base("some/model", "some/model"), None)
        else:
            check_model("some/model", None, make_recipe(attention="sdpa").train)

    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are accepted and never answered
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/{filename}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("implicit_if.harness.hub.PATIENCE", 0.5)
        start = time.monotonic()
        told = r"some/model.*no answer from the hub within 0\.5 seconds.*HF_HUB_OFFLINE=1"
        with pytest.raises(UserError, match=told):
            ask()
        assert time.monotonic() - start < 10


def test_a_misspelt_hub_model_is_named(hub: str) -> None:
    for name in ("meta-lama/Llama-2-7b-hf", "google/gemma-3-270n"):
        with pytest.raises(UserError, match=r"(?s)config\.json cannot be loaded .* Did you mean (meta-llama|google)/"):
            hub_commit(Base(name, name), None)
        with pytest.raises(UserError, match=r"(?s)tokenizer cannot be loaded .* Did you mean (meta-llama|google)/"):
            load_tokenizer(name)


@pytest.mark.parametrize("train", [{"lora": {"targets": ["q_proj"]}}, {"packing": "packed"}, {"attention": "sdpa"}])
def test_a_hub_model_out_of_reach_is_named_before_attention_is(
    hub: str, make_recipe: Callable[..., Recipe], train: dict[str, Any]
) -> None:
    for name, hint in (("google/gemma-3-270m", ""), ("google/gemma-3-270n", " Did you mean google/gemma-3-270m?")):
        with pytest.raises(UserError, match=r"config\.json cannot be loaded") as caught:
            check_model(name, "v2", make_recipe(**train).train)
        assert str(caught.value).endswith(f"name or folder; base_revision is 'v2'.{hint}")
        assert "train.attention" not in str(caught.value)


def test_the_commit_is_recorded(hub: str, make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    out = tune(make_recipe(epochs=1).model_copy(update={"base": hub}), tmp_path / "out")
    assert load_recipe(out / "recipe.yaml").base_revision == COMMIT
    found = json.loads((out / "tuning.json").read_text())
    assert (found["base"]["revision"], found["identity"]["base"]) == (COMMIT, f"some/model@{COMMIT}")


def test_a_folder_is_known_by_its_weights(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    base = Base("mine", str(copy))
    identity = weights_identity(base, hub_commit(base, None))
    assert identity == weights_identity(Base("other", str(tiny)), None)
    (copy / "notes.txt").write_text("mine")
    assert identity == weights_identity(base, None)
    for name in ("config.json", "model.safetensors"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content + b" ")
        assert identity != weights_identity(base, None)
        (copy / name).write_bytes(content)
