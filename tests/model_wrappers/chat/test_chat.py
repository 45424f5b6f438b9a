"""The chat: its answers are the wrapper's, `/why` tells the truth, and nothing ends it by accident."""

from __future__ import annotations

import argparse
import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.answer_cache import AnswerMemory
from implicit_if.model_wrappers.chat import cli
from implicit_if.model_wrappers.chat.conversation import Chat, Screen
from implicit_if.model_wrappers.chat.explain import Surfaces, why
from implicit_if.model_wrappers.chat.streaming import Choice, GrowingText, stream_choices
from implicit_if.model_wrappers.chat.systems import Models, TurnTemplate
from implicit_if.model_wrappers.rules.presets import customise, load_preset
from implicit_if.model_wrappers.rules_poe import RulesPoE

PROMPT = "<|user|>\nWhat is a list?\n<|assistant|>\n"
PRESETS = {
    "none": None,
    "paper": load_preset("paper"),
    "reference": load_preset("reference"),
    "ends early": customise(load_preset("paper"), overrides={"eos.maximum": 400}),
}


@pytest.fixture(scope="module")
def lm(tiny_model_folder: str) -> RulesPoE:
    return RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=1)


def args_of(folder: str) -> str:
    return f"pretrained={folder},dtype=float32,device=cpu"


def chat(folder: str, systems: str = "base,rules:paper", **kwargs: Any) -> tuple[Chat, io.StringIO]:
    out = io.StringIO()
    width = kwargs.pop("width", 80)
    screen = Screen(out, width if callable(width) else lambda: width, live=kwargs.pop("live", False))
    models = Models(args_of(folder), kwargs.pop("max_gen_toks", 12))
    template = TurnTemplate.load(kwargs.pop("template", "tulu"))
    return Chat(models, systems, template, screen, **kwargs), out


# ---------------------------------------------------------------------- streaming
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_streamed_tokens_are_the_wrappers_answer(lm: RulesPoE, preset: Any) -> None:
    settings = lm.generation_settings({"until": [], "max_gen_toks": 40, "do_sample": False})
    [(_, answer)] = lm.answer([PROMPT], preset, settings, AnswerMemory(None))
    text = GrowingText(lm.tokenizer, set(lm.eos_ids.tolist()))
    texts = []
    for choice in stream_choices(lm, PROMPT, preset, 40):
        text.add(choice.token)
        texts.append(text.text)
    assert text.close() == answer
    assert (text.ended, len(text.tokens)) == (answer.finish_reason == "eos", answer.n_tokens)
    assert all(b.startswith(a) for a, b in itertools.pairwise(texts)), "what was shown stays"
    if preset is PRESETS["ends early"]:
        assert text.ended, "some answer must end by itself for the test to mean something"


def by_hand(lm: RulesPoE, tokens: list[int], i: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Base logits after the prompt and `i` tokens, and what each rule of `paper` adds, by the paper's text."""
    ids = lm.tokenizer(PROMPT)["input_ids"] + tokens[:i]
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0, -1].double()
    vocabulary = lm.tokenizer.get_vocab()
    added = {name: torch.zeros_like(logits) for name in ("eos", "uniform", "diversity")}
    added["eos"][1] = 15 * i / 250
    groups = [(-4, "< Ġ< |"), (-5, "ĠI I"), (-3, "ĠWe What"), (-6, "Ġshould"), (1, "Ġ* Ġ- ĠĠĠ Ġ# Ġ## Ċ !")]
    for weight, pieces in groups:
        added["uniform"][[vocabulary[piece] for piece in pieces.split()]] = weight
    added["diversity"][list(set(tokens[:i]))] = -1.5
    return logits, added


