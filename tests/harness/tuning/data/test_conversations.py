"""Rows become conversations as in the released scripts; rows that do not fit are named."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data import conversations
from implicit_if.harness.tuning.data.conversations import Rows, drop_instructions, load_rows
from implicit_if.harness.tuning.recipe import load_recipe, recipe_names
from implicit_if.harness.tuning.recipe_schema import Data


def shipped(recipe: str, **options: Any) -> Data:
    """A shipped recipe's data."""
    return load_recipe(recipe, ["train.epochs=1"], profile="llama2-7b/reference").data.model_copy(update=options)


def load(tmp_path: Path, source: str, rows: list[Any], **options: Any) -> Rows:
    """Rows of a shipped recipe's data set, or of a format of one's own."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if source in recipe_names():
        return load_rows(shipped(source, path=str(path), **options))
    return load_rows(Data(format=source, path=str(path), **options))


def texts(rows: Rows) -> list[list[str]]:
    return [[message["content"] for message in c.messages] for c in rows.conversations]


MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
RECIPE = {"Title": "Plum cake", "Cleaned_Ingredients": "['3 plums', 'flour']", "Instructions": "Bake it.", "Image": 1}
CHESS = [
    '[Event "Rated game"]',
    '[WhiteElo "1500"]',
    '[BlackElo "1600"]',
    "",
    "1. e4 e5 1-0",
    '[WhiteElo "900"]',
    '[BlackElo "?"]',
    "1. d4 0-1",
]


@pytest.mark.parametrize(
    ("source", "rows", "expected"),
    [
        ("pairs", [{"instruction": "Hi", "response": "Ho", "id": 3}], [["Hi", "Ho"]]),
        ("lima", [{"conversations": ["a", "b", "c", "d"], "source": "x"}], [["a", "b", "c", "d"]]),
        ("lima", [{"messages": MESSAGES}], [["a", "b"]]),
        ("gsm", [{"question": "2+2?", "answer": "<<2+2=4>>4\n#### 4"}], [["2+2?", "<<2+2=4>>4\n#### 4"]]),
        (
            "mbpp",
            [{"text": "Add.", "code": "def f(a):\r\n  return a"}],
            [["Add.", "def f(a):\r\n  return a"]],
        ),
        ("recipes", [RECIPE], [["Recipe for Plum cake", " - 3 plums\n - flour\n\n\nBake it."]]),
        ("recipes", [{**RECIPE, "Cleaned_Ingredients": "[]"}], [["Recipe for Plum cake", "\n\nBake it."]]),
        (
            "poetry",
            [{"poem name": None, "content": "lost"}, {"poem name": "Dusk", "content": "It\r\nfalls"}],
            [["Write a poem called Dusk", "It\r\nfalls"]],
        ),
        (
            "chess",
            [{"text": line} for line in CHESS],
            [
                ['[WhiteElo "1500"]\n[BlackElo "1600"]\n', "1. e4 e5 1-0"],
                ['[WhiteElo "900"]\n[BlackElo "?"]\n', "1. d4 0-1"],
            ],
        ),
    ],
)
def test_transformations(tmp_path: Path, source: str, rows: list[Any], expected: list[list[str]]) -> None:
    assert texts(load(tmp_path, source, rows)) == expected


def test_the_pinned_sources() -> None:
    counts = {"mbpp": 374, "gsm": 1000, "recipes": 1000, "poetry": 571, "chess": 1000}
    for name in recipe_names():
        data = shipped(name)
        assert data.limit == counts.get(name, 1030)
        assert len(str(data.revision)) in (7, 40)


def test_only_as_many_as_in_the_paper(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(1003)]
    loaded = load(tmp_path, "gsm", rows)
    assert [t[1] for t in texts(loaded)] == [str(n) for n in range(1000)]
    assert loaded.notes == ["only the first 1000 conversations were taken, as data.limit says"]
    assert load(tmp_path, "gsm", rows[:1000]).notes == []
    assert load(tmp_path, "gsm", rows[:7]).notes == ["7 conversations, where data.limit is 1000"]
    limited = load(tmp_path, "gsm", rows, limit=1002)
    assert len(limited.conversations) == 1002
    assert limited.notes == ["only the first 1002 conversations were taken, as data.limit says"]


def test_skipped_poems_are_counted(tmp_path: Path) -> None:
    rows = [{"poem name": None, "content": "x"}] * 2 + [{"poem name": "A", "content": "y"}]
    assert "2 rows have no name and were skipped" in load(tmp_path, "poetry", rows).notes[0]
    named, nameless = {"poem name": "A", "content": "y"}, {"poem name": None, "content": "x"}
    notes = load(tmp_path, "poetry", [nameless, named, nameless, nameless]).notes
    assert notes[0] == "3 rows have no name and were skipped, as in the paper (line 1, 3-4)"


def test_a_table_of_the_users_own_is_text_and_the_hubs_has_null_words(tmp_path: Path) -> None:
    import pandas as pd

    own = tmp_path / "own.csv"
    own.write_text("instruction,response\nNone,NA\n")
    assert texts(load_rows(Data(path=str(own)))) == [["None", "NA"]]
    own.write_text("instruction,response\nTell me, please,Hello\nAdd 2, 3,5\n")
    with pytest.raises(UserError, match="line 2: found 3 cells"):
        load_rows(Data(path=str(own)))
    poems = tmp_path / "poetry.csv"
    words = ["", "None", "nan", "NA", "N/A", "null", "none", "Nan", "#NA", "<NA>", "Dusk"]
    poems.write_text("content,poem name\n" + "".join(f"text,{word}\n" for word in words))
    names = pd.read_csv(poems)["poem name"].dropna()  # as the released script reads it
    loaded = load_rows(shipped("poetry", path=str(poems)))
    assert [user for user, _ in texts(loaded)] == [f"Write a poem called {name}" for name in names]


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("pairs", {"instruction": "a"}, "line 2: no field 'response' .it has 'instruction'."),
        ("pairs", {"instruction": None, "response": "b"}, "line 2: 'instruction' is null"),
        ("pairs", {"instruction": "a", "response": " \n"}, "line 2, message 2: the answer is empty"),
        (
            "pairs",
            {"instruction": "a", "response": "so \ud83d"},
            "line 2, message 2: character 3 is .*half of a surrogate",
        ),
        ("pairs", {"instruction": "a", "response": "b", "input": "c"}, "line 2: 'input' is not empty"),
        ("messages", {"messages": []}, "line 2: 'messages' is"),
        ("messages", {"messages": "a"}, "line 2: 'messages' is 'a'"),
        ("messages", {"messages": ["a"]}, "line 2, message 1: found str"),
        ("messages", {"messages": [{"role": "user"}]}, "line 2, message 1: no field 'content'"),
        ("messages", {"messages": [*MESSAGES, {"role": "assistant", "content": None}]}, "'content' is null"),
        ("messages", {"messages": MESSAGES[:1]}, "line 2: ends with 'user'"),
        ("messages", {"messages": MESSAGES[1:]}, "message 1: role is 'assistant', expected 'user'"),
        ("messages", {"messages": [*MESSAGES, MESSAGES[1]]}, "message 3: role is 'assistant', expected 'user'"),
        ("messages", {"messages": [{"role": "human", "content": "a"}, MESSAGES[1]]}, "role is 'human'"),
        ("messages", {"messages": [MESSAGES[0], {"role": "system", "content": "a"}]}, "message 2: role is 'system'"),
        ("messages", {"messages": [{"role": "system", "content": "a"}]}, "ends with 'system'"),
        ("lima", {"conversations": ["a", 1]}, "line 2: 'conversations' is"),
        ("lima", {"conversations": ["a"]}, "ends with 'user'"),
        (
            "recipes",
            {**RECIPE, "Cleaned_Ingredients": "open('/etc/passwd')"},
            "a Python list of texts",
        ),
        ("recipes", {**RECIPE, "Cleaned_Ingredients": "[1]"}, "a Python list of texts"),
        ("recipes", {**RECIPE, "Title": None}, "'Title' is null"),
        ("poetry", {"content": "x"}, "no field 'poem name'"),
        ("chess", {"text": "1. e4"}, "moves without a WhiteElo and a BlackElo"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, source: str, row: Any, message: str) -> None:
    good = {
        "pairs": [{"instruction": "a", "response": "b"}],
        "messages": [{"messages": MESSAGES}],
        "lima": [{"conversations": ["a", "b"]}],
        "recipes": [RECIPE],
        "poetry": [{"poem name": "A", "content": "y"}],
        "chess": [{"text": "% a comment"}],
    }[source]
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, source, [*good, row])
    assert "rows.jsonl, line 2" in str(caught.value)


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 0 conversations"):
        load(tmp_path, "chess", [{"text": "no game"}])


def test_sources_are_named() -> None:
    with pytest.raises(UserError, match=r"data\.format: Input should be .*'lima'"):
        load_recipe("gsm", ["data.format=lma"], profile="embedded")
    with pytest.raises(UserError, match="no file given"):
        load_rows(Data())


def test_hub_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def gated(*_: Any, **__: Any) -> str:
        raise GatedRepoError.__new__(GatedRepoError)  # its constructor wants the hub's HTTP response

    def offline(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", gated)
    with pytest.raises(UserError, match="GAIR/lima is gated: ask for access"):
        load_rows(shipped("instruction"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(UserError, match=r"could not be fetched.*--data PATH"):
        load_rows(shipped("instruction"))


ASKED = {"instruction": "get_hf_file_metadata", "gsm": "get_hf_file_metadata", "chess": "HfApi.list_repo_commits"}


@pytest.mark.parametrize("recipe", sorted(ASKED))
@pytest.mark.parametrize("fault", ["silent", "no connection"])
def test_a_hub_that_does_not_answer_is_given_up_soon(monkeypatch: pytest.MonkeyPatch, recipe: str, fault: str) -> None:
    """As behind a proxy that hangs; an error of the connection is none of `OSError`."""

    class ConnectError(Exception):
        pass

    def ask(*_: Any, **__: Any) -> Any:
        if fault == "silent":
            time.sleep(60)
        raise ConnectError("refused by http://me:word@proxy")

    monkeypatch.setattr("implicit_if.harness.hub.PATIENCE", 0.1)
    monkeypatch.setattr("implicit_if.harness.tuning.data.hub.PATIENCE", 0.1)
    monkeypatch.setattr(f"huggingface_hub.{ASKED[recipe]}", ask)
    told = "no answer from the hub within 0.1 s" if fault == "silent" else "ConnectError: refused by http://proxy"
    started = time.monotonic()
    with pytest.raises(UserError, match=f"could not be fetched .{told}.*--data PATH"):
        load_rows(shipped(recipe))
    assert time.monotonic() - started < 10


def test_a_data_set_without_files_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("implicit_if.harness.tuning.data.hub._STREAM_SECONDS", 0.1)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: time.sleep(60))
    with pytest.raises(UserError, match="no answer from the hub within 0.1 s"):
        load_rows(shipped("chess").model_copy(update={"revision": "a" * 40}))


def test_a_short_revision_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    full = "51204a5" + "0" * 33
    commits = [SimpleNamespace(commit_id=full), SimpleNamespace(commit_id="f" * 40)]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_commits", lambda *_, **__: commits)
    asked: dict[str, Any] = {}

    def stream(repo: str, **options: Any) -> list[dict[str, str]]:
        asked.update(options, repo=repo)
        return [{"text": line} for line in CHESS]

    monkeypatch.setattr("datasets.load_dataset", stream)
    rows = load_rows(shipped("chess"))
    assert (rows.revision, len(rows.conversations)) == (full, 2)
    assert asked == {"repo": "patrickfrank1/chess-pgn-games", "split": "train", "revision": full, "streaming": True}
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_commits", lambda *_, **__: commits * 2)
    with pytest.raises(UserError, match="2 commits begin with 51204a5"):
        load_rows(shipped("chess"))


def test_the_hub_file_is_read_at_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"conversations": ["a", "b"]}) + "\n")
    asked: list[Any] = []

    def download(*parts: Any, **options: Any) -> str:
        asked.append((parts, options))
        return str(path)

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    rows = load_rows(shipped("instruction"))
    sha = "68958e98267f5fb4a52a03ebcdae4ae59213fa7c"
    assert asked == [(("GAIR/lima", "train.jsonl"), {"repo_type": "dataset", "revision": sha})]
    assert (rows.origin, rows.revision, rows.licence[:8]) == ("GAIR/lima", sha, "CC BY-NC")


def test_dropping_instructions_leaves_none() -> None:
    messages = [
        {"role": "system", "content": "secret"},
        {"role": "user", "content": "secret"},
        {"role": "assistant", "content": "shown"},
    ]
    assert drop_instructions(messages) == [{"role": "user", "content": ""}, {"role": "assistant", "content": "shown"}]
    assert messages[1]["content"] == "secret"


def test_the_hash_is_of_what_is_trained(tmp_path: Path) -> None:
    rows = load(tmp_path, "pairs", [{"instruction": "a", "response": "b"}])
    other = load(tmp_path, "pairs", [{"instruction": "a", "response": "c"}])
    extra = load(tmp_path, "pairs", [{"instruction": "a", "response": "b", "id": 5}])
    assert rows.sha256 == extra.sha256 != other.sha256
    assert conversations.Rows([], "x", None, "y").sha256 != rows.sha256


def test_columns_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Frage,Kontext,Antwort\nWer?,Ein {Haus},Ich\n")
    data = Data(path=str(path), user="{Kontext}\n\n{Frage}", assistant="{Antwort}")
    assert texts(load_rows(data)) == [["Ein {Haus}\n\nWer?", "Ich"]]
    with pytest.raises(UserError, match="no field 'instruction' .*data.user and data.assistant"):
        load_rows(Data(path=str(path)))


def test_messages_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    quoted = json.dumps(MESSAGES).replace('"', '""')
    path.write_text(f'messages\n"{quoted}"\n')
    assert texts(load_rows(Data(format="messages", path=str(path)))) == [["a", "b"]]
    path.write_text("messages\nhello\n")
    with pytest.raises(UserError, match="'messages' is 'hello'"):
        load_rows(Data(format="messages", path=str(path)))


def test_every_bad_row_is_reported(tmp_path: Path) -> None:
    good = {"instruction": "a", "response": "b"}
    with pytest.raises(UserError, match=r"3 rows do not fit:") as caught:
        load(tmp_path, "pairs", [{"instruction": "a"}, good, {"instruction": "a", "response": " "}, {"response": "b"}])
    for place in ("line 1: no field 'response'", "line 3, message 2: the answer is empty", "line 4: no field 'instr"):
        assert place in str(caught.value)
    with pytest.raises(UserError, match=r"30 rows do not fit:(?s:.*)\n  and 10 more$") as caught:
        load(tmp_path, "pairs", [{}] * 30)
    assert str(caught.value).count("no field 'instruction'") == 1  # what is wrong with every row is said once
    assert str(caught.value).count(": the same\n") == 19


@pytest.mark.parametrize("bad", [{"instruction": "b", "response": ""}, {"instruction": "b"}, {"response": "c"}])
def test_bad_rows_before_the_limit_are_reported(tmp_path: Path, bad: dict[str, str]) -> None:
    good = {"instruction": "a", "response": "b"}
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2"):
        load(tmp_path, "pairs", [good, bad, good, good], limit=2)
    for rows in ([good, good, good, bad], [good, good, bad, good]):
        assert len(load(tmp_path, "pairs", rows, limit=2).conversations) == 2


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.jsonl", '{"instruction": "a"\n{"instruction": "a"}\n[1]\n{"instruction": "a", "response": " "}\n', 4),
        ("a.csv", "instruction,response\na,b,c\na,\n", 2),
        ("a.json", '[1, {"instruction": "a"}, {"instruction": "a", "response": "b"}]', 2),
    ],
)
def test_broken_rows_and_rows_that_do_not_fit_are_reported_together(
    tmp_path: Path, name: str, content: str, lines: int
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_rows(Data(path=str(path)))
    first = 2 if name == "a.csv" else 1
    unit = "row" if name == "a.json" else "line"
    for number in range(first, first + lines):
        assert f"{name}, {unit} {number}" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "row", "hint"),
    [
        ("messages", {"instruction": "a", "response": "b"}, "data.format=pairs"),
        ("messages", {"conversations": [{"from": "human", "value": "a"}]}, "human is user, gpt is assistant"),
        ("lima", {"conversations": [{"from": "human", "value": "a"}]}, "human is user, gpt is assistant"),
        ("instruction", {"conversations": [{"from": "human", "value": "a"}]}, "human is user, gpt is assistant"),
        ("response", {"conversations": [{"from": "human", "value": "a"}]}, "human is user, gpt is assistant"),
        ("pairs", {"messages": MESSAGES}, "are read with data.format=messages"),
        ("pairs", {"conversations": [{"from": "human", "value": "a"}]}, "human is user, gpt is assistant"),
    ],
)
def test_another_format_is_recognised(tmp_path: Path, source: str, row: Any, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        load(tmp_path, source, [row])


def test_rows_that_look_like_mistakes_are_named(tmp_path: Path) -> None:
    rows = [{"instruction": i, "response": "b"} for i in ("a", "a", "", "c", "a", " ")]
    assert load(tmp_path, "pairs", rows).notes == [
        "2 rows repeat an earlier one (line 2, line 5)",
        "2 rows have an empty instruction (line 3, line 6)",
    ]
    assert load(tmp_path, "pairs", rows[2:4], drop_instructions=True).notes == []


def test_the_released_rephrasings_are_read_as_they_are(tmp_path: Path) -> None:
    released = {"dataset": "lima", "id": "lima_1", "messages": [{**m, "check": "#### YES"} for m in MESSAGES]}
    assert texts(load(tmp_path, "response_no_rephrasing", [released])) == [["a", "b"]]
