"""Makes valid submissions of any size: answers written by chance from plain words, judged offline.

    folder = make_submission(tmp_path / "submissions", name="acme/parrot", n=80, quality=0.7)

`conftest.py` beside it makes it importable as `factory`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from implicit_if.harness.annotations import Annotation, Order
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.backends.longest import LongestJudge
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.outputs import Output, instruction_id
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.storage import json_bytes, jsonl_bytes, sha256_json, yaml_bytes
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION
from implicit_if.leaderboards.submitting.write import write_submission

WORDS = (
    "a about above after again all along also and answer any around as at because before below best better big both "
    "bread bring by can careful carry chair change clear close cold come cook cut day deep do door down each early "
    "easy egg even every far fast few find first fish five flour flower follow food for four fresh from full garden "
    "give go good green half hand hard have heat help here high hold home hot house how if in inside into is it just "
    "keep kind know large last late leaf learn left less let light like line little long look low make many may milk "
    "more most move much near need never new next night no not now of off oil often old on once one open or other out "
    "over own part pepper place plan plate play pot put quick rain read rest rice right river road room round run "
    "salt same say sea see set short show side simple sit six slow small so some soon sound start step still stir "
    "stone stop such sugar sun sure table take tea tell ten than that the their then there these they thing think "
    "this three time to together too top town tree try turn two under until up use very wait walk wall warm wash "
    "water way well when where which while white who whole wide will wind window with wood word work write year you"
).split()
LOOKALIKE_SEED = 20_240_919
TAGS = ["<|user|>", "<|assistant|>"]


class CoinJudge:
    """A stand-in for a language model: graded preferences drawn from the texts, with a taste for the first answer."""

    name = "openai:coin"
    fingerprint = sha256_json({"judge": "coin", "version": 1})
    ordered = True
    paid = False

    def preference(self, comparison: Comparison) -> float:
        """P(first is better): longer answers and first ones gain a little."""
        draw = random.Random(f"{comparison.instruction}|{comparison.first}|{comparison.second}").random()
        gain = 0.08 + 0.25 * (len(comparison.first) > len(comparison.second))
        return round(min(1.0, max(0.0, 0.8 * draw + gain - 0.05)), 6)


def texts(n: int, seed: int = 0, words: tuple[int, int] = (40, 160)) -> list[str]:
    """`n` different texts."""
    rng = random.Random(seed)
    return [f"{sentence(rng, rng.randint(*words))}" for _ in range(n)]


def sentence(rng: random.Random, length: int) -> str:
    """So many words, with a full stop now and then."""
    chosen = [rng.choice(WORDS) for _ in range(length)]
    return " ".join(w + ("." if rng.random() < 0.1 else "") for w in chosen).capitalize() + "."


def instructions(n: int) -> dict[str, str]:
    """Text by id: the builtin set's for 80, else as many made up."""
    if n == 80:
        return load_instructions("builtin").texts()
    made = [f"Explain thing number {i} in plain words." for i in range(n)]
    return {instruction_id(text): text for text in made}


def outputs(generator: str, n: int, seed: int, words: tuple[int, int] = (40, 160)) -> list[Output]:
    """Answers to `instructions(n)`; every seventh is cut by the length limit."""
    known = instructions(n)
    return [
        Output(
            instruction_id=key,
            instruction=text,
            output=answer,
            generator=generator,
            dataset="builtin" if n == 80 else "made",
            finish_reason="length" if number % 7 == 6 else "eos",
            n_tokens=len(answer.split()),
        )
        for number, ((key, text), answer) in enumerate(zip(known.items(), texts(n, seed, words), strict=True))
    ]


def judge_all(judge: Any, system: Sequence[Output], reference: Sequence[Output]) -> list[Annotation]:
    """Verdicts in every order, as the runner stores them."""
    other = {o.instruction_id: o for o in reference}
    orders: tuple[Order, ...] = ("system_first", "reference_first") if judge.ordered else ("none",)
    made = []
    for output in system:
        opponent = other[output.instruction_id]
        for order in orders:
            pair = (output.output, opponent.output)
            first, second = pair[::-1] if order == "reference_first" else pair
            comparison = Comparison("k", output.instruction or "", first, second)
            if first == second:
                value, raw = 0.5, "identical answers"
            elif isinstance(judge, CoinJudge):
                value = judge.preference(comparison)
                letters = {letter: math.log(p) for letter, p in (("m", value), ("M", 1 - value)) if p > 0}
                raw = json.dumps({"said": "m", "top_logprobs": letters})
            else:
                verdict = next(iter(judge.judge([comparison])))
                value, raw = verdict.prefers_first, verdict.raw
            made.append(
                Annotation(
                    instruction_id=output.instruction_id,
                    order=order,
                    preference=1 - value if order == "reference_first" else value,
                    raw=raw,
                    judge=judge.name,
                    fingerprint=judge.fingerprint,
                    system_sha256=output.sha256,
                    reference_sha256=opponent.sha256,
                    latency=0.01,
                )
            )
    return made


def attempts_by_model(system: Sequence[Output], judge: str = "openai:oracle") -> list[Annotation]:
    """A model's verdicts on attempts in words: every third answer is none."""
    return [
        Annotation(
            instruction_id=output.instruction_id,
            order="none",
            preference=float(number % 3 > 0),
            raw=json.dumps({"said": "yes" if number % 3 else "no", "finish_reason": "stop"}),
            judge=judge,
            fingerprint=sha256_json({"judge": judge}),
            system_sha256=output.sha256,
            reference_sha256="",
        )
        for number, output in enumerate(system)
    ]


