"""`implicit-if compare` from annotation files to the printed tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from compare_samples import GOOD, IDS, POOR, TEXTS, annotate, answers, run

from implicit_if.harness import stats
from implicit_if.harness.annotations import Annotation, AnnotationStore
from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.outputs import Output, save_outputs
from implicit_if.harness.safe_text import printable
from implicit_if.harness.storage import sha256_text


def test_tables(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*two, "--out", tmp_path / "out.json") == 0
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    # both orders averaged: the bias of 0.1 is gone
    assert written["systems"]["good"]["estimate"]["value"] == pytest.approx(stats.win_rate(GOOD).value)
    assert written["systems"]["poor"]["estimate"]["interval"] == pytest.approx(stats.win_rate(POOR).interval.ends)
    difference = written["differences"][0]
    expected = stats.compare(GOOD, POOR, IDS)
    assert difference["difference"]["value"] == pytest.approx(expected.difference.value)
    assert difference["p_value"] == expected.p_value == difference["p_value_holm"]
    assert written["groups"] == [["good"], ["poor"]]
    for piece in (
        f"{np.mean(GOOD) * 100:.1f}",
        f"{expected.difference.value:+.1f}",
        "good - poor",
        "n: 30 instructions judged for every system, of 30",
        "judge:longest@",
        "orders:2",
    ):
        assert piece in shown
    assert "missing" not in shown


def test_same_inputs_same_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    run(*two, "--out", tmp_path / "1.json")
    lines = two[0].read_text().splitlines()
    two[0].write_text("\n".join(reversed(lines)) + "\n")
    run(*two, "--out", tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_missing_verdicts_are_counted_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = annotate(tmp_path / "a.annotations.jsonl", [None, *GOOD[1:]])
    second = annotate(tmp_path / "b.annotations.jsonl", POOR[:28], name="b")
    run(first, second, "--out", tmp_path / "out.json")
    shown = capsys.readouterr().out
    assert "n: 27 instructions judged for every system, of 30" in shown
    assert "missing: 1 verdicts of a (" in shown
    assert "missing: 2 verdicts of b (" in shown
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["systems"]["a"]["estimate"]["value"] == pytest.approx(100 * np.mean(GOOD[1:28]))
    assert written["systems"]["a"]["estimate"]["n_expected"] == 30


def test_one_order_missing_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = annotate(tmp_path / "a.annotations.jsonl", GOOD)
    kept = first.read_text().splitlines()[1:]
    first.write_text("\n".join(kept) + "\n")
    run(first, annotate(tmp_path / "b.annotations.jsonl", POOR, name="b"))
    assert "n: 29 instructions judged for every system, of 30" in capsys.readouterr().out


def test_several_seeds_by_folder_and_by_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        annotate(
            tmp_path / "a" / f"s{s}.annotations.jsonl",
            np.clip(np.array(GOOD) - s / 100, 0.1, 0.9).tolist(),
            reference=f"seed {s}",
        )
        for s in range(3)
    ]
    other = [
        annotate(tmp_path / "b" / f"s{s}.annotations.jsonl", POOR, name="b", reference=f"seed {s}") for s in range(3)
    ]
    run(tmp_path / "a", f"rival={','.join(map(str, other))}", "--out", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert list(written["systems"]) == ["a", "rival"]
    assert len(written["systems"]["a"]["by_seed"]) == len(paths)
    assert written["systems"]["a"]["sd"] == pytest.approx(np.std(written["systems"]["a"]["by_seed"], ddof=1))
    assert written["systems"]["rival"]["sd"] == pytest.approx(0, abs=1e-9)
    assert "paired seeds;t" in json.dumps(written)


def test_three_systems_are_corrected_and_grouped(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = annotate(tmp_path / "also.annotations.jsonl", [p - 0.01 for p in POOR], name="also")
    run(*two, third, "--out", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    raw = [d["p_value"] for d in written["differences"]]
    assert [d["p_value_holm"] for d in written["differences"]] == pytest.approx(stats.holm(raw))
    assert len(raw) == 3
    assert written["groups"][0] == ["good"]


def test_show_prints_the_widest_differences_side_by_side(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "poor"):
        save_outputs(tmp_path / f"{name}.json", answers(name))
    run(*two, "--show", "2", "--outputs", tmp_path / "good.json", tmp_path / "poor.json")
    shown = capsys.readouterr().out
    widest = sorted(range(30), key=lambda k: -abs(GOOD[k] - POOR[k]))[:2]
    assert shown.count("=" * 100) == 2
    for k in widest:
        assert TEXTS[k] in shown
        assert f"good: {GOOD[k]:.2f}" in shown
    assert any("good says" in line and "| poor says" in line for line in shown.splitlines())


def test_shown_text_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x1b[31mred\x1b[0m \u202eback\ud800 " + "long " * 1000
    outputs = [
        Output(instruction_id=IDS[0], instruction=TEXTS[0], output=nasty + name, generator=name) for name in "ab"
    ]
    for output in outputs:
        (tmp_path / f"{output.generator}.json").write_text(json.dumps([output.model_dump()]))
        AnnotationStore(tmp_path / f"{output.generator}.annotations.jsonl").append(
            [
                Annotation(
                    instruction_id=IDS[0],
                    order="none",
                    preference=0.5,
                    judge="longest",
                    fingerprint=sha256_text("longest"),
                    system_sha256=output.sha256,
                    reference_sha256="r",
                )
            ]
        )
    files = [tmp_path / f"{name}.annotations.jsonl" for name in "ab"]
    run(*files, "--show", "1", "--outputs", tmp_path / "a.json", tmp_path / "b.json")
    shown = capsys.readouterr().out
    assert not any(c in shown for c in "\x1b\u202e\ud800")
    assert "\\x1b[31mred" in shown
    assert "more characters]" in shown
    shown.encode()


def test_printable() -> None:
    assert printable("Grüße, 世界 \t\x9b\u2028", lines=False) == "Grüße, 世界 \\t\\x9b\\u2028"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.annotations.jsonl"], "found one system"),
        (["good.annotations.jsonl", "none.jsonl"], "'none.jsonl': no such file"),
        (["good.annotations.jsonl", "empty"], r"no \*\.annotations\.jsonl"),
        (["good.annotations.jsonl", "good.annotations.jsonl"], "Expected different names"),
        (["good.annotations.jsonl", "other_judge.annotations.jsonl"], "Numbers of different judges"),
        (["good.annotations.jsonl", "other_reference.annotations.jsonl"], "different reference answers"),
        (["good.annotations.jsonl", "two_judges.annotations.jsonl"], r"found judges: longest \(.*\), shortest"),
        (["good.annotations.jsonl", "twice.annotations.jsonl"], "judged with different answers.*--outputs"),
        (["good.annotations.jsonl", "two_references.annotations.jsonl"], "different references.*--reference-outputs"),
        (["good.annotations.jsonl", "nothing.annotations.jsonl"], "found judges: none"),
        (["good.annotations.jsonl", "poor.annotations.jsonl", "--show", "1"], "--show needs the answers"),
        (
            ["good.annotations.jsonl", "poor.annotations.jsonl", "--judge", "nobody"],
            "expected verdicts of one judge 'n",
        ),
        (["good.annotations.jsonl", "poor.annotations.jsonl", "--outputs", "x"], "--outputs: found 1, expected 2"),
        (["good.annotations.jsonl", "failed.annotations.jsonl"], "no instruction has a verdict in all"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("nothing.annotations.jsonl").write_text("")
    annotate(Path("other_judge.annotations.jsonl"), POOR, judge="shortest")
    annotate(Path("other_reference.annotations.jsonl"), POOR, reference="another")
    annotate(Path("two_judges.annotations.jsonl"), POOR)
    annotate(Path("two_judges.annotations.jsonl"), POOR, judge="shortest")
    annotate(Path("twice.annotations.jsonl"), POOR, name="before")
    annotate(Path("twice.annotations.jsonl"), POOR, name="after")
    for reference in ("reference", "another"):
        annotate(Path("two_references.annotations.jsonl"), POOR, reference=reference)
    annotate(Path("failed.annotations.jsonl"), [None] * 30, name="failed")
    with pytest.raises(UserError, match=message):
        run(*arguments)


def test_judge_and_outputs_choose_among_verdicts(two: tuple[Path, Path], tmp_path: Path) -> None:
    annotate(two[1], [0.5] * 30, name="poor", judge="shortest")
    annotate(two[1], [0.6] * 30, name="before")
    for name in ("good", "poor"):
        save_outputs(tmp_path / f"{name}.json", answers(name))
    outputs = "--outputs", tmp_path / "good.json", tmp_path / "poor.json"
    run(*two, "--judge", "longest", *outputs, "--out", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["systems"]["poor"]["estimate"]["value"] == pytest.approx(stats.win_rate(POOR).value)


# Length control


@pytest.fixture
def with_answers(tmp_path: Path) -> list[str]:
    """Arguments: two judged systems, their outputs and the reference's."""
    rng = np.random.default_rng(0)
    reference = [
        o.model_copy(update={"output": "r" * int(n)})
        for o, n in zip(answers("reference"), rng.integers(5, 60, 30), strict=True)
    ]
    save_outputs(tmp_path / "reference.json", reference)
    paths = []
    for name, rate in (("a", 0.8), ("b", 0.3)):
        save_outputs(tmp_path / f"{name}.json", answers(name))
        store = AnnotationStore(tmp_path / f"{name}.annotations.jsonl")
        store.append(
            [
                Annotation(
                    instruction_id=o.instruction_id,
                    order="none",
                    preference=float(rng.random() < rate),
                    judge="embedded",
                    fingerprint=sha256_text("embedded"),
                    system_sha256=o.sha256,
                    reference_sha256=r.sha256,
                )
                for o, r in zip(answers(name), reference, strict=True)
            ]
        )
        paths.append(str(store.path))
    return [*paths, "--outputs", *(str(tmp_path / f"{n}.json") for n in "ab")]


