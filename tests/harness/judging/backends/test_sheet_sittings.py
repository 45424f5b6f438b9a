"""A sheet's verdicts under the runner: several sittings, sheets, raters and systems."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from judge_samples import fill_in

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.comparing.loading import load_seed
from implicit_if.harness.comparing.preference_table import JudgedSystem, make_table
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.sheet import build
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.judging.sheets.export import export_sheet
from implicit_if.harness.outputs import Output
from implicit_if.leaderboards.submitting.sources import find_annotations


def outputs(system: str, n: int) -> list[Output]:
    return [Output(instruction=f"question {i}", output=f"{system} {i}.", generator=system) for i in range(n)]


def rate(sheet: Path, store: Path, system: str = "answer", n: int = 6, **options: object) -> Judgement:
    """The sheet's verdicts on a system's answers, under the runner; the sheet is written first where there is none."""
    reference = {o.instruction_id: o for o in outputs("reply", n)}
    pairs = [Pair(o.instruction_id, o.instruction or "", o, reference[o.instruction_id]) for o in outputs(system, n)]
    if not sheet.exists():
        asked = (Comparison(p.instruction_id, p.instruction, p.system.output, p.reference.output) for p in pairs)
        export_sheet(asked, sheet, seed=0)
    return annotate(pairs, build(str(sheet), {"kind": "person", "rater": "me", **options}), store, progress=False)


def lines_of(store: Path) -> int:
    return len(list(AnnotationStore(store)))


def for_system(system: str, numbers: Iterable[int]) -> dict[str, str]:
    """Verdicts for the system's answer, or against the other's, on some instructions."""
    return {f"{who} {n}.": said for n in numbers for who, said in ((system, "1"), ("reply", "2"))}


def test_what_is_not_filled_in_is_not_stored(tmp_path: Path) -> None:
    sheet, store = tmp_path / "sheet.csv", tmp_path / "a.annotations.jsonl"
    judgement = rate(sheet, store, n=40)
    assert [u.error for u in judgement.unjudged] == ["not judged yet"] * 40
    assert lines_of(store) == 0


def test_two_sittings_are_one_judge(tmp_path: Path) -> None:
    sheet, store = tmp_path / "sheet.csv", tmp_path / "a.annotations.jsonl"
    rate(sheet, store)
    fill_in(sheet, for_system("answer", range(3)))
    assert rate(sheet, store).n_judged == 3
    fill_in(sheet, for_system("answer", range(6)))
    judgement = rate(sheet, store)
    assert judgement.complete
    assert set(judgement.preferences) == {1.0}
    assert lines_of(store) == 6
    assert load_seed(store, "sheet:person/me").preferences.keys() == set(judgement.instruction_ids)
    rate(sheet, store)
    assert lines_of(store) == 6  # nothing new, nothing stored


def test_the_sheet_is_the_truth(tmp_path: Path) -> None:
    """A changed row replaces the stored verdict, an emptied one takes it back; both can be undone."""
    sheet, store = tmp_path / "sheet.csv", tmp_path / "a.annotations.jsonl"
    rate(sheet, store)
    fill_in(sheet, for_system("answer", range(6)))
    ids = rate(sheet, store).instruction_ids
    fill_in(sheet, {"answer 0.": "2", "reply 0.": "1"} | for_system("answer", range(2, 6)))
    for _ in range(2):  # again: what was taken back stays so
        judgement = rate(sheet, store)
        assert [v.preference for v in judgement] == [0.0, None, 1.0, 1.0, 1.0, 1.0]
        assert [u.error for u in judgement.unjudged] == ["not judged yet"]
        seed = load_seed(store)
        assert seed.preferences == {i: v for i, v in zip(ids, judgement.preferences, strict=True) if v == v}
        assert seed.expected == set(ids)
        submitted = find_annotations([store], outputs("answer", 6), outputs("reply", 6), None)
        assert [a.instruction_id for a in submitted] == [ids[0], *ids[2:]]
        assert lines_of(store) == 8
    fill_in(sheet, for_system("answer", range(6)))
    assert set(rate(sheet, store).preferences) == {1.0}
    assert set(load_seed(store).preferences.values()) == {1.0}
    assert lines_of(store) == 10


def test_another_sheet_of_the_rater_adds_to_the_first(tmp_path: Path) -> None:
    store = tmp_path / "a.annotations.jsonl"
    for name, n in (("one", 4), ("both", 6)):
        rate(tmp_path / f"{name}.csv", store, n=n)
        fill_in(tmp_path / f"{name}.csv", for_system("answer", range(n)))
    assert rate(tmp_path / "one.csv", store, n=4).n_judged == 4
    judgement = rate(tmp_path / "one.csv", store, n=6)  # two pairs have no row there
    assert [u.error for u in judgement.unjudged] == ["not on the sheet"] * 2
    assert rate(tmp_path / "both.csv", store, n=6).complete
    assert rate(tmp_path / "one.csv", store, n=6).complete  # says nothing of two pairs, so what is stored stands
    assert lines_of(store) == 6


def test_two_systems_on_two_sheets_can_be_compared(tmp_path: Path) -> None:
    systems = []
    for name, said in (("answer", for_system("answer", range(6))), ("other", {"": "tie"})):
        sheet, store = tmp_path / f"{name}.csv", tmp_path / f"{name}.annotations.jsonl"
        rate(sheet, store, name, rater="anna")
        fill_in(sheet, said)
        rate(sheet, store, name, rater="anna")
        systems.append(JudgedSystem(name, [load_seed(store)]))
    assert make_table(systems).preferences["answer"].tolist() == [[1.0] * 6]
    assert make_table(systems).preferences["other"].tolist() == [[0.5] * 6]
    assert systems[0].seeds[0].judge == "sheet:person/anna"


def test_another_rater_is_another_judge(tmp_path: Path) -> None:
    sheet, store = tmp_path / "sheet.csv", tmp_path / "a.annotations.jsonl"
    rate(sheet, store)
    fill_in(sheet, for_system("answer", range(6)))
    rate(sheet, store)
    fill_in(sheet, {"": "tie"})
    assert set(rate(sheet, store, rater="anna").preferences) == {0.5}
    assert set(load_seed(store, "sheet:person/me").preferences.values()) == {1.0}
    assert set(load_seed(store, "sheet:person/anna").preferences.values()) == {0.5}
    with pytest.raises(UserError, match="expected verdicts of one judge"):
        load_seed(store)
