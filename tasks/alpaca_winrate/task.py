"""The task: lm-eval generates, this judges every answer against the reference's as soon as all are there."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.chat_templates import tags_around
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.embedded_base import EMBEDDED
from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Prompt, sampling_seed
from implicit_if.harness.instructions import to_documents
from implicit_if.harness.judging.attempts import NONE
from implicit_if.harness.judging.judged_run import (
    JudgedRun,
    Reference,
    find_reference,
    judge_pairs,
    save_answers,
    sidecar,
)
from implicit_if.harness.judging.pairs import make_pairs
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs
from implicit_if.harness.references import BASE, reference_meta
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.storage import cache_dir
from implicit_if.tasks.alpaca_winrate.metrics import (
    answer_metrics,
    attempt_rate_of,
    length_controlled_of,
    metric_list,
    win_rate_of,
)
from implicit_if.tasks.alpaca_winrate.settings import Settings
from implicit_if.tasks.alpaca_winrate.summary import summary_table, where_to_read
from implicit_if.tasks.own_metrics import with_metrics

log = logging.getLogger(__name__)

DEFAULT_MAX_GEN_TOKS = 512


def load_data(**metadata: Any) -> dict[str, Any]:
    """The instruction set as a dataset with the split "eval"; lm-eval passes all of `--model_args` and `--metadata`."""
    from datasets import Dataset

    instructions = Settings.from_metadata(metadata).load_instructions()
    return {"eval": Dataset.from_list(to_documents(instructions))}


class AlpacaWinrate(ConfigurableTask):
    """Win rate against a reference, with length control and measures of form; see README.md."""

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Builds the task and its judge.

        Raises:
            UserError: On a bad `--metadata` argument.
        """
        config = with_metrics(config, metric_list(self._score))
        # without `until`, lm-eval would cut answers at their first blank line
        config["generation_kwargs"] = {"until": [], "do_sample": False} | (config.get("generation_kwargs") or {})
        filters = [f.get("name", "none") for f in config.get("filter_list") or []]
        if len(filters) > 1:
            raise UserError(
                f"filter_list: found {len(filters)} filters ({', '.join(map(str, filters))}), expected at most one: an "
                f"answer is judged once. Make one task a filter."
            )
        super().__init__(config=config, **kwargs)
        self.settings = Settings.from_metadata(self.config.metadata or {})
        self.judge = self.settings.build_judge()
        self.attempts_judge = self.settings.build_attempts()
        self.template = self.settings.load_template()
        self.instructions = self.settings.load_instructions()
        self._reference = Reference(self.settings.reference, None, None)
        self._judged: JudgedRun
        self._gathered: dict[str, Score] = {}
        self._answers: dict[str, tuple[Output, Output, float | None]] = {}
        self._attempts: dict[str, float | None] = {}
        self._model_template = False
        self._own_template: str | None = None
        self._tags = self.template.tags
        self._system_instruction: str | None = None
        self._model: Any = None

    # ------------------------------------------------------------------ requests
    def build_all_requests(
        self,
        *,
        rank: int = 0,
        world_size: int = 1,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        system_instruction: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Builds one request per instruction, and a second one where the reference is the model's own base.

        Raises:
            UserError: If the reference is "base" under a model class that cannot answer as its base, or there are
                fewer instructions than processes.
        """
        if kwargs.get("cache_requests"):  # lm-eval's key holds the task's name, and neither template nor instructions
            log.warning("note: --cache_requests is not used: building the requests takes no time")
        kwargs |= {"cache_requests": False, "rewrite_requests_cache": False}
        limit = kwargs.get("limit")
        if world_size > (len(self.instructions.items) if limit is None else limit):
            raise UserError(f"--limit {limit}: fewer instructions than the {world_size} processes. Start fewer.")
        self._rank, self._world_size = rank, world_size
        self._model_template = apply_chat_template
        self._tags = self.template.tags if chat_template is None else _tags_of(chat_template)
        self._own_template = _source_of(chat_template) if apply_chat_template else None
        self._system_instruction = system_instruction
        self._model = model = getattr(rank, "model", None)  # see `Rank`
        if not self._bypassed:
            asked = kwargs.get("samples") or (None if limit is None else range(limit))
            self._choose_reference(asked)
        if self.settings.save and world_size > 1:
            raise UserError("save=: needs one process. Leave it out and use --log_samples --output_path.")
        generation = self.config.generation_kwargs
        if not generation.keys() & {"max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"}:
            limit = model.max_gen_toks if model is not None else DEFAULT_MAX_GEN_TOKS
            made = reference_meta(self._reference.name, self.instructions)
            if made is not None:  # answers are as long as the reference's may be
                limit = made.generation.get("max_gen_toks", limit)
            self.set_config("generation_kwargs", {"max_gen_toks": limit}, update=True)
        super().build_all_requests(
            rank=rank,
            world_size=world_size,
            apply_chat_template=apply_chat_template,
            chat_template=chat_template,
            system_instruction=system_instruction,
            **kwargs,
        )

    def _choose_reference(self, places: Iterable[int] | None) -> None:
        """Settles what is judged against, says so, and loads its answers to the instructions at some places.

        Raises:
            UserError: If the reference is "base" under a model class that cannot answer as its base.
        """
        model = self._model
        pretrained = (self.config.metadata or {}).get("pretrained")
        base = EMBEDDED if pretrained is None and model is not None else str(pretrained)
        chosen = find_reference(
            self.settings.reference, self.instructions, base, answers_as_base=model is not None, places=places
        )
        self.config.metadata["reference_chosen_because"] = chosen.because
        if note := chosen.note("--metadata reference="):
            log.warning("%s", note)
        if chosen.outputs is None and model is None:
            raise UserError(
                "reference=base: this model class cannot answer as its own base. Expected --model rules_poe "
                "(rules=none is the plain model), or --metadata reference=<outputs file>."
            )
        self._reference = chosen

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> str:
        """The prompt; under `--apply_chat_template` the bare instruction, which the model's own template wraps."""
        if getattr(self, "_model_template", True):
            return str(doc["instruction"])
        return self.template.render_prompt(doc["instruction"])

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """The system's request and, for reference "base", the reference's."""
        bare = getattr(self._model, "wants_bare_instructions", False)  # a wrapper with a prompt format of its own
        ctx = Prompt.of(ctx, [str(doc["instruction"])])
        own = super().construct_requests(doc, str(doc["instruction"]) if bare else ctx, **kwargs)
        if self._reference.name != BASE or self._bypassed:
            return [own]
        generation = {**own.arguments[1], "rules": "none"}
        reference = Instance(
            request_type=own.request_type, doc=doc, arguments=(ctx, generation), idx=1, metadata=own.metadata
        )
        return [own, reference]

    # ------------------------------------------------------------------ judging
    @property
    def _bypassed(self) -> bool:
        """Whether `--predict_only` is on."""
        return "bypass" in self._metric_fn_list

    def apply_filters(self) -> None:
        """Judges this process's answers: the one moment when all are there and no sample is scored yet."""
        super().apply_filters()
        replica = self._world_size == 1 and int(os.environ.get("LOCAL_RANK", 0)) > 0
        if replica or (self._bypassed and not self.settings.save):  # a tensor-parallel replica's are thrown away
            return
        name = next(iter(self.instances[0].filtered_resps))
        made: tuple[list[Output], list[Output]] = ([], [])
        for instance in self.instances:
            made[instance.idx == 1].append(self._output(instance.doc, instance.filtered_resps[name], instance.idx == 1))
        if self._bypassed:  # judged elsewhere: `implicit-if judge`
            save_outputs(Path(str(self.settings.save)) / "outputs.json", made[0], self._meta(made[0][0]))
            return
        wanted = {output.instruction_id for output in made[0]}
        reference = [o for o in self._reference.outputs or made[1] if o.instruction_id in wanted]
        asked, meta = self.attempts_judge, self._meta(made[0][0])
        with self._kept(made[0], reference, meta):
            self._judged = judge_pairs(
                make_pairs(made[0], reference),
                self.judge,
                self.settings.store(self.judge),
                self.instructions.name,
                self.instructions.revision,
                answers=AnswerSettings.of_meta(meta),
                attempts=asked,
                attempts_store=None if asked is None else self.settings.attempts_store(asked),
                progress=self._rank == 0,
            )
        self._answers = {
            pair.instruction_id: (pair.system, pair.reference, verdict.preference)
            for pair, verdict in zip(self._judged.pairs, self._judged.judgement, strict=True)
        }
        if self._judged.attempts is not None:
            ids = (answer.instruction_id for answer in self._judged.attempts.answers)
            self._attempts = dict(zip(ids, self._judged.attempts.probabilities, strict=True))
        self._record()

    def _output(self, doc: dict[str, Any], answer: Any, reference: bool) -> Output:
        if not isinstance(answer, str):
            raise UserError(
                f"the model's answer to {doc['instruction']!r:.80} is {type(answer).__name__}, expected text. Fix the "
                f"model class's generate_until, or the task's filter."
            )
        maker = getattr(answer, "maker", None)
        return Output(
            instruction_id=doc["instruction_id"],
            instruction=doc["instruction"],
            output=str(answer),
            generator=BASE if reference else maker.name if maker is not None else _name_of(self.config.metadata or {}),
            dataset=doc.get("dataset"),
            finish_reason=getattr(answer, "finish_reason", None),
            n_tokens=getattr(answer, "n_tokens", None),
            **({"prompt_tokens_cut": cut} if (cut := getattr(answer, "prompt_tokens_cut", 0)) else {}),
        )

    @contextlib.contextmanager
    def _kept(self, system: list[Output], reference: list[Output], meta: OutputsMeta) -> Iterator[None]:
        """Has the answers on disk while they are judged, whatever happens; without `save=` no longer than that."""
        folder = cache_dir() / "unjudged" / outputs_sha256(system)[:16]
        if self.settings.save:
            folder = Path(self.settings.save)
        save_answers(folder, system, reference, meta)
        try:
            yield
        except BaseException:
            log.error(
                "the answers are kept: implicit-if judge %s --reference %s --judge %s",
                folder / "outputs.json",
                folder / "reference.json",
                self.judge.name,
            )
            raise
        if not self.settings.save:
            shutil.rmtree(folder, ignore_errors=True)

    def _meta(self, output: Output) -> OutputsMeta:
        model = {} if self._model is None else self._model.get_model_info()
        told = self._system_instruction
        more: dict[str, Any] = {} if told is None else {"system_instruction": told}
        if self._model_template:
            more["template_tags"] = list(self._tags)
        template = self._own_template if self._model_template else self.template
        generation = dict(self.config.generation_kwargs)
        if generation.get("do_sample") and (seed := sampling_seed()) is not None:
            generation["seed"] = seed
        return sidecar(output.generator, self.instructions, template, generation, model, **more)

    def _record(self) -> None:
        """Puts what shaped the numbers into the results, and prints system and reference side by side."""
        metadata, run = self.config.metadata, self._judged
        metadata |= {
            "instruction_set": self.instructions.signature,
            "instructions_chosen_because": self.instructions.chosen_because,
            "template": "model" if self._model_template else self.template.name,
            "bare_instructions": bool(getattr(self._model, "wants_bare_instructions", False)),
            "judge": self.judge.name,
            "judge_fingerprint": run.judgement.fingerprint,
            "judge_attempts": NONE if self.attempts_judge is None else self.attempts_judge.name,
            "reference": self._reference.name,
        }
        if run.attempts is not None:
            metadata["judge_attempts_fingerprint"] = run.attempts.judgement.fingerprint
        if self._system_instruction is not None:
            metadata["system_instruction"] = self._system_instruction
        if self._model_template:  # lm-eval itself records the model's own template
            metadata["template_tags"] = list(self._tags)
        else:
            metadata["template_sha256"] = self.template.sha256
        if self._world_size > 1:  # each process holds a part: `implicit-if judge` scores and signs the logged samples
            return
        metadata["signature"] = str(run.scores["length_controlled_win_rate"].signature)
        signatures = [metadata["signature"]]
        if ATTEMPTS in run.scores:
            metadata["attempts_signature"] = str(run.scores[ATTEMPTS].signature)
            signatures.insert(0, metadata["attempts_signature"])
        if self.settings.save:
            run.save_scores(Path(self.settings.save))
        n, rate = len(self.instructions.items), run.reference_attempt_rate
        table = summary_table(run.outputs, run.reference, run.scores, self._tags, n, rate)
        notes = "".join(f"note: {note}\n" for note in run.control.notes)
        print_anywhere("\n".join(["", table, *signatures, notes + where_to_read(self.settings.save)]))

    # ------------------------------------------------------------------ scores
    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        """One answer's metrics; notes finish reason and verdict in the logged document."""
        if self._bypassed:
            return dict(super().process_results(doc, results))
        output, reference, preference = self._answers[doc["instruction_id"]]
        noted = {"generator", "finish_reason", "n_tokens"}
        doc["output"] = output.model_dump(include=noted)
        doc["reference"] = reference.model_dump(include=noted | {"output"})
        doc["preference"] = preference
        attempt = None
        if self._judged.attempts is not None:
            doc["attempt"] = self._attempts[doc["instruction_id"]]
            attempt = (doc["attempt"],)
        return answer_metrics(output, reference, preference, self._tags, len(self.instructions.items), attempt)

    def _score(self, metric: str, values: list[Any]) -> Score:
        """A score of the run, fitted once; of several processes' answers where each holds a part."""
        if self._world_size == 1:
            return self._judged.scores[metric]
        if metric not in self._gathered:
            if metric == ATTEMPTS:
                found = attempt_rate_of(values)
            elif metric == "win_rate":
                found = win_rate_of(values)
            else:
                found = length_controlled_of(values, self.judge.name, self.instructions.name)
            self._gathered[metric] = found
        return self._gathered[metric]

    def aggregation(self) -> dict[str, Callable[[list[Any]], Any]]:
        """Aggregation by metric."""
        return dict(self._aggregation_list)


def _name_of(arguments: Mapping[str, Any]) -> str:
    """The system's name where the model class gives none: that of its weights and adapter in `--model_args`."""
    names = [Path(str(arguments.get(key) or "")).name for key in ("pretrained", "model", "peft")]
    return "+".join(name for name in names if name) or "model"


def _tags_of(chat_template: Callable[..., str]) -> tuple[str, ...]:
    """The role tags of the model's own template, read off a prompt."""
    text = secrets.token_hex(16)
    prompt = chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
    return tuple(dict.fromkeys(tag for tag in tags_around(prompt, text) if tag))


def _source_of(chat_template: Callable[..., str] | None) -> str | None:
    """The source of the model's own template, which lm-eval hands over as a method; None if it is not known."""
    source = getattr(getattr(chat_template, "__self__", None), "chat_template", None)
    return source(True) or None if callable(source) else None


def print_anywhere(text: str) -> None:
    """Prints text to a terminal of any encoding; what it cannot show is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
