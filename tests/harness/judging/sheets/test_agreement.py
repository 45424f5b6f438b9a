"""Agreement between raters against values worked out by hand and by scikit-learn, and what the command prints."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from implicit_if.harness.annotations import Annotation, AnnotationStore
from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.sheets.agreement import rater_agreement


def line(number: int, preference: float, **more: Any) -> dict[str, Any]:
    """A verdict on pair `number`; the hashes of half of the pairs sort the other way."""
    sides = (f"{number:064x}", f"{10**6 + number:064x}")
    system, reference = sides if number % 2 else sides[::-1]
    pair = {"instruction_id": f"{number:016x}", "system_sha256": system, "reference_sha256": reference}
    return {**pair, "preference": preference, **more}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_two_raters_by_hand(tmp_path: Path) -> None:
    """Five common pairs: same verdict on 3, both decide 3 of them and agree on 2."""
    a = write(tmp_path / "a.jsonl", *(line(i, p) for i, p in enumerate([1, 0, 0.5, 0.75, 0.5, 1])))
    b = write(tmp_path / "b.jsonl", *(line(i, p) for i, p in enumerate([0.75, 1, 0.5, 1, 0.25])))
    (found,) = rater_agreement([a, b])
    assert (found.first, found.second) == ("a", "b")
    assert found.same == (3, 5)
    assert found.same.percent == 60
    assert found.winner == (2, 3)
    signs = [1, -1, 0, 1, 0], [1, 1, 0, 1, -1]
    assert found.kappa == pytest.approx(cohen_kappa_score(*signs))
    assert found.correlation == pytest.approx(np.corrcoef([1, 0, 0.5, 0.75, 0.5], [0.75, 1, 0.5, 1, 0.25])[0, 1])
    assert (found.attempts, found.attempts_kappa) == ((0, 0), None)


def test_which_answer_is_the_system_s_does_not_matter(tmp_path: Path) -> None:
    """The second rater's file names the answers the other way round, with the same opinions."""
    rng = random.Random(1)
    rows = [line(i, rng.choice([0, 0.25, 0.5, 0.75, 1]), system_attempts=i % 3 > 0) for i in range(50)]
    turned = [
        {
            "instruction_id": row["instruction_id"],
            "system_sha256": row["reference_sha256"],
            "reference_sha256": row["system_sha256"],
            "preference": 1 - row["preference"],
            "reference_attempts": row["system_attempts"],
        }
        for row in rows
    ]
    files = [write(tmp_path / "a.jsonl", *rows), write(tmp_path / "b.jsonl", *turned)]
    (found,) = rater_agreement(files)
    assert (found.same, found.kappa, found.correlation) == ((50, 50), 1.0, pytest.approx(1.0))
    assert (found.attempts, found.attempts_kappa) == ((50, 50), 1.0)


def test_a_rater_is_compared_with_itself_in_the_other_order(tmp_path: Path) -> None:
    rows = [
        line(i, 0, verdicts=[{"order": "system_first", "preference": p}, {"order": "reference_first", "preference": q}])
        for i, (p, q) in enumerate([(1, 0.75), (0, 0), (0.25, 1), (0.5, 0)])
    ]
    for row in rows:
        del row["preference"]
    (found,) = rater_agreement([write(tmp_path / "a.jsonl", *rows)])
    assert (found.first, found.second) == ("a", "a")
    assert (found.same, found.winner) == ((2, 4), (2, 3))
    assert found.correlation == pytest.approx(np.corrcoef([1, 0, 0.25, 0.5], [0.75, 0, 1, 0])[0, 1])


def annotation(number: int, preference: float, judge: str, fingerprint: str = "f" * 64, **more: Any) -> Annotation:
    return Annotation.model_validate(
        {**line(number, preference), "order": "none", "judge": judge, "fingerprint": fingerprint, **more}
    )


