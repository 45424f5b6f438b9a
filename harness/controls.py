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
    "empty",
    "constant",
    "echo",
    "echo_lead_in",
    "template",
    "token_soup",
    "other_instruction",
    "quoted",
    "echo_and_answers",
    "first_looped",
    "refusal",
    "word_by_word",
    "plausible_other",
    "random_words",
    "longest_of_two",
]

CONTROLS: dict[Control, str] = {
    "empty": "empty answer",
    "constant": "constant answer",
    "echo": "echo of the instruction",
    "echo_lead_in": "echo with a lead-in",
    "template": "template with the instruction's words",
    "token_soup": "token soup",
    "other_instruction": "another instruction's answer",
    "quoted": "instruction in quotation marks",
    "echo_and_answers": "echo and five other instructions' answers",
    "first_looped": "first sentence looped",
    "refusal": "polite refusal",
    "word_by_word": "instruction translated word by word",
    "plausible_other": "plausible answer to another question",
    "random_words": "random words",
    "longest_of_two": "longer of the two",
}
"""Labels by name. The last one deserves what a real system does from a judge that does not care about length; all
others deserve no win."""

WORTHLESS = tuple(CONTROLS)[:-1]
"""Controls that deserve no win."""

OF_SYSTEMS = ("other_instruction", "echo_and_answers", "first_looped", "longest_of_two")
"""Controls that are made of other systems' answers."""

_LEAD_IN = "Sure, I can help you with that. Here is what you asked for:\n\n"
_TEMPLATE = (
    "When it comes to {0}, there is a lot to say. {0} matters in many ways, above all together with {1}. Many people "
    "who think about {2} begin with {1} and then turn to {0}. In the end, {0}, {1} and {2} go hand in hand."
)
_PIECES = (
    "the of ing tion and er re un est al pre ment con ly pro com ver ble ious ward 7 12 0x1f { } ; -> :: ## ** </ | ' "
    "ka zu é ß ж 的 は self return null http www .com que der und sur mit"
).split()


_REFUSAL = (
    "I'm sorry, but I'm not able to help with this request. I understand that it may be important to you, and I would "
    "encourage you to look for someone who can give you the support you need. Is there anything else I can do for you?"
)
_PLAUSIBLE = (
    "Rinse the beans and soak them overnight in plenty of cold water. The next day, drain them, cover them with fresh "
    "water and simmer them for about an hour until they are soft. Add the salt only at the end, so that the skins stay "
    "tender.",
    "The Hanseatic League was a union of merchant towns around the Baltic and the North Sea. From the thirteenth "
    "century on, its members protected each other's ships, kept common offices abroad and agreed on trading rules. It "
    "lost its weight when states grew stronger.",
    "A tyre loses pressure in cold weather because the air inside it contracts: roughly a tenth of a bar for every ten "
    "degrees. Check the pressure in the morning, before you drive, and top it up to the value on the sticker in the "
    "door frame.",
)
_RANDOM = (
    "anchor basket candle window purple treaty gallop mirror engine velvet harvest copper lantern thunder pocket "
    "garlic canyon museum ticket orbit whisper saddle parliament blanket rocket feather marble tunnel justice pepper "
    "climb borrow scatter polish divide gather vanish tremble brave hollow distant gentle crooked often seldom under "
    "between the and of"
).split()
_GERMAN = dict(
    pair.split(":")
    for pair in (
        "a:ein an:ein the:das and:und or:oder of:von to:zu in:in on:auf for:für with:mit is:ist are:sind was:war "
        "be:sein as:als at:bei by:durch from:aus it:es you:du i:ich my:mein your:dein he:er she:sie they:sie "
        "we:wir this:dies that:dass not:nicht no:kein have:haben has:hat can:kann will:wird would:würde "
        "should:sollte do:tun does:tut how:wie what:was why:warum when:wann where:wo who:wer which:welche if:wenn "
        "than:als more:mehr most:meist one:eins two:zwei three:drei four:vier five:fünf ten:zehn write:schreibe "
        "give:gib make:mache explain:erkläre list:liste name:nenne tell:erzähle describe:beschreibe "
        "translate:übersetze turn:drehe sort:sortiere word:wort words:wörter sentence:satz sentences:sätze "
        "line:zeile lines:zeilen text:text table:tabelle names:namen number:zahl numbers:zahlen answer:antworte "
        "question:frage each:jede every:jede all:alle only:nur without:ohne into:hinein about:über "
        "between:zwischen before:vor after:nach day:tag days:tage week:woche month:monat year:jahr years:jahre "
        "time:zeit first:erste second:zweite last:letzte good:gut better:besser best:beste short:kurz long:lang "
        "new:neu old:alt small:klein big:groß water:wasser house:haus home:heim kitchen:küche book:buch "
        "work:arbeit people:leute friend:freund friends:freunde children:kinder red:rot green:grün white:weiß "
        "black:schwarz says:sagt say:sage use:benutze get:bekomme go:gehe know:weiß want:will need:brauche "
        "help:hilf start:beginne there:dort here:hier me:mir them:ihnen him:ihm her:ihr so:so but:aber out:aus "
        "up:auf down:ab "
    ).split()
)


