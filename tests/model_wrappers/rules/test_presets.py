from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules.presets import Preset, Rule, customise, load_preset, preset_names


def test_every_shipped_preset_loads() -> None:
    loaded = {name: load_preset(name) for name in preset_names()}
    assert [(preset.name, bool(preset.source)) for preset in loaded.values()] == [(name, True) for name in loaded]
    assert [len(loaded[name].rules) for name in ("none", "paper", "reference")] == [0, 3, 3]
    assert load_preset(None).rules == (), "lm-eval's parser makes None of rules=none"


def test_drop_and_overrides_change_name_and_hash() -> None:
    paper = load_preset("paper")
    changed = customise(paper, "eos+diversity", {"uniform.!": 0, r"uniform.\n": -2.5})
    assert [r.name for r in changed.rules] == ["uniform"]
    weights = dict(changed.rules[0].options["weights"])
    assert (weights["!"], weights["\n"], weights["<"]) == (0.0, -2.5, -4.0)
    assert changed.name == r"paper-eos-diversity,uniform.!=0,uniform.\n=-2.5"
    assert changed.sha256 != paper.sha256
    assert customise(paper, None, {"eos.maximum": 15}).sha256 == paper.sha256, "the hash is of what the rules do"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eso", None), "unknown rule in drop=eso 'eso'. Did you mean 'eos'"),
        ((None, {"eos.maximun": 3}), "Did you mean 'maximum'"),
        ((None, {"eos.maximum": "much"}), "found 'much', expected float"),
        ((None, {"eos.length": 0}), "expected a positive int"),
        ((None, {"eos.after": "held"}), "Did you mean 'hold'"),
        ((None, {"uniform.absent": 1}), "unknown option of token_bias"),
        (("eos", {"eos.maximum": 3}), "unknown rule in eos.maximum=3"),
        ((None, {"uniform.What": "abc"}), "uniform.What=abc: found 'abc', expected float"),
        ((None, {"uniform.What": True}), "found True, expected float"),
        ((None, {"uniform.What": float("nan")}), "found nan, expected float between -1e+30 and 1e+30"),
        ((None, {"eos.maximum": float("inf")}), "found inf, expected float between"),
        ((None, {"diversity.weight": 10**400}), "expected float between"),
        ((None, {r"uniform.\x": 1}), r"uniform.\x=1: not an escape"),
        ((None, {r"uniform.\u12": 1}), "not an escape"),
    ],
)
def test_bad_changes_are_errors(arguments: tuple[str | None, dict[str, object] | None], message: str) -> None:
    with pytest.raises(UserError) as caught:
        customise(load_preset("paper"), *arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected keys and values: a preset"),
        ("name: x\nrules: {a: {function: eos_rump}}", "Did you mean 'eos_ramp'"),
        ("name: x\nrules: {a: {}}", "has no function"),
        ("name: x\nextra: 1\nrules: {}", "unknown key 'extra'"),
        ("name: x\nrules: {a: {function: token_bias}}", "option 'weights' of token_bias is missing"),
        ("name: x\nrules: {a: {function: token_bias, weights: {b: 1}}}", "expected a list of"),
        ("name: x\nrules: {a: {function: token_bias, weights: [{weight: 1, strings: [b, b]}]}}", "stands there twice"),
        ("name: x\nrules: {a.b: {function: eos_ramp}}", "may not contain"),
        ("name: x\nrules: {a: {function: eos_ramp, maximum: true}}", "found True, expected float"),
        ("a: [", "cannot be read as YAML"),
        ("name: x\nrules: {a: {function: [1]}}", "unknown rule function"),
        ("name: x\nrules: {a: {function: {b: 1}}}", "unknown rule function"),
        ("name: x\nrules: {a: {function: eos_ramp, maximum: .nan}}", "found nan, expected float between"),
        ("name: x\nrules: {a: {function: token_bias, weights: [{weight: .inf, strings: [b]}]}}", "found inf"),
        ("[" * 5000, "cannot be read as YAML"),
    ],
)
def test_malformed_files_are_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_preset(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value) or "did you mean" in str(caught.value).lower()


def test_a_path_works_and_unknown_names_get_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nrules: {end: {function: eos_ramp, length: 40}}")
    assert load_preset(str(path)).rules[0].options == {"length": 40}
    with pytest.raises(UserError, match="Did you mean 'paper'"):
        load_preset("papr")
    with pytest.raises(UserError, match="no such file"):
        load_preset(str(tmp_path / "absent.yaml"))


def test_a_string_beyond_latin_1_can_stand_beside_an_escape() -> None:
    weights = (("é\n", 1.0), ("日\n", 2.0))
    preset = Preset("mine", "", (Rule("u", "token_bias", {"weights": weights}),))
    changed = customise(preset, None, {r"u.é\n": 3, r"u.日\n": 4})
    assert changed.rules[0].options["weights"] == (("é\n", 3.0), ("日\n", 4.0))


@pytest.mark.parametrize("spec", ["x" * 300 + ".yaml", "missing.yaml", "."])
def test_a_path_that_is_no_file_is_named(spec: str) -> None:
    with pytest.raises(UserError, match="no such file|unknown rules preset"):
        load_preset(spec)


def test_a_preset_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: mine\nrules: {eos: {function: eos_ramp}}\n")
    assert load_preset(str(path)).name == "mine"
