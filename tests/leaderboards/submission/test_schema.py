from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from implicit_if import leaderboards
from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.storage import yaml_bytes
from implicit_if.leaderboards.submission.maintainer_files import within
from implicit_if.leaderboards.submission.migrations import migrate
from implicit_if.leaderboards.submission.schema import Metadata, json_schema, metadata_dict

SIGNATURE = "set:x|n:10|ref:r@01234567|judge:j@01234567|orders:1|v:1"


def valid() -> dict[str, Any]:
    reference = factory.outputs("base", 12, 5)
    made = factory.metadata_for("acme/parrot", "v1", {"kind": "base"}, reference, factory.CoinJudge())
    return {**made, "files": {"scores.json": "0" * 64}}


def changed(path: str, value: Any) -> dict[str, Any]:
    metadata = valid()
    *parents, last = path.split(".")
    target = metadata
    for name in parents:
        target = target[name]
    target[last] = value
    return metadata


def test_the_shipped_json_schema_is_the_models() -> None:
    shipped = Path(str(leaderboards.__file__)).with_name("submission.schema.json")
    assert shipped.read_bytes() == json_schema(), (
        "python -m implicit_if.leaderboards.submission.schema > submission.schema.json"
    )


def test_metadata_survive_yaml() -> None:
    metadata = Metadata.model_validate(valid())
    data = yaml_bytes(metadata_dict(metadata))
    assert Metadata.model_validate(yaml.safe_load(data)) == metadata
    assert data == yaml_bytes(metadata_dict(Metadata.model_validate(yaml.safe_load(data))))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("licens", "MIT", "Did you mean 'licence'"),
        ("judge.finger_print", "x", "Did you mean 'fingerprint'"),
        ("system.kind", "rule", "Input should be 'base'"),
        ("system.task", "gsm", "if and only if kind is single_task"),
        ("system.without", ["eos"], "are for kind rules"),
        ("judge.orders", ["system_first"], "both orders"),
        ("schema_version", 3, "Input should be 2"),
        ("schema_version", "2", "Input should be 2"),
        ("instruction_set.n", 10**30, "less than or equal"),
        ("instruction_set.n", 10**6, "less than or equal"),
        ("generation.x", float("nan"), "finite"),
        ("generation.x", 10**40, "less than or equal"),
        ("generation.x", {"deep": 1}, "valid"),
        ("contact", "a\nb", "visible"),
        ("contact", "\u202egnp", "visible"),
        ("contact", "x" * 201, "at most 200"),
        ("links", ["http://example.org"], "https"),
        ("links", ["https://user:key@example.org"], "https"),
        ("links", ["javascript:alert(1)"], "https"),
        ("links", ['https://example.org/"onload='], "quotes"),
        ("reference.sha256", "A" * 64, "pattern"),
    ],
)
def test_wrong_values_are_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Metadata.model_validate(changed(path, value))
    assert message in str(error.value)


NAMES = [
    "acme",
    "a/b/c",
    "/b",
    "a/",
    "a/..",
    "../a",
    "a__b/c",
    "a/b__c",
    "a b/c",
    "a/b.",
    ".a/b",
    "a/b\n",
    "con/x",
    "a/nul",
]


@pytest.mark.parametrize("name", [*NAMES, "é/x", "a/" + "b" * 97, "a/b--c", "a\\b/c", "a/b:c"])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Metadata.model_validate(changed("name", name))
    if "/" not in name:
        with pytest.raises(ValidationError):
            Metadata.model_validate(changed("revision", name.replace("acme", "..")))


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_accepted_name_is_one_folder_deep_and_no_more(org: str, model: str) -> None:
    try:
        metadata = Metadata.model_validate(changed("name", f"{org}/{model}"))
    except ValidationError:
        return
    place = Path("root") / metadata.id
    assert place.parts == ("root", f"{org}__{model}", "v1")
    assert place.parent.name.isascii()


def test_old_metadata_are_migrated_step_by_step() -> None:
    def rename(value: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in value.items() if k != "license"}, "licence": value["license"]}

    def add(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "added": True}

    steps: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: rename, 2: add}
    old = {"schema_version": 1, "license": "MIT"}
    assert migrate(old, steps, newest=3) == {"schema_version": 3, "licence": "MIT", "added": True}
    assert old == {"schema_version": 1, "license": "MIT"}
    assert migrate({"schema_version": 3, "x": 1}, steps, newest=3) == {"schema_version": 3, "x": 1}


@pytest.mark.parametrize("version", [None, "1", True, 0, -5, 99, 10**400, 1.0])
def test_versions_that_are_none_are_refused(version: Any) -> None:
    with pytest.raises(ValueError, match="schema_version") as error:
        migrate({"schema_version": version})
    assert len(str(error.value)) < 200


def test_a_rerun_agrees_within_the_interval() -> None:
    def score(value: float | None, interval: tuple[float, float] | None) -> Score:
        ends = None if interval is None else Interval(low=interval[0], high=interval[1], method="m", level=0.95)
        n = 0 if value is None else 10
        return Score(value=value, interval=ends, n_judged=n, n_expected=10, signature=SIGNATURE)

    assert within(score(50.0, None), score(48.0, (40.0, 50.0)))
    assert not within(score(50.1, None), score(48.0, (40.0, 50.0)))
    assert within(score(48.0, None), score(48.0, None))
    assert not within(score(48.1, None), score(48.0, None))
    assert not within(score(None, None), score(48.0, (40.0, 50.0)))


def test_metadata_of_version_1_are_of_the_first_task() -> None:
    old = {**valid(), "schema_version": 1}
    del old["task"]
    migrated = Metadata.model_validate(migrate(old))
    assert (migrated.schema_version, migrated.task) == (2, "alpaca_winrate")
    with pytest.raises(ValidationError, match="Input should be 2"):
        Metadata.model_validate({**old, "task": "x"})
    with pytest.raises(ValidationError, match="task"):
        Metadata.model_validate({**valid(), "task": "../evil"})
