"""The earlier name of the judge `sheet`: it says its new name, and verdicts stored under it stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judge_samples import comparisons, fill_in

from implicit_if.harness.comparing.loading import load_seed
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.registry import get_judge, known_judges
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.judging.sheets.export import export_sheet
from implicit_if.harness.outputs import Output

OLD = {"human": "c4c9ba1de6dc", "human:anna": "a4e5507a1707"}
"""First digits of the fingerprints that version 0.1 gave, by the judge's name."""


def pairs(n: int) -> list[Pair]:
    made = []
    for c in comparisons(n):
        system, reference = (
            Output.model_validate({"instruction": c.instruction, "output": text, "generator": name})
            for text, name in ((c.first, "s"), (c.second, "r"))
        )
        made.append(Pair(system.instruction_id, c.instruction, system, reference))
    return made


@pytest.mark.parametrize(("name", "options"), [("human", {}), ("human:anna", {"rater": "anna"})])
def test_stored_verdicts_stand_under_the_old_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, options: dict[str, str]
) -> None:
    sheet, store = tmp_path / "sheet.csv", tmp_path / "a.annotations.jsonl"
    export_sheet(comparisons(3), sheet, seed=0)
    fill_in(sheet, {"answer": "1", "reply": "2"})
    judge = get_judge(f"human:{sheet}", **options)
    assert "is named 'sheet' now" in capsys.readouterr().err
    assert (judge.name, judge.fingerprint[:12]) == (name, OLD[name])
    rows = [
        {
            "cost": 0.0,
            "error": None,
            "fingerprint": judge.fingerprint,
            "instruction_id": p.instruction_id,
            "judge": name,
            "latency": None,
            "order": "none",
            "preference": 1.0,
            "raw": "k00: 1",
            "reference_sha256": p.reference.sha256,
            "system_sha256": p.system.sha256,
        }
        for p in pairs(3)
    ]
    store.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))  # as version 0.1 wrote them
    judgement = annotate(pairs(3), judge, store, progress=False)
    assert (judgement.asked, set(judgement.preferences)) == (0, {1.0})
    assert set(load_seed(store, name).preferences.values()) == {1.0}


def test_the_old_name_is_for_persons_and_is_not_offered(tmp_path: Path) -> None:
    assert "sheet" in known_judges()
    assert "human" not in known_judges()
    (tmp_path / "s.csv").write_text("key,verdict,rater,rater_kind\nk62703085768106583473,1,bot,language-model\n")
    with pytest.raises(UserError, match="kind is language-model, not person"):
        get_judge(f"human:{tmp_path / 's.csv'}")
    with pytest.raises(UserError, match="no option but rater=NAME"):
        get_judge(f"human:{tmp_path / 's.csv'}", kind="person")
