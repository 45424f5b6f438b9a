"""Tables as a reader, a spreadsheet and a program see them; texts from strangers stay text."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from board_samples import make_verified

from implicit_if.harness.published_numbers import load_published
from implicit_if.leaderboards.boards import tables
from implicit_if.leaderboards.boards.board import Board, make_boards

HOSTILE = '<img src=x onerror=alert(1)>|`**[x](javascript:alert(1))**" \'=HYPERLINK("https://x")'
FORMULA = '=HYPERLINK("https://evil.example")'


def board_of(*verified: object, rules: bool = False) -> Board:
    ((board, ablation),) = make_boards(verified, {})  # type: ignore[arg-type]
    return ablation if rules and ablation is not None else board


def cells(markdown: str, heading: str) -> list[dict[str, str]]:
    """The rows of the table under a heading, split as GitHub splits them."""
    part = markdown.split(f"### {heading}\n\n")[1].split("\n\n")[0].split("\n")
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in part]
    assert len({len(row) for row in split}) == 1
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def test_a_table_shows_the_numbers_with_intervals_and_signature() -> None:
    board = board_of(
        make_verified("a/base", system={"kind": "base"}, value=12.34, half=2.0),
        make_verified("a/seeds", "v1", system={"kind": "response", "seed": 3}, preferences=[0.25] * 20),
        make_verified("a/seeds", "v2", system={"kind": "response", "seed": 4}, preferences=[0.75] * 20),
        make_verified("a/told", system={"kind": "other"}, badge="self-reported", value=99.0),
        make_verified("c/empty", system={"kind": "control", "control": "empty"}, value=1.0, form={"finish_rate": None}),
    )
    text = tables.board_markdown(board, [("alt", "figures/a.svg")])
    assert text.startswith("## made against sibling, judged by embedded\n")
    assert (
        "Win rate: `task:alpaca_winrate|set:made@aaaaaaaa|n:20|ref:sibling@bbbbbbbb|judge:embedded@cccccccc|orders:1|v:"
        in text
    )
    assert "|orders:1|lc:offline|v:" in text
    base, seeds, told = cells(text, "`acme/base-1b`")
    assert base["system"] == "base"
    assert base["submission"] == "[`a/base@v1`](submissions/a__base/v1)"
    assert base["win rate %"] == "12.3 [10.3, 14.3]"
    assert base["LC win rate %"] == "6.2 [4.2, 8.2]"
    assert [base[k] for k in ("finish %", "leak %", "repetition %", "length", "n")] == [
        "90.0",
        "1.0",
        "2.0",
        "300",
        "20",
    ]
    assert [base[k] for k in ("judge", "badge", "seeds")] == ["`embedded`", "recomputed", "1"]
    assert seeds["win rate %"].startswith("50.0 ± 35.4 [")
    assert seeds["LC win rate %"] == "25.0 ± 17.7"
    assert seeds["seeds"] == "2 (3, 4)"
    assert seeds["submission"] == "`a/seeds` [1](submissions/a__seeds/v1) [2](submissions/a__seeds/v2)"
    assert (told["badge"], told["tie group"]) == ("self-reported", "-")
    (empty,) = cells(text, "Controls")
    assert (empty["system"], empty["finish %"], empty["tie group"]) == ("control empty", "-", "-")
    assert text.endswith("![alt](figures/a.svg)")


def test_hostile_names_are_text_in_markdown() -> None:
    one = make_verified(
        reference={"name": HOSTILE}, judge={"name": HOSTILE}, base_model={"name": HOSTILE}, notes=(HOSTILE,)
    )
    text = tables.board_markdown(board_of(one), [])
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert "<img" not in outside_code
    assert "](javascript" not in outside_code
    assert "<" not in outside_code.replace("&lt;", "")
    rows = re.findall(r"^\|.*\|$", text, flags=re.MULTILINE)
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {16}


def test_csv_is_safe_in_a_spreadsheet_and_complete() -> None:
    verified = [
        make_verified(f"a/s{i}", judge={"name": FORMULA}, base_model={"name": "\u2212" + FORMULA}) for i in range(3)
    ]
    raw = tables.boards_csv([board_of(*verified)])
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8"))))
    assert [row["name"] for row in rows] == ["a/s0", "a/s1", "a/s2"]
    for row in rows:
        assert row["judge"] == f"'{FORMULA}"
        assert not any(value.startswith(("=", "+", "-", "@", "\t")) for value in row.values())
        assert float(row["win_rate"]) == 50.0
        assert (float(row["win_rate_low"]), float(row["win_rate_high"])) == (45.0, 55.0)
        assert row["win_rate_signature"].startswith("task:alpaca_winrate|set:made@")
        assert "lc:offline" in row["lc_signature"]
        assert (row["n_judged"], row["n_expected"], row["badge"]) == ("20", "20", "recomputed")


def test_json_is_unrounded_and_ascii() -> None:
    preferences = np.random.default_rng(0).random(20)
    one = make_verified(preferences=preferences.tolist(), reference={"name": "Bär"})
    raw = tables.boards_json([board_of(one)], load_published(), rules=False)
    value = json.loads(raw.decode("ascii"))
    (board,) = value["boards"]
    assert board["reference"] == "Bär"
    assert board["rows"][0]["win_rate"]["value"] == 100 * preferences.mean()
    assert board["rows"][0]["submissions"] == ["acme__parrot/v1"]
    assert board["signature"] == board["rows"][0]["win_rate"]["signature"]


def test_published_numbers_are_marked_and_apart() -> None:
    text = tables.published_markdown(load_published(), rules=False)
    assert text.startswith("## Published: ")
    assert "**not made or checked here**" in text
    assert "https://arxiv.org/abs/2409.14254" in text
    assert "without eos" not in text
    rules = tables.published_markdown(load_published(), rules=True)
    assert re.search(r"without eos *\| *10\.4 ± 0\.3 *\| *Table 4", rules)
    assert "OLMo" not in rules


@pytest.mark.parametrize(
    ("model", "system", "mean", "sd"),
    [  # read off the paper's tables 1, 3 and 4
        ("Llama-2-7B", "base", 2.4, 0.14),
        ("Llama-2-7B", "all rules", 24.4, 0.4),
        ("Llama-2-7B", "response tuning", 43.3, 1.1),
        ("OLMo-7B-Feb2024", "gsm", 30.3, 0.6),
        ("OLMo-7B-Feb2024", "chess", 6.3, 1.1),
    ],
)
def test_published_numbers_are_the_papers(model: str, system: str, mean: float, sd: float) -> None:
    (table,) = load_published()
    assert [(r.mean, r.sd) for r in table.rows if (r.base_model, r.system) == (model, system)] == [(mean, sd)]


def test_wide_characters_give_the_same_bytes_with_and_without_wcwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    import tabulate

    board = board_of(make_verified(judge={"name": "審査員"}))
    before = tables.board_markdown(board, [])
    fake = type("wcwidth", (), {"wcswidth": staticmethod(lambda text: 2 * len(text))})
    monkeypatch.setattr(tabulate, "wcwidth", fake)
    monkeypatch.setattr(tabulate, "WIDE_CHARS_MODE", True)
    assert tables.board_markdown(board, []) == before
    assert tabulate.WIDE_CHARS_MODE
