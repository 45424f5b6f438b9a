"""What a board promises: verdicts judged again, copies and borrowed names found, one bad submission kept apart."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import factory
import pytest
from factory import CoinJudge, LongestJudge, make_submission

from implicit_if.harness.controls import control_answers
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.verdict_text import parse_text, record
from implicit_if.harness.judging.judged_run import judge_pairs
from implicit_if.harness.judging.protocol import Comparison, Verdict
from implicit_if.harness.judging.registry import rereader
from implicit_if.harness.outputs import Output
from implicit_if.harness.storage import json_bytes, sha256_json
from implicit_if.leaderboards.boards import build
from implicit_if.leaderboards.commands import audit_verdicts
from implicit_if.leaderboards.submission.data_files import MAX_RAW, annotation_rows
from implicit_if.leaderboards.submission.maintainer_files import Audit
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.submitting.write import STAGING, write_submission
from implicit_if.leaderboards.verification import rejudge
from implicit_if.leaderboards.verification.answers import letters
from implicit_if.leaderboards.verification.names import folded
from implicit_if.leaderboards.verification.pull_request import check
from implicit_if.leaderboards.verification.verify import verify
from implicit_if.leaderboards.verification.verify_all import check_all, verify_all


def changed(answers: Sequence[Output], change: Callable[[str], str], generator: str = "mine") -> list[Output]:
    return [o.model_copy(update={"output": change(o.output), "generator": generator}) for o in answers]


def write(root: Path, judge: Any, preference: Callable[[float], float] = lambda p: p, **words: Any) -> Path:
    """A submission whose stored verdicts, and the scores made from them, are changed."""
    own, other = factory.outputs("parrot", 12, 1), factory.outputs("base", 12, factory.LOOKALIKE_SEED)
    verdicts = [
        a.model_copy(update={"preference": preference(float(a.preference or 0.0)), **words})
        for a in factory.judge_all(judge, own, other)
    ]
    metadata = factory.metadata_for("acme/parrot", "v1", {"kind": "base"}, other, judge)
    return write_submission(root, metadata, own, other, verdicts)


# ---------------------------------------------------------------- 1: a badge says what was done
@pytest.mark.parametrize(
    "preference",
    [lambda p: 1.0, lambda p: 1 - p, lambda p: 0.99 * p + 0.005],
    ids=["all won", "turned round", "a little"],
)
def test_made_up_verdicts_of_an_offline_judge_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preference: Callable[[float], float]
) -> None:
    with pytest.raises(SubmissionError, match="annotations: longest gives"):
        write(tmp_path / "a", LongestJudge(), preference)
    with monkeypatch.context() as patch:  # as someone who writes the files by hand
        patch.setattr("implicit_if.leaderboards.verification.verify.judged_again", lambda *_: [])
        root = tmp_path / "leaderboards" / "submissions"
        folder = write(root, LongestJudge(), preference)
    names = [os.fsencode(p.relative_to(tmp_path)) for p in root.rglob("*") if p.is_file()]
    with pytest.raises(SubmissionError, match="annotations: longest gives"):
        verify(folder)
    with pytest.raises(SubmissionError, match="annotations: longest gives"):
        check(tmp_path, names)
    built = build.build(root.parent, cache=tmp_path / "cache")
    assert built.n_submissions == 0
    assert any("longest gives" in problem for problem in built.problems)


def test_badges_say_what_was_done(tmp_path: Path) -> None:
    assert verify(make_submission(tmp_path, name="a/coin")).badge == "rescored"
    assert verify(make_submission(tmp_path, name="a/longest", judge=LongestJudge())).badge == "recomputed"
    assert verify(make_submission(tmp_path, name="a/told", self_reported=True)).badge == "self-reported"


def test_what_was_judged_again_is_remembered_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    asked: list[int] = []
    real = rejudge.annotate
    monkeypatch.setattr(rejudge, "annotate", lambda pairs, *a, **k: asked.append(len(pairs)) or real(pairs, *a, **k))
    folder = make_submission(tmp_path / "s", judge=LongestJudge())
    assert asked == [12]
    assert verify(folder).badge == verify(folder).badge == "recomputed"
    assert asked == [12]
    make_submission(tmp_path / "s", name="acme/other", seed=2, judge=LongestJudge())
    assert asked == [12, 12]


@pytest.mark.parametrize(
    ("judge", "raw", "allowed"),
    [
        ("openai:x", {"said": "Verdict: m"}, (1, 1)),
        ("openai:x", {"said": "M"}, (0, 0)),
        ("anthropic:x", {"said": "**M**"}, (0, 0)),
        ("openai:x", {"said": "m", "top_logprobs": {"m": math.log(0.6), "M": math.log(0.3)}}, (0.6, 0.7)),
        ("openai:x", {"said": "m", "top_logprobs": {"m": math.log(0.75), "M": math.log(0.25)}}, (0.75, 0.75)),
        ("reward:x", {"first": 2.0, "second": -1.0}, (0.5, 1)),
        ("reward:x", {"first": 1.0, "second": 1.0}, (0.5, 0.5)),
        ("alpaca_eval:chatgpt", {"said": "Output (a)"}, (1, 1)),
        ("alpaca_eval:chatgpt+my-model", {"said": "Output (b)"}, (0, 0)),
        (
            "alpaca_eval:alpaca_eval_gpt4",
            {"said": "[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]"},
            (0, 0),
        ),
        (
            "alpaca_eval:weighted_alpaca_eval_gpt4_turbo",
            {"said": "m", "top_logprobs": {"m": math.log(0.6), "M": math.log(0.3)}},
            (2 / 3, 2 / 3),
        ),
        ("alpaca_eval:alpaca_eval_clf_gpt4_turbo", {"said": "m", "top_logprobs": {"m": -0.1, "M": -3}}, (1, 1)),
        ("alpaca_eval:my-own.yaml", {"said": "anything"}, (0, 1)),
    ],
)
def test_a_preference_follows_from_what_the_judge_said(judge: str, raw: Any, allowed: tuple[float, float]) -> None:
    read = rereader(judge)
    assert read is not None
    assert read(json.dumps(raw)) == pytest.approx(allowed)


def test_words_without_a_verdict_allow_no_preference_and_cut_words_any() -> None:
    read = rereader("openai:x")
    assert read is not None
    low, high = read(json.dumps({"said": "I cannot say."})) or (0.0, 1.0)
    assert low > high
    for torn in TORN:
        assert read(torn) is None
    assert rereader("longest") is rereader("nobody") is None


TORN = ["", "[]", "null", "3", '{"said": "cut off', '{"say": "m"}', '{"said": ["m"]}', "[" * 2000, "m", '"m"']


@pytest.mark.parametrize("raw", TORN)
@pytest.mark.parametrize("judge", ["openai:x", "anthropic:x", "reward:x", "alpaca_eval:alpaca_eval_gpt4"])
def test_torn_words_of_a_judge_are_refused(tmp_path: Path, judge: str, raw: str) -> None:
    class Torn(CoinJudge):
        name = judge

    if judge == "reward:x":
        Torn.ordered = False
    read = rereader(judge)
    assert read is not None
    assert read(raw) is None
    with pytest.raises(SubmissionError, match="words of the judge that are incomplete"):
        write(tmp_path, Torn(), raw=raw)


@pytest.mark.parametrize(
    "said",
    [
        "<think>" + 'Hm, "m" or M? ' * 2000 + "</think>\nVerdict: m",
        "Let me see.\n" + "The first says more. \\ " * 2000 + "\nVerdict: m",
        "\x1b\n" * 4000 + "Verdict: m",
    ],
    ids=["a thought", "reasons", "escapes"],
)
def test_long_words_are_kept_so_that_their_verdict_can_be_read_again(said: str) -> None:
    own, other = factory.outputs("parrot", 1, 1), factory.outputs("base", 1, 2)
    (verdict,) = factory.judge_all(LongestJudge(), own, other)
    raw = record({"said": said, "finish_reason": "stop", "model": "x"}, 20_000)
    assert len(raw) <= 20_000
    (row,) = annotation_rows([verdict.model_copy(update={"raw": raw})])
    assert len(row["raw"]) <= MAX_RAW
    read = rereader("openai:x")
    assert read is not None
    assert parse_text(said)[0] == 1.0
    assert read(row["raw"]) == read(raw) == (1.0, 1.0)


@pytest.mark.parametrize("raw", [{"said": "M"}, {"said": "nothing"}, {"said": "m", "top_logprobs": {"M": 0.0}}])
def test_preferences_that_do_not_follow_are_refused(tmp_path: Path, raw: Any) -> None:
    with pytest.raises(SubmissionError, match="does not follow from what the judge said"):
        write(tmp_path, CoinJudge(), lambda p: 0.9, raw=json.dumps(raw))


def test_two_verdicts_of_one_judge_on_the_same_answers_are_refused(tmp_path: Path) -> None:
    class Unread(CoinJudge):  # its words cannot be read again
        name = "mine:coin"

    write(tmp_path, Unread())
    own, other = factory.outputs("parrot", 12, 1), factory.outputs("base", 12, factory.LOOKALIKE_SEED)
    verdicts = [a.model_copy(update={"preference": 0.5}) for a in factory.judge_all(Unread(), own, other)[:2]]
    verdicts += factory.judge_all(Unread(), own, other)[2:]
    metadata = factory.metadata_for("acme/parrot", "v2", {"kind": "base"}, other, Unread())
    write_submission(tmp_path, metadata, own, other, verdicts)
    assert "verdicts differ from those of acme__parrot/v1 on the same answers" in str(
        check_all(tmp_path, newcomers=["acme__parrot/v2"]).together["acme__parrot/v2"]
    )


class Steady:
    """A judge behind a server: says the same each time, but for the pairs in `moods`, on which it says anything."""

    name = "openai:steady"
    fingerprint = sha256_json("steady")
    ordered, paid = True, False

    def __init__(self, moods: int = 0) -> None:
        self.moods, self._said = moods, 0

    def judge(self, comparisons: Any) -> Iterator[Verdict]:
        self._said += 1
        for number, c in enumerate(comparisons):
            mood = 0.3 * (self._said % 2) if number < self.moods else 0.0
            value = 0.6 + mood if len(c.first) > len(c.second) else 0.2
            yield Verdict(c.key, value, raw=_letters(value))

    def preference(self, comparison: Comparison) -> float:
        return 0.6 if len(comparison.first) > len(comparison.second) else 0.2

    def estimate(self, comparisons: Any) -> Any:
        from implicit_if.harness.judging.protocol import Estimate

        return Estimate(0, 0.0)


def _letters(value: float) -> str:
    return json.dumps({"said": "m", "top_logprobs": {"m": math.log(value), "M": math.log(1 - value)}})


def audited(root: Path, wrong: int) -> Any:
    own, other = factory.outputs("parrot", 80, 1), factory.outputs("base", 80, factory.LOOKALIKE_SEED)
    verdicts = factory.judge_all(Steady(), own, other)
    lies = {o.instruction_id for o in own[:wrong]}
    verdicts = [
        a.model_copy(update={"preference": 0.95, "raw": _letters(0.95 if a.order == "system_first" else 0.05)})
        if a.instruction_id in lies
        else a
        for a in verdicts
    ]
    metadata = factory.metadata_for("acme/parrot", "v1", {"kind": "base"}, other, Steady())
    return verify(write_submission(root, metadata, own, other, verdicts))


def test_an_audit_that_agrees_earns_its_badge(tmp_path: Path) -> None:
    verified = audited(tmp_path, 0)
    found = rejudge.audit(verified, Steady(), 60, 7, None, None)
    assert (found.n, found.n_expected, found.off, found.changing) == (60, 80, 0, 0)
    assert verify(verified.folder).badge == "audited (60 of 80)"
    with pytest.raises(SubmissionError, match="audit.json: is written by maintainers only"):
        verify(verified.folder, contributed=True)


def test_sixty_pairs_find_one_false_verdict_in_twenty(tmp_path: Path) -> None:
    verified = audited(tmp_path, 4)  # 5 % of 80; each seed draws 60, so most draw some
    found = [rejudge.audit(verify(verified.folder), Steady(), 60, seed, None, None).agrees for seed in range(8)]
    assert sum(found) <= 1
    assert verify(verified.folder).badge == ("audited (60 of 80)" if found[-1] else "rescored")
    assert found[-1] or "a maintainer's audit does not agree" in verify(verified.folder).notes


def test_the_judges_own_noise_is_no_lie_and_the_sample_is_not_foreseeable(tmp_path: Path) -> None:
    verified = audited(tmp_path, 0)
    found = rejudge.audit(verified, Steady(moods=3), 60, 1, None, None)
    assert found.changing > 0
    assert found.agrees
    assert audited(tmp_path / "again", 1).sha256 != verified.sha256


def test_an_audit_of_other_files_or_by_another_judge_does_not_count(tmp_path: Path) -> None:
    verified = audited(tmp_path, 0)
    with pytest.raises(UserError, match="Give the same judge"):
        rejudge.audit(verified, LongestJudge(), 60, 1, None, None)
    told = Audit(submission_sha256="0" * 64, seed=1, n=60, n_expected=80, off=0, changing=0)
    (verified.folder / "audit.json").write_bytes(json_bytes(told.model_dump(mode="json")))
    with pytest.raises(SubmissionError, match="is about other files"):
        verify(verified.folder)


def test_the_audit_command_builds_no_judge_from_a_file(tmp_path: Path) -> None:
    class Evil(CoinJudge):
        name = "evil.yaml"

    folder = make_submission(tmp_path, judge=Evil())
    with pytest.raises(UserError, match="give --judge SPEC"):
        factory.run(audit_verdicts, str(folder), "--seed", "1")


# ---------------------------------------------------------------- 2: copies
COPIES: dict[str, Callable[[str], str]] = {
    "space": lambda text: text + " ",
    "zero width": lambda text: text.replace("a", "a\u200b"),
    "look-alike letters": lambda text: text.replace("a", "\u0430").replace("o", "\u03bf"),
    "capitals": str.upper,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "marks": lambda text: text.replace(".", "!").replace(" ", "  "),
    "accents": lambda text: text.replace("e", "\u00e9").replace("a", "\u00e0").replace("o", "o\u0308"),
    "one for i": lambda text: text.replace("i", "1"),
    "capital I for l": lambda text: text.replace("l", "I"),
    "Armenian letters": lambda text: text.translate(str.maketrans("ouhq", "\u0585\u057d\u0570\u0566")),
    "a stroke through l": lambda text: text.replace("l", "\u0142"),
    "one word more": lambda text: f"{text[: len(text) // 2].rpartition(' ')[0]} really{text[len(text) // 2 :]}",
    "a word more in twenty": lambda text: re.sub(r"((?:\S+ ){20})", r"\1also ", text),
    "a word less in twenty": lambda text: re.sub(r"((?:\S+ ){19})\S+ ", r"\1", text),
    "no spaces": lambda text: text.replace(" ", ""),
    "a line in front": lambda text: "Here is my answer to it.\n" + text,
    "decomposed": lambda text: unicodedata.normalize("NFD", text) + "\u0301",
}


@pytest.mark.parametrize("name", sorted(COPIES))
def test_copies_are_found_however_they_are_written_and_the_newcomer_is_to_blame(tmp_path: Path, name: str) -> None:
    make_submission(tmp_path, name="zeta/old", seed=2)
    copy = changed(factory.outputs("old", 12, 2), COPIES[name])
    assert copy != factory.outputs("mine", 12, 2)
    make_submission(tmp_path, name="acme/new", answers=copy)  # sorts before the original
    found = check_all(tmp_path, newcomers=["acme__new/v1"])
    assert list(found.together) == ["acme__new/v1"]
    assert "answers are those of zeta__old/v1, which has another name" in found.together["acme__new/v1"][0]


def test_equal_beginnings_and_common_words_are_no_copies(tmp_path: Path) -> None:
    """Of the same words, a fifth of each answer equal; and answers that go on looping after the other one ended."""
    make_submission(tmp_path, name="zeta/old", seed=2)
    old = {o.instruction_id: o.output for o in factory.outputs("old", 12, 2)}
    other = [
        o.model_copy(update={"output": old[o.instruction_id][:60] + o.output})
        for o in factory.outputs("other", 12, 3, words=(60, 90))
    ]
    make_submission(tmp_path, name="acme/other", answers=other)
    looping = changed(factory.outputs("loop", 12, 2), lambda text: text * 4, "loop")
    make_submission(tmp_path, name="acme/loop", answers=looping)
    assert not check_all(tmp_path, newcomers=["acme__other/v1", "acme__loop/v1"]).together


def test_letters_of_long_and_plain_texts_are_the_same() -> None:
    every = "".join(map(chr, range(128)))
    assert letters(every) == "".join(filter(str.isalnum, folded(every)))
    assert letters("Ill \u00ce1l!") == "lllllll"


def test_nine_tenths_are_a_copy_and_a_copy_is_no_control(tmp_path: Path) -> None:
    make_submission(tmp_path, name="zeta/old", n=40, seed=2)
    most = changed(factory.outputs("old", 40, 2)[:37], str.upper) + changed(factory.outputs("x", 40, 9)[37:], str)
    control = {"kind": "control", "control": "longest_of_two"}
    make_submission(tmp_path, name="acme/new", answers=most, n=40, system=control)
    assert "37 of 40 answers are those of zeta__old/v1" in str(
        check_all(tmp_path, newcomers=["acme__new/v1"]).together["acme__new/v1"]
    )


def test_seeds_cannot_be_made_with_spaces(tmp_path: Path) -> None:
    for seed in (1, 2):
        answers = changed(factory.outputs("tuned", 12, 5), lambda text, s=seed: text + " " * s, "tuned")  # type: ignore[misc]
        system = {"kind": "response", "seed": seed}
        make_submission(tmp_path, name="acme/tuned", revision=f"s{seed}", answers=answers, system=system)
    assert "repeats acme__tuned/s1" in str(check_all(tmp_path, newcomers=["acme__tuned/s2"]).together["acme__tuned/s2"])


# ---------------------------------------------------------------- 3: a name stands for its content
def test_a_named_reference_has_its_answers(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="these are not the answers of this program's 'gemma-3-270m/instr"):
        make_submission(tmp_path, n=80, reference_name="gemma-3-270m/instruction")


@pytest.mark.parametrize("name", ["Gemma-3-270m/instruction", "gemma-3-270m/instructi\u043en", "gemma_3_270m/response"])
def test_a_name_that_is_taken_for_a_named_reference_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SubmissionError, match="reference.name: .* is taken for 'gemma-3-270m/"):
        make_submission(tmp_path, reference_name=name)


@pytest.mark.parametrize(
    "name",
    [
        *("Longest", "l\u043engest", "1ongest", "OpenAI:gpt", "embedd\u0435d", "Iongest", "|ongest", "opena1:x"),
        *("opena|:x", "l\u00f3ngest", "\u0142ongest", "o\u0440enai:x", "Anthrop1c:x"),
    ],
)
def test_a_name_that_is_taken_for_a_judge_is_refused(tmp_path: Path, name: str) -> None:
    judge = CoinJudge()
    judge.name = name
    with pytest.raises(SubmissionError, match="judge.name: .* is taken for"):
        make_submission(tmp_path, judge=judge)


@pytest.mark.parametrize("name", ["openai:gpt-\u0435", "mine:\u56db", "m\u00edne"])
def test_a_judge_is_named_in_plain_letters(tmp_path: Path, name: str) -> None:
    judge = CoinJudge()
    judge.name = name
    with pytest.raises(SubmissionError, match="judge.name: .* holds letters that are not ASCII"):
        make_submission(tmp_path, judge=judge)


@pytest.mark.parametrize("name", ["Alpaca_Eval", "alpaca-eval", "BUILTIN", "bui1tin"])
def test_a_name_that_is_taken_for_a_set_is_refused(tmp_path: Path, name: str) -> None:
    info = factory.metadata_for("a/b", "v1", {"kind": "base"}, factory.outputs("base", 12, 5), CoinJudge())
    with pytest.raises(SubmissionError, match="instruction_set.name: .* is taken for"):
        make_submission(tmp_path, instruction_set={**info["instruction_set"], "name": name})


def test_a_judge_named_like_another_submissions_is_found(tmp_path: Path) -> None:
    class Alike(CoinJudge):
        name = "openai:co1n"

    make_submission(tmp_path, name="acme/old", seed=2)
    make_submission(tmp_path, name="acme/new", seed=3, judge=Alike())
    found = check_all(tmp_path, newcomers=["acme__new/v1"]).together
    assert found == {"acme__new/v1": ["its judge is named like that of acme__old/v1, with other letters"]}


@pytest.mark.parametrize("control", ["empty", "constant", "echo"])
def test_a_control_has_the_controls_answers(tmp_path: Path, control: Any) -> None:
    system = {"kind": "control", "control": control}
    with pytest.raises(SubmissionError, match=f"system.control is {control}, but"):
        make_submission(tmp_path, name="acme/full", n=80, system=system)
    answers = control_answers(control, factory.instructions(80))
    own = [o.model_copy(update={"output": answers[o.instruction_id]}) for o in factory.outputs("c", 80, 1)]
    assert verify(make_submission(tmp_path, name="acme/c", n=80, system=system, answers=own)).badge == "rescored"


# ---------------------------------------------------------------- 4: one bad submission
def test_what_file_managers_leave_is_passed_over(tmp_path: Path) -> None:
    folder = make_submission(tmp_path)
    for place in (tmp_path, folder.parent):
        (place / ".DS_Store").write_bytes(b"x")
        (place / "Thumbs.db").write_bytes(b"x")
    assert [one.id for one in verify_all(tmp_path)] == ["acme__parrot/v1"]


BAD: dict[str, Callable[[Path], object]] = {
    "half written": lambda root: (root / "acme__half" / "v1").mkdir(parents=True),
    "left by an older submit": lambda root: shutil.copytree(root / "acme__good", root / ".submission-x" / "acme__good"),
    "a stray file": lambda root: (root / "notes.txt").write_text("x"),
    "a file for a revision": lambda root: (root / "acme__good" / "x.txt").write_text("x"),
    "broken scores": lambda root: (make_submission(root, name="b/b", seed=3) / "scores.json").write_bytes(b"{}"),
    "a link": lambda root: (root / "x__y").symlink_to(root / "acme__good"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_one_bad_submission_does_not_stop_the_board(tmp_path: Path, name: str) -> None:
    root = tmp_path / "submissions"
    make_submission(root, name="acme/good")
    BAD[name](root)
    built = build.build(tmp_path, cache=tmp_path / "cache")
    assert built.n_submissions == 1
    assert len(built.problems) >= 1
    assert b"acme/good" in built.files["README.md"]


def test_a_submission_is_staged_outside_and_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any rename leaves the old or the new submission in place."""
    root = tmp_path / "submissions"
    folder = make_submission(root)
    before = verify(folder).sha256
    seen: list[list[str]] = []
    real = os.replace

    def watched(source: Any, target: Any) -> None:
        real(source, target)
        seen.append(sorted(p.name for p in folder.parent.iterdir()))

    monkeypatch.setattr(os, "replace", watched)
    own, other = factory.outputs("parrot", 12, 8), factory.outputs("base", 12, factory.LOOKALIKE_SEED)
    metadata = factory.metadata_for("acme/parrot", "v1", {"kind": "base"}, other, CoinJudge())
    verdicts = factory.judge_all(CoinJudge(), own, other)
    write_submission(root, metadata, own, other, verdicts, replace=True)
    assert all(names == ["v1"] for names in seen)
    assert verify(folder).sha256 != before
    assert not [p for p in (*root.iterdir(), *tmp_path.iterdir()) if p.name.startswith(STAGING)]


