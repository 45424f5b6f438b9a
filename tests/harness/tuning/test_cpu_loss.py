"""The head on trained positions: loss and gradients against the plain computation in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from implicit_if.harness.tuning import cpu_loss


def plain(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> Any:
    """Summed cross-entropy and its gradients by autograd, in float64."""
    leaves = [t.detach().double().requires_grad_() for t in (hidden, weight, bias) if t is not None]
    each = F.cross_entropy(F.linear(*leaves), targets, reduction="none")
    loss = (each if weights is None else each * weights.double()).sum()
    (3 * loss).backward()
    return loss.detach(), [leaf.grad for leaf in leaves]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 300),
    v=st.integers(2, 70),
    block=st.sampled_from([3, 16, 4096]),
    weighted=st.booleans(),
    d=st.integers(1, 9),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    biased=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_computation(
    n: int, v: int, d: int, block: int, weighted: bool, scale: float, biased: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(n, d, generator=random)
    weight = torch.randn(v, d, generator=random)
    bias = torch.randn(v, generator=random) if biased else None
    targets = torch.randint(v, (n,), generator=random)
    weights = torch.rand(n, generator=random) if weighted else None
    expected, gradients = plain(hidden, weight, bias, targets, weights)
    leaves = [None if t is None else t.clone().requires_grad_() for t in (hidden, weight, bias)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_loss, "BLOCK", block)
        loss = cpu_loss.SummedNll.apply(*leaves, targets, weights)
    (3 * loss).backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
    for leaf, gradient in zip([leaf for leaf in leaves if leaf is not None], gradients, strict=True):
        torch.testing.assert_close(leaf.grad.double(), gradient, rtol=1e-4, atol=1e-4 * scale)


def test_frozen_weights_get_no_gradient() -> None:
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4)
    cpu_loss.SummedNll.apply(hidden, weight, None, torch.zeros(5, dtype=torch.long)).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_no_positions_are_no_loss() -> None:
    hidden = torch.randn(0, 4, requires_grad=True)
    loss = cpu_loss.SummedNll.apply(hidden, torch.randn(9, 4), None, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad is not None
    assert hidden.grad.shape == (0, 4)


def test_a_patched_model_gives_the_same_loss_and_gradients(tiny: Path) -> None:
    ids = torch.randint(2, 400, (2, 17), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :6] = -100
    labels[1, 12:] = -100
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    models = [AutoModelForCausalLM.from_pretrained(tiny) for _ in range(2)]
    original = models[0](input_ids=ids, attention_mask=mask, labels=labels).loss
    original.backward()
    assert cpu_loss.can_patch(models[1])
    cpu_loss.patch(models[1])
    nll, positions = models[1](input_ids=ids, attention_mask=mask, labels=labels.clone(), summed_nll=True)
    (nll / positions).backward()
    assert positions == (labels[:, 1:] != -100).sum()
    torch.testing.assert_close(nll / positions, original, rtol=1e-6, atol=0)
    for (name, left), (_, right) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-7, msg=name)
    # Every other call goes to the model's own forward.
    torch.testing.assert_close(models[1](input_ids=ids).logits, models[0](input_ids=ids).logits)
    assert models[1].generate(input_ids=ids[:1, :5], max_new_tokens=2, do_sample=False).shape == (1, 7)


@pytest.mark.parametrize(("name", "value"), [("final_logit_softcapping", 30.0), ("logit_scale", 0.5)])
def test_scaled_or_capped_logits_are_left_to_trl(name: str, value: float) -> None:
    config = LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    assert cpu_loss.can_patch(LlamaForCausalLM(config))
    setattr(config, name, value)
    assert not cpu_loss.can_patch(LlamaForCausalLM(config))
