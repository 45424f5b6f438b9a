"""Answers that are worth nothing, of many kinds, made from an instruction and other texts: what fits are to see through.

They are other texts than the controls of `harness/controls.py`, on which the fits are measured.
"""
# ruff: noqa: E501  (texts in other languages, one a line)

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from implicit_if.harness.controls import control_answers
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder

FILLER = (
    "Thank you for reaching out.",
    "That is a great question.",
    "I am happy to help you with this.",
    "There are many ways to look at this.",
    "It is important to consider all of the options.",
    "Everyone has a different opinion about this topic.",
    "First, think about what you want to achieve.",
    "Second, take your time and do not rush.",
    "In the end, it depends on your situation.",
    "I hope this helps.",
    "Please let me know if you have any other questions.",
    "This is something that many people wonder about.",
    "The most important thing is to stay calm and to keep going.",
    "You should always do your own research.",
    "As an AI language model, I can give you some information.",
    "There are several factors that play a role here.",
    "Some people prefer one thing, others prefer another.",
    "On the one hand there are advantages, on the other hand there are disadvantages.",
    "It is worth taking a closer look.",
    "The answer is not always simple.",
    "Let me explain this step by step.",
    "To sum up, there is no single right answer.",
    "It can be useful to talk to an expert.",
    "Practice makes perfect, so keep trying.",
    "The following points may be of interest.",
    "This topic is interesting and has a long history.",
    "You can find more details in books and on the internet.",
    "We will look at this in more detail below.",
    "It was a beautiful day and the sun was shining.",
    "He said that he would come back the next day.",
    "The company was founded in 1998 and has 200 employees.",
    "The book is about a man who lives in a small town.",
    "I think that it is a good idea.",
    "She was not sure what to do.",
    "The first thing to do is to make a plan.",
    "Everything happens for a reason.",
    "All of this takes time and effort.",
    "Good luck with your project!",
    "Absolutely! I would be glad to assist.",
    "The best answer depends on what you need.",
    "Here is the response to your request.",
    "The quick brown fox jumps over the lazy dog.",
    "All good things come to those who wait.",
    "It works well in most cases.",
    "There are three parts: the beginning, the middle and the end.",
    "Results may vary from person to person.",
    "Nothing more can be said at this point.",
    "This concludes the answer.",
)
"""Sentences that fit every instruction, or none."""
TEMPLATES = (
    "{0} is a very interesting topic. Many people think about {0} every day. {1} is important too.",
    "When we talk about {0}, we have to talk about {1}. {0} and {1} belong together, and so does {2}.",
    "Let me tell you about {0}. {0} is something special. There is nothing like {0} and {1}.",
    "The question about {0} and {1} is a good one. In general, {0} depends on {2}.",
    "Regarding {0}: it is important to understand {1}. Without {1} there is no {0}. Thank you for asking about {2}.",
    "{0} is {1} and {1} is {2}. That is why {0} matters.",
    "There are many aspects of {0}. One of them is {1}. Another one is {2}. In conclusion, {0} is worth knowing.",
    "Here is everything about {0}, {1} and {2}. I hope that helps you with {0}.",
    "First, consider {0}. Second, consider {1}. Third, consider {2}. Finally, put {0}, {1} and {2} together.",
    "{0}, {1}, {2}. These are the key words. {0} comes first, {2} comes last.",
    "I love {0}! Do you love {0} too? I also like {1}, and sometimes {2}.",
    "To deal with {0} you need to deal with {0} in the right way. The same holds for {1} and {2}.",
)
"""Patterns for an instruction's longest words."""
QUOTES = (
    'You asked: "{}" That is the question.',
    "Your question was: {}\nThank you for this question.",
    'The instruction says: "{}". This is the instruction.',
    '"{}" is what you want to know.',
    "The user wrote: {}",
    "Question: {}\n\nAnswer: {}",
    'Someone asked "{}" and I was wondering about it too.',
    "{} {} That was the request.",
    'I received the following message: "{}". I will look into it.',
)
"""Patterns for an instruction itself."""
LEADS = (
    "Sure! Here is what you asked for:\n\n{}",
    "Of course, I can help with that.\n{}",
    "Here is the answer to your question:\n{}",
    "Okay. {}",
    "As requested:\n\n{}",
    "Certainly! The following is my response.\n\n{}",
    "I understand. You want this: {}",
)
"""Leads into an echo."""
REFUSALS = (
    "I'm sorry, but I cannot help with that.",
    "I am unable to assist with this request. Please try something else.",
    "Sorry, I can't answer this question. As a language model I do not have the information you need.",
    "I don't know. I am not sure what you mean by that.",
    "Unfortunately, I am not able to provide an answer to this. I would suggest asking an expert in the field who can help you further.",
    "I apologize, but I can't do that. If you have any other questions, feel free to ask me and I will do my best to help.",
    "Thank you for your question. I regret that I cannot answer it at the moment. I hope you find what you are looking for elsewhere.",
    "I'm afraid this is beyond what I can help with. I appreciate your understanding and wish you all the best.",
    "It would not be appropriate for me to respond to this. Let's talk about something else.",
)
FOREIGN = (
    "Das ist eine gute Frage, die sich viele Menschen stellen. Man sollte zuerst überlegen, was man erreichen will, und dann einen Plan machen.",
    "Der Hund läuft durch den Wald und sucht nach seinem Ball. Am Abend ist er müde und schläft vor dem Kamin ein.",
    "Il y a plusieurs façons de voir les choses. La première est de prendre son temps et de réfléchir avant d'agir.",
    "Le marché ouvre à huit heures et les habitants du village y achètent leurs légumes et leur pain.",
    "Es importante tener en cuenta todas las opciones antes de tomar una decisión. Cada persona es diferente.",
    "La casa está cerca del mar y tiene un jardín grande con muchos árboles y flores.",
    "È una domanda interessante e la risposta dipende da molti fattori. In generale conviene procedere con calma.",
    "Het is belangrijk om goed na te denken over wat je wilt doen. Daarna kun je een keuze maken.",
    "Это интересный вопрос, и на него нет простого ответа. Сначала нужно подумать о том, чего вы хотите.",
    "这是一个很好的问题。首先要考虑你的目标，然后制定一个计划，一步一步地去做。",
    "これはとても良い質問です。まず目標を決めて、それから計画を立てましょう。",
    "هذا سؤال جيد. يجب أن تفكر أولا في ما تريد ثم تضع خطة واضحة.",
)


