"""Judge cards: what is measured, what is shown, and that the committed pages are up to date."""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from judging_fakes import FakeJudge

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import Comparison, known_judges
from implicit_if.harness.judging.cards import cli
from implicit_if.harness.judging.cards.measurements import Measured
from implicit_if.harness.judging.cards.page import about, card_names, cost_text, render_card
from implicit_if.harness.judging.cards.pairs import read_labelled
from implicit_if.harness.outputs import Output, save_outputs

ROOT = Path(__file__).parents[4]
CARDS = ROOT / "docs" / "judges"

Run = Callable[..., int]


# The committed pages


def test_every_shipped_judge_has_a_card() -> None:
    names = set(card_names())
    assert names == set(known_judges()) == {about(name).title.partition(":")[0] for name in names}
    assert {path.stem for path in CARDS.glob("*.md")} == names


def test_the_committed_cards_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    pages = runpy.run_path(str(ROOT / "tools" / "judge_cards.py"))["pages"]()
    stale = [name for name, text in pages.items() if (CARDS / f"{name}.md").read_text(encoding="utf-8") != text]
    assert not stale, "run python tools/judge_cards.py"


def test_cards_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys = {name: render_card(name) for name in card_names()}
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    assert {name: render_card(name) for name in card_names()} == with_keys


@pytest.mark.parametrize("name", ["weighted-gpt-4.1-mini", "openai", "skywork-qwen3-8b", "sheet"])
def test_what_was_not_measured_is_said_and_never_made_up(name: str) -> None:
    page = render_card(name)
    assert page.count("**Not measured here**") >= 3
    assert f"implicit-if judge-card {about(name).title} --labelled" in page
    assert "## Do not use it" in page


def test_measurements_are_of_the_shipped_judge() -> None:
    from implicit_if.harness.judging import get_judge

    for path in CARDS.glob("*.json"):
        measured = Measured.model_validate_json(path.read_text(encoding="utf-8"))
        assert measured.fingerprint == get_judge(path.stem).fingerprint, f"measure {path.stem} again"


def test_a_paid_judges_price_comes_from_the_list() -> None:
    page = render_card("weighted-gpt-4.1-mini")
    assert "$0.40 in, $1.60 out for a million tokens" in page
    assert "| presentation orders | both, averaged |" in page


def test_another_model_gets_its_familys_card() -> None:
    page = render_card("openai:gpt-4o-mini")
    assert page.startswith("# Judge card: `openai:gpt-4o-mini`")
    assert "$0.15 in" in page


# Measuring


