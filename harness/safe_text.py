"""Text from strangers, made safe where it is shown: a terminal, Markdown, HTML, a spreadsheet, a path, a prompt.

Every function here takes any text and returns text; none interprets it. What may be *stored* is decided by `schema`.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal, reorder what is read, hide in a name, or are not characters."""

_JOINERS = "\u200c\u200d"  # scripts and emoji need them

_MARKDOWN = re.compile(r"[\\`*_{}\[\]#~|@>$]|(?<=\])\(|(?<=www)\.|:(?=[\w:]|$)|(?<=:)/(?=/)", re.IGNORECASE)
"""Markup wherever it stands, and what would be a link, an emoji, a role or a fence."""
_LIST = re.compile(r"^(\s*)(?=[-+=])|^(\s*\d+)(?=[.)])")
"""A list, a rule, or the line under a heading: at the start of a line only."""
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


def printable(text: str, *, lines: bool = True) -> str:
    r"""The text for a terminal: control, format and other invisible characters as escapes (`\x1b`), so that none acts.

    Args:
        text: Any text.
        lines: Keep newlines, and turn tabs into spaces; otherwise both become escapes.
    """
    return "".join(_printable(c, lines) for c in text)


def _printable(c: str, lines: bool) -> str:
    if lines and c in "\n\t":
        return c if c == "\n" else "    "
    if unicodedata.category(c) in _HIDDEN and c not in _JOINERS:
        return c.encode("unicode_escape", "surrogatepass").decode("ascii")
    return c


def html(text: str, limit: int = 10_000) -> str:
    """The text for an HTML element or a quoted attribute, one line."""
    return _html.escape(one_line(text, limit), quote=True)


def markdown(text: str, limit: int = 200) -> str:
    """The text for a Markdown paragraph or table cell: no markup, HTML, mention, link or column break takes effect.

    HTML's own characters become entities, Markdown's get a backslash where they would act, so that names with hyphens,
    slashes and points stay legible. GitHub also links bare `www.` and `https:` addresses, mentions and issue numbers;
    what stands before them stops that.
    """
    line = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;")
    line = _LIST.sub(r"\g<0>\\", _MARKDOWN.sub(r"\\\g<0>", line))
    return line.replace(r"\>", "&gt;").replace(r"\|", "&#124;").replace(r"\@", "&#64;")


def markdown_cell(text: object) -> str:
    """Our own Markdown for a table cell, in one line and with its pipes escaped; None is an empty cell."""
    return "" if text is None else str(text).replace("|", "\\|").replace("\n", " ")


def markdown_code(text: str, limit: int = 200, *, cell: bool = True) -> str:
    """The text as a Markdown code span.

    The fence is longer than any run of backticks inside. An HTML comment gets a space at its start: within code it
    would still be one of our markers to `markers`.

    Args:
        text: Any text.
        limit: See `one_line`.
        cell: Whether it may stand in a table cell: a pipe, which ends a cell even within code, becomes U+2502.
    """
    line = one_line(text, limit).replace("<!--", "< !--")
    line = line.replace("|", "│") if cell else line
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not line.strip() or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "`": "{`}",
    "'": "{'}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    _REPLACEMENT: "?",
}


def latex(text: str, limit: int = 200) -> str:
    """The text for a LaTeX paragraph or table cell: no command, comment, column break or ligature takes effect.

    Other letters than ASCII's stay as they are, which needs a LaTeX of 2018 or later, or XeLaTeX or LuaLaTeX.
    """
    line = "".join(_LATEX.get(c, c) for c in one_line(text, limit)).replace("--", "-{}-").replace("--", "-{}-")
    return "{}" + line if line.startswith(("[", "*")) else line  # behind a line break these open an argument


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


POLICY = "text:v3"
"""Version of what `neutralise` and `cut` do: change it with any change of what a judge is shown."""

_BREAK = "\u200b"  # a zero-width space: the text reads as before, but no tokenizer finds the special token in it

_HTML = (
    "a|abbr|article|aside|b|blockquote|body|br|button|canvas|caption|code|dd|del|details|div|dl|dt|em|fieldset|figure|"
    "footer|form|h[1-6]|head|header|hr|html|i|iframe|input|ins|kbd|label|li|link|main|mark|meta|nav|ol|option|p|"
    "path|pre|q|script|section|select|small|span|strong|style|sub|summary|sup|svg|table|tbody|td|textarea|tfoot|th|"
    "thead|title|tr|u|ul|var"
)
_TYPES = (  # what stands between angle brackets behind a name in code: List<String>, Vec<u8>
    "[A-Z]|[A-Z][a-z]\\w*|[iuf]\\d+|u?int\\d*(?:_t)?|[iu]size|float|double|bool|char|str|string|long|short|byte|number|"
    "object|any|void|auto|dyn|typename"
)
_SPECIAL = re.compile(  # by shape: every model has new names, few have new brackets
    rf"""
      [<\[](?=[|\uff5c])                 # <|im_end|>, [|assistant|] and full-width twins, opening half
    | [|\uff5c](?=[>\]])                 # the same, closing half
    | <(?=</?SYS>>)                      # <<SYS>>
    | (?<!\w)<(?=/?(?!(?i:{_HTML})\ ?/?>)[\w\u2581][\w.:\u2581-]*\ ?/?>)  # <s>, <eoa>, <seed:eos>, <think/>, no HTML
    | (?<=\w)<(?=/?(?!(?:{_TYPES}|(?i:{_HTML}))\ ?/?>)[\w\u2581][\w.:\u2581-]*\ ?/?>)     # the same behind a word
    | <(?=[\[@][\w.:-]+\]?>)                                   # <[BOS_never_used]>, <@mask>
    | \[(?=/?(?:(?i:INST)|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|[gs]?MASK|CLS|SEP|PAD|UNK|[BE]O[SDT]|SOS|IMG|
      AUDIO|TRANSCRIBE|ARGS|PREFIX|SUFFIX|MIDDLE|SYS|SYSTEM|USER|ASSISTANT|multimodal|unused\d+)\])
    | (?<!\w)\[(?=/?[A-Z][A-Z0-9]*_[A-Z0-9_]*\])                # [IMG_END], but no index: x[API_KEY]
    | \[(?=[a-z]+_\d+\])                                        # [control_8]
    | \](?=[!~]+[a-z]+[!~]*[\[\]]) | \[(?=[!~]*[a-z]+[!~]+\[)   # ]~b], ]!p~[, [e~[
    | \u25c1(?=/?\w+\u25b7)                                     # a name between white triangles
    """,
    re.VERBOSE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = (
    {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
)


def neutralise(text: str) -> str:
    """The text with nothing in it that a chat template, a tokenizer or a terminal would obey.

    What has the shape of a special token or role marker (`<|im_end|>`, `</s>`, `[INST]`, `<start_of_turn>`) is broken
    by a zero-width space, control characters but tab and line ends become their visible pictures (escape: U+241B), lone
    surrogates become U+FFFD. Any other text is returned as it is.
    """
    text = _SURROGATE.sub("\ufffd", text).translate(_CONTROLS)
    return _SPECIAL.sub(lambda match: match.group() + _BREAK, text)


def cut(text: str, limit: int) -> tuple[str, bool]:
    """The text, or its first `limit` characters and a line that says so; and whether it was cut.

    Args:
        text: Any text.
        limit: Characters (Unicode code points) that are kept.
    """
    if len(text) <= limit:
        return text, False
    return f"{text[:limit]}\n[cut here: {len(text)} characters long, the evaluation shows {limit}]", True
