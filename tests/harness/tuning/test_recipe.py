"""Recipes: every shipped one, the layers they are made of, and what is refused."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import cli
from implicit_if.harness.tuning.profile import merge, profile_note, profiles
from implicit_if.harness.tuning.recipe import RECIPES, load_recipe, recipe_names, save_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe, key_paths

# Chosen on the paper's validation set (appendix), Llama-2-7B and OLMo-7B.
EPOCHS = {
    "instruction": (15, 15),
    "response": (5, 7),
    "mbpp": (15, 7),
    "gsm": (7, 7),
    "recipes": (20, 20),
    "poetry": (15, 5),
    "chess": (15, 20),
    "response_no_rephrasing": (None, 7),
    "response_ab_tags": (7, None),
}
# Length-controlled win rates in the paper's tables 1, 3 and 5 and appendix C.
WIN_RATES = {
    "response": ["43.3 ± 1.1", "43.7 ± 1.7"],
    "mbpp": ["16.9 ± 0.7", "10.4 ± 1.0"],
    "gsm": ["23.7 ± 0.7", "30.3 ± 0.6"],
    "recipes": ["14.6 ± 0.8", "21.5 ± 0.9"],
    "poetry": ["22.9 ± 1.0", "21.9 ± 0.5"],
    "chess": ["2.1 ± 0.4", "6.3 ± 1.1"],
    "response_no_rephrasing": ["43.3 ± 5.3"],
    "response_ab_tags": ["41.8 ± 0.8"],
    "instruction": ["50 %", "2.4 ± 0.1", "4.7 ± 0.6"],
    "instruction_ab_tags": ["50 %"],
    "response_no_user_turn": ["not measured"],
}


def test_the_paper_s_recipes_are_shipped() -> None:
    assert set(WIN_RATES) <= set(recipe_names())


@pytest.mark.parametrize("name", sorted(EPOCHS))
def test_chosen_epochs_and_rates(name: str) -> None:
    for (model, rate), epochs in zip((("llama2-7b", 1e-5), ("olmo-7b", 3e-6)), EPOCHS[name], strict=True):
        for kind in ("reference", "paper"):
            if epochs is None:
                with pytest.raises(UserError, match=r"train\.epochs is not set"):
                    load_recipe(name, profile=f"{model}/{kind}")
                continue
            recipe = load_recipe(name, profile=f"{model}/{kind}")
            assert (recipe.train.epochs, recipe.train.learning_rate) == (epochs, rate)
            assert (recipe.train.batch, recipe.encoding.max_length, recipe.train.weight_decay) == (64, 2048, 0.0)
            assert (recipe.train.clip, recipe.train.loss_average, recipe.train.autocast) == (1.0, "example", True)
            expected = ("linear", 0.03, True) if kind == "reference" else ("cosine", 0.1, False)
            found = (recipe.train.schedule, recipe.train.warmup, recipe.encoding.newline_in_loss)
            assert found == expected


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_with_every_profile(name: str) -> None:
    for profile in profiles().values():
        recipe = load_recipe(name, ["train.epochs=3"], profile=profile.name, base=profile.base or "some/model")
        assert recipe.base == (profile.base or "some/model")
        assert recipe.data.repo
        assert recipe.data.drop_instructions == name.startswith("response")
        assert recipe.encoding.template == {"ab_tags": "ab", "no_user_turn": "tulu_no_user"}.get(
            name.partition("_")[2], "tulu"
        )
    assert load_recipe(name, profile="embedded").train.epochs >= 1


@pytest.mark.parametrize("name", recipe_names())
def test_the_head_says_what_is_reproduced_and_how(name: str) -> None:
    head = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").split("\nsummary:")[0].split("\nextends:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    for number in WIN_RATES.get(name, []):
        assert number in head
    (line,) = re.findall(r"implicit-if tune (.*)", head)
    model = "Llama-2-7B" if "Llama-2-7b-hf" in line else "OLMo-7B-Feb2024"
    said = [f"({model})", f"not published for {model}", "not measured", "50 % by construction"]
    assert any(text in " ".join(head.replace("\n#", " ").split()) for text in said), "a number of another model"
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    arguments = parser.parse_args([*line.split(), "--set", "train.epochs=2"])
    recipe = cli.recipe_from(arguments, arguments.seed)
    assert (recipe.name, recipe.train.seed) == (name, 1)


def test_later_layers_win(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "data: {format: pairs, path: rows.csv}\ntrain: {warmup: 0.2, epochs: 4}\nprofile: llama2-7b/paper\n"
    )
    recipe = load_recipe(path)
    assert (recipe.name, recipe.train.warmup, recipe.train.schedule, recipe.train.epochs) == ("mine", 0.2, "cosine", 4)
    recipe = load_recipe(path, ["train.warmup=0.5", "train.epochs=9", "encoding.max_length=7"], profile="olmo-7b/paper")
    assert (recipe.train.warmup, recipe.train.epochs, recipe.encoding.max_length) == (0.5, 9, 7)
    assert recipe.base == "allenai/OLMo-7B-hf"


def test_a_recipe_may_do_without_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: a/b\ndata: {format: messages}\ntrain: {epochs: 2, learning_rate: 1e-4}\n")
    recipe = load_recipe(path)
    assert recipe.profile is None
    assert recipe.train.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("base", "profile"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama2-7b/reference"),
        ("/models/llama-2-7B-hf/", "llama2-7b/reference"),
        ("allenai/OLMo-7B-hf", "olmo-7b/reference"),
        ("embedded", "gemma-3-270m/embedded"),
    ],
)
def test_the_base_tells_the_profile(base: str, profile: str) -> None:
    assert load_recipe("gsm", base=base).profile == profile
    assert load_recipe("gsm", base=base, profile=profile.split("/")[1]).profile == profile


@pytest.mark.parametrize(
    ("base", "known_as"),
    [("embedded", "embedded"), ("gemma-3-270m", "embedded"), ("google/gemma-3-270m", "google/gemma-3-270m")],
)
def test_every_name_of_the_embedded_base_is_understood(base: str, known_as: str) -> None:
    recipe = load_recipe("response", base=base)
    assert (recipe.base, recipe.profile, recipe.train.epochs) == (known_as, "gemma-3-270m/embedded", 3)


@pytest.mark.parametrize("base", ["embeded", "gemma-3-270", "gema-3-270m"])
def test_a_misspelt_base_is_named(base: str) -> None:
    with pytest.raises(UserError, match=rf"unknown base model '{base}'\. Did you mean '.*(embedded|gemma-3-270m)'"):
        load_recipe("response", base=base)


def test_a_base_of_another_family_gets_defaults_that_are_recorded(tmp_path: Path) -> None:
    recipe = load_recipe("gsm", base="some/model")
    assert (recipe.profile, recipe.train.epochs, recipe.train.learning_rate) == ("other/reference", 5, 1e-5)
    chosen = load_recipe("gsm", ["train.epochs=2", "train.learning_rate=3e-4"], base="some/model")
    assert chosen.profile is None


@pytest.mark.parametrize(
    ("profile", "base", "note"),
    [
        (
            "llama2-7b/reference",
            "some/model",
            "profile llama2-7b/reference is meant for meta-llama/Llama-2-7b-hf, the ba",
        ),
        ("other/reference", "some/model", "no profile is known for model; learning rate and epochs are assumptions of"),
        ("llama2-7b/reference", "/models/Llama-2-7b-hf", None),
        (None, "some/model", None),
    ],
)
def test_a_profile_of_another_base_is_told(profile: str | None, base: str, note: str | None) -> None:
    found = profile_note(profile, base)
    assert (found is None) == (note is None)
    assert (found or "").startswith(note or "")


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {path: tickets.jsonl}\n")
    missing = (
        r"base and train\.epochs and train\.learning_rate are not set\. Give --base MODEL --set train\.epochs=\.\.\. "
    )
    with pytest.raises(UserError, match=missing):
        load_recipe(path)


ALL = "base and train.epochs and train.learning_rate"


@pytest.mark.parametrize(
    ("content", "given", "told"),
    [
        ("{}", {}, f"{ALL} and data are not set. Give --base MODEL"),
        ("{}", {}, "--set train.learning_rate=... --data PATH, or"),
        ("data: {format: messages}", {"base": "me/mine", "profile": None}, None),
        ("train: {learning_rate: 1e-5, epochs: 1}", {}, "base and data are not set. Give --base MODEL --data PATH"),
        ("train: {epochs: 1}", {"data": "rows.jsonl"}, "base and train.learning_rate are not set"),
        ("data: {repo: me/rows, revision: abcdefa}", {}, f"{ALL} are not set"),
    ],
)
def test_missing_data_are_named_with_the_rest(
    tmp_path: Path, content: str, given: dict[str, Any], told: str | None
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    if told is None:  # a base model alone brings the other settings, and the rows are asked for when they are read
        assert load_recipe(path, **given).data.path is None
    else:
        with pytest.raises(UserError, match=re.escape(told)):
            load_recipe(path, **given)


def test_a_base_model_of_ones_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from implicit_if.harness.tuning import profile

    shutil.copytree(profile.PROFILES, tmp_path / "profiles")
    (tmp_path / "profiles" / "qwen.yaml").write_text(
        "base: Qwen/Qwen3-0.6B-Base\nsettings: [paper]\ntrain: {learning_rate: 2.0e-5}\nepochs: {instruction: 4}\n"
    )
    monkeypatch.setattr(profile, "PROFILES", tmp_path / "profiles")
    profiles.cache_clear()
    try:
        recipe = load_recipe("instruction", base="Qwen/Qwen3-0.6B-Base")
        assert (recipe.profile, recipe.train.epochs, recipe.train.learning_rate) == ("qwen/paper", 4, 2e-5)
        assert recipe.train.schedule == "cosine"
    finally:
        profiles.cache_clear()


def test_a_recipe_on_a_hub_data_set_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "dolly.yaml"
    path.write_text(
        'data: {repo: a/b, revision: 0123abc, file: x.jsonl, user: "{q}", assistant: "{a}", licence: MIT}\n'
        "train: {epochs: 2}\n"
    )
    recipe = load_recipe(path, profile="llama2-7b/reference")
    assert (recipe.data.repo, recipe.data.user, recipe.train.epochs, recipe.train.learning_rate) == (
        "a/b",
        "{q}",
        2,
        1e-5,
    )
    path.write_text("data: {repo: a/b}\n")
    with pytest.raises(UserError, match="a repo needs its revision"):
        load_recipe(path, profile="embedded")


def test_a_path_is_looked_for_in_the_recipe_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.csv").write_text("instruction,response\nx,y\n")
    path = tmp_path / "a" / "mine.yaml"
    path.write_text("data: {path: rows.csv}\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path, base="embedded").data.path == str(tmp_path / "a" / "rows.csv")
    assert load_recipe(path, ["data.path=rows.csv"], base="embedded").data.path == "rows.csv"  # typed: as typed


def test_overrides_reach_into_what_is_not_there_yet() -> None:
    recipe = load_recipe("gsm", ["train.lora.r=8"], profile="llama2-7b/reference")
    assert recipe.train.lora is not None
    assert (recipe.train.lora.r, recipe.train.lora.alpha) == (8, 32)
    assert load_recipe("gsm", ["train.lora=null", "train.weights=float32"], profile="embedded").train.lora is None


@pytest.mark.parametrize(
    "change", ["train.seed=43", "train.save_steps=7", "train.gradient_checkpointing=true", "train.report_to=wandb"]
)
def test_what_changes_no_recipe_changes_no_fingerprint(change: str) -> None:
    plain, other = (load_recipe("gsm", o, base=b) for o, b in (([], "embedded"), ([change], "google/gemma-3-270m")))
    assert plain.fingerprint == other.fingerprint


def test_a_saved_recipe_loads_as_the_same(tmp_path: Path) -> None:
    for name in recipe_names():
        recipe = load_recipe(name, ["train.epochs=2"], profile="embedded")
        save_recipe(tmp_path / "recipe.yaml", recipe, note="a note\nof two lines")
        again = load_recipe(tmp_path / "recipe.yaml")
        assert again == recipe
        assert again.fingerprint == recipe.fingerprint
    assert (tmp_path / "recipe.yaml").read_text().startswith("# a note\n# of two lines\n")


def test_every_choice_is_in_the_fingerprint() -> None:
    plain = load_recipe("gsm", profile="embedded")
    for override in ("encoding.newline_in_loss=false", "train.lora.alpha=8", "data.limit=3"):
        assert load_recipe("gsm", [override], profile="embedded").fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": "instructions"}, "unknown recipe 'instructions'. Did you mean 'instruction'"),
        ({"name_or_path": "missing.yaml"}, "no such recipe file"),
        ({"profile": "lama2-7b/reference"}, "Did you mean 'llama2-7b/reference'"),
        ({"profile": "reference"}, "for several models"),
        ({"overrides": ["epochs=3"]}, "Did you mean 'train.epochs'"),
        ({"overrides": ["train.epochs"]}, "not of the form NAME=VALUE"),
        ({"overrides": ["train.epochs=[1"]}, "is not a YAML value"),
        ({"overrides": ["train.epochs=0"]}, r"train.epochs: Input should be greater than or equal to 1 \(found 0\)"),
        ({"overrides": ["train.schedule=linaer"]}, "train.schedule: Input should be 'linear'"),
        ({"overrides": ["train.learning_rate=.inf"]}, "train.learning_rate: Input should be a finite number"),
        ({"overrides": ["train=5"]}, "train: Input should be"),
        (
            {"overrides": ["train.weights=auto", "train.lora=null"]},
            "weights=auto is for frozen weights; set train.lora.r=16",
        ),
        (
            {"overrides": ["train.quantize=nf4", "train.lora=null"]},
            "quantize=nf4 is for frozen weights; set train.lora.r=16",
        ),
        ({"overrides": ["train.lora=null", "train.weights=bfloat16"]}, "plain bfloat16 weights hardly move"),
        ({"overrides": ["train.stochastic_rounding=true"]}, "needs train.optimizer=adamw_torch_8bit"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(**{"name_or_path": "gsm", "profile": "embedded", **arguments})


def test_an_unknown_key_in_a_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, hint in [("data: {format: lima, limt: 3}", "data.limit"), ("trian: {epochs: 1}", "train")]:
        path.write_text(text)
        with pytest.raises(UserError, match=f"Did you mean .*'{hint}'"):
            load_recipe(path, ["train.epochs=1", "train.learning_rate=1"], base="a/b")
    path.write_text("- not\n- a mapping\n")
    with pytest.raises(UserError, match="found list, expected keys"):
        load_recipe(path)
    path.write_text("a: [")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs: 5", r"unknown key in .*mine\.yaml 'epochs'\. Did you mean 'train\.epochs'"),
        ("train: {epochs: many}", r"train\.epochs: .*found 'many'"),
        ("train: 5", "train is 5, expected keys and values"),
        ("data: [1]", r"data is \[1\], expected keys and values"),
        ("profile: 5", "profile is 5, expected a text"),
        ("base: 5", "base is 5, expected a text"),
        ("train: {epochs: 1}\n5: 5", "the key 5 is no text"),
        ("train: {epochs: 1, learning_rate: .inf}", r"train\.learning_rate: Input should be a finite number"),
        ("train: {epochs: 1, clip: .nan}", r"train\.clip: "),
    ],
)
def test_values_of_the_wrong_kind_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"summary: mine\n{line}\n")
    with pytest.raises(UserError, match=message):
        load_recipe(path, ["data.format=pairs"], profile=None if "base" in line else "llama2-7b/reference")


def test_key_paths_are_the_keys_of_a_resolved_recipe() -> None:
    def walk(value: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for key, part in value.items():
            found.add(prefix + key)
            if isinstance(part, dict):
                found |= walk(part, f"{prefix}{key}.")
        return found

    recipe = load_recipe("gsm", profile="embedded")
    assert set(key_paths()) == walk(recipe.model_dump())


def test_merge_changes_neither_side() -> None:
    lower, upper = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merge(lower, upper) == {"a": {"b": 3, "c": 2}}
    assert (lower, upper) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_the_schema_documents_every_key() -> None:
    for part in (Recipe, *(field.annotation for field in Recipe.model_fields.values())):
        if isinstance(part, type) and hasattr(part, "model_fields"):
            for name in part.model_fields:
                assert f"{name}:" in (part.__doc__ or "") or name in ("data", "encoding", "train"), (part, name)


def test_recipes_are_only_data() -> None:
    for path in RECIPES.glob("*.yaml"):
        keys = set(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert keys <= {"extends", "summary", "data", "encoding", "train"}


@pytest.mark.parametrize("name", ["../../../esc", "a/b", "a\\b", "C:x", "..", ".hidden", "''", '"a\\nb"', '"\\x1b[2J"'])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(UserError, match=r"name: expected a plain name, without / .* \(found"):
        load_recipe("gsm", [f"name={name}"], profile="embedded")
    assert load_recipe("gsm", ["name=my rows (1).v2+x"], profile="embedded").name == "my rows (1).v2+x"
