"""The one table of system kinds."""

import re
from typing import get_args

from implicit_if.harness.system_kinds import SYSTEM_KINDS, Kind, kind_of_model


def test_the_type_and_the_table_name_the_same_kinds() -> None:
    assert sorted(SYSTEM_KINDS) == sorted(get_args(Kind))
    first, *_, last = SYSTEM_KINDS
    assert (first, last) == ("base", "control")


def test_no_two_kinds_share_a_label_a_colour_or_a_model_class() -> None:
    kinds = SYSTEM_KINDS.values()
    assert len({kind.label for kind in kinds}) == len({kind.colour for kind in kinds}) == len(SYSTEM_KINDS)
    assert all(re.fullmatch("#[0-9a-f]{6}", kind.colour) for kind in kinds)
    models = [model for kind in kinds for model in kind.models]
    assert len(models) == len(set(models))


def test_a_model_class_tells_the_kind_only_where_it_must() -> None:
    assert [kind_of_model(m) for m in ("rules_poe_vllm", "proxy_tuned", "hf", None)] == ["rules", "proxy", None, None]