def judgement_of(annotations: Sequence[Annotation], ids: Sequence[str]) -> Judgement:
    """What `annotate` would have returned, built without the code under test."""
    orders = tuple(sorted({a.order for a in annotations}, reverse=True))
    found = {(a.instruction_id, a.order): a.preference for a in annotations}
    by_order = {order: array("d", [float(found[i, order] or 0.0) for i in ids]) for order in orders}
    return Judgement(annotations[0].judge, annotations[0].fingerprint, orders, list(ids), by_order, [])


def pairs_of(system: Sequence[Output], reference: Sequence[Output]) -> list[Pair]:
    """Pairs in the system's order."""
    other = {o.instruction_id: o for o in reference}
    return [Pair(o.instruction_id, o.instruction or "", o, other[o.instruction_id]) for o in system]


def metadata_for(
    name: str, revision: str, system: Mapping[str, Any], reference: Sequence[Output], judge: Any, **changes: Any
) -> dict[str, Any]:
    """Metadata as `implicit-if submit` would fill it in, without `files`."""
    n = len(reference)
    builtin = load_instructions("builtin")
    ids = sorted(o.instruction_id for o in reference)
    orders = ["system_first", "reference_first"] if judge.ordered else ["none"]
    return {
        "schema_version": SCHEMA_VERSION,
        "task": "alpaca_winrate",
        "name": name,
        "revision": revision,
        "system": dict(system),
        "base_model": {"name": "acme/base-1b", "licence": "Apache-2.0"},
        "template": {"name": "tulu", "tags": TAGS},
        "instruction_set": {
            "name": "builtin" if n == 80 else "made",
            "revision": builtin.revision if n == 80 else sha256_json(ids),
            "n": n,
            "texts": False,
        },
        "reference": {"name": reference[0].generator, "sha256": outputs_sha256(reference)},
        "judge": {"name": judge.name, "fingerprint": judge.fingerprint, "orders": orders},
        "generation": {"do_sample": False, "max_gen_toks": 256},
        "run": {"model": "hf", "model_args": {"pretrained": "acme/base-1b"}, "versions": {"lm_eval": "0.4.13"}},
        "licence": "CC-BY-4.0",
        **changes,
    }


def make_submission(
    root: Path,
    *,
    name: str = "acme/parrot",
    revision: str = "v1",
    n: int = 12,
    seed: int = 1,
    words: tuple[int, int] = (40, 160),
    reference_seed: int = 0,
    reference_name: str = "base",
    judge: Any = None,
    system: Mapping[str, Any] | None = None,
    answers: Sequence[Output] | None = None,
    share: bool = False,
    self_reported: bool = False,
    attempts: Sequence[Annotation] = (),
    **changes: Any,
) -> Path:
    """Writes a submission.

    Args:
        root: `submissions/`.
        name: `org/model`.
        revision: Its revision.
        n: Instructions; 80 are the builtin set.
        seed: Of the answers.
        words: Shortest and longest answer; longer ones win more.
        reference_seed: Of the reference's answers: equal seeds and `n`, equal reference.
        reference_name: Its generator.
        judge: `LongestJudge()` (not ordered), `CoinJudge()` (ordered, default), or any other.
        system: `metadata.system`; a rules system if not given.
        answers: The system's answers instead of random ones.
        share: Whether the reference lies in `references/`, as `submit` writes it, or in the submission's folder.
        self_reported: Leaves answers and verdicts out.
        attempts: A judge's verdicts on attempts; see `attempts_by_model`.
        **changes: Other keys of the metadata.

    Returns:
        Its folder.
    """
    judge = judge or CoinJudge()
    own = list(answers) if answers is not None else outputs(name.split("/")[1], n, seed, words)
    other = outputs(reference_name, n, reference_seed + LOOKALIKE_SEED)
    annotations = judge_all(judge, own, other)
    kind = dict(system or {"kind": "rules", "preset": "paper"})
    metadata = metadata_for(name, revision, kind, other, judge, **changes)
    return write_submission(
        root, metadata, own, other, annotations, share=share, self_reported=self_reported, attempts=attempts
    )


def rehash(folder: Path) -> None:
    """What a careful cheat does: the hashes in the metadata are made to fit."""
    import hashlib

    path = folder / "metadata.yaml"
    metadata = yaml.safe_load(path.read_bytes())
    names = [p.name for p in folder.iterdir() if p.name not in ("metadata.yaml", "rerun.json")]
    metadata["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}
    path.write_bytes(yaml_bytes(metadata))


def edit_rows(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    path = folder / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = change(rows) or rows
    path.write_bytes(jsonl_bytes(rows))
    rehash(folder)


def edit_metadata(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "metadata.yaml"
    metadata = yaml.safe_load(path.read_bytes())
    change(metadata)
    path.write_bytes(yaml_bytes(metadata))


def edit_scores(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "scores.json"
    scores = json.loads(path.read_bytes())
    change(scores)
    path.write_bytes(json_bytes(scores))
    rehash(folder)


def run(command: Any, *arguments: str) -> int:
    """Runs a command's module as `implicit-if` does."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    status: int = command.run(parser.parse_args(arguments))
    return status


__all__ = ["CoinJudge", "LongestJudge", "make_submission", "run"]
