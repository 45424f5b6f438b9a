"""The signature: a short string naming every setting that produced a number, after sacrebleu's.

    task:alpaca_winrate|set:alpaca_eval@2edc6fad|n:805|ref:llama2-lima-s1@1f0c…|judge:embedded@9ab4…|orders:2|
    sys:5e1f…|tpl:tulu@f96a…|gen:greedy,512|dtype:float32|lc:…|v:0.3.0

An attempt rate needs neither reference nor order: `attempts:embedded@9ab4…` stands in place of ref, judge and orders.
Two numbers may be compared only if their signatures are equal but for `v` and `dtype`; systems whose answers are of
different types tell them by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from implicit_if.harness.answer_settings import FIELD_NAMES, NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.storage import sha256_json

WIN_RATE_TASK = "alpaca_winrate"
"""The first task, and the only one of version 0.1, whose signatures name none."""

_ALWAYS = ("set", "n", "v")
_PAIRS, _SINGLE = ("ref", "judge", "orders"), ("attempts",)
"""What a number about pairs of answers names, and one about single answers."""
_OPTIONAL = ("task", *FIELD_NAMES, "lc")
_SPECIAL = re.compile(r"[%|@\s\x00-\x1f\x7f]")
_LONG_HASH = re.compile(r"[0-9a-f]{32,}")
_SHORT_HASH = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Signature:
    """The settings behind a number. `str(signature)` and `Signature.parse` are inverse.

    Attributes:
        instruction_set: Name of the instruction set.
        instruction_revision: Its revision; None if it has none.
        n: Instructions that should have been judged.
        reference: Name of the system judged against; None for an attempt rate, as are its hash and the orders.
        reference_hash: First 8 hex digits of `outputs_sha256` of its answers.
        judge: Name of the judge, of an attempt rate that which decided about the answers.
        judge_hash: First 8 hex digits of its fingerprint.
        orders: Presentation orders per pair: 2, or 1 for a judge that cannot depend on the order.
        lc: Method of length control; None for a number that is not length-controlled.
        version: Version of implicit-if.
        task: Name of the task.
        answers: What shaped the answers, as far as it is known.
    """

    instruction_set: str
    instruction_revision: str | None
    n: int
    reference: str | None
    reference_hash: str | None
    judge: str
    judge_hash: str
    orders: int | None
    lc: str | None
    version: str
    task: str = WIN_RATE_TASK
    answers: AnswerSettings = NOTHING_KNOWN

    def __post_init__(self) -> None:
        for name in ("instruction_set", "instruction_revision", "reference", "judge", "lc", "version", "task"):
            if getattr(self, name) == "":
                raise UserError(f"signature: {name} is empty. Expected a name.")
        for name in ("reference_hash", "judge_hash"):
            if (value := getattr(self, name)) is not None and not _SHORT_HASH.fullmatch(value):
                raise UserError(f"signature: {name} is {value!r}, expected 8 hex digits.")
        if self.n < 0 or self.orders not in (1, 2, None):
            raise UserError(f"signature: n is {self.n}, orders is {self.orders}. Expected n >= 0 and 1 or 2 orders.")
        if len({value is None for value in (self.reference, self.reference_hash, self.orders)}) > 1:
            raise UserError(
                "signature: found part of a reference. Expected its name, its hash and the orders, or none."
            )
        if self.reference is None and self.lc is not None:
            raise UserError(f"signature: lc is {self.lc!r} without a reference. Only win rates are length-controlled.")

    def __str__(self) -> str:
        revision = "" if self.instruction_revision is None else f"@{_escape(self.instruction_revision)}"
        fields = [
            f"task:{_escape(self.task)}",
            f"set:{_escape(self.instruction_set)}{revision}",
            f"n:{self.n}",
            *self._judged(),
            *self.answers.fields,
            *([] if self.lc is None else [f"lc:{_escape(self.lc)}"]),
            f"v:{_escape(self.version)}",
        ]
        return "|".join(fields)

    def _judged(self) -> list[str]:
        judge = f"{_escape(self.judge)}@{self.judge_hash}"
        if self.reference is None:
            return [f"attempts:{judge}"]
        return [f"ref:{_escape(self.reference)}@{self.reference_hash}", f"judge:{judge}", f"orders:{self.orders}"]

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Reads a signature back; without a task it is one of version 0.1.

        Raises:
            UserError: If a field is missing, unknown, twice, malformed or out of place.
        """
        fields = [part.partition(":") for part in text.split("|")]
        values = {name: value for name, _, value in fields}
        required = _ALWAYS + (_SINGLE if "attempts" in values else _PAIRS)
        missing = [name for name in required if name not in values]
        unknown = [name for name in values if name not in required + _OPTIONAL]
        if missing or unknown:
            wrong = "; ".join(
                f"{what} {', '.join(map(repr, names))}"
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
            raise _malformed(text, wrong)
        set_name, at, revision = values["set"].partition("@")
        reference, _, reference_hash = values["ref"].partition("@") if "ref" in values else (None, "", None)
        judge, _, judge_hash = values["attempts" if reference is None else "judge"].partition("@")
        try:
            signature = cls(
                instruction_set=unquote(set_name),
                instruction_revision=unquote(revision) if at else None,
                n=int(values["n"]),
                reference=None if reference is None else unquote(reference),
                reference_hash=reference_hash,
                judge=unquote(judge),
                judge_hash=judge_hash,
                orders=int(values["orders"]) if "orders" in values else None,
                lc=unquote(values["lc"]) if "lc" in values else None,
                version=unquote(values["v"]),
                task=unquote(values.get("task", WIN_RATE_TASK)),
                answers=AnswerSettings.parse(values),
            )
        except ValueError as error:
            raise _malformed(text, str(error)) from error
        if str(signature) != (text if "task" in values else f"task:{WIN_RATE_TASK}|{text}"):
            raise _malformed(text, f"the canonical form is {str(signature)!r}")
        return signature


def make_signature(
    *,
    instruction_set: str,
    instruction_revision: str | None,
    n: int,
    judge: str,
    fingerprint: str,
    reference: str | None = None,
    reference_sha256: str | None = None,
    orders: int | None = None,
    lc: str | None = None,
    task: str = WIN_RATE_TASK,
    answers: AnswerSettings = NOTHING_KNOWN,
) -> Signature:
    """A signature of this version of implicit-if; long hex hashes are cut to 8 digits.

    An attempt rate has no reference and no orders, and its judge is that which decided about the answers.
    """
    from implicit_if import __version__

    return Signature(
        instruction_set=instruction_set,
        instruction_revision=None if instruction_revision is None else _short(instruction_revision),
        n=n,
        reference=reference,
        reference_hash=None if reference_sha256 is None else _short(reference_sha256),
        judge=judge,
        judge_hash=_short(fingerprint),
        orders=orders,
        lc=lc,
        version=__version__,
        task=task,
        answers=answers,
    )


def outputs_sha256(outputs: Iterable[Output]) -> str:
    """Hex sha256 over the answers of a system, whatever their order in the file; generator names do not matter."""
    return sha256_json(sorted([o.instruction_id, o.sha256] for o in outputs))


def _short(value: str) -> str:
    return value[:8] if _LONG_HASH.fullmatch(value) else value


def _escape(value: str) -> str:
    return _SPECIAL.sub(lambda match: quote(match.group(), safe=""), value)


def _malformed(text: str, wrong: str) -> UserError:
    return UserError(
        f"not a signature: {text!r} ({wrong}). Expected "
        f"task:NAME|set:NAME@REV|n:N|ref:NAME@HASH|judge:NAME@HASH|orders:N|v:VERSION, with sys:, tpl:, gen:, dtype: "
        f"and lc: before v where they are known, and attempts:NAME@HASH in place of ref, judge and orders for an "
        f"attempt rate."
    )
