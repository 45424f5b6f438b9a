"""AlpacaEval's own length control: equal to alpaca-eval 0.6.6 on its own terms, sound where that is not.

The hub's file may not be shipped, so the tests make one of its shape, and hand the same file to alpaca-eval.
"""

from __future__ import annotations

import csv
import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.length_control import alpaca_eval_glm

M = 200
RNG = np.random.default_rng(0)
DIFFICULTY = RNG.normal(0, 1.6, M)
REFERENCE = RNG.integers(300, 3000, M)
SYSTEM = RNG.integers(100, 2000, M)
_DELTA = REFERENCE - SYSTEM
_P = 1 / (1 + np.exp(-(-1.7 * np.tanh(_DELTA / _DELTA.std()) + DIFFICULTY - 1)))
PREFERENCES = np.where(RNG.random(M) < _P, 0.98, 0.01)


@pytest.fixture
def gamed_csv(tmp_path: Path) -> Path:
    path = tmp_path / "df_gamed.csv"
    rng = np.random.default_rng(1)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
        )
        for model, shift in (("concise", 0.8), ("verbose", -0.6)):
            for i in range(M):
                delta = rng.normal(shift, 1)
                p = 1 / (1 + np.exp(-(-1.6 * np.tanh(delta) + 0.8 * DIFFICULTY[i])))
                preference: Any = "" if i == 7 else float(rng.random() < p)
                writer.writerow([preference, i, delta, DIFFICULTY[i], False, model])
    return path


def theirs(gamed_csv: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    import pandas as pd
    import sklearn

    with sklearn.config_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("alpaca_eval.metrics.glm_winrate")
        monkeypatch.setattr(module, "hf_hub_download", lambda **_: str(gamed_csv))
        table = pd.DataFrame(
            {
                "preference": PREFERENCES + 1,
                "output_1": ["r" * n for n in REFERENCE],
                "output_2": ["s" * n for n in SYSTEM],
                "generator_1": "reference",
                "generator_2": "system",
                "annotator": "judge",
            }
        )
        result = module.get_length_controlled_winrate(table, save_weights_dir=None)
    return float(result["length_controlled_winrate"])


def ours(gamed_csv: Path, rows: list[int], **options: Any) -> Any:
    gamed = alpaca_eval_glm.load_gamed(gamed_csv)
    return alpaca_eval_glm.alpaca_eval_length_controlled(
        PREFERENCES[rows], SYSTEM[rows], REFERENCE[rows], rows, gamed, **{"n_resamples": 0, **options}
    )


def test_equals_alpaca_eval(gamed_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ours(gamed_csv, list(range(M))).value == pytest.approx(theirs(gamed_csv, monkeypatch), abs=1e-9)


def test_shuffled_rows_change_no_bit(gamed_csv: Path) -> None:
    shuffled = [int(i) for i in np.random.default_rng(2).permutation(M)]
    assert ours(gamed_csv, shuffled) == ours(gamed_csv, list(range(M)))


def test_missing_rows_hardly_matter(gamed_csv: Path) -> None:
    kept = [i for i in range(M) if i % 20]
    estimate = ours(gamed_csv, kept, n_expected=M)
    assert estimate.value == pytest.approx(ours(gamed_csv, list(range(M))).value, abs=2)
    assert (estimate.n_judged, estimate.n_expected) == (190, M)


def test_equal_lengths_do_not_crash(gamed_csv: Path) -> None:
    estimate = alpaca_eval_glm.alpaca_eval_length_controlled(
        PREFERENCES, REFERENCE, REFERENCE, range(M), alpaca_eval_glm.load_gamed(gamed_csv), n_resamples=0
    )
    assert estimate.value == pytest.approx(100 * PREFERENCES.mean(), abs=3)


def test_bootstrap_interval(gamed_csv: Path) -> None:
    estimate = ours(gamed_csv, list(range(M)), n_resamples=50)
    low, high = estimate.interval.ends
    assert low < estimate.value < high
    # a share of 200 coins would have 3.5; length control cannot know much more
    assert 1.5 < estimate.standard_error < 6
    assert estimate == ours(gamed_csv, list(range(M)), n_resamples=50)


def test_sklearns_settings_are_left_alone(gamed_csv: Path) -> None:
    import sklearn

    with sklearn.config_context(enable_metadata_routing=False):
        ours(gamed_csv, list(range(M)))
        assert not sklearn.get_config()["enable_metadata_routing"]


def test_too_few_rows_have_no_value(gamed_csv: Path) -> None:
    assert ours(gamed_csv, [0, 1, 2]).value is None


def test_bad_input_is_refused(gamed_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 to 199, each once"):
        ours(gamed_csv, [0, 1, 2, 3, 3])
    with pytest.raises(UserError, match=r"df_gamed\.csv"):
        alpaca_eval_glm.load_gamed(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="Expected a CSV with the columns index"):
        alpaca_eval_glm.load_gamed(tmp_path / "other.csv")
    lines = gamed_csv.read_text().splitlines()
    gamed_csv.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(UserError, match="in order"):
        alpaca_eval_glm.load_gamed(gamed_csv)


def test_positions() -> None:
    assert alpaca_eval_glm.positions_of(["b", "a"], ["a", "b", "c"]) == [1, 0]
    with pytest.raises(UserError, match="1 of 2 instructions are not in AlpacaEval, the first is 'x'"):
        alpaca_eval_glm.positions_of(["x", "a"], ["a", "b"])


def test_no_hub_file_in_an_empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert alpaca_eval_glm.find_gamed() is None
    folder = tmp_path / "datasets--tatsu-lab--alpaca_eval"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "df_gamed.csv").write_text("x")
    assert alpaca_eval_glm.find_gamed() == folder / "snapshots" / "abc" / "df_gamed.csv"