def test_length_controlled_differences(
    with_answers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert run(*with_answers, "--reference-outputs", str(tmp_path / "reference.json"), "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "LC difference" in printed
    assert "LC win rate" in printed
    assert "|lc:offline(weak)|" in printed
    found = json.loads(out.read_text())["length_controlled"]
    (difference,) = found["differences"]
    rates = [found["systems"][name]["estimate"]["value"] for name in "ab"]
    assert difference["difference"]["value"] == pytest.approx(rates[0] - rates[1])
    assert difference["p_value"] < 0.05
    assert difference["p_value_holm"] == difference["p_value"]
    assert difference["detectable"] > 0
    single = length_controlled(with_answers[0], tmp_path)
    assert rates[0] == pytest.approx(single)
    run(*with_answers, "--reference-outputs", str(tmp_path / "reference.json"), "--length-prior=-1,0.2")
    assert "|lc:offline(-1,0.2)|" in capsys.readouterr().out


def test_a_prior_that_moves_a_systems_number_is_named(
    with_answers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A taste for short answers that nothing in the verdicts shows."""
    reference = ["--reference-outputs", str(tmp_path / "reference.json")]
    assert run(*with_answers, *reference, "--length-prior=9,0.01") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes
    for line in notes:
        assert re.fullmatch(
            r"note: [ab]: LC [\d.]+ differs from the win rate [\d.]+ by more than its interval \[[\d., ]+\]: "
            r"the prior 9,0.01 decides: these verdicts alone give [\d.]+\.",
            line,
        ), line


def length_controlled(annotations: str, folder: Path) -> float | None:
    lines = {a.instruction_id: a.preference for a in AnnotationStore(Path(annotations))}
    reference = {r["instruction_id"]: len(r["output"]) for r in json.loads((folder / "reference.json").read_text())}
    return stats.length_controlled_win_rate(
        [lines[i] for i in IDS],
        [len(o.output) for o in answers("a")],
        [reference[i] for i in IDS],
        ids=IDS,
        n_resamples=0,
        prior=length_prior("embedded"),
    ).value


def test_without_the_references_answers_there_is_no_length_control(
    with_answers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*with_answers, "--out", str(tmp_path / "out.json"))
    assert "LC" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["length_controlled"] is None


def test_wrong_answers_for_length_control_are_refused(with_answers: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no verdict against the answers in --reference-outputs"):
        run(*with_answers, "--reference-outputs", str(tmp_path / "a.json"))
    both = f"{tmp_path / 'reference.json'},{tmp_path / 'reference.json'}"
    with pytest.raises(UserError, match="found 2 files, expected 1"):
        run(*with_answers, "--reference-outputs", both)
    reference = str(tmp_path / "reference.json")
    with pytest.raises(UserError, match="--length-prior needs the answers"):
        run(*with_answers[:2], "--reference-outputs", reference, "--length-prior", "weak")
    with pytest.raises(UserError, match="--reference-outputs"):
        run(*with_answers, "--length-prior", "weak")
    with pytest.raises(UserError, match="cannot be written"):
        run(*with_answers, "--out", str(tmp_path / "a.json" / "out.json"))


def test_named_references_stand_where_outputs_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    reference = "gemma-3-270m/instruction"
    names = ["gemma-3-270m/response", "gemma-3-270m/gsm"]
    for name in names:
        rest = ["--judge", "longest", "--judge-attempts", "none", "--annotations", f"{Path(name).name}.jsonl"]
        assert main(["judge", name, "--reference", reference, *rest]) == 0
    given = ["--outputs", *names, "--reference-outputs", reference, "--judge-attempts", "none", "--out", "found.json"]
    assert main(["compare", "response=response.jsonl", "gsm=gsm.jsonl", *given]) == 0
    found = json.loads(Path("found.json").read_text())
    assert "set:builtin@" in json.dumps(found["signature"])
