"""Sheets as they come back: both forms, their faults, hostile texts, size, and what a spreadsheet does to them."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from judge_samples import NASTY, comparisons, sheet_rows

from implicit_if.harness.annotations import Annotation, AnnotationStore
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.sheet import build, build_attempts
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.sheets.export import export_sheet
from implicit_if.harness.judging.sheets.read import read_sheet
from implicit_if.harness.judging.sheets.verdicts import (
    MAX_RAW,
    as_raw,
    attempts_by_answer,
    from_raw,
    reread,
    reread_attempt,
)
from implicit_if.harness.outputs import instruction_id
from implicit_if.harness.safe_text import is_plain
from implicit_if.harness.storage import sha256_text

ANNA = {"rater": "anna", "kind": "person"}
KEY = "k62703085768106583473"
PAIR = {"instruction_id": "0" * 16, "system_sha256": "a" * 64, "reference_sha256": "b" * 64}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def line_of(comparison: Comparison, **more: Any) -> dict[str, Any]:
    """A line that names a comparison's answers by hash; the first is the system's."""
    return {
        "instruction_id": instruction_id(comparison.instruction),
        "system_sha256": sha256_text(comparison.first),
        "reference_sha256": sha256_text(comparison.second),
        **more,
    }


# ---------------------------------------------------------------- round trips
def test_json_lines_come_back_to_the_right_answers(tmp_path: Path) -> None:
    """A rater who prefers "answer" by 0.8 wherever it stands, and says that only "answer" attempts."""
    asked = list(comparisons(40))
    export_sheet(asked, tmp_path / "sheet.csv", seed=3)
    path = tmp_path / "sheet.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["key"] for row in rows] == [row["key"] for row in sheet_rows(tmp_path / "sheet.csv")]
    assert {row["preference"] for row in rows} == {None}
    assert {v.error for v in build(str(path), ANNA).judge(asked)} == {"not judged yet"}
    for row in rows:
        left = row["answer_1"].startswith("answer")
        row |= {"preference": 0.8 if left else 0.2, "attempts_1": left, "attempts_2": not left, "why": "longer"}
    lines(path, *rows)
    verdicts = list(build(str(path), ANNA).judge(asked))
    assert {v.key for v in verdicts} == {c.key for c in asked}
    assert {round(v.prefers_first or 0, 12) for v in verdicts} == {0.8}
    (kept,) = {(one.attempts, one.why, one.rater) for v in verdicts for one in from_raw(v.raw)}
    assert kept == ((True, False), "longer", ("person", "anna"))


def test_the_sheet_and_its_json_lines_say_the_same(tmp_path: Path) -> None:
    asked = list(comparisons(6))
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    filled = [
        row | {"verdict": v, "attempts_1": a, "attempts_2": b}
        for row, (v, a, b) in zip(
            sheet_rows(tmp_path / "sheet.csv"),
            [("1", "yes", "no"), ("2", "no", "YES"), ("tie", "", ""), ("=", "0", "1"), ("", "yes", ""), ("", "", "")],
            strict=True,
        )
    ]
    with open(tmp_path / "sheet.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(filled[0]))
        writer.writeheader()
        writer.writerows(filled)
    preferences, truth = {"1": 1, "2": 0, "tie": 0.5, "=": 0.5, "": None}, {"yes": True, "1": True, "": None}
    lines(
        tmp_path / "sheet.jsonl",
        *(
            {
                "key": row["key"],
                "preference": preferences[row["verdict"]],
                "attempts_1": truth.get(row["attempts_1"].lower(), False),
                "attempts_2": truth.get(row["attempts_2"].lower(), False),
            }
            for row in filled
        ),
    )
    one, other = (read_sheet(tmp_path / name) for name in ("sheet.csv", "sheet.jsonl"))
    assert [row._replace(place="") for row in one] == [row._replace(place="") for row in other]


def test_lines_by_hash_say_which_was_first_and_either_may_be_the_system(tmp_path: Path) -> None:
    asked = list(comparisons(3))
    path = lines(
        tmp_path / "v.jsonl",
        line_of(asked[0], order="system_first", preference=0.75, system_attempts=1, reference_attempts=0),
        line_of(asked[1], order="reference_first", preference=0.25),
        line_of(asked[2], preference=1, why="x"),
    )
    judge = build(str(path), ANNA)
    assert [v.prefers_first for v in judge.judge(asked)] == [0.75, 0.25, 1.0]
    swapped = [Comparison(c.key, c.instruction, c.second, c.first) for c in asked]
    assert [v.prefers_first for v in judge.judge(swapped)] == [0.25, 0.75, 0.0]
    assert sorted(judge.for_answer_1) == [0.75, 0.75]  # the third does not say which was shown first
    assert attempts_by_answer(read_sheet(path)) == {
        (instruction_id(asked[0].instruction), sha256_text(asked[0].first)): 1.0,
        (instruction_id(asked[0].instruction), sha256_text(asked[0].second)): 0.0,
    }


def test_a_pair_judged_twice_counts_once_with_the_mean(tmp_path: Path) -> None:
    asked = list(comparisons(1))
    both = [{"order": "system_first", "preference": 1.0}, {"order": "reference_first", "preference": 0.25}]
    path = lines(tmp_path / "v.jsonl", line_of(asked[0], verdicts=both))
    (verdict,) = build(str(path), ANNA).judge(asked)
    assert verdict.prefers_first == 0.625
    assert [(one.shown, one.preference) for one in from_raw(verdict.raw)] == [(1, 1.0), (2, 0.25)]


def test_a_system_s_own_lines_can_be_kept(tmp_path: Path) -> None:
    (asked,) = comparisons(1)
    path = lines(
        tmp_path / "v.jsonl",
        line_of(asked, system="base", preference=1.0),
        line_of(asked, system="rules", preference=0.5),
        line_of(asked, system="rules", preference=0.5),  # a repetition counts once
    )
    found = {
        system: next(build(str(path), ANNA | ({"system": system} if system else {})).judge([asked])).prefers_first
        for system in ("", "base", "rules")
    }
    assert found == {"": 0.75, "base": 1.0, "rules": 0.5}
    with pytest.raises(UserError, match="no row is about the system 'tuned'. Rows name: base, rules"):
        build(str(path), ANNA | {"system": "tuned"})


# ---------------------------------------------------------------- raters
def test_raters_are_apart_unless_their_mean_is_asked_for(tmp_path: Path) -> None:
    asked = list(comparisons(3))
    path = lines(
        tmp_path / "v.jsonl",
        *(line_of(c, preference=1.0, rater="ben", rater_kind="person") for c in asked),
        *(line_of(c, preference=0.5, rater="llm-1", rater_kind="language-model") for c in asked[:2]),
    )
    with pytest.raises(
        UserError, match=r"2 raters \(ben, llm-1\). Choose one, --option rater=NAME, or take their mean"
    ):
        build(str(path), {})
    apart = {name: build(str(path), {"rater": name}) for name in ("ben", "llm-1")}
    assert [judge.name for judge in apart.values()] == ["sheet:person/ben", "sheet:language-model/llm-1"]
    assert [v.prefers_first for v in apart["ben"].judge(asked)] == [1.0, 1.0, 1.0]
    mean = build(str(path), {"raters": "mean"})
    assert mean.name == "sheet:language-model+person/llm-1+ben"
    verdicts = list(mean.judge(asked))
    assert [v.prefers_first for v in verdicts] == [0.75, 0.75, None]
    assert verdicts[2].error == "not judged yet by llm-1"
    assert len({judge.fingerprint for judge in (*apart.values(), mean)}) == 3
    with pytest.raises(UserError, match=r"no row is by 'eve'. The raters are: ben, llm-1"):
        build(str(path), {"rater": "eve"})


def test_several_sheets_and_a_folder_of_them(tmp_path: Path) -> None:
    asked = list(comparisons(2))
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    keys = [row["key"] for row in sheet_rows(tmp_path / "sheet.csv")]
    for name in ("anna", "ben"):
        rows = "".join(f"{key},{'1' if name == 'anna' else 'tie'},{name},person\n" for key in keys)
        (tmp_path / f"sheet-judged-{name}.csv").write_text(f"key,verdict,rater,rater_kind\n{rows}")
    both = [tmp_path / f"sheet-judged-{name}.csv" for name in ("anna", "ben")]
    for argument in (str(tmp_path), ",".join(map(str, both))):
        judge = build(argument, {"raters": "mean"})
        assert judge.name == "sheet:person/anna+ben"
        assert {abs((v.prefers_first or 0) - 0.5) for v in judge.judge(asked)} == {0.25}
    (tmp_path / "sheet-again.csv").write_bytes(both[0].read_bytes())
    with pytest.raises(UserError, match=r"verdicts of one rater in sheet-again.csv, sheet-judged-anna.csv"):
        build(str(tmp_path), {"raters": "mean"})


def test_the_argument_says_who_filled_in_sheets_that_do_not(tmp_path: Path) -> None:
    (asked,) = comparisons(1)
    for name, preference in (("a", 1), ("b", 0.25)):
        lines(tmp_path / f"{name}=.jsonl", line_of(asked, preference=preference))  # a file's name may hold "="
    argument = f"anna={tmp_path / 'a=.jsonl'},ben={tmp_path / 'b=.jsonl'}"
    judge = build(argument, {"raters": "mean", "kind": "person"})
    assert (judge.name, next(judge.judge([asked])).prefers_first) == ("sheet:person/anna+ben", 0.625)
    assert build(argument, {"rater": "ben", "kind": "person"}).name == "sheet:person/ben"
    lines(tmp_path / "c.jsonl", line_of(asked, preference=1, rater="eve"))
    with pytest.raises(UserError, match=r"c.jsonl, line 1: the rater is eve, not anna"):
        build(f"anna={tmp_path / 'c.jsonl'}", ANNA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not say who judged"),
        ({"rater": "anna"}, "kind is missing"),
        ({"kind": "person"}, "rater is missing"),
    ],
)
def test_who_judged_must_be_said(tmp_path: Path, options: dict[str, str], message: str) -> None:
    path = lines(tmp_path / "v.jsonl", {**PAIR, "preference": 1})
    with pytest.raises(UserError, match=message):
        build(str(path), options)


def test_a_rater_has_one_kind(tmp_path: Path) -> None:
    person, model = ({"rater": "x", "rater_kind": kind} for kind in ("person", "language model"))
    path = lines(tmp_path / "v.jsonl", {**PAIR, **person, "preference": 1}, {**PAIR, **model, "preference": 1})
    with pytest.raises(UserError, match="one rater's name stands with two kinds"):
        build(str(path), {})
    path = lines(tmp_path / "v.jsonl", {**PAIR, **person, "preference": 1})
    with pytest.raises(UserError, match="kind is person, not other"):
        build(str(path), {"kind": "other"})


# ---------------------------------------------------------------- attempts
def test_a_sheet_judges_attempts(tmp_path: Path) -> None:
    """The same text in two pairs: three of four say that it attempts; where one rater is silent there is no mean."""
    one, other = comparisons(2)
    other = Comparison("1", one.instruction, one.first, other.second)
    both = [{"order": o, "preference": 1, "system_attempts": o != "none"} for o in ("system_first", "none")]
    path = lines(
        tmp_path / "v.jsonl",
        line_of(one, verdicts=both),
        line_of(other, verdicts=[both[0], {**both[0], "order": "reference_first", "reference_attempts": False}]),
    )
    judge = build_attempts(str(path), ANNA)
    asked = [Comparison(str(i), one.instruction, text, "") for i, text in enumerate((one.first, other.second, "new"))]
    verdicts = list(judge.judge(asked))
    assert [v.prefers_first for v in verdicts] == [0.75, 0.0, None]
    assert verdicts[2].error == "not said on the sheet"
    assert (judge.name, judge.fingerprint) == ("sheet:person/anna", build(str(path), ANNA).fingerprint)
    assert [reread_attempt(v.raw, "person/anna") for v in verdicts[:2]] == [(0.75, 0.75), (0.0, 0.0)]
    assert reread_attempt(verdicts[0].raw, "person/ben") == (1.0, 0.0)
    ben = lines(tmp_path / "w.jsonl", line_of(one, preference=1, system_attempts=False, rater="ben"))
    mean = build_attempts(f"anna={path},{ben}", {"raters": "mean", "kind": "person"})
    assert [v.prefers_first for v in mean.judge(asked)] == [0.375, None, None]


@pytest.mark.parametrize(
    "raw",
    [
        *("", "{}", '{"attempts": []}', '{"attempts": [{"kind": "person", "rater": "anna", "yes": 1, "of": 0}]}'),
        '{"attempts": [{"kind": "person", "rater": "anna", "yes": 2, "of": 1}]}',
        '{"attempts": [{"kind": "person", "rater": "anna", "yes": 1e999, "of": 1}]}',
    ],
)
def test_words_that_are_no_attempt_allow_no_probability(raw: str) -> None:
    assert reread_attempt(raw, "person/anna") == (1.0, 0.0)


def test_stored_verdicts_of_a_sheet_are_read_as_one(tmp_path: Path) -> None:
    """A blind sheet has keys alone; what was made of it names answers by hash, and says the same of attempts."""
    asked = list(comparisons(4))
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    rows = [json.loads(line) for line in (tmp_path / "sheet.jsonl").read_text().splitlines()]
    said = {"attempts_1": True, "attempts_2": False, "preference": 1}
    path = lines(tmp_path / "filled.jsonl", *(row | said for row in rows))
    judge = build(str(path), ANNA)
    store = AnnotationStore(tmp_path / "a.annotations.jsonl")
    store.append(
        Annotation(
            instruction_id=instruction_id(c.instruction),
            order="none",
            preference=v.prefers_first,
            raw=v.raw,
            judge=judge.name,
            fingerprint=judge.fingerprint,
            system_sha256=sha256_text(c.first),
            reference_sha256=sha256_text(c.second),
        )
        for c, v in zip(asked, judge.judge(asked), strict=True)
    )
    again = build(str(store.path), {})  # who judged is stored, too
    assert [v.prefers_first for v in again.judge(asked)] == [v.prefers_first for v in judge.judge(asked)]
    first = {row["answer_1"] for row in rows}
    decided = build_attempts(str(store.path), {}).judge(Comparison("", c.instruction, c.first, "") for c in asked)
    assert [v.prefers_first for v in decided] == [float(c.first in first) for c in asked]
    assert {v.error for v in build_attempts(str(path), ANNA).judge(asked)} == {"not said on the sheet"}
    other = AnnotationStore(tmp_path / "b.annotations.jsonl")
    other.append(a.model_copy(update={"judge": "longest"}) for a in store)
    with pytest.raises(UserError, match="holds verdicts of longest, expected those of sheets alone"):
        read_sheet(other.path)


# ---------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**PAIR, "preference": 1.01}, "line 1: preference 1.01, expected a number from 0 to 1"),
        ({**PAIR, "preference": -1}, "preference -1"),
        ({**PAIR, "preference": True}, "preference True"),
        ({**PAIR, "preference": "1"}, "preference '1'"),
        ({**PAIR, "preference": 10**400}, "preference 1000"),
        ('{"key": "' + KEY + '", "preference": NaN}', "preference nan"),
        ({**PAIR, "instruction_id": "0" * 15, "preference": 1}, "instruction_id is '000000000000000', expected 16"),
        ({**PAIR, "system_sha256": "A" * 64, "preference": 1}, "system_sha256 is 'AAA"),
        ({**PAIR, "reference_sha256": None, "preference": 1}, "reference_sha256 is None"),
        ({"preference": 1}, "instruction_id is None, expected 16 hex digits .or a `key` instead."),
        ({"key": "k1", "preference": 1}, "key 'k1', expected k and 20 hex digits"),
        ({"key": ["k"], "preference": 1}, "key \\['k'\\]"),
        ({**PAIR, "preferense": 1}, "unknown field 'preferense'. Did you mean 'preference'"),
        ({**PAIR, "order": "first", "preference": 1}, "order 'first', expected system_first, reference_first, none"),
        ({**PAIR, "order": [], "preference": 1}, "order \\[\\]"),
        ({**PAIR, "preference": 1, "system_attempts": "perhaps"}, "attempts 'perhaps', expected yes or no"),
        ({**PAIR, "preference": 1, "system_attempts": 2}, "attempts 2"),
        ({**PAIR, "preference": 1, "why": 3}, "3 stands where a text is expected"),
        ({**PAIR, "preference": 1, "rater": 3}, "expected texts"),
        ({**PAIR, "preference": 1, "rater": "a\u202eb"}, "rater 'a\ufffdb', expected up to 40 letters"),
        ({**PAIR, "preference": 1, "rater": "../../etc"}, "expected up to 40 letters"),
        ({**PAIR, "preference": 1, "rater_kind": "oracle"}, "expected one of person, language-model, other"),
        ({**PAIR, "verdicts": {"preference": 1}}, "expected a list of objects"),
        ({**PAIR, "verdicts": [{"preference": 1}], "preference": 1}, "holds `verdicts` and 'preference'"),
        ({**PAIR, "verdicts": [{"preference": 1, "system": "x"}]}, "unknown field 'system'"),
        ("[1]", "line 1: found list, expected an object"),
        ('{"key": ', "line 1: .*JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, row: Any, named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_sheet(lines(tmp_path / "v.jsonl", row))


def test_verdicts_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first, other = {**PAIR, "preference": 1, "system_attempts": 1}, {**PAIR, "preference": 0.5}
    with pytest.raises(UserError, match="line 2: pair 0{16}:.* comes twice with different verdicts"):
        read_sheet(lines(tmp_path / "v.jsonl", first, other))
    with pytest.raises(UserError, match="line 2: .* comes twice with different verdicts"):
        read_sheet(lines(tmp_path / "v.jsonl", first, {**first, "system_attempts": 0}))
    read_sheet(lines(tmp_path / "v.jsonl", first, first, {**other, "order": "system_first"}, {**other, "rater": "b"}))
    key = {"key": KEY, "preference": 1}
    with pytest.raises(UserError, match=f"line 2: key {KEY} comes twice"):
        read_sheet(lines(tmp_path / "v.jsonl", key, {**key, "preference": 0}))


def test_every_bad_line_is_named_and_the_good_ones_do_not_hide_them(tmp_path: Path) -> None:
    rows = [{**PAIR, "instruction_id": f"{i:016x}", "preference": 2 if i % 10 == 3 else 1} for i in range(40)]
    with pytest.raises(UserError) as caught:
        read_sheet(lines(tmp_path / "v.jsonl", *rows))
    said = str(caught.value)
    assert "line 4: preference 2" in said
    assert [line.rpartition(", ")[2] for line in said.splitlines()[2:]] == [f"line {n}: the same" for n in (14, 24, 34)]
    assert len(caught.value.faults) == 4


def test_lines_about_other_answers_are_left_alone(tmp_path: Path) -> None:
    asked = list(comparisons(2))
    path = lines(tmp_path / "v.jsonl", line_of(asked[0], preference=1), {**PAIR, "preference": 0})
    assert [v.error for v in build(str(path), ANNA).judge(asked)] == [None, "not on the sheet"]
    half = lines(tmp_path / "v.jsonl", line_of(asked[0], preference=1), line_of(asked[1], preference=None))
    assert [v.error for v in build(str(half), ANNA).judge(asked)] == [None, "not judged yet"]


# ---------------------------------------------------------------- what strangers and programs write
@pytest.mark.parametrize("name", sorted(NASTY))
def test_hostile_reasons_are_one_visible_line_and_verdicts_follow_from_what_is_kept(tmp_path: Path, name: str) -> None:
    (asked,) = comparisons(1)
    path = lines(tmp_path / "v.jsonl", line_of(asked, preference=0.3, why=NASTY[name], system=NASTY[name][:50]))
    (verdict,) = build(str(path), ANNA).judge([asked])
    (kept,) = from_raw(verdict.raw)
    assert is_plain(kept.why)
    assert len(verdict.raw) <= MAX_RAW
    assert reread(verdict.raw, "person/anna") == (0.3, 0.3)


def test_hostile_texts_round_trip_as_json_lines(tmp_path: Path) -> None:
    asked = [Comparison(name, f"q {name}", text, "b") for name, text in NASTY.items()]
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    path = tmp_path / "sheet.jsonl"
    assert path.read_bytes().isascii()
    rows = [json.loads(line) | {"preference": 1} for line in path.read_text().splitlines()]
    lines(path, *rows)
    assert None not in [v.prefers_first for v in build(str(path), ANNA).judge(asked)]


def test_raw_keeps_the_preferences_however_many_raters(tmp_path: Path) -> None:
    (asked,) = comparisons(1)
    rows = [
        line_of(asked, preference=i / 10, why="w" * 300, rater=f"r{i}", rater_kind="person", system_attempts=True)
        for i in range(9)
    ]
    judge = build(str(lines(tmp_path / "v.jsonl", *rows)), {"raters": "mean"})
    (verdict,) = judge.judge([asked])
    assert len(verdict.raw) <= MAX_RAW
    assert verdict.prefers_first == pytest.approx(0.4)
    assert reread(verdict.raw, judge.name.removeprefix("sheet:")) == (verdict.prefers_first, verdict.prefers_first)
    assert [one.why for one in from_raw(verdict.raw)] == [""] * 9


@pytest.mark.parametrize("raw", ["", "{}", "[]", "nonsense", '{"verdicts": []}', '{"verdicts": [{}]}', "[" * 100_000])
def test_words_that_are_no_verdict_allow_no_preference(raw: str) -> None:
    low, high = reread(raw, "person/anna") or (0, 1)
    assert low > high


def test_another_rater_s_words_are_not_this_judge_s(tmp_path: Path) -> None:
    (asked,) = comparisons(1)
    (verdict,) = build(str(lines(tmp_path / "v.jsonl", line_of(asked, preference=1))), ANNA).judge([asked])
    assert reread(verdict.raw, "person/anna") == (1.0, 1.0)
    for other in ("person/ben", "language-model/anna", "person/anna+ben"):
        assert reread(verdict.raw, other) == (1.0, 0.0)
    assert as_raw(from_raw(verdict.raw)) == verdict.raw


@pytest.mark.parametrize("name", ["v.csv", "v.jsonl"])
def test_byte_order_marks_and_windows_line_ends_change_nothing(tmp_path: Path, name: str) -> None:
    asked, path = list(comparisons(4)), tmp_path / "v.csv"
    export_sheet(asked, path, seed=0)
    keys = [row["key"] for row in sheet_rows(path)]
    text = {
        "v.csv": "key,verdict,comment\n" + "".join(f'{key},1,"two\nlines"\n' for key in keys),
        "v.jsonl": "".join(json.dumps({"key": key, "preference": 1, "why": "two\nlines"}) + "\n" for key in keys),
    }[name]
    other = tmp_path / f"other-{name}"
    other.write_bytes(text.encode())
    plain = [row._replace(place="") for row in read_sheet(other)]
    other.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    changed = [row._replace(place="") for row in read_sheet(other)]
    assert [row.pair for row in plain] == keys
    assert [row.preference for row in changed] == [1.0] * 4
    assert [row._replace(why="") for row in plain] == [row._replace(why="") for row in changed]


def test_twenty_thousand_rows_take_seconds(tmp_path: Path) -> None:
    asked = list(comparisons(20_000))
    path = lines(tmp_path / "v.jsonl", *(line_of(c, preference=0.75, why="because") for c in asked))
    start = time.process_time()
    judge = build(str(path), ANNA)
    assert sum(v.prefers_first == 0.75 for v in judge.judge(asked)) == 20_000
    assert time.process_time() - start < 20
