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

BLOCK = 4096
"""Words of the vocabulary scored at once: with 1000 positions 16 MB, which a processor's cache may hold."""

_SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class SummedNll(torch.autograd.Function):
    """Summed cross-entropy of a linear head, in blocks of the vocabulary, with the gradient made in the forward pass.

    So the `[n, v]` logits are never held at once, and each block is used while it is in the cache. The sums over the
    vocabulary are kept relative to the highest logit so far, as FlashAttention keeps them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Sums the negative log-likelihood.

        Args:
            ctx: Autograd's.
            hidden: `[n, d]`.
            weight: `[v, d]`.
            bias: `[v]` or None.
            targets: `[n]`, token ids.
            weights: `[n]`, what each position's loss is multiplied by; None is 1.

        Returns:
            A float32 scalar; 0 if `n` is 0.
        """
        blocks = [slice(start, start + BLOCK) for start in range(0, len(weight), BLOCK)]
        highest = torch.full((len(targets), 1), -torch.inf, device=hidden.device)
        total, goal = torch.zeros_like(highest), torch.zeros_like(highest)
        mean = torch.zeros(hidden.shape, device=hidden.device)  # of the head's rows under the model's distribution
        for block in blocks:
            logits = _logits(hidden, weight, bias, block)
            at = _places(targets, block)
            goal[at[0], 0] = logits[at]
            before, highest = highest, torch.maximum(highest, logits.amax(1, keepdim=True))
            shrink = (before - highest).exp_()
            shares = logits.sub_(highest).exp_()
            total.mul_(shrink).add_(shares.sum(1, keepdim=True))
            mean.mul_(shrink).add_(shares.to(hidden.dtype) @ weight[block])
        normaliser = highest + total.log()
        scale = torch.ones_like(highest) if weights is None else weights[:, None].float()
        _, of_weight, of_bias, *_ = ctx.needs_input_grad
        ctx.gradients = [(scale * (mean / total - weight[targets])).to(hidden.dtype), None, None]
        if of_weight or of_bias:
            ctx.gradients[1:] = torch.empty_like(weight), None if bias is None else torch.empty_like(bias)
            for block in blocks:
                error = _logits(hidden, weight, bias, block).sub_(normaliser).exp_()
                error[_places(targets, block)] -= 1
                error *= scale
                ctx.gradients[1][block] = error.to(hidden.dtype).t() @ hidden
                if bias is not None:
                    ctx.gradients[2][block] = error.sum(0)
        return (scale * (normaliser - goal)).sum()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else g.mul_(outputs[0].to(g.dtype)) for g in ctx.gradients), None, None)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, block: slice) -> Tensor:
    return F.linear(hidden, weight[block], None if bias is None else bias[block]).float()


def _places(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Where in a block's logits the targets are that stand in it."""
    rows = ((targets >= block.start) & (targets < block.stop)).nonzero().squeeze(1)
    return rows, targets[rows] - block.start


def can_patch(model: nn.Module) -> bool:
    """Whether the model ends in a plain linear head, whose logits are not scaled, capped or shared among experts."""
    config = model.config.get_text_config()  # type: ignore[union-attr,operator]
    plain = isinstance(model.get_output_embeddings(), nn.Linear)  # type: ignore[operator]
    neutral = all(getattr(config, name, None) in (None, 1, 1.0) for name in _SCALED)
    return plain and neutral and not hasattr(config, "output_router_logits")


def patch(model: nn.Module) -> None:
    """Lets `model(..., labels=labels, summed_nll=True)` return `(nll, n)`: the summed loss and its positions.

    With `position_weights`, `[b, s]`, each position's loss is multiplied by its label's weight.
    The model's own forward stays for every other call. Going through `forward` keeps what wraps the model working:
    adapters, distributed training, gradient checkpointing.
    """
    original: Callable[..., Any] = model.forward

    def forward(
        self: Any, *args: Any, summed_nll: bool = False, position_weights: Tensor | None = None, **kwargs: Any
    ) -> Any:
        if not summed_nll:
            return original(*args, **kwargs)
        labels: Tensor = kwargs.pop("labels")[:, 1:]
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        trained = labels != -100
        head = self.get_output_embeddings()
        weights = None if position_weights is None else position_weights[:, 1:][trained]
        nll: Tensor = SummedNll.apply(  # type: ignore[no-untyped-call]
            hidden[trained].to(head.weight.dtype), head.weight, head.bias, labels[trained], weights
        )
        return nll, trained.sum()

    model.forward = types.MethodType(forward, model)
