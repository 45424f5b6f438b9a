"""Names that stand for one content: what is called like a set, judge or reference of this program must be it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.registry import backend_names, offline_judges
from implicit_if.harness.outputs import load_outputs
from implicit_if.harness.references import FOLDER, reference_names
from implicit_if.harness.signature import outputs_sha256

LOOKALIKES = str.maketrans(
    "авекмнорстухіјѕԁԛԝһӏɡгпьүԍѵѡαβεηικνορτυχωγσμπςϲϳոռսհցգզյօլıɑɩłøđħŧƅᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢꜱ",
    "abekmhopctyxijsdqwhlgrnbygvwabenikvoptuxwyounccjnnuhgqqjoliailodhtbabcdeghijklmnoprtuvwyzs",
)
"""Small letters of other alphabets, and the Latin ones that they are taken for."""
STROKES = str.maketrans("01i|!", "ollll")
"""Signs that are one stroke or one ring in many types."""


def folded(text: str) -> str:
    """A text as it looks: compatibility forms, accents, capitals and look-alike signs are one."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text).casefold()
        text = "".join(c for c in unicodedata.normalize("NFKD", parts) if not unicodedata.combining(c))
    return text.lower().translate(LOOKALIKES).translate(STROKES)


def skeleton(name: str) -> str:
    """What is left of a name for someone who reads it quickly: letters and digits, without separators."""
    return "".join(filter(str.isalnum, folded(name)))


def alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one is taken for, without being it; None if there is none."""
    names = set(known)
    wanted = skeleton(name)
    return None if name in names else next((other for other in sorted(names) if skeleton(other) == wanted), None)


def judge_names() -> set[str]:
    """The first parts of judges' names that this program gives."""
    return {*backend_names(), *offline_judges()}


@cache
def known_reference(name: str) -> str | None:
    """The hash of a shipped reference's answers to the builtin set; None if there is none of this name.

    Those to sets whose texts are not shipped lack what they quote, and are not compared.
    """
    path = FOLDER / name / f"{load_instructions('builtin').signature}.json"
    return outputs_sha256(load_outputs(path)) if name in reference_names() and path.is_file() else None
