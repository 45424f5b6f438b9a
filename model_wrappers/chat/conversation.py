"""The conversation: one question goes to every system, and their answers grow side by side or below each other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from implicit_if.harness.chat_templates import Message
from implicit_if.harness.embedded_base import SHORT_NAME
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.safe_text import printable
from implicit_if.model_wrappers.chat.explain import Surfaces, why
from implicit_if.model_wrappers.chat.streaming import Choice
from implicit_if.model_wrappers.chat.systems import Models, System, TurnTemplate, answer_prefixes
from implicit_if.model_wrappers.chat.terminal import Columns, column_width

HELP = """\
/help            this text
/reset           forget the conversation
/system          the systems that answer; /system base,rules:reference takes others
/why             the tokens of the last answers that rules changed; /why all, /why 12 for one token
/quit            leave (also Ctrl-D; Ctrl-C stops an answer)
A line that ends with \\ goes on in the next one."""


@dataclass
class Side:
    """One system's part of the conversation.

    Attributes:
        system: Who answers.
        messages: The turns so far.
        choices: The steps of the last answer.
    """

    system: System
    messages: list[Message] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)


@dataclass
class _Answer:
    """One answer while it grows."""

    side: Side
    prefixes: Iterator[tuple[str, bool]]
    text: str = ""
    ended: bool = False
    finished: bool = False

    def step(self) -> None:
        """Takes the next token."""
        try:
            self.text, self.ended = next(self.prefixes)
        except StopIteration:
            self.finished = True

    def shown(self) -> str:
        """The text as it may be printed, with a last line on how it ended once it is finished."""
        return printable(self.text) + (f"\n[{self._end()}]" if self.finished else "")

    def _end(self) -> str:
        n = len(self.side.choices) - self.ended
        if self.ended:
            return f"ended after {n} tokens"
        cut = n >= self.side.system.max_gen_toks
        return f"cut at {n} tokens" if cut else f"interrupted after {n} tokens"


@dataclass(frozen=True)
class Screen:
    """Where answers appear.

    Attributes:
        out: The stream.
        width: Gives the columns of the terminal.
        live: Whether it understands ANSI escapes; otherwise answers stand below each other, without escapes.
    """

    out: TextIO
    width: Callable[[], int]
    live: bool

    def say(self, text: str) -> None:
        """Prints lines."""
        print(text, file=self.out, flush=True)


class Chat:
    """Holds the systems and what was said."""

    def __init__(
        self, models: Models, systems: str, template: TurnTemplate, screen: Screen, *, explain: bool = False
    ) -> None:
        """Loads the systems.

        Args:
            models: Loads them.
            systems: See `Models.systems`.
            template: How the conversation becomes a prompt.
            screen: Where answers appear.
            explain: Follow every answer with what `/why` shows.

        Raises:
            UserError: If a system is not available.
        """
        self.models, self.template, self.screen, self.explain = models, template, screen, explain
        self.sides = [Side(system) for system in models.systems(systems)]
        self._surfaces: dict[int, Surfaces] = {}

    def talk(self, read: Callable[[], str], *, greet: bool = True) -> None:
        """Reads lines and answers them until the input ends.

        Args:
            read: Gives a line; raises EOFError at the end, KeyboardInterrupt on Ctrl-C.
            greet: Say who answers, what to try and how to leave.
        """
        if greet:
            self.screen.say(opening([side.system for side in self.sides]))
        while True:
            try:
                line = _read_lines(read)
            except (EOFError, KeyboardInterrupt):
                if greet:
                    self.screen.say("")
                return
            if line.strip() in ("/quit", "/exit"):
                return
            try:
                self._handle(line.strip())
            except UserError as error:
                print(f"implicit-if: {printable(str(error))}", file=sys.stderr, flush=True)

    def ask(self, text: str) -> bool:
        """Sends one turn to every system and shows the answers.

        Returns:
            False if Ctrl-C stopped them; what was written of an answer then stays in the conversation.

        Raises:
            UserError: If a prompt cannot be made.
        """
        if not text.strip():
            raise UserError("found an empty instruction, expected text.")
        answers = [self._begin(side, text) for side in self.sides]
        width = column_width(self.screen.width(), len(answers)) if self.screen.live else None
        if width is None:
            whole = self._below_each_other(answers)
        else:
            whole = self._side_by_side(answers, width)
        for answer in answers:
            if answer.side.choices:
                turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
                answer.side.messages += turns
        if self.explain and whole:
            self._why("")
        return whole

    def _begin(self, side: Side, text: str) -> _Answer:
        side.choices = []
        prompt = self.template.prompt(side.system.lm, [*side.messages, {"role": "user", "content": text}])
        return _Answer(side, answer_prefixes(side.system, prompt, side.choices))

    def _side_by_side(self, answers: list[_Answer], width: int) -> bool:
        columns = Columns(self.screen.out, len(answers), width, live=True)
        heads = [f"{answer.side.system.name}:\n" for answer in answers]
        try:
            while not all(answer.finished for answer in answers):
                for answer in answers:
                    if not answer.finished:
                        answer.step()
                now = column_width(self.screen.width(), len(answers))
                if now != width:  # rows on the screen are broken for the old width: both texts begin again below
                    self.screen.say("\n[the window's size changed]")
                    if now is None:
                        return self._below_each_other(answers)
                    width, columns = now, Columns(self.screen.out, len(answers), now, live=True)
                columns.show(*_state(heads, answers))
        except KeyboardInterrupt:
            for answer in answers:
                answer.finished = True
            columns.show(*_state(heads, answers))
            return False
        return True

    def _below_each_other(self, answers: list[_Answer]) -> bool:
        out = self.screen.out
        for answer in answers:
            out.write(f"{answer.side.system.name}:\n")
            written = 0
            try:
                while not answer.finished or not written:
                    if not answer.finished:
                        answer.step()
                    written += out.write(answer.shown()[written:])
                    out.flush()
            except KeyboardInterrupt:
                answer.finished = True
                out.write(f"{answer.shown()[written:]}\n")
                return False
            self.screen.say("\n")
        return True

    # ------------------------------------------------------------------ commands
    def _handle(self, line: str) -> None:
        if not line.startswith("/"):
            if line:
                self.ask(line)
            return
        name, _, rest = line[1:].partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: self.screen.say(HELP),
            "reset": self._reset,
            "system": self._system,
            "why": self._why,
        }
        if name not in commands:
            raise unknown_name("command", f"/{name}", [f"/{known}" for known in (*commands, "quit")])
        commands[name](rest.strip())

    def _reset(self, rest: str) -> None:
        self.sides = [Side(side.system) for side in self.sides]
        self.screen.say("The conversation is forgotten.")

    def _system(self, specs: str) -> None:
        if specs:
            self.sides = [Side(system) for system in self.models.systems(specs)]
        names = ", ".join(side.system.name for side in self.sides)
        self.screen.say(f"{names}{'; a new conversation starts' if specs else ''}")

    def _why(self, shown: str) -> None:
        if not any(side.choices for side in self.sides):
            raise UserError("/why: there is no answer yet. Ask something first.")
        for side in self.sides:
            if side.choices:
                self.screen.say(why(side.system.name, side.choices, self._surface(side.system.lm), shown) + "\n")

    def _surface(self, lm: object) -> Surfaces:
        if id(lm) not in self._surfaces:
            self._surfaces[id(lm)] = Surfaces(lm.tokenizer)  # type: ignore[attr-defined]
        return self._surfaces[id(lm)]


def opening(systems: Sequence[System]) -> str:
    """What stands above a conversation: who answers, in a line each, and what to try."""
    width = max(len(system.name) for system in systems)
    lines = [f"  {system.name:<{width}}  {_what(system)}" for system in systems]
    tries = ["Try: What is the capital of France?"]
    if any(system.lm.bound_rules(system.rules) for system in systems):
        tries.append("then /why, which shows the tokens that the rules changed")
    return "\n".join(["Every line you type is answered by:", *lines, f"{', '.join(tries)}. /help lists the commands."])


def _what(system: System) -> str:
    model = f"the embedded model {SHORT_NAME}" if system.lm.embedded else Path(str(system.lm.pretrained)).name
    rules = system.lm.bound_rules(system.rules)
    if not rules:
        return f"{model} as it is, without rules"
    return f"{model}, its next-token scores changed by the rules {', '.join(rule.name for rule in rules.preset.rules)}"


def _state(heads: list[str], answers: list[_Answer]) -> tuple[list[str], list[bool]]:
    texts = [head + answer.shown() for head, answer in zip(heads, answers, strict=True)]
    return texts, [answer.finished for answer in answers]


def _read_lines(read: Callable[[], str]) -> str:
    lines = [read()]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read())
    return "\n".join(lines)
