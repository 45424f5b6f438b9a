"""What shares a table, what shares a row, and what a reader is warned of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import factory
import numpy as np
import pytest
from board_samples import IDS, SHA, make_verified
from factory import LongestJudge, make_submission

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.comparing import cli as compare_command
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import cli as judge_command
from implicit_if.harness.outputs import save_outputs
from implicit_if.harness.storage import sha256_json
from implicit_if.leaderboards.boards.board import Board, make_boards
from implicit_if.leaderboards.boards.board_key import load_families
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.verify import verify

RNG = np.random.default_rng(3)


def only_board(*verified: Verified) -> Board:
    ((board, _),) = make_boards(verified, {})
    return board


@pytest.mark.parametrize(
    "other",
    [
        {"instruction_set": {"name": "other"}},
        {"instruction_set": {"revision": SHA["f"]}},
        {"reference": {"name": "base"}},
        {"reference": {"sha256": SHA["f"]}},
        {"reference": {"sha256": SHA["b"][:8] + "0" * 56}},
        {"judge": {"name": "longest"}},
        {"judge": {"fingerprint": SHA["f"]}},
        {"judge": {"orders": ["system_first", "reference_first"]}},
        {"lc": "alpaca_eval"},
        {"lc": None},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_numbers_with_another_set_reference_or_judge_never_share_a_table(other: dict[str, Any]) -> None:
    boards = make_boards([make_verified("a/one"), make_verified("a/two", **other)], {})
    assert [[row.first.metadata.name for row in board.rows] for board, _ in boards] in (
        [["a/one"], ["a/two"]],
        [["a/two"], ["a/one"]],
    )
    assert len({board.key.slug for board, _ in boards}) == 2


def test_another_version_shares_the_table_and_is_named() -> None:
    old = make_verified("a/old")
    old.scores["win_rate"] = old.scores["win_rate"].model_copy(
        update={"signature": dataclasses.replace(old.scores["win_rate"].settings, version="0.0.9")}
    )
    board = only_board(old, make_verified("a/new"))
    assert {version for row in board.rows for version in row.versions} >= {"0.0.9"}
    assert len(board.rows) == 2


def test_the_reference_s_own_row_says_that_it_is_the_reference() -> None:
    itself = make_verified("a/tuned", system={"kind": "instruction"}, value=50)
    itself = dataclasses.replace(itself, outputs_sha256=itself.metadata.reference.sha256)
    other = make_verified("a/rules", value=40)
    told = make_verified("a/told", system={"kind": "response"}, value=50, badge="self-reported")
    rows = only_board(itself, other, told).rows
    assert [row.label for row in rows] == ["rules paper", "response tuning", "instruction tuning (the reference)"]


def test_rows_come_by_base_model_then_kind_then_win_rate_with_controls_last() -> None:
    systems: list[dict[str, Any]] = [
        {"kind": "control", "control": "empty"},
        {"kind": "other"},
        {"kind": "proxy"},
        {"kind": "urial"},
        {"kind": "instruction"},
        {"kind": "response"},
        {"kind": "single_task", "task": "gsm"},
        {"kind": "rules", "preset": "paper"},
        {"kind": "base"},
    ]
    verified = [make_verified(f"a/s{i}", system=system, value=40) for i, system in enumerate(systems)]
    verified += [make_verified("a/mbpp", system={"kind": "single_task", "task": "mbpp"}, value=41)]
    verified += [make_verified("a/first", system={"kind": "other"}, base_model={"name": "Aardvark"})]
    random.Random(0).shuffle(verified)
    assert [row.label for row in only_board(*verified).rows] == [
        "other",
        "base",
        "rules paper",
        "mbpp",
        "gsm",
        "response tuning",
        "instruction tuning",
        "URIAL",
        "proxy tuning",
        "other",
        "control empty",
    ]


def test_seeds_become_one_row_with_mean_and_sd() -> None:
    values = RNG.random((3, len(IDS)))
    seeds = [
        make_verified(
            "a/s", f"v{i}", preferences=p, system={"kind": "response", "seed": i}, form={"avg_length": 10.0 * i}
        )
        for i, p in enumerate(values)
    ]
    (row,) = only_board(seeds[2], seeds[0], seeds[1]).rows
    means = 100 * values.mean(axis=1)
    assert [m.metadata.system.seed for m in row.members] == [0, 1, 2]
    assert row.win_rate.value == pytest.approx(means.mean())
    assert row.win_rate_sd == pytest.approx(np.std(means, ddof=1))
    assert row.win_rate.interval is not None
    assert row.win_rate.interval.low < means.mean() < row.win_rate.interval.high
    assert row.lc is not None
    assert row.lc.value == pytest.approx(means.mean() / 2)
    assert row.lc_sd == pytest.approx(np.std(means / 2, ddof=1))
    assert row.lc.interval is None
    assert row.form["avg_length"] == 10


def test_lc_over_seeds_has_the_interval_that_compare_gives(tmp_path: Path) -> None:
    seeds = [
        verify(
            make_submission(
                tmp_path / "submissions",
                name="acme/tuned",
                revision=f"s{seed}",
                n=80,
                seed=seed,
                judge=LongestJudge(),
                system={"kind": "response", "seed": seed},
                words=(30, 60 + 60 * seed),
            )
        )
        for seed in (1, 2, 3)
    ]
    (row,) = only_board(*seeds).rows
    save_outputs(tmp_path / "base.json", factory.outputs("base", 80, factory.LOOKALIKE_SEED))
    for seed in (1, 2, 3):
        save_outputs(tmp_path / f"{seed}.json", factory.outputs("tuned", 80, seed, (30, 60 + 60 * seed)))
        arguments = ("--reference", str(tmp_path / "base.json"), "--judge", "longest")
        assert factory.run(judge_command, str(tmp_path / f"{seed}.json"), *arguments) == 0
    stores, outputs = (
        ",".join(str(tmp_path / f"{s}{end}.json{extra}") for s in (1, 2, 3))
        for end, extra in ((".annotations", "l"), ("", ""))
    )
    arguments = ("--outputs", outputs, outputs, "--reference-outputs", str(tmp_path / "base.json"))
    out = tmp_path / "compared.json"
    assert factory.run(compare_command, f"a={stores}", f"b={stores}", *arguments, "--out", str(out)) == 0
    expected = json.loads(out.read_text())["length_controlled"]["systems"]["a"]["estimate"]
    assert row.lc is not None
    assert row.lc.interval is not None
    assert row.lc.value == pytest.approx(expected["value"], abs=1e-5)
    assert (row.lc.interval.low, row.lc.interval.high) == pytest.approx(tuple(expected["interval"]), abs=1e-5)


@pytest.mark.parametrize(
    "second",
    [
        {"system": {"kind": "response", "seed": 1}},  # the same seed twice
        {"system": {"kind": "response"}},  # no seed
        {"system": {"kind": "instruction", "seed": 2}},
        {"system": {"kind": "response", "seed": 2}, "base_model": {"name": "acme/base-7b"}},
        {"system": {"kind": "response", "seed": 2}, "dtype": "bfloat16"},
        {"system": {"kind": "response", "seed": 2}, "recipe": {"name": "response_ab_tags"}},
        {"system": {"kind": "response", "seed": 2}, "name": "a/other"},
        {"system": {"kind": "response", "seed": 2}, "badge": "self-reported"},
    ],
    ids=str,
)
def test_what_is_not_another_seed_of_the_same_system_has_a_row_of_its_own(second: dict[str, Any]) -> None:
    first = make_verified("a/s", "v1", system={"kind": "response", "seed": 1})
    board = only_board(first, make_verified(**{"name": "a/s", "revision": "v2"} | second))
    assert [len(row.members) for row in board.rows] == [1, 1]
    assert all(row.win_rate_sd is None for row in board.rows)


def test_the_weakest_badge_of_the_seeds_is_shown() -> None:
    one = make_verified("a/s", "v1", system={"kind": "response", "seed": 1}, badge="re-run")
    two = make_verified("a/s", "v2", system={"kind": "response", "seed": 2}, badge="recomputed")
    assert [row.badge for row in only_board(one, two).rows] == ["recomputed"]


def test_references_of_one_family_share_a_table_over_seeds(tmp_path: Path) -> None:
    (tmp_path / "references.yaml").write_text(
        f"families:\n  - name: lima\n    seeds: {{1: {SHA['b']}, 2: {SHA['d']}}}\n"
    )
    families = load_families(tmp_path)
    base = [
        make_verified("a/base", f"s{i}", system={"kind": "base"}, reference={"sha256": SHA[s]})
        for i, s in ((1, "b"), (2, "d"))
    ]
    tuned = [
        make_verified(
            "a/t", f"s{i}", system={"kind": "response", "seed": i}, reference={"name": f"n{i}", "sha256": SHA[s]}
        )
        for i, s in ((1, "b"), (2, "d"))
    ]
    crossed = make_verified("a/x", "s1", system={"kind": "response", "seed": 1}, reference={"sha256": SHA["d"]})
    boards = [board for board, _ in make_boards([*base, *tuned, crossed], families)]
    together = next(board for board in boards if board.key.reference == "lima")
    assert [(row.label, len(row.members)) for row in together.rows] == [("base", 2), ("response tuning", 2)]
    assert "ref:lima@" in str(together.key.signature())
    assert [row.first.id for board in boards if board is not together for row in board.rows] == [crossed.id]
    assert len(make_boards([*base, *tuned], {})) == 4


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("families: 3\n", "families"),
        ("families:\n  - {name: a, seeds: {1: zz}}\n", "pattern"),
        (f"families:\n  - {{name: a, seeds: {{1: {SHA['a']}, 2: {SHA['a']}}}}}\n", "the same answers"),
        (
            f"families:\n  - {{name: a, seeds: {{1: {SHA['a']}}}}}\n  - {{name: b, seeds: {{1: {SHA['a']}}}}}\n",
            "declared twice",
        ),
    ],
)
def test_wrong_families_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "references.yaml").write_text(text)
    with pytest.raises(UserError, match=wrong):
        load_families(tmp_path)


def test_ablations_have_a_table_of_their_own() -> None:
    rules = {"kind": "rules", "preset": "paper"}
    verified = [
        make_verified("a/base", system={"kind": "base"}),
        make_verified("a/rules", system=rules),
        make_verified("a/no-eos", system=rules | {"without": ["eos"]}),
        make_verified("a/eos", system=rules | {"only": ["eos"]}),
        make_verified("a/gsm", system={"kind": "single_task", "task": "gsm"}),
        make_verified("b/base", system={"kind": "base"}, base_model={"name": "without ablations"}),
    ]
    ((systems, ablation),) = make_boards(verified, {})
    assert [row.label for row in systems.rows] == ["base", "rules paper", "gsm", "base"]
    assert ablation is not None
    assert [row.label for row in ablation.rows] == ["base", "rules paper", "only eos", "without eos"]
    assert {row.base_model for row in ablation.rows} == {"acme/base-1b"}
    assert make_boards(verified[:2], {})[0][1] is None


def test_a_control_above_a_real_systems_interval_is_said() -> None:
    control = {"kind": "control", "control": "constant"}
    weak, strong = make_verified("a/weak", value=30), make_verified("a/strong", value=50)
    warnings = only_board(weak, strong, make_verified("c/constant", system=control, value=40)).warnings
    (warning,) = [w for w in warnings if "control" in w]
    assert "control constant (40.0 %) beats 1 real system beyond the interval: rules paper (a/weak)" in warning
    for value in (35.0, 20.0):  # at the interval's end, and below
        quiet = only_board(weak, strong, make_verified("c/constant", system=control, value=value)).warnings
        assert not [w for w in quiet if "control" in w]


def test_the_embedded_judge_is_labelled_and_notes_are_passed_on() -> None:
    board = only_board(make_verified(notes=("a maintainer's rerun does not agree",)))
    assert "not AlpacaEval win rates" in board.warnings[0]
    assert "acme__parrot/v1: a maintainer's rerun does not agree" in board.warnings
    (warning,) = only_board(make_verified(judge={"name": "longest"})).warnings
    assert warning == "LC differs from the win rate by more than LC's interval: rules paper. There lengths decide."


def test_a_board_says_where_the_prior_decides() -> None:
    """By a language model, so that the prior `llm` is the judge's; the verdicts do not go with the lengths."""
    (warning,) = only_board(make_verified(judge={"name": "openai:x"}, lc="offline(llm,c0.3)")).warnings
    assert warning == (
        "LC differs from the win rate by more than LC's interval: rules paper (50.0 by the verdicts alone). There the "
        "prior llm decides, and not the verdicts."
    )
    (warning,) = only_board(make_verified(judge={"name": "openai:x"}, lc="offline(weak)")).warnings
    assert "There lengths decide." in warning


