"""What a model wrote, made harmless before a judge reads it. One policy for every judge, with a version."""

from __future__ import annotations

import re

POLICY = "text:v1"
"""Version of everything in this module: change it with any change of what a judge is shown."""

_BREAK = "\u200b"  # a zero-width space: the text reads as before, but no tokenizer finds the special token in it

_SPECIAL = re.compile(
    r"""
      <(?=[|\uff5c])                     # <|im_end|>, <|eot_id|>, <|user|> and their full-width twins, opening half
    | [|\uff5c](?=>)                     # the same, closing half
    | <(?=</?SYS>>)                      # <<SYS>>
    | <(?=/?(?:s|bos|eos|unk|pad|mask|cls|sep|sop|eop|think|tool_call|tool_response|start_of_turn|end_of_turn
              |start_of_image|end_of_image|extra_id_\d+|unused\d+|fim_\w+|file_sep|repo_name|gmask)>)
    | \[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|gMASK|sMASK|MASK|CLS|SEP|PAD
              |UNK|BOS|EOS)\])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = (
    {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
)


def neutralise(text: str) -> str:
    """The text with nothing in it that a chat template, a tokenizer or a terminal would obey.

    Special tokens and role markers (`<|im_end|>`, `</s>`, `[INST]`, `<start_of_turn>`) are broken by a zero-width
    space, control characters but tab and line ends become their visible pictures (escape: U+241B), lone surrogates
    become U+FFFD. Any other text is returned as it is.
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
