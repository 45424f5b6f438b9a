"""Text features that tell an attempt at an instruction from an echo, a copy, a loop or unrelated text.

An answer is split into segments (sentences and lines; a role tag of any shape ends one). A segment is *copied* if most
of its words stand in runs that the instruction has too, *repeated* if an earlier one says the same; what is neither is
the answer's *own* text, about which most features ask. Plain Python, bounded work, no model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from implicit_if.harness.judging.text_features import words

FEATURES_VERSION = "1"
"""Part of the fingerprints of what is fitted on these features: raise it with every change that moves a value."""

MAX_SEGMENTS = 200
"""Segments read of an answer; the rest is not."""

_RUN = 3
"""Words of a run that counts as copied."""
_COPIED = 0.6
"""Share of a segment's words in such runs from which on the segment is copied, unless it says something new:"""
_NEW = 0.15
"""the share of its words that the instruction lacks, from which on it does: "Paris is the capital of France"."""

# Every pattern is anchored or bounded, so that no answer can make matching slow.
_ROLES = (
    "user|usr|human|assistant|asst|ai|bot|chatbot|system|sys|instruction|response|input|output|question|prompt|query"
    "|reply|client|customer|agent|expert|student|teacher|model|admin|editor|guest|person|speaker|me|you|q"
)
TAG = re.compile(
    r"<\|[^|>\n]{0,20}\|?>|<{1,2}/?(?:s|eos|bos|sys|inst|im_start|im_end|(?:start|end)_of_turn)>{1,2}|\[/?INST\]"
    rf"|</?\|?(?:{_ROLES})\|?>"
    rf"|^[ \t]{{0,4}}[#*\[({{@-]{{0,4}}[ \t]?(?:{_ROLES})[ \t]?\d{{0,2}}[\])}}*|]{{0,3}}[ \t]?(?::|>|\*\*$)"
    rf"|^[ \t]{{0,4}}(?:\[(?:{_ROLES})\]|\((?:{_ROLES})\)|\{{(?:{_ROLES})\}}|#{{1,4}}[ \t]?(?:{_ROLES}|answer)\b)",
    re.IGNORECASE | re.MULTILINE,
)
"""Role tags and prompt headers of known shapes or words."""
_BARE_TAG = re.compile(
    r"^[ \t]{0,4}([#\[<({@|*]{1,4}[ \t]?\w{1,15}[ \t]?[\])}>|*:]{1,4}|\w{1,15}[ \t]?>{1,3}(?=[ \t]|$))", re.MULTILINE
)
"""What may be a tag of any other shape or word: it is one if it comes again."""
_SPLIT = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])|\n+")
_REQUEST = re.compile(
    r"\s*(?:\d{1,3}[.)][ \t]?|[-*•][ \t]?)?(?:write|explain|describe|list|generate|give|name|tell|summari[sz]e"
    r"|translate|classify|rewrite|compose|create an?|can you|could you|please|what|how|why|which|who|where|when)\b",
    re.IGNORECASE,
)
_CODE_WORDS = "code|function|python|javascript|java|regex|sql|bash|shell|script|command|git|html|css|program"
_LANGUAGES = "english|german|french|spanish|italian|dutch|polish|russian|portuguese|deutsch|englisch"
_WANTS = {
    "code": rf"```|\b(?:{_CODE_WORDS})\b",
    "number": r"\bhow (?:many|much|long|often|far|old)\b"
    r"|\b(?:probability|average|percent|calculate|solve|total|sum|prime|equation)\b",
    "text": r"\b(?:write|message|letter|e-?mail|poem|story|dialogue|limerick|haiku|speech|post|review|text|note|reply"
    r"|draft)\b",
    "translation": rf"\btranslat|\b(?:in|into|auf|to) (?:formal |plain |modern ){{0,2}}(?:{_LANGUAGES})\b|übersetz"
    r"|tradui|traduc|ترجم|翻译|перекла|перевед|przetłumacz|vertaal",
    "rewriting": r"\b(?:rewrite|rephrase|turn this|this text|this as|say this|sort|correct|fix|shorten|extract"
    r"|summari[sz]e|which of these)\b",
}
_WANTED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _WANTS.items()}
_ANNOUNCES = re.compile(
    r"\s*(?:here (?:is|are)|here's|sure\b|the answer\b|answer\b|yes\b|no\b|voici|hier (?:ist|sind)|aquí)", re.IGNORECASE
)
_RESULT = re.compile(r"(?m)^(?:####|the answer is|answer:|therefore\b|so\b)", re.IGNORECASE)
_CODE = re.compile(r"```|^\s{0,8}(?:def|import|return|function|const|let|var|class|SELECT|git|\$) ", re.MULTILINE)
_UNSURE = re.compile(r"\b(?:not sure|don['’]t know|can['’]t (?:help|do|answer)|cannot|unable|sorry)\b", re.IGNORECASE)
_LEADS = frozenset("i i'm i've i'd my we you your it he she they this".split())

