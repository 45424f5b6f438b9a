"""What a model thought before it answered, told from its answer. Knows nothing of who reads either."""

from __future__ import annotations

import re

_NAMES = "(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning)"
_OPEN = re.compile(
    rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING|inner_prefix)\|>|<unused94>thought"
    r"|<\|channel>thought|(?:<\|start\|>assistant)?(?=<\|channel\|>)",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING|inner_suffix)\|>|<unused95>"
    r"|<channel\|>|<\|channel\|>final\b[^\n]{0,99}?<\|message\|>",  # of channels, all before the final one are thoughts
    re.IGNORECASE,
)


def without_thoughts(answer: str) -> str:
    """The answer without the thoughts it begins with; empty if the last of them never ends.

    A closing mark without an opening one, which some templates put into the prompt, counts where its line ends with it.
    Marks inside an answer, e.g. one about them, change nothing; an answer without thoughts is returned as it is.
    """
    rest = answer
    while opened := _OPEN.match(rest.lstrip()):
        rest = rest.lstrip()
        closed = _CLOSE.search(rest, opened.end())
        if closed is None:
            return ""
        rest = rest[closed.end() :]
    if rest == answer:
        closed = _CLOSE.search(rest)
        if closed is None or _OPEN.search(rest, 0, closed.start()) or rest[closed.end() :][:1] not in ("", "\n"):
            return answer
        rest = rest[closed.end() :]
    return rest.lstrip()


def after_thoughts(text: str) -> tuple[str, bool]:
    """What stands after the last closing mark, wherever it is, and whether a thought is opened there and not closed."""
    ends = [match.end() for match in _CLOSE.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    return rest, _OPEN.search(rest) is not None