def test_controls_and_self_reported_rows_have_no_tie_group() -> None:
    board = only_board(
        make_verified("a/one"),
        make_verified("a/told", badge="self-reported", value=99),
        make_verified("c/empty", system={"kind": "control", "control": "empty"}),
    )
    assert board.groups == {"a__one/v1": 1}
    assert any("self-reported" in w for w in board.warnings)


def test_order_of_submissions_changes_nothing() -> None:
    verified = [make_verified(f"a/s{i}", preferences=RNG.random(20)) for i in range(9)]
    shuffled = random.Random(1).sample(verified, 9)
    assert only_board(*verified) == only_board(*shuffled)


def test_other_instructions_under_one_revision_are_an_error() -> None:
    other = tuple(sorted([*IDS[1:], "f" * 16]))
    with pytest.raises(UserError, match=r"a__one.*a__two|a__two.*a__one"):
        only_board(make_verified("a/one"), make_verified("a/two", ids=other))


def test_several_tasks_are_on_boards_of_their_own() -> None:
    first, other = make_verified("a/b"), make_verified("a/b", "v2", task="mt_winrate")
    boards = [board for board, _ in make_boards([first, other], {})]
    assert [board.key.task for board in boards] == ["alpaca_winrate", "mt_winrate"]
    assert [str(board.key.signature()).partition("|")[0] for board in boards] == [
        "task:alpaca_winrate",
        "task:mt_winrate",
    ]
    new = ("task", "answers")
    old = [getattr(boards[0].key, name) for name in boards[0].key.__dataclass_fields__ if name not in new]
    assert boards[0].key.slug == sha256_json(old)[:12]  # as version 0.1 named its files
    assert boards[0].key.slug != boards[1].key.slug


