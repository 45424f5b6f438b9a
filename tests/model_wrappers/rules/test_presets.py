from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules.presets import customise, load_preset, preset_names


def test_every_shipped_preset_loads() -> None:
    assert preset_names() == ["none", "paper", "reference"]
    assert [len(load_preset(name).rules) for name in preset_names()] == [0, 3, 3]
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
    ],
)
def test_bad_changes_are_errors(arguments: tuple[str | None, dict[str, object] | None], message: str) -> None:
    with pytest.raises(UserError) as caught:
        customise(load_preset("paper"), *arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "not a rules preset"),
        ("name: x\nrules: {a: {function: eos_rump}}", "Did you mean 'eos_ramp'"),
        ("name: x\nrules: {a: {}}", "has no function"),
        ("name: x\nextra: 1\nrules: {}", "unknown key 'extra'"),
        ("name: x\nrules: {a: {function: token_bias}}", "option 'weights' of token_bias is missing"),
        ("name: x\nrules: {a: {function: token_bias, weights: {b: 1}}}", "expected a list of"),
        ("name: x\nrules: {a: {function: token_bias, weights: [{weight: 1, strings: [b, b]}]}}", "stands there twice"),
        ("name: x\nrules: {a.b: {function: eos_ramp}}", "may not contain"),
        ("name: x\nrules: {a: {function: eos_ramp, maximum: true}}", "found True, expected float"),
        ("a: [", "not YAML"),
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
