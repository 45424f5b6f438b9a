"""Attention within each of the rows that share a sequence, for machines without FlashAttention.

transformers tells such rows apart by a mask, and then multiplies every row with every other one. Here each row is
multiplied with itself alone. This module knows nothing of losses or of data.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import torch  # noqa: TID253  (only the trainer imports this module)
from torch import Tensor, nn  # noqa: TID253
from transformers import AttentionInterface, PreTrainedModel  # noqa: TID253
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: TID253

NAME = "sdpa_by_row"


def can_use(model: PreTrainedModel) -> bool:
    """Whether the model takes its attention from transformers, and its layers see all tokens before, or a window."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    plain = config._attn_implementation == "sdpa" and model._supports_attention_backend
    return plain and layers <= {"full_attention", "sliding_attention"}


def use(model: PreTrainedModel) -> None:
    """Makes the model attend row by row, from now on.

    On a GPU without cuDNN's attention, which makes a plan for each new length: a pass of 16 rows of GSM8K took 1.7 s
    with it and 0.2 s without, on an H200.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """PyTorch's attention on each row.

    Args:
        module: The attention layer.
        query: `[b, heads, s, d]`; `key` and `value` may have fewer heads.
        key: See `query`.
        value: See `query`.
        attention_mask: None: transformers makes no mask for an attention that it does not know.
        cu_seq_lens_q: `[rows + 1]`, 0 and the end of each row; None if each sequence is one row, without padding.
        sliding_window: How many tokens a token sees, itself among them; None is all.
        kwargs: See `sdpa_attention_forward`.

    Returns:
        `[b, s, heads, d]`, and no attention weights.
    """
    bounds = [0, query.shape[2]] if cu_seq_lens_q is None else _on_host(cu_seq_lens_q)
    lengths = [end - start for start, end in pairwise(bounds)]
    outputs = []
    # Split, not sliced: a slice's gradient is as large as the whole sequence.
    for q, k, v in zip(*(torch.split(t, lengths, dim=2) for t in (query, key, value)), strict=True):
        window, n = None, q.shape[2]
        if sliding_window is not None and n > sliding_window:
            everything = torch.ones(n, n, dtype=torch.bool, device=q.device)
            window = everything.tril().triu(1 - sliding_window)[None, None]
        outputs.append(sdpa_attention_forward(module, q, k, v, window, **kwargs)[0])
    return torch.cat(outputs, dim=1), None


@functools.lru_cache(maxsize=1)
def _on_host(bounds: Tensor) -> list[int]:
    """The bounds as numbers. Every layer is given the same tensor, and each look at it would wait for a GPU."""
    return [int(n) for n in bounds.tolist()]
