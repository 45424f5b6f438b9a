"""Tie groups: the tests behind them against scipy and `harness.stats`, the groups against a loop."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.comparing.loading import Seed
from implicit_if.harness.comparing.preference_table import JudgedSystem, PreferenceTable
from implicit_if.harness.comparing.report import make_report
from implicit_if.harness.stats.seeds import Part, seed_part
from implicit_if.harness.stats.tie_groups import Sample, paired_p, tie_groups

RNG = np.random.default_rng(7)
NO_SEEDS = Part(0.0, 0.0, 1)


def sample(preferences: object) -> Sample:
    values = np.atleast_2d(np.asarray(preferences, dtype=float))
    return Sample(100 * float(values.mean()), values)


def coin_p(differences: np.ndarray) -> float:
    """Student's p with a win and a loss more, by scipy; differences of whole verdicts in percent."""
    from scipy.stats import t

    more = [*differences.tolist(), 100.0, -100.0]
    error = max(np.std(more) / np.sqrt(len(more)), np.std(differences, ddof=1) / np.sqrt(len(differences)))
    return float(2 * t.sf(abs(np.mean(more)) / error, len(differences) - 1))


def test_p_values_are_scipys() -> None:
    values = 100.0 * (RNG.random((6, 40)) < 0.4)
    mine = paired_p(values, [NO_SEEDS] * 6, 1)
    assert mine == pytest.approx([coin_p(values[1] - other) for other in values[2:]], rel=1e-9)


def test_p_values_agree_with_the_sign_flips_of_compare() -> None:
    """Also where one system hardly ever wins, and where every difference is the same."""
    none = np.zeros(80)
    for wins, losses in ((3, 0), (5, 0), (6, 0), (9, 2), (20, 8), (40, 38)):
        other = np.concatenate([np.ones(wins), -np.ones(losses), np.zeros(80 - wins - losses)])
        a, b = np.maximum(other, 0), np.maximum(-other, 0)
        mine = float(paired_p(100 * np.stack([a, b]), [NO_SEEDS] * 2, 0)[0])
        assert mine == pytest.approx(stats.compare(a, b).p_value, rel=0.3)
    ones = 100 * np.stack([np.ones(6), np.zeros(6)])
    assert paired_p(ones, [NO_SEEDS] * 2, 0)[0] == pytest.approx(stats.compare(ones[0] / 100, none[:6]).p_value)


def test_p_values_over_seeds_are_those_of_compare() -> None:
    systems = [np.clip(RNG.random((1, 30)) + RNG.normal(0, 0.2, (s, 30)), 0, 1) for s in (3, 1, 2, 5)]
    parts = [seed_part(100 * s) if len(s) > 1 else NO_SEEDS for s in systems]
    means = 100 * np.stack([s.mean(axis=0) for s in systems])
    mine = paired_p(means, parts, 0)
    assert mine == pytest.approx([stats.compare(systems[0], other).p_value for other in systems[1:]], rel=1e-9)


def test_edges() -> None:
    equal = np.tile(100 * RNG.random(10), (2, 1))
    assert paired_p(equal, [NO_SEEDS] * 2, 0).tolist() == [1.0]
    shifted = np.array([[50.0] * 4, [25.0] * 4])
    assert 0.1 < paired_p(shifted, [NO_SEEDS] * 2, 0)[0] < 0.3  # of 4 equal differences, 2 in 16 sign patterns
    assert paired_p(np.array([[1.0], [2.0]]), [NO_SEEDS] * 2, 0).tolist() == [1.0]
    assert paired_p(equal, [NO_SEEDS] * 2, 1).tolist() == []
    assert tie_groups({}) == {}


def test_what_differs_is_apart_and_what_does_not_is_together() -> None:
    noise = RNG.normal(0, 0.02, (4, 100))
    base = RNG.random(100) * 0.2
    samples = {
        "low": sample(base + 0.1),
        "high b": sample(np.clip(base + 0.6 + noise[0], 0, 1)),
        "high a": sample(np.clip(base + 0.6 + noise[1], 0, 1)),
        "middle": sample(np.clip(base + 0.3 + noise[2], 0, 1)),
    }
    assert tie_groups(samples) == {"high a": 1, "high b": 1, "middle": 2, "low": 3}
    assert list(tie_groups({name: sample([0.5, 0.5]) for name in "ba"})) == ["a", "b"]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), k=st.integers(1, 12))