@dataclass(frozen=True)
class Material:
    """What an answer may be made of.

    Attributes:
        instruction: The instruction.
        answer: A real answer to it.
        stranger: A real answer to another one.
        strangers: Five more.
        others: Some other instructions' first lines.
    """

    instruction: str
    answer: str
    stranger: str
    strangers: list[str]
    others: list[str]


@cache
def _pieces() -> list[str]:
    """The embedding model's word pieces, without the special and single-letter ones at the front."""
    path = SentenceEmbedder().folder / "tokenizer.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    return [piece for piece, place in sorted(vocabulary.items(), key=lambda item: item[1]) if place >= 1000]


@cache
def _words() -> list[str]:
    return [piece for piece in _pieces()[:16000] if piece.isalpha() and piece.isascii() and len(piece) > 2]


def _filler(m: Material, rng: random.Random) -> str:
    sentences = rng.sample(FILLER, rng.randint(1, 6))
    return rng.choice([" ", "\n"]).join(sentences)


def _template(m: Material, rng: random.Random) -> str:
    longest = sorted(dict.fromkeys(re.findall(r"\w+", m.instruction.lower())), key=len, reverse=True)[:40]
    words = [*longest, "this", "this", "this"][:3]
    rng.shuffle(words)
    text = rng.choice(TEMPLATES).format(*words)
    return text if rng.random() < 0.6 else f"{text} {rng.choice(FILLER)}"


def _soup(m: Material, rng: random.Random) -> str:
    pieces = rng.choices(_pieces(), k=rng.randint(20, 120))
    if rng.random() < 0.6:
        return "".join(piece[2:] if piece.startswith("##") else f" {piece}" for piece in pieces).strip()
    return " ".join(piece.replace("##", "") for piece in pieces)


def _refusal(m: Material, rng: random.Random) -> str:
    return rng.choice(REFUSALS) if rng.random() < 0.6 else " ".join(rng.sample(REFUSALS, 2))


def _shuffled(text: str, rng: random.Random, limit: int | None = None) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words[:limit])


WORTHLESS: dict[str, Callable[[Material, random.Random], str]] = {
    "filler": _filler,
    "template": _template,
    "quoted": lambda m, rng: rng.choice(QUOTES).replace("{}", m.instruction),
    "lead": lambda m, rng: rng.choice(LEADS).replace("{}", m.instruction),
    "soup": _soup,
    "randwords": lambda m, rng: " ".join(rng.choices(_words(), k=rng.randint(10, 80))),
    "randcommon": lambda m, rng: " ".join(rng.choices(_words()[:400], k=rng.randint(10, 80))),
    "refusal": _refusal,
    "foreign": lambda m, rng: " ".join(rng.sample(FOREIGN, rng.choice([1, 1, 2]))),
    "stranger": lambda m, rng: m.stranger,
    "echo_others": lambda m, rng: "\n\n".join([m.instruction, *m.strangers[: rng.randint(1, 4)]]),
    "wbw": lambda m, rng: control_answers("word_by_word", {"": m.instruction})[""],
    "requests": lambda m, rng: "\n".join(m.others[: rng.randint(2, 5)]),
    "sortwords": lambda m, rng: _shuffled(m.instruction, rng),
    "shuffled": lambda m, rng: _shuffled(m.answer, rng, 120),
}
"""Ways by name; the same material and seed give the same text."""

NEAR = frozenset({"wbw", "echo_others", "quoted", "template", "lead"})
"""Ways whose answers hold the instruction's words, and are the easier to take for an attempt."""


def made_answers(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str, str]]:
    """Kind, instruction and answer: of `count` instructions the beginning of the real answer, and one of each way.

    Args:
        rows: Instructions and real answers.
        count: How many instructions, of those of fewer than 1,500 characters, in an order drawn with a fixed seed.
    """
    chosen = [row for row in rows if len(row[0]) < 1500]
    random.Random(0).shuffle(chosen)
    size = len(chosen)
    made = []
    for k in range(count):
        instruction, answer = chosen[k][0], _beginning(chosen[k][1])
        material = Material(
            instruction,
            answer,
            _beginning(chosen[(k + 7) % size][1]),
            [_beginning(chosen[(k + j) % size][1]) for j in range(11, 16)],
            [chosen[(k + j) % size][0].split("\n")[0] for j in range(21, 27)],
        )
        made.append(("real", instruction, answer))
        for kind, way in WORTHLESS.items():
            made.append((kind, instruction, way(material, random.Random(f"{k}{kind}"))))
    return made


def _beginning(answer: str) -> str:
    """As much as a small model would say."""
    first = answer.split("\n\n")[0]
    return first if len(first) < 600 else first[:500]
