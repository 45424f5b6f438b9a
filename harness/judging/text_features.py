"""Text features of one answer, for the embedded judge: plain Python, bounded work, no model.

They were made for answers of base models that do not know when to stop: such answers echo the instruction, run on into
a next turn with role tags, loop, or write further instructions. `effective` finds what a reader would keep of one.
English is assumed only by two short lists, of function words and of how requests begin, which other languages do not
touch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

FEATURES_VERSION = "1"
"""Part of the judge's fingerprint: raise it with every change that moves a value (a test holds some values)."""

MAX_CHARS = 20_000
"""An instruction or answer is judged by its first MAX_CHARS characters; the rest is not read."""

NAMES = ("content", "loops", "cut", "broken", "unfinished")

# Scripts written without spaces: two characters count as a word, or a page of Chinese would be a handful of words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Every pattern is anchored or bounded, so that no answer can make matching slow.
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|\d{{1,20}}|(?:[^\W\d_{_UNSPACED}]|['’](?=\w)){{1,40}}")
_MARKER = re.compile(
    r"<\|[^|>\n]{1,20}\|>|</s>|<eos>|<(?:end|start)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|^[ \t]{0,4}(?:#{2,4}[ \t]{0,2}(?:instruction|response|input|output|question|answer|user|assistant|human)\b"
    r"|(?:human|user|assistant|instruction|question|q)[ \t]{0,2}:)",
    re.IGNORECASE | re.MULTILINE,
)
_LEADING_MARKERS = 4
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_INNER_START = re.compile(r"[.!?][ \t]+(\w)")
_REQUEST = re.compile(
    r"\s*(?:\d{1,3}[.)][ \t]?|[-*•][ \t]?)?(?:write|explain|describe|list|generate|give|name|tell|summari[sz]e"
    r"|translate|classify|rewrite|compose|create an?|can you|could you|please)\b",
    re.IGNORECASE,
)
_ANSWER_MAY_ASK = re.compile(
    r"question|prompt|quiz|trivia|interview|survey|riddle|dialog|conversation|chat|translat|phras|rewrite|grammar|correct",
    re.IGNORECASE,
)
_FUNCTION_WORDS = frozenset(
    "a an the and or of to in on for with is are was were be by as at that it from you we they he she his her their "
    "can will would should could have has had do does did but if so than then there when where how".split()
)
_INVISIBLE = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x200B, 0x2010), 0x2060, 0xFEFF])


def clean(text: str) -> str:
    """The first MAX_CHARS characters, stripped, without invisible characters; lone surrogates become U+FFFD."""
    shown = text[:MAX_CHARS].translate(_INVISIBLE)
    return shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


def words(text: str) -> list[str]:
    """Lower-case words and numbers; two characters of a script without spaces are a word."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Effective:
    """What is left of an answer when the runaway parts are gone.

    Attributes:
        sentences: Sentences and lines between leading prompt-format markers and the next marker, repeated ones left
            out, each with the white space that follows it.
        fresh: The words of each sentence but those that end a run of five which came before.
        cut: Share of the characters that stand after that next marker, in [0, 1]; 0 for an empty answer.
        loops: Share of the words before it that only repeat, in [0, 1]; 0 without words.
    """

    sentences: list[str]
    fresh: list[list[str]]
    cut: float
    loops: float

    @property
    def text(self) -> str:
        return "".join(self.sentences).strip()


def effective(answer: str) -> Effective:
    """Cuts an answer at the first role marker after its start and drops repeated sentences and loops.

    Args:
        answer: A text that went through `clean`.
    """
    body = answer
    for _ in range(_LEADING_MARKERS):
        if not (leading := _MARKER.match(body)):
            break
        body = body[leading.end() :].lstrip(" \t\n:")
    marker = _MARKER.search(body)
    kept = body[: marker.start()] if marker else body
    sentences = _distinct_sentences(kept)
    fresh = _fresh_words(sentences)
    total = len(words(kept))
    return Effective(
        sentences=sentences,
        fresh=fresh,
        cut=1 - len(kept) / len(body) if body else 0.0,
        loops=1 - sum(map(len, fresh)) / total if total else 0.0,
    )


def text_features(instruction: str, answer: Effective) -> dict[str, float]:
    """The features named NAMES.

    Args:
        instruction: A text that went through `clean`.
        answer: What `effective` left of the answer.

    Returns:
        content: log(1 + n) of n distinct content words that are the answer's own: not copied from the instruction and
            not part of further requests (unless the instruction is one that questions may answer).
        loops, cut: See `Effective`.
        broken: Share of sentences inside a line that start in lower case, a mark of word salad; 0 without cases.
        unfinished: 1 if the text breaks off in mid-sentence or in a code block, else 0.
    """
    text = answer.text
    starts = _INNER_START.findall(text)
    return {
        "content": _content(instruction, answer),
        "loops": answer.loops,
        "cut": answer.cut,
        "broken": sum(start.islower() for start in starts) / (len(starts) + 1),
        "unfinished": float(_breaks_off(text)),
    }


def _distinct_sentences(text: str) -> list[str]:
    seen: set[str] = set()
    kept = []
    start = 0
    for end in [*(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]:
        sentence, start = text[start:end], end
        key = " ".join(words(sentence))
        if sentence and key not in seen:
            kept.append(sentence)
            if len(key) > 12:  # short lines such as "}" or "Yes." may come again
                seen.add(key)
    return kept


def _fresh_words(sentences: list[str]) -> list[list[str]]:
    seen: set[tuple[str, ...]] = set()
    run: tuple[str, ...] = ()
    fresh = []
    for sentence in sentences:
        new = []
        for word in words(sentence):
            run = (*run[-4:], word)
            if len(run) < 5 or run not in seen:
                new.append(word)
            seen.add(run)
        fresh.append(new)
    return fresh


def _content(instruction: str, answer: Effective) -> float:
    """log(1 + n) of n distinct own content words; see `text_features`."""
    may_ask = _ANSWER_MAY_ASK.search(instruction) is not None
    source = words(instruction)
    size = min(5, len(source))  # an instruction of two words is too short to be copied
    runs = {tuple(source[i : i + size]) for i in range(len(source) - size + 1)} if size > 2 else set()
    own: set[str] = set()
    for sentence, new in zip(answer.sentences, answer.fresh, strict=True):
        if may_ask or not _is_request(sentence):
            own.update(_outside(runs, size, new))
    return math.log1p(len(own - _FUNCTION_WORDS))


def _is_request(sentence: str) -> bool:
    return sentence.rstrip()[-1:] in ("?", "？") or _REQUEST.match(sentence) is not None


def _outside(runs: set[tuple[str, ...]], size: int, sentence: list[str]) -> list[str]:
    """The words of a sentence that are in none of the runs, each of `size` words."""
    inside: set[int] = set()
    for i in range(len(sentence) - size + 1):
        if tuple(sentence[i : i + size]) in runs:
            inside.update(range(i, i + size))
    return [word for i, word in enumerate(sentence) if i not in inside]


def _breaks_off(text: str) -> bool:
    """Whether a long last line lacks the end mark that this answer's lines and sentences otherwise have."""
    if text.count("```") % 2:
        return True
    *earlier, last = text.split("\n")
    if _ended(last) or len(words(last)) < 6:
        return False
    long_lines = [line for line in earlier if len(words(line)) >= 6]
    return _ended(long_lines[-1]) if long_lines else _INNER_START.search(last) is not None


def _ended(line: str) -> bool:
    end = line.rstrip()[-1:]
    return not (end.isalnum() or end in (",", ";", "-"))