def test_groups_are_those_of_a_plain_loop_in_any_order(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    samples = {f"s{i}": sample(rng.random(25) < rng.random()) for i in range(k)}
    order = sorted(samples, key=lambda name: (-samples[name].win_rate, name))
    expected: dict[str, int] = {}
    left, group = order, 1
    while left:
        opener, *others = left
        p_values = [coin_p(100 * (samples[opener].preferences[0] - samples[o].preferences[0])) for o in others]
        ranked = sorted(range(len(others)), key=lambda i: p_values[i])
        rejected = set()
        for rank, i in enumerate(ranked):
            if p_values[i] * (len(others) - rank) > 0.05:
                break
            rejected.add(i)
        end = next((i for i in range(len(others)) if i in rejected), len(others))
        expected |= dict.fromkeys([opener, *others[:end]], group)
        left, group = others[end:], group + 1
    shuffled = list(samples)
    rng.shuffle(shuffled)
    assert tie_groups({name: samples[name] for name in shuffled}) == expected


def test_compare_and_boards_group_alike() -> None:
    """40 random tables, of which an earlier algorithm of `compare` grouped 18 in another way."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        quality = rng.random(6)
        values = {f"s{i}": (rng.random(40) < q).astype(float) for i, q in enumerate(quality)}
        found = make_report(table_of(values)).groups
        assert {name: rank for rank, names in enumerate(found, start=1) for name in names} == tie_groups(
            {name: sample(v) for name, v in values.items()}
        )


@pytest.mark.parametrize("k", [5, 33, 50, 500])
def test_tables_of_any_size_are_told_apart(k: int) -> None:
    """Half of the systems win 30 %, half 70 % of 805: no table is so large that it ties them all."""
    rng = np.random.default_rng(k)
    quality = np.where(np.arange(k) % 2, 0.3, 0.7)
    samples = {f"s{i:03}": sample(rng.random(805) < q) for i, q in enumerate(quality)}
    groups = tie_groups(samples)
    strong = {groups[name] for name in list(samples)[0::2]}
    weak = {groups[name] for name in list(samples)[1::2]}
    assert max(strong) < min(weak)


def test_pairs_of_many_systems_keep_small_p_values() -> None:
    """With 33 systems, 528 pairs: the smallest p-value of 9999 flips times 528 is above 0.05."""
    rng = np.random.default_rng(1)
    values = {f"s{i:02}": (rng.random(80) < (0.2 if i else 0.9)).astype(float) for i in range(33)}
    report = make_report(table_of(values))
    assert all(p < 0.001 for (a, _), p in report.adjusted.items() if a == "s00")  # type: ignore[operator]
    assert report.groups[0] == ["s00"]


def table_of(values: dict[str, np.ndarray]) -> PreferenceTable:
    n = len(next(iter(values.values())))
    ids = [f"{i:016x}" for i in range(n)]
    seed = Seed(Path("x"), "longest", "0" * 64, ("none",), {}, frozenset(ids), dict.fromkeys(ids, "0" * 64))
    systems = [JudgedSystem(name, [seed]) for name in values]
    return PreferenceTable(systems, ids, frozenset(ids), {name: np.atleast_2d(v) for name, v in values.items()})


def test_a_thousand_systems_take_seconds() -> None:
    quality = np.linspace(0.05, 0.6, 1000)[:, None]
    values = np.clip(quality + 0.4 * RNG.random((1000, 805)), 0, 1)
    started = time.process_time()
    groups = tie_groups({f"s{i}": sample(row) for i, row in enumerate(values)})
    assert time.process_time() - started < 20  # all pairs with permutations would take hours
    assert len(set(groups.values())) > 10
