from __future__ import annotations

import hashlib
from typing import Any

import pytest

from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import OutputsMeta


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ""),
        ({"until": []}, ""),
        ({"max_gen_toks": 256, "do_sample": False, "until": [], "temperature": 0.0}, "greedy,256"),
        ({"max_gen_toks": 256, "do_sample": False, "top_p": 0.9, "seed": 7}, "greedy,256"),
        ({"do_sample": False}, "greedy"),
        ({"max_new_tokens": 64, "num_beams": 1}, "greedy,64"),
        ({"max_new_tokens": 64, "max_gen_toks": 32, "num_beams": 4}, "greedy,32,num_beams=4"),
        (
            {"max_gen_toks": 16, "do_sample": True, "temperature": 0.70, "seed": 1234, "rules": "none"},
            "sampled,16,seed=1234,temperature=0.7",
        ),
        ({"max_gen_toks": 16, "temperature": 1.0}, "sampled,16,temperature=1"),
        ({"max_gen_toks": 16, "do_sample": "False"}, "greedy,16"),
    ],
)
def test_equal_ways_of_decoding_have_one_form(arguments: dict[str, Any], expected: str) -> None:
    assert AnswerSettings.of(generation=arguments).generation == expected


def test_text_of_strangers_is_hashed_and_two_texts_stay_two() -> None:
    stops = [AnswerSettings.of(generation={"max_gen_toks": 8, "until": [s]}).generation for s in ("|sys:0", "\n\n")]
    assert stops[0] == "greedy,8,until=" + hashlib.sha256(b'["|sys:0"]').hexdigest()[:8]
    assert stops[0] != stops[1]
    made = AnswerSettings.of(
        {"name": "a b|c@d", "sha256": "0123456789"}, {"x|y": "z" * 99}, "Be | brief.", "float32|v:0"
    )
    assert made.template == "a%20b%7Cc%40d@01234567"
    assert all("|" not in field and " " not in field for field in made.fields)


def test_a_sidecar_tells_all_four() -> None:
    meta = OutputsMeta(
        generator="x",
        model={"model_dtype": "torch.bfloat16"},
        template={"name": "tulu", "sha256": "f96a4d3f" + "0" * 56},
        generation={"max_gen_toks": 256, "do_sample": False},
        system_instruction="Be brief.",
    )
    told = hashlib.sha256(b"Be brief.").hexdigest()[:8]
    made = AnswerSettings.of_meta(meta)
    assert made.fields == [f"sys:{told}", "tpl:tulu@f96a4d3f", "gen:greedy,256", "dtype:bfloat16"]
    assert made.of_table.fields == made.fields[:3]
    assert AnswerSettings.of_meta(None) == AnswerSettings.of_meta(OutputsMeta(generator="x")) == NOTHING_KNOWN


@pytest.mark.parametrize("given", [{"template": "a|b"}, {"dtype": "float 32"}, {"system_instruction": "0123ABCD"}])
def test_malformed_settings_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="signature"):
        AnswerSettings(**given)
