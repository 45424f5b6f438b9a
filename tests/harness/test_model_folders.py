"""Folders of models that a command line names, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.model_folders import check_model_folders


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned" / "response").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", ["pretrained", "expert", "peft", "tokenizer"])
def test_a_path_that_is_not_there(name: str, here: Path) -> None:
    with pytest.raises(UserError, match=rf"^{name}=tuned/respnse: no such folder\. Did you mean 'tuned/response'\?"):
        check_model_folders({name: "tuned/respnse"})
    for path in (str(here / "x"), "./x", "../x", "~/no-such-folder", "a/b/c"):
        with pytest.raises(UserError, match=r": no such folder\. Expected"):
            check_model_folders({name: path})


@pytest.mark.parametrize("fine", ["tuned/response", "tuned", "org/model", "tuned/other", "gpt2", None, 3])
def test_what_is_there_or_may_be_on_the_hub(fine: object) -> None:
    check_model_folders({"pretrained": fine})


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (("adapter_config.json", "adapter_model.safetensors"), {}, "an adapter.*pretrained=BASE,peft=tuned/response$"),
        (("config.json", "model.safetensors"), {}, "holds no tokenizer"),
        (("config.json",), {"tokenizer": "gpt2"}, None),
        (("config.json", "tokenizer.json"), {}, None),
        (("config.json", "spiece.model"), {}, None),
        (("config.json", "vocab.txt"), {}, None),
        (("config.json", "tokenizer.json", "adapter_config.json"), {}, None),
        (("model.gguf",), {}, None),
    ],
)
def test_what_is_no_model(here: Path, files: tuple[str, ...], more: dict[str, str], message: str | None) -> None:
    for file in files:
        (here / "tuned" / "response" / file).touch()
    if message is None:
        check_model_folders({"pretrained": "tuned/response"} | more)
    else:
        with pytest.raises(UserError, match=message):
            check_model_folders({"pretrained": "tuned/response"} | more)