@pytest.fixture
def card(tmp_path: Path) -> Run:
    """Runs `implicit-if judge-card` as the command line does."""

    def run(judge: str, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        return cli.run(parser.parse_args([judge, *arguments]))

    return run


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Four systems against one; the label says whether the system's answer has the word "good"."""
    rows = []
    for system in range(4):
        for n in range(10):
            good = n < 2 + 2 * system
            rows.append(
                {
                    "instruction": f"Do {n}",
                    "output_1": "the reference, which is rather long",
                    "output_2": f"{'good' if good else 'bad'} {system}",
                    "preference": 1.9 if good else 1.1,
                    "generator_2": f"system {system}",
                }
            )
    rows.append({**rows[0], "preference": None})
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> list[str]:
    texts = [f"Instruction {n}" for n in range(6)]
    (tmp_path / "set.json").write_text(json.dumps([{"instruction": text} for text in texts]))
    for name, answer in (("a", "a good and rather long answer"), ("b", "short")):
        rows = [Output(instruction=i, output=f"{answer} {i}", generator=f"system {name}") for i in texts]
        save_outputs(tmp_path / f"{name}.json", rows)
    paths = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    return ["--answers", *paths, "--instructions", str(tmp_path / "set.json")]


def knows_good(c: Comparison) -> float:
    """Right about "good" but for the first instruction, and fond of what it sees first."""
    right = 0.8 if "good" in c.first else 0.2
    wrong = c.instruction == "Do 0"
    return min(1.0, (1 - right if wrong else right) + 0.15)


def test_agreement_bias_controls_time_and_cost(
    card: Run, labelled: Path, answers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = FakeJudge(knows_good, price=0.001)
    monkeypatch.setattr(cli, "get_judge", lambda spec, **options: judge)
    page = tmp_path / "card.md"
    measuring = ["--labelled", f"mine={labelled}", *answers, "--machine", "a test", "--out", str(page)]
    assert card("openai:fake", *measuring) == 0
    measured = Measured.model_validate_json(page.with_suffix(".json").read_text())
    (agreement,) = measured.agreement
    # 20 pairs of 40 have an answer with "good", 4 of them about "Do 0"; where neither has it, both orders give a tie
    assert agreement.accuracy is not None
    assert (agreement.accuracy.value, agreement.accuracy.n) == (80.0, 20)
    assert agreement.longest == 0.0  # the reference is longer always
    assert agreement.spearman == 1.0
    assert agreement.n_systems == 4
    assert agreement.position_bias is not None
    assert agreement.position_bias.value == pytest.approx(100 * expected_bias(labelled), abs=0.01)
    assert measured.controls is not None
    rows = measured.controls.rows
    assert list(rows) == [
        "empty answer",
        "constant answer",
        "echo of the instruction",
        "echo with a lead-in",
        "template with the instruction's words",
        "token soup",
        "another instruction's answer",
        "instruction in quotation marks",
        "echo and five other instructions' answers",
        "first sentence looped",
        "polite refusal",
        "instruction translated word by word",
        "plausible answer to another question",
        "random words",
        "longer of the two",
        "system b",
    ]
    assert rows["empty answer"].value == rows["system b"].value < 30
    assert rows["longer of the two"].value == 50  # system a's own answers: identical, a tie
    assert measured.dollars == pytest.approx(0.002)  # two verdicts a comparison
    assert measured.seconds is not None
    text = page.read_text()
    for part in (
        "| mine (1 left out: null) | 20 | 80.0 |",
        "(a test)",
        "$0.002",
        "| system b |",
        "Points gained by being shown first",
    ):
        assert part in text
    assert "Not measured" not in text

    asked = len(judge.asked)
    page.unlink()
    assert card("openai:fake", "--out", str(page)) == 0  # from what lies beside it
    assert len(judge.asked) == asked
    assert page.read_text() == text


def expected_bias(labelled: Path) -> float:
    pairs = [row for row in json.loads(labelled.read_text()) if row["preference"] is not None]
    gains = []
    for row in pairs:
        first = knows_good(Comparison("", row["instruction"], row["output_2"], row["output_1"]))
        second = 1 - knows_good(Comparison("", row["instruction"], row["output_1"], row["output_2"]))
        gains.append(first - second)
    return sum(gains) / len(gains)


def test_a_control_that_beats_a_system_is_named(card: Run, answers: list[str], tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    card("longest", *answers, "--out", str(page))
    assert (
        "**Beyond the interval above `system b`, a real system: constant answer, echo with a lead-in, template with"
        in page.read_text()
    )


def test_a_page_that_is_no_card_is_left_alone(card: Run, tmp_path: Path) -> None:
    page = tmp_path / "notes.md"
    page.write_text("# Notes\n")
    with pytest.raises(UserError, match="holds no card"):
        card("longest", "--out", str(page))
    assert page.read_text() == "# Notes\n"


def test_a_dry_run_asks_nothing(
    card: Run,
    labelled: Path,
    answers: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge = FakeJudge(knows_good, paid=True, price=0.001)
    monkeypatch.setattr(cli, "get_judge", lambda spec, **options: judge)
    assert card("openai:fake", "--labelled", f"mine={labelled}", *answers, "--dry-run") == 0
    assert judge.asked == []
    captured = capsys.readouterr()
    assert "80 calls" in captured.err
    assert captured.err.count("estimated cost") == 17  # the labelled set and sixteen rows of controls


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no row has a preference"),
        ("{", "not JSON"),
        ('[{"instruction": "a", "output_1": "b", "output_2": "c"}]', "not a labelled set"),
        ('[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 7}]', "not a labelled set"),
    ],
)
def test_malformed_labels(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_labelled(path)


def test_labels_are_read_from_json_lines_and_0_is_a_tie(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"instruction": f"i{p}", "output_1": "a", "output_2": "b", "preference": p})
            for p in (1, 2, 0, 1.25)
        )
    )
    assert read_labelled(path).labels == [0.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"output_2": None}, "1 rows without a preference or a text are left out: row 2"),
        ({"instruction": None}, "1 rows without a preference or a text are left out: row 2"),
        ({"preference": None}, "1 rows without a preference or a text are left out: row 2"),
        ({}, "1 rows repeat an earlier one, which counts once: row 2"),
        ({"preference": 2}, "1 rows repeat an earlier one, which counts once: row 2"),
    ],
)
def test_rows_that_do_not_count_are_named(
    card: Run, tmp_path: Path, change: dict[str, object], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"instruction": "i", "output_1": "aaa", "output_2": "b", "preference": 1, "generator_2": "s"}
    path, page = tmp_path / "labels.json", tmp_path / "card.md"
    path.write_text(json.dumps([row, row | change, row | {"generator_2": "t"}]))
    assert card("longest", "--labelled", f"mine={path}", "--out", str(page)) == 0
    assert f"{path}: {note}\n" in capsys.readouterr().err
    (found,) = Measured.model_validate_json(page.with_suffix(".json").read_text()).agreement
    assert (found.accuracy and found.accuracy.n, found.left_out + found.repeated) == (2, 1)
    assert "1 left out: null)" in page.read_text() or "1 repeated)" in page.read_text()