def control_answers(
    control: Control, instructions: Mapping[str, str], systems: tuple[Mapping[str, str], ...] = ()
) -> dict[str, str]:
    """Answers of a control by instruction id, in the order of `instructions`.

    Args:
        control: Its name.
        instructions: Texts by id.
        systems: Answers of real systems by id: "other_instruction" takes the first's answer to the next id (sorted, the
            last one gets the first's), "echo_and_answers" its answers to the five next after the instruction,
            "first_looped" the first line or sentence of its answer twelve times, "longest_of_two" the longer of the
            first two's, the first's if equally long.

    Raises:
        KeyError: If a system leaves an instruction out.
    """
    if control == "other_instruction":
        ids = sorted(instructions)
        following = dict(zip(ids, [*ids[1:], *ids[:1]], strict=True))
        return {key: systems[0][following[key]] for key in instructions}
    if control == "echo_and_answers":
        ids = sorted(instructions)
        places = {key: place for place, key in enumerate(ids)}
        return {
            key: "\n\n".join([text, *(systems[0][ids[(places[key] + n) % len(ids)]] for n in range(1, 6))])
            for key, text in instructions.items()
        }
    if control == "first_looped":
        return {key: " ".join([_first_sentence(systems[0][key])] * 12) for key in instructions}
    if control == "longest_of_two":
        return {key: max((side[key] for side in systems[:2]), key=len) for key in instructions}
    return {key: _own_answer(control, text) for key, text in instructions.items()}


def _own_answer(control: Control, instruction: str) -> str:
    if control == "template":
        return _TEMPLATE.format(*_longest_words(instruction))
    if control == "token_soup":
        return " ".join(random.Random(instruction).choices(_PIECES, k=80))
    if control == "random_words":
        return " ".join(random.Random(instruction).choices(_RANDOM, k=60))
    if control == "plausible_other":
        return random.Random(instruction).choice(_PLAUSIBLE)
    if control == "word_by_word":
        return re.sub(r"\w+", _german, instruction)
    fixed = {
        "empty": "",
        "constant": CONSTANT,
        "echo": instruction,
        "echo_lead_in": _LEAD_IN + instruction,
        "quoted": f'You asked: "{instruction}" That is the question.',
        "refusal": _REFUSAL,
    }
    return fixed[control]


def _german(word: re.Match[str]) -> str:
    """A word's translation, with its capital; the word itself where the small dictionary lacks it."""
    found = _GERMAN.get(word.group().lower(), word.group())
    return found.capitalize() if word.group()[0].isupper() else found


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]


def _longest_words(text: str) -> list[str]:
    """The three longest words of a text, the first of equally long ones first; "this" where there are fewer."""
    words = sorted(dict.fromkeys(re.findall(r"\w+", text.lower())), key=len, reverse=True)
    return [*words, "this", "this", "this"][:3]