FUNCTION_WORDS = {
    "en": "the a an and or of to in on for with is are was be by as at that it from you i he they this not have can",
    "de": "der die das und oder von zu in auf für mit ist sind war ein eine nicht den dem im es ich sie wir auch wie",
    "fr": "le la les et ou de des du à en sur pour avec est sont un une il elle que qui ne pas dans au ce vous je",
    "es": "el la los las y o de del a en por para con es son un una que no se su lo al como más pero yo me",
    "it": "il lo la i gli le e o di del della a in su per con è sono un una che non si al da come ma più",
    "pt": "o a os as e ou de do da dos das em no na por para com é são um uma que não se ao mais como mas",
    "nl": "de het een en of van te in op voor met is zijn was dat niet die er aan ook als maar bij je ik",
    "pl": "i w na z do się nie to jest że o jak za po co dla przez są od czy ale ten ma",
    "ru": "и в на с не что это как по из за для он но к у о от так же все а я",
    "uk": "і в на з не що це як по із за для він але до у про від та й є а я",
}
_FUNCTION = {language: frozenset(text.split()) for language, text in FUNCTION_WORDS.items()}
_ALL_FUNCTION = frozenset().union(*_FUNCTION.values())


@dataclass(frozen=True)
class Segment:
    """A sentence or line.

    Attributes:
        text: As it stands.
        words: Its words, lower case.
        copied: Share of the words in runs of three that the instruction has.
        new: Share of the words that the instruction lacks.
        repeated: Whether an earlier segment has the same words, or nearly.
        tagged: Whether a role tag stands before it, anywhere in the answer.
    """

    text: str
    words: list[str]
    copied: float
    new: float
    repeated: bool
    tagged: bool

    @property
    def own(self) -> bool:
        return not self.repeated and (self.copied < _COPIED or self.new >= _NEW)

    @property
    def asks(self) -> bool:
        return self.text.rstrip()[-1:] in ("?", "？") or _REQUEST.match(self.text) is not None


def segments(instruction: str, answer: str) -> list[Segment]:
    """The answer's segments that hold a word, at most MAX_SEGMENTS; both texts went through `clean`."""
    source = words(instruction)
    size = max(1, min(_RUN, len(source)))
    runs = {tuple(source[i : i + size]) for i in range(len(source) - size + 1)}
    found: list[Segment] = []
    known = set(source)
    seen: list[frozenset[str]] = []
    exact: set[tuple[str, ...]] = set()
    start, tagged = 0, False
    for end, next_start, is_tag in _breaks(answer):
        text, start = answer[start:end], next_start
        if (split := words(text)) and len(found) < MAX_SEGMENTS:
            bag, key = frozenset(split), tuple(split)
            near = any(len(bag & other) >= 0.8 * max(len(bag), len(other)) for other in seen[-12:])
            new = sum(word not in known for word in split) / len(split)
            copied = _copied(split, runs, size)
            found.append(Segment(text.strip(), split, copied, new, key in exact or near, tagged))
            seen.append(bag)
            exact.add(key)
        tagged = tagged or is_tag
    return found


def tag_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of the role tags, in order; markers of any other shape count if they come again."""
    spans = [m.span() for m in TAG.finditer(text)]
    bare = list(_BARE_TAG.finditer(text))
    counts = Counter(m.group(1) for m in bare)
    return sorted({*spans, *(m.span() for m in bare if counts[m.group(1)] > 1)})


def _breaks(text: str) -> list[tuple[int, int, bool]]:
    """Where segments end, where the next begins, and whether a tag stands between."""
    found = [(start, end, True) for start, end in tag_spans(text)]
    found += [(m.start(), m.end(), False) for m in _SPLIT.finditer(text)]
    ordered: list[tuple[int, int, bool]] = []
    for item in sorted(found, key=lambda b: (b[0], not b[2])):
        if not ordered or item[0] >= ordered[-1][1]:
            ordered.append(item)
    return [*ordered, (len(text), len(text), False)]


def _copied(split: list[str], runs: set[tuple[str, ...]], size: int) -> float:
    inside: set[int] = set()
    for i in range(len(split) - size + 1):
        if tuple(split[i : i + size]) in runs:
            inside.update(range(i, i + size))
    return len(inside) / len(split)


def own_text(parts: list[Segment]) -> str:
    """The own segments that do not ask, in order; the own ones that ask if there are no others."""
    own = [s for s in parts if s.own]
    return "\n".join(s.text for s in ([s for s in own if not s.asks] or own))


def without_shared_words(instruction: str, own: str) -> str:
    """The own text's words that the instruction lacks: a template filled with its words leaves nothing of it."""
    shared = set(words(instruction)) - _ALL_FUNCTION
    return " ".join(w for w in words(own) if w not in shared)


def language(split: list[str]) -> str:
    """A guess from function words: a key of FUNCTION_WORDS, or "" if none has a tenth of the words."""
    if not split:
        return ""
    share = {name: sum(w in listed for w in split) / len(split) for name, listed in _FUNCTION.items()}
    best = max(share, key=lambda name: share[name])
    return best if share[best] >= 0.1 else ""


