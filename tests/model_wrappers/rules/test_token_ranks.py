"""Ranks against an independent sort, and rules' moves against their sum in decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from implicit_if.harness import cli
from implicit_if.harness.analysis.token_shift import shift_tokens
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.outputs import Output
from implicit_if.model_wrappers.prompt_batches import pieces
from implicit_if.model_wrappers.rules.product import RulesProcessor
from implicit_if.model_wrappers.rules_poe import RulesPoE

PROMPT = load_template("tulu").render_prompt("the man")


@pytest.fixture(scope="module")
def lm(tiny_model: Any, tokenizer: Any) -> RulesPoE:
    return RulesPoE(tiny_model, tokenizer=tokenizer, rules=None, batch_size=4)


def greedy(lm: RulesPoE, rules: str | None, n: int = 40) -> list[int]:
    """Token by token, with the rules' processor as in decoding."""
    context = lm.encode(PROMPT)
    bound, ids = lm.bound_rules(rules), list(context)
    processor = RulesProcessor(bound, len(context)) if bound else None
    for _ in range(n):
        with torch.no_grad():
            scores = lm.model(torch.tensor([ids])).logits[:, -1].float()
        scores = processor(torch.tensor([ids]), scores) if processor else scores
        ids.append(int(scores.argmax()))
    return ids[len(context) :]


def test_a_model_against_itself_is_all_unshifted(lm: RulesPoE) -> None:
    ids = greedy(lm, None)
    tokens, end, _ = lm.rank_tokens(PROMPT, "", ended=False, token_ids=ids)
    assert [token.rank for token in tokens] == [1] * len(ids)
    assert end is None


def test_ranks_equal_an_independent_sort(lm: RulesPoE, tokenizer: Any) -> None:
    answer = "What! I should # | the man"
    tokens, end, exact = lm.rank_tokens(PROMPT, answer, ended=True)
    context, ids = tokenizer(PROMPT)["input_ids"], [*tokenizer(answer)["input_ids"][1:], 1]
    with torch.no_grad():
        logits = lm.model(torch.tensor([context + ids])).logits[0].double().numpy()
    for i, token in enumerate([*tokens, end]):
        row = logits[len(context) - 1 + i]
        order = np.lexsort((np.arange(len(row)), -row))  # by score, then by id
        assert token is not None
        assert token.rank == 1 + int(np.flatnonzero(order == ids[i])[0])
        assert token.base_choice == tokenizer.decode([int(order[0])])
    assert exact
    assert "".join(token.text for token in tokens) == answer


@pytest.mark.parametrize("rules", ["paper", "reference"])
def test_moves_add_up_to_the_whole_shift(lm: RulesPoE, rules: str) -> None:
    bound = lm.bound_rules(rules)
    ids = greedy(lm, "paper")
    tokens, _, _ = lm.rank_tokens(PROMPT, "", ended=False, token_ids=ids, rules=rules)
    context = lm.encode(PROMPT)
    start = len(context) - len(lm._prompt_scope(PROMPT, context, rules=bound)) if rules == "reference" else len(context)
    processor = RulesProcessor(bound, len(context), torch.tensor([start]))
    for i, token in enumerate(tokens):
        before = torch.tensor([context + ids[:i]])
        with torch.no_grad():
            base = lm.model(before).logits[:, -1].double()
        moved = processor(before, base.clone()) - base
        shift = float(moved[0, ids[i]] - moved[0, int(base.argmax())])
        assert sum(token.moved.values()) == pytest.approx(shift, abs=1e-6)
    assert set(tokens[0].moved) == {rule.name for rule in bound.preset.rules}


def test_the_rules_own_answers_name_the_rule_behind_each_shifted_token(lm: RulesPoE) -> None:
    tokens, _, _ = lm.rank_tokens(PROMPT, "", ended=False, token_ids=greedy(lm, "paper"), rules="paper")
    moved = [token for token in tokens if token.rank > 1]
    assert moved
    assert all(token.mover is not None for token in moved)
    assert all(token.mover is None for token in tokens if token.rank == 1)


def test_characters_of_several_tokens_are_put_together(tokenizer: Any) -> None:
    text = "aé the €!"
    ids = tokenizer(text)["input_ids"][1:]
    parts = pieces(tokenizer, ids)
    assert "".join(parts) == text
    assert len(parts) == len(ids) > len(text) - 4


def test_the_command_writes_table_figure_and_page(
    lm: RulesPoE,
    tiny_model_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        {"instruction": text, "output": "What! I should", "generator": "mine", "finish_reason": "eos"}
        for text in ("the man", "a list")
    ]
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(rows))
    out = tmp_path / "out"
    arguments = ["token-shift", f"x={answers}", "--base", tiny_model_folder, "--device", "cpu", "--rules", "x=paper"]
    assert cli.main([*arguments, "--out", str(out), "--show", "1"]) == 0
    printed = capsys.readouterr()
    assert "2 answers of x have no token ids: tokenized again" in printed.err
    expected = shift_tokens(
        lm,
        [Output.model_validate(row) for row in rows],
        load_template("tulu").render_prompt,
        system="x",
        base="b",
        template="t",
        rules="paper",
    )
    found = json.loads((out / "token-shift.json").read_text())
    assert found[0]["shares"] == expected.as_dict()["shares"]
    assert str(expected.shares["shifted"]) in printed.out
    files = {f"token-shift.{end}" for end in ("json", "md", "svg", "html")}
    assert {path.name for path in out.iterdir()} == {*files, "ranks"}
    before = {name: (out / name).read_bytes() for name in files}
    monkeypatch.setattr(RulesPoE, "rank_tokens", lambda *args, **kwargs: pytest.fail("ranked again"))
    assert cli.main([*arguments, "--out", str(out)]) == 0
    assert {name: (out / name).read_bytes() for name in files} == before
    assert cli.main(["token-shift", str(tmp_path / "no.json"), "--base", "nowhere"]) == 2
