"""Control answers: what deserves no win, and the longer of two systems' answers. One definition each.

Law 6: controls run through every judge. A judge that lets one of them beat a real system reads something else than
quality. The answers are the same on every machine; a change here is a new control under a new name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Literal

CONSTANT = (
    "Thank you for your question. There are several things to consider here. First, it helps to look at the situation "
    "as a whole. Second, it is worth taking each part in turn. In short, the best answer depends on what you need."
)
"""Polite, fluent, and about nothing."""

Control = Literal[
    "empty", "constant", "echo", "echo_lead_in", "template", "token_soup", "other_instruction", "longest_of_two"
]

CONTROLS: dict[Control, str] = {
    "empty": "empty answer",
    "constant": "constant answer",
    "echo": "echo of the instruction",
    "echo_lead_in": "echo with a lead-in",
    "template": "template with the instruction's words",
    "token_soup": "token soup",
    "other_instruction": "another instruction's answer",
    "longest_of_two": "longer of the two",
}
"""Labels by name. The last one deserves what a real system does from a judge that does not care about length; all
others deserve no win."""

WORTHLESS = tuple(CONTROLS)[:-1]
"""Controls that deserve no win."""

_LEAD_IN = "Sure, I can help you with that. Here is what you asked for:\n\n"
_TEMPLATE = (
    "When it comes to {0}, there is a lot to say. {0} matters in many ways, above all together with {1}. Many people "
    "who think about {2} begin with {1} and then turn to {0}. In the end, {0}, {1} and {2} go hand in hand."
)
_PIECES = (
    "the of ing tion and er re un est al pre ment con ly pro com ver ble ious ward 7 12 0x1f { } ; -> :: ## ** </ | ' "
    "ka zu é ß ж 的 は self return null http www .com que der und sur mit"
).split()


def control_answers(
    control: Control, instructions: Mapping[str, str], systems: tuple[Mapping[str, str], ...] = ()
) -> dict[str, str]:
    """Answers of a control by instruction id, in the order of `instructions`.

    Args:
        control: Its name.
        instructions: Texts by id.
        systems: Answers of real systems by id: "other_instruction" takes the first's answer to the next id (sorted, the
            last one gets the first's), "longest_of_two" the longer of the first two's, the first's if equally long.

    Raises:
        KeyError: If a system leaves an instruction out.
    """
    if control == "other_instruction":
        ids = sorted(instructions)
        following = dict(zip(ids, [*ids[1:], *ids[:1]], strict=True))
        return {key: systems[0][following[key]] for key in instructions}
    if control == "longest_of_two":
        return {key: max((side[key] for side in systems[:2]), key=len) for key in instructions}
    return {key: _own_answer(control, text) for key, text in instructions.items()}


def _own_answer(control: Control, instruction: str) -> str:
    if control == "template":
        return _TEMPLATE.format(*_longest_words(instruction))
    if control == "token_soup":
        return " ".join(random.Random(instruction).choices(_PIECES, k=80))
    fixed = {"empty": "", "constant": CONSTANT, "echo": instruction, "echo_lead_in": _LEAD_IN + instruction}
    return fixed[control]


def _longest_words(text: str) -> list[str]:
    """The three longest words of a text, the first of equally long ones first; "this" where there are fewer."""
    words = sorted(dict.fromkeys(re.findall(r"\w+", text.lower())), key=len, reverse=True)
    return [*words, "this", "this", "this"][:3]
