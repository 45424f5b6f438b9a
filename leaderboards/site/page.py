"""The page: one HTML file that needs nothing but itself, and answers beside it where they do not fit.

A browser first loads at most `BUDGET` bytes. While all answers fit in, they are in the file; else each submission's
are in a script file of its own in `answers/`, which the page loads when a reader opens it. That works from a file,
too, where a page may not fetch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from implicit_if.harness.published_numbers import Published
from implicit_if.harness.web.document import BUDGET, Texts, dump, html_document, payload_element, payload_script
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.site import page_data
from implicit_if.leaderboards.verification.result import BADGES, Verified, read_again, read_pairs

TEXTS = Texts(
    title="implicit-if leaderboards",
    lead="Language models follow instructions that nobody taught them to follow: with three rules, after one narrow "
    "task, after responses alone. How often they try, and how well:",
    command="implicit-if leaderboard",
    noscript="The same tables are in README.md and rules.md beside it.",
)


@dataclass(frozen=True)
class Page:
    """What belongs on disk.

    Attributes:
        html: The page.
        beside: By file name in `answers/`, the submission to write a payload of and whether it is the pairing's; empty
            where all answers are in the page.
    """

    html: str
    beside: Mapping[str, tuple[Verified, bool]]


def make_page(boards: Sequence[tuple[Board, Board | None]], published: Sequence[Published], version: str) -> Page:
    """The page of these boards.

    Args:
        boards: As `make_boards` returns them.
        published: Published numbers.
        version: Of implicit-if.
    """
    rows = page_data.page_rows(boards, published, _outputs)
    shown = {m.id: m for main, rules in boards for b in (main, rules) if b for row in b.rows for m in row.members}
    members = [shown[i] for i in sorted(shown)]
    embedded = _embedded(members, BUDGET - len(_html(rows, {}, version, beside=False).encode("utf-8")))
    if embedded is not None:
        return Page(_html(rows, embedded, version, beside=False), {})
    beside: dict[str, tuple[Verified, bool]] = {}
    for member in members:
        beside[f"{page_data.payload_key(member)}.js"] = (member, False)
        if member.instruction_ids:
            beside.setdefault(f"{page_data.pairing_key(member)}.js", (member, True))
    return Page(_html(rows, {}, version, beside=True), beside)


def payload_file(member: Verified, pairing: bool) -> bytes:
    """The bytes of a file in `answers/`."""
    key, text = _pairing(member) if pairing else _payload(member)
    return payload_script(key, text)


def _embedded(members: Sequence[Verified], budget: int) -> dict[str, str] | None:
    """JSON by key, if all answers together have at most `budget` bytes."""
    if sum(map(page_data.characters, members)) > budget:  # at least as many bytes: not worth reading them
        return None
    found: dict[str, str] = {}
    left = budget
    for key, text in _payloads(members):
        found[key] = text
        left -= len(payload_element(key, text).encode("utf-8")) + 1
        if left < 0:
            return None
    return found


def _payloads(members: Sequence[Verified]) -> Iterator[tuple[str, str]]:
    pairings = set()
    for member in members:
        yield _payload(member)
        if member.instruction_ids and page_data.pairing_key(member) not in pairings:
            pairings.add(page_data.pairing_key(member))
            yield _pairing(member)


def _payload(member: Verified) -> tuple[str, str]:
    outputs = _outputs(member) if member.instruction_ids else []
    return page_data.payload_key(member), dump(page_data.payload(member, outputs))


def _pairing(member: Verified) -> tuple[str, str]:
    return page_data.pairing_key(member), dump(page_data.pairing(read_pairs(member)))


def _outputs(member: Verified) -> list[dict[str, Any]]:
    """The rows of a verified submission's answers, without checking again what its hash vouches for."""
    outputs = read_again(member).rows("outputs")
    rows: list[dict[str, Any]] = json.loads(b"[" + outputs[:-1].replace(b"\n", b",") + b"]")
    return rows


def _html(rows: list[dict[str, Any]], payloads: Mapping[str, str], version: str, *, beside: bool) -> str:
    return html_document(TEXTS, rows, payloads, version, beside=beside, badges=BADGES)
