"""The building blocks against slow, obvious versions of themselves."""

from __future__ import annotations

import math

import pytest
import torch

from faceum.errors import ModelError
from faceum.model.layers import ACTIVATIONS, Attention, DropPath, ResidualConv, require_known


@torch.no_grad()
def test_attention_equals_a_loop_over_heads_and_tokens() -> None:
    torch.manual_seed(0)
    attention = Attention(dim=10, num_heads=2, head_dim=3).double()
    x_SND = torch.randn(2, 4, 10, dtype=torch.float64)
    rows = []
    for row in x_SND:
        query, key, value = attention.in_projection(row).view(4, 3, 2, 3).unbind(1)
        heads = []
        for head in range(2):
            for_token = []
            for token in range(4):
                weights = [math.exp(query[token, head] @ key[n, head] / math.sqrt(3)) for n in range(4)]
                for_token.append(sum(w / sum(weights) * value[n, head] for n, w in enumerate(weights)))
            heads.append(torch.stack(for_token))
        rows.append(attention.out_projection(torch.cat(heads, dim=-1)))
    torch.testing.assert_close(attention(x_SND), torch.stack(rows))


def test_drop_path_keeps_the_expectation_and_rests_in_evaluation() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    ones = torch.ones(4000, 2, 3)
    dropped = drop.train()(ones)
    assert dropped.flatten(1).unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped.flatten(1).amin(1) == dropped.flatten(1).amax(1)).all(), "a row goes whole"
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(ones) is ones


def test_fresh_residual_block_is_the_identity() -> None:
    block, x_BChw = ResidualConv(16, "silu"), torch.randn(2, 16, 5, 5)
    assert torch.equal(block(x_BChw), x_BChw)
    block(x_BChw).square().sum().backward()
    assert block.second.weight.grad.any()


def test_quick_gelu_is_near_gelu() -> None:
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(ACTIVATIONS["quick_gelu"](x), ACTIVATIONS["gelu"](x), atol=0.021, rtol=0)
    assert ACTIVATIONS["quick_gelu"](torch.tensor(1.0)).item() == pytest.approx(1 / (1 + math.exp(-1.702)))


def test_unknown_words_are_refused_with_the_known_ones() -> None:
    require_known("activation", "relu", ACTIVATIONS)
    with pytest.raises(ModelError, match="activation 'tanh'.*gelu, quick_gelu, relu, silu"):
        require_known("activation", "tanh", ACTIVATIONS)
