"""A causal language model of transformers, loaded as lm-eval does, with the embedded model by default."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from implicit_if.harness.cpu_threads import ThreadTrials, may_try
from implicit_if.harness.errors import UserError
from implicit_if.harness.lm_eval_plugin import on_command_line
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.model_wrappers.arguments import check_command_line, check_model_arguments
from implicit_if.model_wrappers.identity import Identity


class LoadedLM(Identity, HFLM):
    """A decoder-only model of transformers that knows which model it is."""

    def __init__(
        self,
        pretrained: str | transformers.PreTrainedModel | None = None,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Checks the arguments, then loads the model.

        Args:
            pretrained: A local folder, a hub name, or a loaded model; None is the embedded base model.
            device: None is the GPU where there is one, else the CPU.
            dtype: None is the checkpoint's type, and float32 for the embedded model: in it every machine, batch and
                number of threads gives the same answers.
            batch_size: Rows at once; None or "auto" chooses.
            **kwargs: Further arguments of `HFLM`.

        Raises:
            UserError: If an argument is not known, the model is not decoder-only, has no EOS or, under
                `--apply_chat_template`, no chat template, or the embedded model is not installed.
        """
        check_command_line()
        check_model_arguments(type(self), pretrained, kwargs)
        self.embedded = pretrained is None
        if pretrained is None:
            from implicit_if.model_wrappers.embedded_model import ensure_embedded_model

            pretrained = str(ensure_embedded_model())
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dtype is None:
            dtype = "float32" if self.embedded else "auto"
        if not isinstance(pretrained, str):
            device, dtype = str(pretrained.device), pretrained.dtype
        try:
            super().__init__(pretrained, device=device, dtype=dtype, batch_size=batch_size or "auto", **kwargs)
        except UserError:
            raise
        except (
            OSError,
            ValueError,
            RecursionError,
        ) as error:  # neither a folder nor on the hub, no model's name, a bad proxy
            first = re.split(r"\n|\. ", str(error).strip(), maxsplit=1)[0]
            if (
                re.match(r"[/.~]|.*/.*/", str(pretrained)) and not Path(str(pretrained)).exists()
            ):  # no name of the hub's
                first = "no such folder"
            elif "tokenizer" in first and Path(str(pretrained)).is_dir():
                first = "its tokenizer's files, e.g. tokenizer.json, are missing in the folder or damaged"
            raise UserError(
                f"model {str(pretrained)!r} cannot be loaded ({first}). Expected a model's folder, or its hub name."
            ) from error
        self._require_eos()
        if self.backend != "causal":
            raise UserError(f"pretrained={pretrained}: an encoder-decoder model; expected a decoder-only model.")
        self._shard_without_gpus()
        usual = torch.float32 if self.embedded else getattr(self.config, "dtype", None) or self.model.dtype
        self.name_suffix = "" if self.dtype_name == str(usual).removeprefix("torch.") else f",{self.dtype_name}"
        self.threads = ThreadTrials(may_try(self.dtype_name) if self.device.type == "cpu" else 1)
        kwargs.pop("revision", None)
        self.base_identity = self._fingerprint(kwargs)  # now: the files may be replaced while the model is at work

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        """Checks the tokenizer, which is there already, before the weights are loaded."""
        self._require_eos()
        if self.tokenizer.chat_template is None and on_command_line("--apply_chat_template"):
            self.apply_chat_template([])
        super()._create_model(*args, **kwargs)

    def _require_eos(self) -> None:
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                f"{self.tokenizer.name_or_path}: this tokenizer has no EOS token, so no answer could end. Set its "
                f"eos_token (tokenizer_config.json), or name another with tokenizer=."
            )

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """The model's own template around some turns.

        Raises:
            UserError: If it has none.
        """
        if self.tokenizer.chat_template is None:
            raise UserError(
                f"--apply_chat_template: {self.tokenizer.name_or_path} has no chat template of its own. Leave it out: "
                f"the task then wraps instructions by --metadata template= (tulu)."
            )
        return str(super().apply_chat_template(chat_history, add_generation_prompt))

    def _shard_without_gpus(self) -> None:
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1:  # HFLM shards only where it sees several GPUs
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes

    # ------------------------------------------------------------------ construction by lm-eval
    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Any:
        """Builds the wrapper; an argument of `--model_args` wins over the command line's own."""
        given = {k: v for k, v in (additional_config or {}).items() if v is not None}
        if given.get("batch_size") == 1 and on_command_line("--batch_size", "-b") is False:
            say("batch size: chosen automatically (--batch_size 1 decodes one row at a time)")
            del given["batch_size"]
        return cls(**(given | arg_dict))

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Builds the wrapper from `key=value,...`."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    # ------------------------------------------------------------------ identity
    @property
    def max_gen_toks(self) -> int:
        """Tokens per answer unless the task or the user says otherwise: 256 for the embedded model, else 512."""
        return 256 if self.embedded else 512

    def _fingerprint(self, settings: dict[str, Any]) -> str | None:
        """Hash of everything that shapes the plain model's answers; None for a model object without files."""
        if not isinstance(self.pretrained, str):
            return None
        return model_fingerprint(
            self.pretrained,
            getattr(self.config, "_commit_hash", None),
            dtype=self.model.dtype,
            device=self.device.type,
            torch=torch.__version__,
            transformers=transformers.__version__,
            revision=self.revision,
            **{k: v for k, v in settings.items() if k != "max_batch_size"},
        )

    @property
    def dtype_name(self) -> str:
        """The type that answers are computed in, e.g. "float32", or "bfloat16-mixed" where only products are in it."""
        mixed = self.mixed_precision_dtype
        return str(self.model.dtype if mixed is None else mixed).removeprefix("torch.") + ("-mixed" if mixed else "")

    def get_model_info(self) -> dict[str, Any]:
        """Adds the type of the weights, where they are, and on a CPU with how many threads."""
        info = super().get_model_info() | {"model_dtype": self.dtype_name, "model_device": str(self.device)}
        return info | ({"cpu_threads": str(self.threads)} if self.device.type == "cpu" else {})


def say(message: str) -> None:
    """Prints a line about an automatic choice on stderr: lm-eval shows no message of ours below a warning."""
    print(f"implicit-if: {message}", file=sys.stderr, flush=True)