@pytest.mark.parametrize("text", [7, ["a"], {"a": 1}])
def test_a_text_that_is_none_is_named(tmp_path: Path, text: object) -> None:
    path = tmp_path / "labels.json"
    row = {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1}
    path.write_text(json.dumps([row, row | {"output_2": text}]))
    with pytest.raises(UserError, match="row 2: not a labelled set"):
        read_labelled(path)


@pytest.mark.parametrize(("wins", "majority"), [(0, 100.0), (3, 62.5), (8, 100.0)])
def test_a_judge_that_knows_only_the_majority_has_kappa_0(
    card: Run, tmp_path: Path, wins: int, majority: float
) -> None:
    """The reference is the longer one always."""
    path, page = tmp_path / "labels.json", tmp_path / "card.md"
    rows = [
        {"instruction": f"i{n}", "output_1": "long", "output_2": "s", "preference": 2 if n < wins else 1}
        for n in range(8)
    ]
    path.write_text(json.dumps(rows))
    card("longest", "--labelled", f"mine={path}", "--out", str(page))
    (found,) = Measured.model_validate_json(page.with_suffix(".json").read_text()).agreement
    assert found.majority == majority
    assert found.kappa in (0.0, None)


def test_a_judge_of_ones_own_has_its_configuration_on_the_card(
    card: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = tmp_path / "mine.jinja"
    prompt.write_text("{% block user %}{{ instruction }} {{ first }} {{ second }}: m or M?{% endblock %}")
    config = tmp_path / "mine.yaml"
    config.write_text(f"backend: openai\nargument: some-model\nprompt: {prompt}\nmax_chars: 5000\n")
    assert card(str(config)) == 0
    page = capsys.readouterr().out
    assert hashlib.sha256(prompt.read_bytes()).hexdigest()[:8] in page
    assert "| texts are cut at | 5,000 characters" in page
    assert "list price" not in page


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.1371, "140 ms"), (0.0042, "4.2 ms"), (0.9996, "1000 ms"), (1.26, "1.3 s"), (137.0, "140 s")],
)
def test_time_has_two_digits_and_no_exponent(seconds: float, told: str) -> None:
    measured = Measured(judge="x", fingerprint="0" * 64, seconds=seconds)
    assert cost_text(measured).startswith(f"{told} of wall time")


def test_wrong_arguments(card: Run, answers: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to judge"):
        card("longest", "--dry-run")
    with pytest.raises(UserError, match="NAME=VALUE"):
        card("longest", "--labelled", "labels.json")
    with pytest.raises(UserError, match="Did you mean 'longest'"):
        card("longst")
    with pytest.raises(UserError, match=r"to no instruction of 'builtin'\. Name their set: --instructions .*\.json"):
        card("longest", *answers[:3])
    (tmp_path / "card.json").write_text('{"judge": 1}')
    with pytest.raises(UserError, match="Delete it and measure again"):
        card("longest", "--out", str(tmp_path / "card.md"))


def test_without_anything_the_card_is_printed(card: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert card("reward:some/model") == 0
    assert capsys.readouterr().out.startswith("# Judge card: `reward:some/model`")