def test_of_two_that_write_one_submission_the_second_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from implicit_if.leaderboards.verification import verify as verify_module

    real, waiting = verify_module.verify, [True]

    def slow(folder: Any, **options: Any) -> Any:
        if waiting and waiting.pop():  # while the first one is at it, the second one cannot get in
            with pytest.raises(TimeoutError):
                make_submission_within(tmp_path, 0.1)
        return real(folder, **options)

    def make_submission_within(root: Path, seconds: float) -> None:
        from implicit_if.harness.locks import locked
        from implicit_if.leaderboards.submitting import write as write_module

        with monkeypatch.context() as patch:
            patch.setattr(write_module, "locked", lambda path: locked(path, timeout=seconds))
            make_submission(root)

    monkeypatch.setattr(verify_module, "verify", slow)
    make_submission(tmp_path)
    with pytest.raises(UserError, match="exists"):
        make_submission(tmp_path)


# ---------------------------------------------------------------- 5: answers that are no language
@pytest.mark.parametrize("kind", ["token soup", "random letters", "random syllables"])
def test_answers_that_are_no_language_are_noted(tmp_path: Path, kind: str) -> None:
    import random

    rng = random.Random(4)
    soup = control_answers("token_soup", factory.instructions(80))
    made = {
        "token soup": lambda o: soup[o.instruction_id],
        "random letters": lambda o: " ".join("".join(rng.choices("qwzxkvjbu", k=6)) for _ in range(60)),
        "random syllables": lambda o: " ".join(rng.choice("kzmrt") + rng.choice("xqv") for _ in range(60)),
    }[kind]
    own = [o.model_copy(update={"output": made(o)}) for o in factory.outputs("wild", 80, 1)]
    (note,) = verify(make_submission(tmp_path, name="acme/wild", n=80, answers=own)).notes
    assert "of its words occur in the reference's answers: it may be no language" in note
    assert verify(make_submission(tmp_path, name="acme/tame", n=80, seed=3)).notes == ()


def test_a_language_that_is_none_is_noted_before_a_judge_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soup = control_answers("token_soup", factory.instructions(80))
    wild = [o.model_copy(update={"output": soup[o.instruction_id]}) for o in factory.outputs("wild", 80, 1)]
    asked: list[str] = []

    class Watching(LongestJudge):
        def judge(self, comparisons: Any) -> Iterator[Verdict]:
            asked.append(capsys.readouterr().err)
            return super().judge(comparisons)

    base = factory.outputs("base", 80, factory.LOOKALIKE_SEED)
    for outputs in (wild, factory.outputs("tame", 80, 3)):
        pairs = factory.pairs_of(outputs, base)
        judge_pairs(pairs, Watching(), tmp_path / f"{outputs[0].generator}.jsonl", "builtin", None, progress=False)
    assert "note: wild: only" in asked[0]
    assert "note: tame" not in asked[1]
