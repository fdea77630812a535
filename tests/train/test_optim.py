"""The optimizer's groups, the schedule at its corners, and the moving average by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from faceum.model.configs import COMPACT
from faceum.model.network import FaceUM
from faceum.train.optim import MovingAverage, build_optimizer, clip_gradients, learning_rate


def test_matrices_are_decayed_and_vectors_positions_and_gates_are_not() -> None:
    network, head = FaceUM(COMPACT), nn.Linear(3, 2)
    optimizer = build_optimizer(network, head, lr=1e-3, weight_decay=0.05)
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(value): name for name, value in [*network.named_parameters(), *head.named_parameters()]}
    assert len(decayed["params"]) + len(free["params"]) == len(names), "each parameter once"
    free_names = {names[id(value)] for value in free["params"]}
    assert {
        "trunk.positions",
        "moe_blocks.0.moe.router.weight",
        "moe_blocks.1.moe.router.weight",
        "bias",
    } < free_names
    decayed_names = {names[id(value)] for value in decayed["params"]}
    assert {"moe_blocks.0.moe.experts.fc1", "moe_blocks.1.moe.shared.fc2.weight", "weight"} < decayed_names
    assert all("norm" not in name and "bias" not in name for name in decayed_names)


def test_rate_climbs_then_falls_to_zero() -> None:
    rates = [learning_rate(step, peak=2.0, warmup=4, steps=12) for step in range(13)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0)
    assert sorted(rates[4:], reverse=True) == rates[4:]
    assert learning_rate(99, peak=2.0, warmup=4, steps=12) == pytest.approx(0)
    assert learning_rate(0, peak=2.0, warmup=0, steps=12) == 2.0


class Counter(nn.Module):
    """One weight and one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("bias", torch.zeros(1))


def test_average_follows_by_hand() -> None:
    network = Counter()
    average = MovingAverage(network, decay=0.25)
    weight = 0.0
    for update, value in enumerate([11.0, 4.0, 4.0, 4.0], 1):
        with torch.no_grad():
            network.weight.fill_(value)
        network.bias.fill_(value)
        average.update(network)
        keep = min(0.25, (1 + update) / (10 + update))  # 2/11, then 3/12, then the decay itself
        weight = keep * weight + (1 - keep) * value
        assert average.state["weight"].item() == pytest.approx(weight, rel=1e-6)
        assert average.state["bias"].item() == value, "buffers are copied"
    assert average.updates == 4


def test_average_is_no_part_of_the_network() -> None:
    network = Counter()
    average = MovingAverage(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(5)
    assert average.state["weight"].item() == 0
    assert not average.state["weight"].requires_grad


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_gradients_are_clipped_by_their_common_norm(limit: float) -> None:
    ours, theirs = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))] for _ in range(2))
    for one in (*ours, *theirs):
        one.grad = torch.full_like(one, 2.0 if one.dim() == 1 else -3.0)
    norm = clip_gradients(ours[:1], ours[1:], limit)
    assert float(norm) == pytest.approx((3 * 4 + 4 * 9) ** 0.5)
    nn.utils.clip_grad_norm_(theirs, limit)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    unused = nn.Parameter(torch.ones(2))
    clip_gradients([unused, *ours], [], 0.1)
    assert unused.grad is None