def attempt_features(instruction: str, answer: str, parts: list[Segment]) -> dict[str, float]:
    """The features of an answer, by name.

    Args:
        instruction: A text that went through `clean`.
        answer: Likewise.
        parts: The answer's segments.

    Returns:
        Shares in [0, 1], logarithms of 1 + a count, and yes (1) or no (0); 0 where there is nothing to count.
    """
    source = words(instruction)
    everything = words(answer)
    own = [s for s in parts if s.own]
    distinct = [s for s in parts if not s.repeated]
    told = [s for s in own if not s.asks]
    own_words = [w for s in (told or own) for w in s.words]
    content = set(own_words) - _ALL_FUNCTION
    source_content = set(source) - _ALL_FUNCTION
    size = max(1, min(_RUN, len(source)))
    runs = [tuple(source[i : i + size]) for i in range(len(source) - size + 1)]
    given = {tuple(everything[i : i + size]) for i in range(len(everything) - size + 1)}
    five = max(1, min(5, len(source)))
    fives = {tuple(source[i : i + five]) for i in range(len(source) - five + 1)}
    total = sum(len(s.words) for s in distinct)
    first = parts[0] if parts else None
    head = first.words if first else []
    tags = tag_spans(answer)
    lead = [s for s in parts if not s.tagged]
    mine, theirs = language(own_words), language(source)
    question = instruction.rstrip()[-1:] in ("?", "？")
    counts = Counter(everything)
    code = float(_CODE.search(answer) is not None)
    wants = {f"wants_{name}": float(pattern.search(instruction) is not None) for name, pattern in _WANTED.items()}
    numbers = {w for w in own_words if w.isdigit()}
    return {
        "instruction_words": math.log1p(len(source)),
        "instruction_lines": math.log1p(instruction.count("\n")),
        "instruction_asks": float(question or "?" in instruction),
        "instruction_code": float("```" in instruction or "`" in instruction),
        "words": math.log1p(len(everything)),
        "distinct_share": len(counts) / max(1, len(everything)),
        "own_words": math.log1p(len(own_words)),
        "own_content": math.log1p(len(content)),
        "own_new": math.log1p(len(content - source_content)),
        "own_new_share": len(content - source_content) / max(1, len(content)),
        "told_segments": math.log1p(len(told)),
        "asks_share": sum(s.asks for s in distinct) / max(1, len(distinct)),
        "own_share": len([w for s in own for w in s.words]) / max(1, total),
        "told_share": sum(len(s.words) for s in told) / max(1, total),
        "repeated_share": sum(len(s.words) for s in parts if s.repeated) / max(1, sum(len(s.words) for s in parts)),
        "copied_3": sum(s.copied * len(s.words) for s in distinct) / max(1, total),
        "copied_5": sum(_copied(s.words, fives, five) * len(s.words) for s in distinct) / max(1, total),
        "covered": sum(run in given for run in runs) / max(1, len(runs)),
        "recalled": len(content & source_content) / max(1, len(source_content)),
        "first_copied": first.copied if first else 0.0,
        "first_shared": len(set(head) & set(source)) / max(1, len(set(head))),
        "first_asks": float(first.asks) if first else 0.0,
        "first_words": math.log1p(len(head)),
        "first_person": float(bool(own) and (told or own)[0].words[0] in _LEADS),
        "unsure": float(_UNSURE.search(own_text(parts)[:400]) is not None),
        "tags": math.log1p(len(tags)),
        "before_tag": tags[0][0] / max(1, len(answer)) if tags else 1.0,
        "lead_told": math.log1p(sum(len(s.words) for s in lead if s.own and not s.asks)),
        **wants,
        "code": code,
        "code_wanted": code * wants["wants_code"],
        "code_stray": code * (1 - wants["wants_code"]),
        "announces": float(_ANNOUNCES.match(own_text(parts)) is not None),
        "result": float(_RESULT.search(answer) is not None),
        "new_numbers": math.log1p(len(numbers - set(source))),
        "first_person_share": sum(s.words[0] in _LEADS for s in told) / max(1, len(told)),
        "own_shared": sum(w in set(source) for w in own_words) / max(1, len(own_words)),
        "list_lines": math.log1p(len(re.findall(r"(?m)^\s{0,6}(?:[-*•]|\d{1,3}[.)])\s", answer))),
        "digits": sum(w.isdigit() for w in own_words) / max(1, len(own_words)),
        "function_share": sum(w in _ALL_FUNCTION for w in own_words) / max(1, len(own_words)),
        "other_language": float(bool(mine) and bool(theirs) and mine != theirs),
        "translated": wants["wants_translation"] * float(mine != theirs),
        "untranslated": wants["wants_translation"] * float(mine == theirs),
        "unknown_language": float(bool(theirs) and not mine),
        "script": abs(_latin(instruction) - _latin(own_text(parts))) if own else 0.0,
    }


def _latin(text: str) -> float:
    letters = [c for c in text[:2000] if c.isalpha()]
    return sum(c < "\u0250" for c in letters) / len(letters) if letters else 1.0
