"""The model card of a tuned model."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from implicit_if.harness.embedded_base import EMBEDDED, HUB_NAME
from implicit_if.harness.provenance import Provenance
from implicit_if.harness.references import FALLBACK, sibling_of
from implicit_if.harness.safe_text import markdown_cell
from implicit_if.harness.tuning.data.encode import prompt_template
from implicit_if.harness.tuning.data.prepare import Prepared

_GEMMA = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms. This "
    "model is a derivative of Gemma: whoever passes it on passes on those terms and their use restrictions, and says "
    "that the files were changed."
)
_LLAMA2 = (
    "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights Reserved. "
    "See https://ai.meta.com/llama/license/ and the use policy at https://ai.meta.com/llama/use-policy/."
)
_LLAMA = "Built with Llama. The licence and the use policy of the base model's Llama version apply; see its card."


def render(prepared: Prepared, provenance: Provenance) -> str:
    """The card as Markdown with a YAML head.

    Args:
        prepared: What was trained on.
        provenance: What `tuning.json` holds.
    """
    recipe = prepared.recipe
    base, data, training = provenance.base, provenance.data, provenance.training
    licence, notice = base_licence(base.name, base.model_type)
    head = {
        **({"base_model": hub_name} if (hub_name := _hub_name(base.name)) else {}),
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["implicit-if", "trl", "sft"],
    }
    rows = [
        ("base", _shown(base.name) + (f" @ {base.revision}" if base.revision else "")),
        (
            "recipe",
            recipe.name + (f", profile {recipe.profile}" if recipe.profile else "") + f", seed {recipe.train.seed}",
        ),
        ("data", f"{data['origin']} @ {data['revision']}" if data["revision"] else Path(data["origin"]).name),
        ("data licence", data["licence"]),
        ("data hash", f"`{data['conversations_sha256']}`"),
        ("rows", f"{data['rows']} ({data['multi_turn']} multi-turn, {data['truncated']} cut)"),
        ("tokens an epoch", f"{data['tokens']}, {data['loss_tokens']} of them trained"),
        ("instructions seen", "none" if recipe.data.drop_instructions else "all"),
        ("chat template", f"{provenance.template['name']} (`{provenance.template['sha256'][:16]}`)"),
        (
            "training",
            f"{_method(prepared)}, {training['steps']} steps on {training['processes']} x {training['device']}",
        ),
        ("loss", f"{_number(training['first_loss'])} at the first step, {_number(training['last_loss'])} at the last"),
    ]
    if training.get("held_out_loss") is not None:
        rows.append(
            ("held-out loss", f"{_number(training['held_out_loss'])} of {recipe.data.held_out} rows at the end")
        )
    table = "\n".join(f"| {key} | {markdown_cell(value)} |" for key, value in rows)
    notes = "\n".join(f"- {note}" for note in prepared.notes) or "- none"
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}
---
# {recipe.name} of {_shown(base.name)}

{recipe.summary}

Tuned with `implicit-if tune` after *Instruction Following without Instruction Tuning* (Hewitt et al., arXiv
2409.14254). Every choice stands in `recipe.yaml`, every loss in `training_log.jsonl`, the origin in `tuning.json`.

| | |
|---|---|
{table}

Left out, cut or chosen automatically:

{notes}

## Evaluate

{_evaluation(prepared, base.name)}

## Licence

{notice}

The training data's licence: {data["licence"]}. Where it forbids commercial use, assume that it does so for this model.

This is a research model. It was not tuned to be safe or truthful.
"""


def _hub_name(base: str) -> str | None:
    """The base model's name on the hub; None for a folder, whose path tells about its user."""
    if base == EMBEDDED:
        return HUB_NAME
    return base if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) and not Path(base).exists() else None


def _shown(base: str) -> str:
    hub_name = _hub_name(base)
    if hub_name is None:
        return Path(base).name
    return base if base == hub_name else f"{base} ({hub_name})"


def base_licence(name: str, model_type: str) -> tuple[str, str]:
    """The hub's licence key of a base model and the notice its licence asks for.

    Args:
        name: What the user called the base model.
        model_type: From its configuration.
    """
    plain = name.casefold().replace("_", "-")
    if "gemma" in model_type or "gemma" in plain:
        return "gemma", _GEMMA
    if "llama-2" in plain or "llama2" in plain:
        return "llama2", _LLAMA2
    if "llama" in plain:
        return "other", _LLAMA
    if "olmo" in plain:
        return "apache-2.0", "OLMo is licensed under Apache-2.0."
    return "other", f"The licence of the base model, {_shown(name)}, applies; see its card."


def _evaluation(prepared: Prepared, base: str) -> str:
    """The command, and what the model is then judged against."""
    recipe = prepared.recipe
    template = prompt_template(recipe.encoding.template)
    sibling = sibling_of(base)
    metadata = [] if template == "tulu" else [f"template={template}"]
    if sibling is None:
        metadata.append("reference=<outputs of your instruction-tuned model>")
    asked = f" --metadata {' '.join(metadata)}" if metadata else ""
    lora = recipe.train.lora
    alone = f"{_hub_name(base) or Path(base).name},peft=<this folder>,tokenizer=" if lora and not lora.merge else ""
    command = f"lm_eval --model hf --model_args pretrained={alone}<this folder> --tasks alpaca_winrate{asked}"
    equal = (
        f"the same base model tuned by the recipe `instruction` with this model's seed, {recipe.train.seed}: "
        f"evaluate it with `--metadata save=FOLDER` and give `reference=FOLDER/outputs.json`"
    )
    if sibling is None:
        text = (
            f"The paper's reference is {equal}. No answers of such a model are shipped for this base; without "
            f"`reference=` the task takes `{FALLBACK}`, which is another model."
        )
    else:
        text = (
            f"It is judged against `{sibling}`, shipped answers of the same base model, tuned on instructions once, "
            f"whatever the seed here. The paper's reference is {equal}."
        )
    return f"```\n{command}\n```\n\n{text}"


def _method(prepared: Prepared) -> str:
    train = prepared.recipe.train
    what = f"LoRA r={train.lora.r}, {'merged' if train.lora.merge else 'not merged'}" if train.lora else "all weights"
    passes = f"{train.epochs} epochs" if train.max_steps is None else f"ended by train.max_steps={train.max_steps}"
    return f"{what}, {passes}, learning rate {train.learning_rate:g}, batch {train.batch}"


def _number(value: float | None) -> str:
    return "not logged" if value is None else f"{value:.4f}"