SETTINGS = {"template": {"name": "tulu", "sha256": "f" * 64}, "generation": {"max_gen_toks": 256, "do_sample": False}}


def test_a_row_over_seeds_names_the_system_instruction() -> None:
    seeds = [
        make_verified(
            "a/s", f"v{i}", system={"kind": "response", "seed": i}, system_instruction="Be brief.", dtype="float32"
        )
        for i in (1, 2)
    ]
    (row,) = only_board(*seeds).rows
    told = AnswerSettings(system_instruction=hashlib.sha256(b"Be brief.").hexdigest()[:8], dtype="float32")
    assert row.win_rate.settings.answers == told
    assert row.lc is not None
    assert row.lc.settings.answers == told


@pytest.mark.parametrize(
    "other",
    [
        {"template": {"name": "tulu", "sha256": "e" * 64}},
        {"generation": {"max_gen_toks": 512, "do_sample": False}},
        {"generation": {"max_gen_toks": 256, "do_sample": True, "temperature": 0.7}},
        {"system_instruction": "Be brief."},
        {"template": None},
    ],
)
def test_answers_under_other_settings_have_a_table_of_their_own(other: dict[str, Any]) -> None:
    control = make_verified("a/echo", system={"kind": "control", "control": "echo"})
    boards = [
        main
        for main, _ in make_boards(
            [make_verified("a/one", **SETTINGS), make_verified("a/two", **SETTINGS | other), control], {}
        )
    ]
    assert [[row.first.metadata.name for row in board.rows] for board in boards] in (
        [["a/one", "a/echo"], ["a/two", "a/echo"]],
        [["a/two", "a/echo"], ["a/one", "a/echo"]],
    ), "a control, which no setting shapes, stands in both"
    assert len({board.key.slug for board in boards}) == 2
    assert len({str(board.key.signature()) for board in boards}) == 2


def test_types_of_weights_share_a_table_and_are_told_by_the_name() -> None:
    rows = only_board(
        make_verified("a/one", dtype="float32", **SETTINGS),
        make_verified("a/two", dtype="bfloat16", **SETTINGS),
        make_verified("a/three", **SETTINGS),
    ).rows
    assert {row.first.metadata.name: row.label for row in rows} == {
        "a/one": "rules paper",
        "a/two": "rules paper, bfloat16",
        "a/three": "rules paper",
    }
