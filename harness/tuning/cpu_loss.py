"""The language-model head on trained positions only, for machines without a GPU.

TRL has a fused kernel for this on a GPU; elsewhere it scores every position, which for a vocabulary of 262,144 is most
of the work. Shapes: `b` batch, `s` sequence, `d` hidden size, `v` vocabulary, `n` trained positions.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch  # noqa: TID253  (only the trainer imports this module)
from torch import Tensor, nn  # noqa: TID253
from torch.nn import functional as F  # noqa: TID253

CHUNK = 128
"""Positions scored at once: 128 x 262,144 float32 logits are 134 MB."""

_SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class SummedNll(torch.autograd.Function):
    """Summed cross-entropy of a linear head, in chunks, with the gradient made in the forward pass.

    So the `[n, v]` logits are never held at once, nor computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """Sums the negative log-likelihood.

        Args:
            ctx: Autograd's.
            hidden: `[n, d]`.
            weight: `[v, d]`.
            bias: `[v]` or None.
            targets: `[n]`, token ids.

        Returns:
            A float32 scalar; 0 if `n` is 0.
        """
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradients = [None if t is None or not t.requires_grad else torch.zeros_like(t) for t in (hidden, weight, bias)]
        for start in range(0, len(targets), CHUNK):
            part, goal = hidden[start : start + CHUNK], targets[start : start + CHUNK, None]
            logits = F.linear(part, weight, bias).float()
            normaliser = logits.logsumexp(dim=-1, keepdim=True)
            total += (normaliser - logits.gather(1, goal)).sum()
            error = logits.sub_(normaliser).exp_()
            error.scatter_add_(1, goal, torch.full_like(goal, -1, dtype=error.dtype))
            error = error.to(hidden.dtype)
            if gradients[0] is not None:
                gradients[0][start : start + CHUNK] = error @ weight
            if gradients[1] is not None:
                gradients[1].addmm_(error.t(), part)
            if gradients[2] is not None:
                gradients[2] += error.sum(0)
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else g.mul_(outputs[0].to(g.dtype)) for g in ctx.gradients), None)


def can_patch(model: nn.Module) -> bool:
    """Whether the model ends in a plain linear head, whose logits are not scaled, capped or shared among experts."""
    config = model.config.get_text_config()  # type: ignore[union-attr,operator]
    plain = isinstance(model.get_output_embeddings(), nn.Linear)  # type: ignore[operator]
    neutral = all(getattr(config, name, None) in (None, 1, 1.0) for name in _SCALED)
    return plain and neutral and not hasattr(config, "output_router_logits")


def patch(model: nn.Module) -> None:
    """Lets `model(..., labels=labels, summed_nll=True)` return `(nll, n)`: the summed loss and its positions.

    The model's own forward stays for every other call. Going through `forward` keeps what wraps the model working:
    adapters, distributed training, gradient checkpointing.
    """
    original: Callable[..., Any] = model.forward

    def forward(self: Any, *args: Any, summed_nll: bool = False, **kwargs: Any) -> Any:
        if not summed_nll:
            return original(*args, **kwargs)
        labels: Tensor = kwargs.pop("labels")[:, 1:]
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        trained = labels != -100
        head = self.get_output_embeddings()
        nll: Tensor = SummedNll.apply(  # type: ignore[no-untyped-call]
            hidden[trained].to(head.weight.dtype), head.weight, head.bias, labels[trained]
        )
        return nll, trained.sum()

    model.forward = types.MethodType(forward, model)
