"""The generated part of a README changes, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.errors import UserError
from implicit_if.leaderboards.boards.generated_parts import replace_part

BEGIN, END = "<!-- implicit-if: begin boards -->", "<!-- implicit-if: end boards -->"
OTHER = "<!-- implicit-if: begin rules -->\nkept\n<!-- implicit-if: end rules -->\n"


def test_only_the_part_changes() -> None:
    text = f"# Title\n{BEGIN}\nold\n{END}\ntail\n{OTHER}"
    new = replace_part(text, "boards", "table", "README.md")
    assert new == f"# Title\n{BEGIN}\n\ntable\n\n{END}\ntail\n{OTHER}"
    assert replace_part(new, "boards", "table", "README.md") == new


@given(before=st.text(), after=st.text(), content=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_prose_around_it_is_kept(before: str, after: str, content: str) -> None:
    new = replace_part(f"{before}{BEGIN}\n{END}{after}", "boards", content, "README.md")
    assert new.startswith(before + BEGIN)
    assert new.endswith(END + after)
    assert new[len(before) + len(BEGIN) : len(new) - len(END) - len(after)].strip() == content.strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nothing", "neither"),
        (f"a\n{BEGIN}\n", "begin boards --> in line 2"),
        (f"{END}\n", "end boards --> in line 1"),
        (f"{END}\n{BEGIN}\n", "end boards --> in line 1"),
        (f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "end boards --> in line 4"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "begin boards --> in line 2"),
        (OTHER, "neither"),
    ],
)
def test_missing_and_doubled_markers_are_errors(text: str, found: str) -> None:
    with pytest.raises(UserError, match="exactly once each") as error:
        replace_part(text, "boards", "table", "docs/README.md")
    assert found in str(error.value)
    assert str(error.value).startswith("docs/README.md: ")
    assert BEGIN in str(error.value)
    assert END in str(error.value)


def test_a_marker_inside_the_part_or_the_content_is_an_error() -> None:
    with pytest.raises(UserError, match="inside the part 'boards'"):
        replace_part(f"{BEGIN}\n{OTHER}\n{END}\n", "boards", "table", "README.md")
    with pytest.raises(UserError, match="holds a marker itself"):
        replace_part(f"{BEGIN}\n{END}\n", "boards", f"x {END}", "README.md")
