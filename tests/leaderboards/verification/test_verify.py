"""Verification of one submission: numbers against an independent computation, and every way of not being accepted."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factory
import numpy as np
import pytest
from factory import CoinJudge, LongestJudge, edit_metadata, edit_rows, edit_scores, make_submission, rehash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.answer_form import form_of
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.outputs import Output
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.storage import json_bytes, jsonl_bytes
from implicit_if.leaderboards.site import page_data
from implicit_if.leaderboards.submission.data_files import output_rows, parse_rows
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.verification import checks
from implicit_if.leaderboards.verification.result import read_pairs
from implicit_if.leaderboards.verification.verify import verify

FILES = ["outputs.jsonl", "reference.jsonl", "annotations.jsonl", "scores.json"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_submission(tmp_path_factory.mktemp("plain"), n=12)


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    folder = tmp_path / plain.parent.name / plain.name
    shutil.copytree(plain, folder)
    return folder


def problems(folder: Path, **options: Any) -> list[str]:
    with pytest.raises(SubmissionError) as error:
        verify(folder, **options)
    assert len(str(error.value)) < 6000
    return error.value.problems


# ---------------------------------------------------------------- what is accepted
def test_numbers_are_what_the_statistics_give_for_the_verdicts(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80, seed=3)
    verified = verify(folder)
    own = factory.outputs("parrot", 80, 3)
    other = factory.outputs("base", 80, factory.LOOKALIKE_SEED)
    verdicts = factory.judge_all(CoinJudge(), own, other)
    by_id: dict[str, list[float]] = {}
    for a in verdicts:
        by_id.setdefault(a.instruction_id, []).append(float(a.preference or 0.0))
    means = {i: sum(v) / len(v) for i, v in by_id.items()}
    assert verified.badge == "rescored"
    assert list(verified.instruction_ids) == sorted(by_id)
    assert verified.preferences == pytest.approx([means[i] for i in sorted(means)])
    assert verified.scores["win_rate"].value == pytest.approx(100 * np.mean(list(means.values())))
    assert verified.scores["position_bias"].value == pytest.approx(
        100 * np.mean([a.preference for a in verdicts if a.order == "system_first"])
        - 100 * np.mean([a.preference for a in verdicts if a.order == "reference_first"])
    )
    lengths = {o.instruction_id: len(o.output) for o in own}, {o.instruction_id: len(o.output) for o in other}
    controlled = stats.length_controlled_win_rate(
        [means[i] for i in means],
        [lengths[0][i] for i in means],
        [lengths[1][i] for i in means],
        ids=list(means),
        prior=length_prior("openai:coin"),
    )
    assert verified.scores["length_controlled_win_rate"].value == pytest.approx(controlled.value)
    assert verified.outputs_sha256 == outputs_sha256(own)
    form = form_of(own, factory.TAGS)
    assert verified.form["finish_rate"] == pytest.approx(form["finish_rate"])
    assert verified.form["format_leak_rate"] == pytest.approx(form["format_leak_rate"])
    assert verified.form["avg_length"] == pytest.approx(form["avg_length"])
    assert verified.form["repetition"] == pytest.approx(float(form["repetition"] or 0))
    assert verified.form["n_tokens"] == pytest.approx(np.mean([o.n_tokens or 0 for o in own]))


def test_answers_are_read_on_demand(tmp_path: Path) -> None:
    verified = verify(make_submission(tmp_path, n=80, judge=LongestJudge()))
    pairs = read_pairs(verified)
    own = {o.instruction_id: o for o in factory.outputs("parrot", 80, 1)}
    assert [pair.instruction_id for pair in pairs] == list(verified.instruction_ids)
    other = {o.instruction_id: o for o in factory.outputs("base", 80, factory.LOOKALIKE_SEED)}
    for pair in pairs[:5]:
        mine, theirs = own[pair.instruction_id], other[pair.instruction_id]
        assert (pair.system.output, pair.system.n_tokens) == (mine.output, mine.n_tokens)
        assert (pair.reference.output, pair.reference.finish_reason) == (theirs.output, theirs.finish_reason)
        assert pair.instruction == mine.instruction  # joined from the builtin set
    assert all(verified.by_order["none"] == verified.preferences)
    categories = page_data.pairing(pairs)["categories"]
    assert all(categories)


def test_a_changed_submission_is_not_read(copied: Path) -> None:
    verified = verify(copied)
    edit_rows(copied, "outputs.jsonl", lambda rows: rows[0].update(n_tokens=5))
    with pytest.raises(SubmissionError, match="changed after it was verified"):
        read_pairs(verified)


def test_scores_alone_are_self_reported(tmp_path: Path) -> None:
    verified = verify(make_submission(tmp_path, self_reported=True))
    assert verified.badge == "self-reported"
    assert len(verified.preferences) == 0
    assert verified.instruction_ids == ()
    assert read_pairs(verified) == []


def test_texts_may_be_shipped_where_that_is_announced(tmp_path: Path) -> None:
    info = factory.metadata_for("a/b", "v1", {"kind": "base"}, factory.outputs("base", 12, 5), CoinJudge())
    info["instruction_set"]["texts"] = True
    verified = verify(make_submission(tmp_path, instruction_set=info["instruction_set"]))
    assert all(pair.instruction for pair in read_pairs(verified))


# ---------------------------------------------------------------- one byte
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_one_byte_is_caught(data: st.DataObject, plain: Path) -> None:
    source = plain
    path = data.draw(st.sampled_from(sorted(p for p in source.iterdir() if p.name != "metadata.yaml")))
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["replace", "delete", "insert"]))
    byte = data.draw(st.integers(0, 255))
    if kind == "replace":
        mutated = content[:position] + bytes([byte]) + content[position + 1 :]
    elif kind == "delete":
        mutated = content[:position] + content[position + 1 :]
    else:
        mutated = content[:position] + bytes([byte]) + content[position:]
    if mutated == content:
        return
    try:
        path.write_bytes(mutated)
        problems(source)
    finally:
        path.write_bytes(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_caught_even_if_the_hash_is_made_to_fit(data: st.DataObject, plain: Path) -> None:
    """Without the hashes: what is left are notes on an answer that no number rests on."""
    path = plain / data.draw(st.sampled_from(FILES))
    before = {p: p.read_bytes() for p in plain.iterdir()}
    content = before[path]
    position = data.draw(st.integers(0, len(content) - 1))
    mutated = content[:position] + bytes([data.draw(st.integers(32, 126))]) + content[position + 1 :]
    try:
        path.write_bytes(mutated)
        rehash(plain)
        try:
            verify(plain)
        except SubmissionError:
            return
        old = [json.loads(line) for line in content.decode().splitlines()] if path.suffix == ".jsonl" else []
        new = [json.loads(line) for line in mutated.decode().splitlines()] if path.suffix == ".jsonl" else []
        differing = {k for a, b in zip(old, new, strict=True) for k in a if a[k] != b[k]}
        notes = {"raw", "dataset"} | ({"finish_reason", "n_tokens"} if path.name == "reference.jsonl" else set())
        assert mutated == content or differing <= notes
    finally:
        for p, original in before.items():
            p.write_bytes(original)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("outputs.jsonl", b'{"dataset":', b'{ "dataset":'),
        ("outputs.jsonl", b'{"dataset":', b'{"output":"shown to one reader","dataset":'),
        ("outputs.jsonl", b'"dataset":"made",', b'"dataset":"m\\u0061de",'),
        ("outputs.jsonl", b'"instruction":null,', b'"instruction" :null,'),
        ("annotations.jsonl", b'"preference":0.', b'"preference":00.'),
        ("annotations.jsonl", b'"preference":0.', b'"preference":0.0e0,"preference":0.'),
        ("annotations.jsonl", b"said", b"\\u0073aid"),
        ("reference.jsonl", b"}\n", b"}\r\n"),
        ("reference.jsonl", b"}\n", b"}\n\n"),
        ("scores.json", b"  ", b"   "),
        ("scores.json", b'"form": {', b'"form": {},\n"form": {'),
    ],
)
def test_two_ways_of_writing_one_thing_are_not_accepted(copied: Path, file: str, old: bytes, new: bytes) -> None:
    """Else two readers could see different things under one hash."""
    data = (copied / file).read_bytes()
    assert old in data
    (copied / file).write_bytes(data.replace(old, new, 1))
    rehash(copied)
    found = problems(copied)
    assert any(file in p for p in found)
    assert not any("sha256" in p for p in found)


# ---------------------------------------------------------------- each check
def cases() -> Iterator[Any]:
    numbers = itertools.count()

    def case(file: str, change: Callable[[list[dict[str, Any]]], Any], message: str) -> Any:
        return pytest.param(file, change, message, id=f"{next(numbers)} {message[:40]}")

    yield case("annotations.jsonl", lambda r: r[:-1], "1 of 12 verdicts are missing in order system_first")
    yield case("annotations.jsonl", lambda r: [a for a in r if a["order"] == "system_first"], "12 of 12 verdicts are")
    yield case("annotations.jsonl", lambda r: [r[0], *r], "holds a verdict twice")
    yield case("annotations.jsonl", lambda r: r[::-1], "not sorted")
    yield case("annotations.jsonl", lambda r: r[0].update(system_sha256="0" * 64), "about other answers")
    yield case("annotations.jsonl", lambda r: r[0].update(reference_sha256="0" * 64), "about other answers")
    yield case("annotations.jsonl", lambda r: r[-1].update(instruction_id="f" * 16), "is not answered")
    yield case("annotations.jsonl", lambda r: r[0].update(fingerprint="0" * 64), "another judge")
    yield case("annotations.jsonl", lambda r: r[0].update(judge="me"), "another judge")
    yield case("annotations.jsonl", lambda r: r[0].update(order="none"), "an order that metadata.yaml does not name")
    yield case("annotations.jsonl", lambda r: r[0].update(preference=1.5), "less than or equal to 1")
    yield case("annotations.jsonl", lambda r: r[0].update(preference=None), "valid number")
    yield case("annotations.jsonl", lambda r: r[0].update(preference="1"), "valid number")
    yield case("annotations.jsonl", lambda r: r[0].update(latency=1.0), "not permitted")
    yield case("annotations.jsonl", lambda r: r[0].update(raw="x" * 2001), "at most 2000")
    yield case("outputs.jsonl", lambda r: r[:-1], "answers 11 instructions")
    yield case("outputs.jsonl", lambda r: [*r, r[-1]], "answers an instruction twice")
    yield case("outputs.jsonl", lambda r: r[0].update(output="better"), "about other answers")
    yield case("outputs.jsonl", lambda r: r[0].update(instruction="x"), "against instruction_set.texts")
    yield case("outputs.jsonl", lambda r: r[0].update(generator="two"), "several generators")
    yield case("outputs.jsonl", lambda r: r[0].update(instruction_id="../../x"), "pattern")
    yield case("outputs.jsonl", lambda r: r[0].update(n_tokens=-1), "greater than or equal")
    yield case("outputs.jsonl", lambda r: r[0].update(n_tokens=10**400), "n_tokens")
    yield case("outputs.jsonl", lambda r: [a.update(generator="\u202e") for a in r] and r, "invisible characters")
    yield case("outputs.jsonl", lambda r: r[0].update(output="\ud800"), "line 1: Invalid JSON")
    yield case("reference.jsonl", lambda r: r[:-1], "does not answer the same instructions")
    yield case("reference.jsonl", lambda r: r[0].update(output="worse"), "not the hash of reference.jsonl's answers")
    yield case("reference.jsonl", lambda r: [a.update(generator="me") for a in r] and r, "reference.name is not")


@pytest.mark.parametrize(("file", "change", "message"), list(cases()))
def test_rows_that_do_not_fit_are_refused(copied: Path, file: str, change: Any, message: str) -> None:
    edit_rows(copied, file, change)
    assert any(message in p for p in problems(copied)), problems(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(name="acme/other"), "the folder is not named acme__other/v1"),
        (lambda m: m["instruction_set"].update(name="builtin"), "80 missing"),
        (lambda m: m["instruction_set"].update(name="alpaca_eval"), "not its ids"),
        (lambda m: m["instruction_set"].update(revision="0" * 64), "expected the hash over the sorted ids"),
        (lambda m: m["instruction_set"].update(n=13), "all must be answered"),
        (lambda m: m["judge"].update(orders=["none"]), "expected both orders"),
        (lambda m: m["judge"].update(name="longest"), "is not that of this program's 'longest'"),
        (lambda m: m["judge"].update(name="embedded"), "is not that of this program's 'embedded'"),
        (lambda m: m["template"].update(sha256="0" * 64), "is not that of this program's 'tulu'"),
        (lambda m: m["template"].update(tags=["<x>"], sha256=checks.known_templates()["tulu"][0]), "template.tags"),
        (lambda m: m["files"].update({"scores.json": "0" * 64}), "the file was changed"),
        (lambda m: m["files"].pop("scores.json"), "lacks a file that is there"),
        (lambda m: m["files"].update({"more.bin": "0" * 64}), "names a file that is not there"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(copied: Path, change: Any, message: str) -> None:
    edit_metadata(copied, change)
    assert any(message in p for p in problems(copied)), problems(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["scores"]["win_rate"].update(value=60.0), "win_rate is 60.0"),
        (lambda s: s["scores"]["win_rate"]["interval"].update(high=99.0), "99.000000] (n 12), recomputed it is"),
        (lambda s: s["scores"]["win_rate"]["interval"].update(method="mean;guess"), "recomputed it is"),
        (lambda s: s["scores"].pop("position_bias"), "position_bias is missing"),
        (lambda s: s["scores"].update(wins=s["scores"]["win_rate"]), "wins is not recomputed"),
        (lambda s: s["form"].update(avg_length=1.0), "form.avg_length is 1.0"),
        (lambda s: s["form"].update(beauty=1.0), "form holds beauty, expected"),
        (lambda s: s["scores"]["win_rate"].update(signature="x"), "not a signature"),
        (
            lambda s: s["scores"]["win_rate"].update(
                signature=s["scores"]["win_rate"]["signature"].replace("orders:2", "orders:1")
            ),
            "signature is",
        ),
    ],
)
def test_told_scores_are_not_believed(copied: Path, change: Any, message: str) -> None:
    edit_scores(copied, change)
    assert any(message in p for p in problems(copied)), problems(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["scores"]["win_rate"].update(value=-1.0), "expected percent"),
        (lambda s: s["scores"]["win_rate"]["interval"].update(high=1e300), "its interval"),
        (lambda s: s["scores"].update(wins=s["scores"]["win_rate"]), "wins is not among"),
        (lambda s: s["scores"].update(win_rate=s["scores"]["length_controlled_win_rate"]), "names a length control"),
        (lambda s: s["scores"].pop("win_rate"), "win_rate is missing"),
        (lambda s: s["form"].update(avg_length=1e15), "expected 0 to"),
        (lambda s: s["form"].update(other=1.0), "other is not among"),
        (lambda s: s["scores"]["win_rate"]["interval"].update(method="x" * 61), "interval's method is"),
        (lambda s: s["scores"]["win_rate"].update(n_judged=11), "does not cover all"),
    ],
)
def test_impossible_self_reported_scores_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = make_submission(tmp_path, self_reported=True)
    edit_scores(folder, change)
    assert any(message in p for p in problems(folder)), problems(folder)


@pytest.mark.parametrize("version", ["9" * 61, "1\u202e", "0.2.0%20best%20of%20all", "1.0-final", "1.0+ours.is.better"])
def test_a_version_is_a_version(copied: Path, version: str) -> None:
    def other(scores: dict[str, Any]) -> None:
        for score in scores["scores"].values():
            score["signature"] = score["signature"].rpartition("|v:")[0] + f"|v:{version}"

    edit_scores(copied, other)
    assert any("which is none of this program's" in p for p in problems(copied)), problems(copied)


def test_scores_of_another_processor_are_accepted_and_kept(copied: Path) -> None:
    edit_scores(copied, lambda s: s["scores"]["win_rate"].update(value=s["scores"]["win_rate"]["value"] + 1e-11))
    told = json.loads((copied / "scores.json").read_bytes())["scores"]["win_rate"]["value"]
    assert verify(copied).scores["win_rate"].value == told


def test_scores_of_another_version_are_accepted_if_equal(copied: Path) -> None:
    def older(scores: dict[str, Any]) -> None:
        for score in scores["scores"].values():
            score["signature"] = score["signature"].rpartition("|v:")[0] + "|v:0.0.1"

    edit_scores(copied, older)
    assert verify(copied).scores["win_rate"].settings.version == "0.0.1"


def test_submissions_of_version_0_1_whose_signatures_name_no_task_stay_verifiable(copied: Path) -> None:
    def older(scores: dict[str, Any]) -> None:
        for score in scores["scores"].values():
            score["signature"] = (
                score["signature"].removeprefix("task:alpaca_winrate|").rpartition("|v:")[0] + "|v:0.1.0"
            )

    before = verify(copied)
    edit_scores(copied, older)
    assert b"task:" not in (copied / "scores.json").read_bytes()
    after = verify(copied)
    assert after.badge == before.badge == "rescored"
    assert {name: score.settings.task for name, score in after.scores.items()} == dict.fromkeys(
        before.scores, "alpaca_winrate"
    )
    edit_scores(
        copied, lambda s: s["scores"]["win_rate"].update(signature="task:audit|" + s["scores"]["win_rate"]["signature"])
    )
    assert any("signature is task:audit|" in p for p in problems(copied)), problems(copied)


def test_identical_answers_are_a_tie(tmp_path: Path) -> None:
    same = [o.model_copy(update={"generator": "me"}) for o in factory.outputs("base", 12, factory.LOOKALIKE_SEED)]
    folder = make_submission(tmp_path, answers=same)
    assert verify(folder).scores["win_rate"].value == 50
    edit_rows(folder, "annotations.jsonl", lambda rows: rows[0].update(preference=1.0))
    assert any("identical answers" in p for p in problems(folder))


@pytest.mark.parametrize("missing", FILES[:3])
def test_one_file_of_rows_alone_is_refused(copied: Path, missing: str) -> None:
    (copied / missing).unlink()
    rehash(copied)
    assert any("expected outputs, reference, annotations, or none" in p for p in problems(copied))


def test_a_known_set_goes_by_its_own_name(tmp_path: Path) -> None:
    folder = make_submission(tmp_path, n=80)
    edit_metadata(folder, lambda m: m["instruction_set"].update(name="mine"))
    assert any("expected that name" in p for p in problems(folder))


def test_a_measure_of_form_that_is_not_stored_is_computed(copied: Path) -> None:
    before = verify(copied)
    scores = json.loads((copied / "scores.json").read_bytes())
    del scores["form"]["avg_length"]
    (copied / "scores.json").write_bytes(json_bytes(scores))
    rehash(copied)
    lengths = [len(o.output) for o in factory.outputs("parrot", 12, 1)]
    assert verify(copied).form == pytest.approx(before.form)
    assert verify(copied).form["avg_length"] == pytest.approx(sum(lengths) / 12)


def test_rerun_json_is_for_maintainers(copied: Path) -> None:
    (copied / "rerun.json").write_bytes(b"{}\n")
    assert any("maintainers only" in p for p in problems(copied, contributed=True))
    assert any("submission_sha256: Field required" in p for p in problems(copied))


@given(
    st.lists(
        st.builds(
            Output,
            instruction_id=st.from_regex(r"\A[0-9a-f]{16}\Z"),
            output=st.text(st.characters(codec="utf-8"), max_size=30),
            generator=st.text(st.characters(codec="utf-8"), max_size=5),
            n_tokens=st.none() | st.integers(0, 10**6),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rows_come_back_as_they_were_written(outputs: list[Output]) -> None:
    rows = output_rows(outputs, texts=False)
    data = jsonl_bytes(rows)
    assert data.isascii()
    assert parse_rows(data, "outputs") == rows


@given(st.floats(0, 1))
def test_every_preference_survives(value: float) -> None:
    row = {
        "fingerprint": "0" * 64,
        "instruction_id": "0" * 16,
        "judge": "j",
        "order": "none",
        "preference": value,
        "raw": "",
        "reference_sha256": "0" * 64,
        "system_sha256": "0" * 64,
    }
    assert parse_rows(jsonl_bytes([row]), "annotations") == [row]
