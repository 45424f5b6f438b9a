"""What users give: model arguments that nobody knows are refused, and generation arguments take one form."""

from __future__ import annotations

import argparse
import difflib
import inspect
import logging
import sys
from collections.abc import Mapping
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from implicit_if.harness.errors import UserError
from implicit_if.harness.lm_eval_plugin import on_command_line

log = logging.getLogger(__name__)

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_LOADING = """
    adapter_kwargs attn_implementation bnb_4bit_compute_dtype bnb_4bit_quant_storage bnb_4bit_quant_type
    bnb_4bit_use_double_quant cache_dir config device_map device_mesh distributed_config experts_implementation
    force_download generation_config ignore_mismatched_sizes key_mapping kernel_config llm_int8_enable_fp32_cpu_offload
    llm_int8_threshold load_in_4bit load_in_8bit local_files_only low_cpu_mem_usage max_memory offload_buffers
    offload_state_dict output_loading_info proxies quantization_config state_dict token torch_dtype tp_size use_kernels
    use_safetensors variant weights_only
"""
"""What transformers' `from_pretrained` takes beside settings of the model's own configuration."""


_WITHOUT_EFFECT = {
    "softmax_dtype": "log-probabilities are computed in float32",
    "truncation": "a prompt that is too long loses its middle",
    "logits_cache": "requests that split a text differently share no logits",
}
"""Arguments of lm-eval's hf model that these wrappers have no use for, and what they do instead."""


def check_command_line() -> None:
    """Refuses limits in `--gen_kwargs` that cannot be kept, where lm_eval's command runs.

    Raises:
        UserError: Names the argument.
    """
    if on_command_line() is None:
        return
    from lm_eval._cli.utils import MergeDictAction

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--gen_kwargs", nargs="*", action=MergeDictAction, default={})
    given = parser.parse_known_args(sys.argv[1:])[0].gen_kwargs or {}
    read_generation({key: given[key] for key in (*_LIMITS, "num_return_sequences") if key in given}, 1)


def check_model_arguments(wrapper: type, pretrained: Any, given: Mapping[str, Any]) -> None:
    """Refuses arguments that neither the wrapper nor lm-eval, transformers or the model's configuration knows.

    Args:
        wrapper: The wrapper's class.
        pretrained: The model.
        given: What was given beside the wrapper's named arguments.

    Raises:
        UserError: Names the argument and the nearest known one.
    """
    parameters = inspect.signature(HFLM).parameters
    for key, instead in _WITHOUT_EFFECT.items():
        if given.get(key, parameters[key].default) != parameters[key].default:
            raise UserError(f"{key}={given[key]}: has no effect here ({instead}). Leave it out.")
    known = {*_LOADING.split()}
    for kind in wrapper.__mro__[: wrapper.__mro__.index(HFLM) + 1]:
        known |= inspect.signature(kind).parameters.keys() - {"kwargs", "args"}
    unknown = [key for key in given if key not in known]
    if not unknown:
        return
    if isinstance(pretrained, str):
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(pretrained, revision=given.get("revision") or "main")
            unknown = [key for key in unknown if not hasattr(config, key)]
        except (OSError, ValueError):  # a model that needs its own code, or none at all: said when it is loaded
            return
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known - {"self"}), n=2)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UserError(
            f"unknown model argument {unknown[0]!r}.{hint} Expected one of the wrapper (docs/wrappers.md), of "
            f"lm-eval's hf model, of transformers' from_pretrained, or a setting in the model's config.json."
        )


def read_generation(arguments: Mapping[str, Any], default_limit: int) -> dict[str, Any]:
    """lm-eval's generation arguments in their one form, `max_gen_toks` filled in; notes what has no effect.

    Args:
        arguments: As the task and the user gave them.
        default_limit: Tokens of an answer where they say nothing.

    Raises:
        UserError: On an argument that cannot be kept.
    """
    given = dict(arguments)
    if given.get("num_return_sequences") not in (None, 1):
        raise UserError(
            f"num_return_sequences={given['num_return_sequences']}: a request gets one answer. Expected 1; several "
            f"samples are runs with other seeds."
        )
    limits = {key: given[key] for key in _LIMITS if given.get(key) is not None}
    for key, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
            raise UserError(f"{key}={value}: expected a whole number of tokens, at least 1.")
    used, *unused = limits or ["max_gen_toks"]
    _note(*(f"{key}={limits[key]}: not used, {used}={limits[used]} counts" for key in unused))
    stops = [given.pop(key) for key in ("stop", "stop_strings") if key in given]
    if stops:
        until = [given.get("until") or [], *stops]
        given["until"] = [text for texts in until for text in ([texts] if isinstance(texts, str) else texts or [])]
    settings = dict(normalize_gen_kwargs(given, default_limit))
    if not settings.get("do_sample"):
        idle = [f"{key}={given[key]}" for key in _SAMPLING if given.get(key) not in (None, 0, 0.0)]
        _note(*(f"{text}: not used, as decoding is greedy; do_sample=true samples" for text in idle))
    return settings


_noted: set[str] = set()


def _note(*messages: str) -> None:
    for message in messages:
        if message not in _noted:
            _noted.add(message)
            log.warning("note: %s", message)
