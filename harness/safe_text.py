"""Text from strangers, made safe for the place where it is shown: a terminal, Markdown, HTML, a spreadsheet, a path.

Every function here takes any text and returns text; none interprets it. What may be *stored* is decided by `schema`.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal, reorder what is read, hide in a name, or are not characters."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:@>=$^\"'/])")
_ASCII_VISIBLE = re.compile(r"[ -~]*")
_FORMULA = "=+-@\t\r"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def is_plain(text: str) -> bool:
    """True if the text is one line of visible characters: no control, bidirectional or zero-width ones."""
    if _ASCII_VISIBLE.fullmatch(text):
        return True
    return not any(unicodedata.category(c) in _HIDDEN for c in text)


def one_line(text: str, limit: int = 200) -> str:
    """The text as one visible line of at most `limit` characters, "…" included; hidden characters become U+FFFD.

    Args:
        text: Any text, lone surrogates included.
        limit: Characters, at least 1.
    """
    head = text[: limit + 1]
    shown = "".join(
        c if unicodedata.category(c) not in _HIDDEN else " " if c in "\t\n\r" else _REPLACEMENT for c in head
    )
    return shown if len(head) <= limit else shown[: limit - 1] + "…"


def html(text: str, limit: int = 10_000) -> str:
    """The text for an HTML element or a quoted attribute, one line."""
    return _html.escape(one_line(text, limit), quote=True)


def markdown(text: str, limit: int = 200) -> str:
    """The text for a Markdown paragraph or table cell: no markup, HTML, mention, link or column break takes effect.

    HTML's own characters become entities, Markdown's get a backslash. GitHub also links bare `www.` and `https:`
    addresses, mentions and issue numbers; the backslashes before `.`, `:`, `/`, `@` and `#` stop that.
    """
    line = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\1", line).replace(r"\>", "&gt;").replace(r"\|", "&#124;").replace(r"\@", "&#64;")


def markdown_code(text: str, limit: int = 200) -> str:
    """The text as a Markdown code span that may stand in a table cell.

    The fence is longer than any run of backticks inside. A pipe, which ends a cell even within code, becomes U+2502. An
    HTML comment gets a space at its start: within code it would still be one of our markers to `markers`.
    """
    line = one_line(text, limit).replace("|", "│").replace("<!--", "< !--")
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not line.strip() or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def csv_cell(text: str, limit: int = 1_000) -> str:
    """The text for a cell of a CSV file, before the CSV writer quotes it.

    A spreadsheet runs a cell that starts with one of `= + - @`, also behind white space or a full-width form; such a
    text gets an apostrophe in front. A plain number stays one.
    """
    line = one_line(text, limit)
    start = unicodedata.normalize("NFKC", line.lstrip(" '\"\u00a0"))[:1]
    risky = start in tuple(_FORMULA) or line[:1] in tuple(_FORMULA)
    return f"'{line}" if risky and not _NUMBER.fullmatch(line) else line


def file_name(text: str, limit: int = 100) -> str:
    """A file or folder name that is safe on every system: ASCII letters, digits, `.`, `_` and `-`.

    Different texts may give one name; a name that must be unique needs a hash besides.
    """
    ascii_text = unicodedata.normalize("NFKD", text[: 4 * limit]).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_text).strip(".-")[:limit].rstrip(".-")
    return f"_{name}" if not name or is_reserved(name) else name


def is_reserved(name: str) -> bool:
    """True for names that are devices on Windows, whatever their ending: `con`, `nul.txt`, `COM1`."""
    stem = name.partition(".")[0].casefold()
    return stem in {"con", "prn", "aux", "nul"} or bool(re.fullmatch(r"(com|lpt)[0-9]", stem))