def test_candidates_are_what_the_definition_gives(lm: RulesPoE) -> None:
    choices = list(stream_choices(lm, PROMPT, PRESETS["paper"], 30))
    tokens = [choice.token for choice in choices]
    assert {choice.changed for choice in choices} == {True, False}
    for i, choice in enumerate(choices):
        logits, added = by_hand(lm, tokens, i)
        before, after = logits.softmax(-1), (logits + sum(added.values())).softmax(-1)
        best = torch.cat([before.topk(3).indices, after.topk(3).indices]).tolist()
        assert {c.token for c in choice.candidates} == set(best)
        assert [c.after for c in choice.candidates] == sorted((c.after for c in choice.candidates), reverse=True)
        assert choice.candidates[0].token == choice.token == int(after.argmax())
        assert choice.base_token == int(before.argmax())
        for c in choice.candidates:
            assert c.before == pytest.approx(float(before[c.token]), abs=1e-5)
            assert c.after == pytest.approx(float(after[c.token]), abs=1e-5)
            assert c.shifts == {name: pytest.approx(float(a[c.token]), abs=1e-4) for name, a in added.items()}


def test_a_character_is_shown_once_all_its_bytes_are_there(tokenizer: Any) -> None:
    ids = tokenizer("aé日", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    text, seen = GrowingText(tokenizer, {1}), []
    for token in ids[:5]:
        text.add(token)
        seen.append(text.text)
    assert seen == ["a", "a", "aé", "aé", "aé"]
    assert text.close() == "aé\N{REPLACEMENT CHARACTER}"


# ---------------------------------------------------------------------- why
def test_why_marks_changed_tokens_and_names_the_rule(lm: RulesPoE) -> None:
    choices = list(stream_choices(lm, PROMPT, PRESETS["paper"], 30))
    surface = Surfaces(lm.tokenizer)
    text = why("rules:paper", choices, surface)
    changed = [n for n, choice in enumerate(choices, start=1) if choice.changed]
    assert f"30 tokens, {len(changed)} of them (*)" in text
    marked = [line for line in text.splitlines() if line[4:5] == "*"]
    assert text.splitlines()[1] == marked[0]
    assert not [line for line in text.splitlines() if line[:4].strip().isdecimal() and line[4:5] != "*"]
    assert text.count("candidate ") == min(5, len(changed))
    assert f"the other {30 - len(changed)} are the base model's own choice; /why all" in text
    assert [int(line[:4]) for line in marked] == changed
    for line, n in zip(marked, changed, strict=True):
        assert f"instead of {surface(choices[n - 1].base_token)}" in line
        assert any(f"{rule} " in line for rule in ("eos", "uniform", "diversity"))
    assert why("x", choices, surface, "all").count("candidate ") == 30
    assert why("x", choices, surface, "7").count("candidate ") == 1
    with pytest.raises(UserError, match="a token's number from 1 to 30"):
        why("x", choices, surface, "31")


def test_why_without_rules_says_so(lm: RulesPoE) -> None:
    assert "no rules at work" in why("base", [Choice(3), Choice(4)], Surfaces(lm.tokenizer))


def test_surfaces_keep_the_space_and_hide_what_could_act(tokenizer: Any, sentencepiece_like: Any) -> None:
    surface = Surfaces(tokenizer)
    vocabulary = tokenizer.get_vocab()
    assert surface(vocabulary["ĠI"]) == "' I'"
    assert surface(vocabulary["Ċ"]) == r"'\n'"
    assert surface(vocabulary["ě"]) == r"'\x1b'"  # byte-level BPE's letter for ESC
    assert surface(1) == "'</s>'"
    assert Surfaces(sentencepiece_like)(sentencepiece_like.get_vocab()["▁should"]) == "' should'"


# ---------------------------------------------------------------------- the conversation
def test_turns_build_on_each_systems_own_answers(tiny_model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, _ = chat(tiny_model_folder)
    prompts: list[str] = []
    from implicit_if.model_wrappers.chat import systems

    real = systems.answer_prefixes

    def noted(system: Any, prompt: str, choices: list[Any]) -> Iterator[tuple[str, bool]]:
        prompts.append(prompt)
        return real(system, prompt, choices)

    monkeypatch.setattr("implicit_if.model_wrappers.chat.conversation.answer_prefixes", noted)
    talk.ask("One?")
    first = [side.messages[1]["content"] for side in talk.sides]
    assert first[0] != first[1]
    talk.ask("Two?")
    for prompt, answer in zip(prompts[2:], first, strict=True):
        turns = [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "Two?"},
        ]
        assert prompt == load_template("tulu").render(turns, eos_token="</s>", add_generation_prompt=True)
    talk._handle("/reset")
    talk.ask("Two?")
    assert prompts[4] == load_template("tulu").render_prompt("Two?")


def test_below_each_other_and_side_by_side_show_the_same(tiny_model_folder: str) -> None:
    stacked, plain = chat(tiny_model_folder)
    wide, columns = chat(tiny_model_folder, width=100, live=True)
    stacked.ask("What is a list?")
    wide.ask("What is a list?")
    assert [s.messages for s in stacked.sides] == [s.messages for s in wide.sides]
    assert plain.getvalue().startswith("base:\n")
    assert plain.getvalue().count("[cut at 12 tokens]") == 2
    rows = [line.rpartition("\x1b[K")[2] for line in columns.getvalue().split("\n")]
    assert [part.strip() for part in rows[0].split("│")] == ["base:", "rules:paper:"]
    assert sum(row.count("[cut at 12 tokens]") for row in rows) == 2
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize("after", [70, 40])
def test_a_resized_window_gets_whole_rows_of_its_own_width(tiny_model_folder: str, after: int) -> None:
    asked: list[int] = []

    def width() -> int:
        asked.append(1)
        return 120 if len(asked) <= 5 else after

    resized, out = chat(tiny_model_folder, width=width, live=True)
    fixed, expected = chat(tiny_model_folder, width=after, live=True)
    assert resized.ask("What is a list?")
    assert fixed.ask("What is a list?")
    assert [s.messages for s in resized.sides] == [s.messages for s in fixed.sides]
    before, _, shown = out.getvalue().partition("[the window's size changed]\n")
    assert before
    plain = [[line.rpartition("\x1b[K")[2] for line in text.split("\n")] for text in (shown, expected.getvalue())]
    assert plain[0] == plain[1]


def test_it_opens_with_who_answers_and_what_to_try(tiny_model_folder: str) -> None:
    talk, out = chat(tiny_model_folder)
    lines = iter(["/quit"])
    talk.talk(lambda: next(lines))
    name = Path(tiny_model_folder).name
    assert out.getvalue().splitlines() == [
        "Every line you type is answered by:",
        f"  base         {name} as it is, without rules",
        f"  rules:paper  {name}, its next-token scores changed by the rules eos, uniform, diversity",
        "Try: What is the capital of France?, then /why, which shows the tokens that the rules changed. "
        "/help lists the commands.",
    ]


def test_control_characters_of_an_answer_never_reach_the_terminal(
    tiny_model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = "\x1b]52;c;eA==\x07\x9b2J\rdone"
    monkeypatch.setattr(
        "implicit_if.model_wrappers.chat.conversation.answer_prefixes", lambda *_: iter([(attack, True)])
    )
    for live in (False, True):
        talk, out = chat(tiny_model_folder, live=live, width=100)
        talk.ask("Go")
        shown = out.getvalue().replace("\r\x1b[K", "")
        assert not set(shown) & set("\x1b\x07\x9b\r")
        assert r"\x1b]52" in shown


@pytest.mark.parametrize("width", [60, 100])
def test_ctrl_c_stops_the_answers_and_the_talk_goes_on(
    tiny_model_folder: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, out = chat(tiny_model_folder, live=True, width=width)
    from implicit_if.model_wrappers.chat import systems

    real = systems.answer_prefixes
    seen: list[str] = []

    def stops(system: Any, prompt: str, choices: list[Any]) -> Iterator[tuple[str, bool]]:
        for text, ended in real(system, prompt, choices):
            yield text, ended
            seen.append(text)
            if len(seen) == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr("implicit_if.model_wrappers.chat.conversation.answer_prefixes", stops)
    lines = iter(["What is a list?", "Again?", "/quit"])
    talk.talk(lambda: next(lines), greet=False)
    assert "interrupted after" in out.getvalue()
    assert talk.sides[0].messages[1]["content"] in seen
    assert talk.sides[0].messages[-2]["content"] == "Again?"
    assert len(talk.sides[0].messages) == 4


def test_ctrl_c_and_the_end_of_input_leave(tiny_model_folder: str) -> None:
    talk, _ = chat(tiny_model_folder, "base")
    for error in (EOFError, KeyboardInterrupt):

        def read(error: type[BaseException] = error) -> str:
            raise error

        talk.talk(read)


def test_commands(tiny_model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    talk, out = chat(tiny_model_folder)
    said = ["", "/why", "/wyh", "/help", "/system rules:paper-eos,base", "/system nothing/there", "a \\", "b"]
    lines = iter([*said, "/why 1", "/system", "/quit", "never read"])
    talk.talk(lambda: next(lines), greet=False)
    assert next(lines) == "never read"
    errors = capsys.readouterr().err
    assert "there is no answer yet" in errors
    assert "unknown command '/wyh'. Did you mean '/why'" in errors
    assert "model 'nothing/there' cannot be loaded" in errors
    assert talk.sides[0].messages[0]["content"] == "a \nb"
    shown = out.getvalue()
    assert "/reset           forget" in shown
    assert "rules:paper-eos: 12 tokens" in shown
    assert "base: no rules at work" in shown
    assert shown.rstrip().endswith("rules:paper-eos, base")


def test_models_are_loaded_once_and_a_tuned_one_has_no_rules(tiny_model_folder: str) -> None:
    talk, _ = chat(tiny_model_folder, f"base,rules:paper,rules:reference,rules,{tiny_model_folder}")
    base, paper, reference, own, tuned = (side.system for side in talk.sides)
    assert base.lm is paper.lm is reference.lm is own.lm
    assert tuned.lm is not base.lm
    assert (base.rules, own.rules, tuned.rules) == (None, ..., None)
    assert (paper.rules, reference.rules) == (load_preset("paper"), load_preset("reference"))
    talk.ask("What?")
    answers = [side.messages[1]["content"] for side in talk.sides]
    assert answers[0] == answers[4]
    assert answers[1] == answers[3]


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ("base,,rules", "an empty name"),
        ("base,base", "one twice"),
        ("rules:papr", "Did you mean 'paper'"),
        ("rules:paper-eso", "Did you mean 'eos'"),
    ],
)
def test_bad_systems_are_found_before_a_model_loads(systems: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Models("pretrained=no/such-model").systems(systems)
    assert message in str(caught.value)


def test_the_models_own_template(tiny_model_folder: str) -> None:
    talk, _ = chat(tiny_model_folder, "base", template="model")
    with pytest.raises(UserError, match="has no chat template of its own"):
        talk.ask("What?")
    assert talk.sides[0].messages == [], "a turn that was not answered is no part of the conversation"
    talk.sides[0].system.lm.tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    prompt = talk.template.prompt(talk.sides[0].system.lm, [{"role": "user", "content": "What?"}])
    assert prompt == "[What?]"


# ---------------------------------------------------------------------- the command
def run(folder: str, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["--model-args", args_of(folder), "--max-gen-toks", "6", *argv]))


def test_once_prints_the_answers_and_leaves(tiny_model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tiny_model_folder, "--once", "What is a list?", "--explain") == 0
    first = capsys.readouterr().out
    assert first.count("[cut at 6 tokens]") == 2
    assert "rules:paper: 6 tokens" in first
    assert run(tiny_model_folder, "--once", "What is a list?", "--explain") == 0
    assert capsys.readouterr().out == first


def test_piped_lines_are_turns(
    tiny_model_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("One?\nTwo?\n"))
    assert run(tiny_model_folder, "--systems", "base") == 0
    out = capsys.readouterr().out
    assert out.count("base:\n") == 2
    assert "you>" not in out


def test_a_missing_template_is_found_before_a_model_loads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'tulu'"):
        run(str(tmp_path), "--template", "tuluu")