def test_annotations_of_any_judge_are_raters(tmp_path: Path) -> None:
    """Two judges in one file, one of them in both orders; a sheet beside them; identical answers say nothing."""
    store = AnnotationStore(tmp_path / "a.annotations.jsonl")
    store.append([annotation(i, float(i % 2), "longest", "1" * 64) for i in range(6)])
    store.append(
        annotation(i, (i % 2 + 0.5) / 2, "openai:m", "2" * 64, order=order)
        for i in range(6)
        for order in ("system_first", "reference_first")
    )
    same = {"system_sha256": "c" * 64, "reference_sha256": "c" * 64}
    store.append([annotation(9, 0.5, judge, f * 64, **same) for judge, f in (("longest", "1"), ("openai:m", "2"))])
    sheet = write(tmp_path / "s.jsonl", *(line(i, i % 2, rater="ben", rater_kind="person") for i in range(6)))
    found = {(one.first, one.second): one for one in rater_agreement([store.path, sheet])}
    assert set(found) == {
        ("longest", "openai:m"),
        ("longest", "sheet:person/ben"),
        ("openai:m", "sheet:person/ben"),
        ("openai:m", "openai:m"),
    }
    assert {one.winner for one in found.values()} == {(6, 6)}
    with pytest.raises(UserError, match="holds verdicts of longest, openai:m. One name stands for one rater"):
        rater_agreement([f"x={store.path}", sheet])


def test_judges_of_one_name_are_told_apart_and_files_of_one_name_are_one_rater(tmp_path: Path) -> None:
    stores = [AnnotationStore(tmp_path / f"{n}.jsonl") for n in range(2)]
    for n, store in enumerate(stores):
        store.append([annotation(i, 1.0, "embedded", str(n) * 64) for i in range(4)])
    (found,) = rater_agreement([store.path for store in stores])
    assert (found.first, found.second) == ("embedded (00000000)", "embedded (11111111)")
    parts = [write(tmp_path / f"part{n}.jsonl", line(n, 1.0)) for n in range(2)]
    (found,) = rater_agreement([*(f"panel={part}" for part in parts), stores[0].path])
    assert (found.first, found.same) == ("panel", (2, 2))


def test_raters_without_a_pair_in_common_are_named(tmp_path: Path) -> None:
    blind = write(tmp_path / "blind.jsonl", {"key": "k" + "0" * 20, "preference": 1})
    hashed = write(tmp_path / "hashed.jsonl", line(1, 1.0))
    with pytest.raises(UserError, match=r"2 raters \(blind, hashed\) and no pair that two of them judged"):
        rater_agreement([blind, hashed])
    with pytest.raises(UserError, match="no such file"):
        rater_agreement([str(tmp_path / "none.jsonl")])


def test_two_copies_of_one_blind_sheet_have_pairs_in_common(tmp_path: Path) -> None:
    keys = [f"k{i:020x}" for i in range(4)]
    for name, said in (("a", "1122"), ("b", "112=")):
        rows = "".join(f"{key},{v}\n" for key, v in zip(keys, said, strict=True))
        (tmp_path / f"{name}.csv").write_text(f"key,verdict\n{rows}")
    (found,) = rater_agreement([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert (found.same, found.winner) == ((3, 4), (3, 3))


def test_the_command_prints_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / f"{name}.jsonl", *(line(i, i % 2) for i in range(4))) for name in "ab"]
    assert main(["agreement", *files, "--out", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "a / b" in printed
    assert "4 of 4 (100.0 %)" in printed
    (written,) = json.loads((tmp_path / "out.json").read_text())["agreement"]
    assert (written["same"], written["kappa"]) == ({"n": 4, "of": 4}, 1.0)
    assert main(["agreement", files[0]]) == 2


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_any_terminal_shows_the_table_and_the_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    names = tmp_path / "Анна.jsonl", tmp_path / "Ben 😀.jsonl"
    files = [write(path, *(line(i, i % 2, why="“so” 😀") for i in range(4))) for path in names]
    shown = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in shown.items():
        monkeypatch.setattr(sys, name, stream)
    assert main(["agreement", *files]) == 0
    assert main(["agreement", files[0]]) == 2
    for stream in shown.values():
        stream.flush()
        assert rb"\u0410\u043d\u043d\u0430" in stream.buffer.getvalue()  # type: ignore[attr-defined]
