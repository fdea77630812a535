"""The moe_block and its block: what is computed once, and what a dense twin answers."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from faceum.model.experts import ExpertsConfig
from faceum.model.moe import MoE, MoEBlock, MoEConfig
from faceum.model.router import RouterConfig
from faceum.model.vit import BlockConfig

CONFIG = MoEConfig(
    shared_hidden_dim=24,
    router=RouterConfig(num_experts=4),
    experts=ExpertsConfig(hidden_dim=8, activation="silu"),
)
BLOCK = BlockConfig(dim=16, num_heads=2, head_dim=8, hidden_dim=32, activation="silu")

ROW_P, TASK_P = torch.tensor([0, 1, 0, 1, 2]), torch.tensor([0, 0, 3, 3, 3])


def tokens(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images' tokens, and the face tokens of the five pairs."""
    generator = torch.Generator().manual_seed(seed)
    face_SN = torch.rand(3, 9, generator=generator) < 0.5
    return torch.randn(3, 9, 16, generator=generator), face_SN[ROW_P]


def with_full_experts(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith(("experts.fc2", "router.weight")):
                value.normal_(std=0.3)
    return module


def test_mixture_is_shared_plus_gated_experts() -> None:
    moe_block = with_full_experts(MoE(CONFIG, dim=16, tasks=6, activation="silu"))
    x_SND, face_PN = tokens()
    answer, routing = moe_block(x_SND, ROW_P, TASK_P, face_PN)
    assert routing is not None
    routed = moe_block.experts(x_SND[ROW_P], routing)
    assert routed.abs().max() > 0.01
    torch.testing.assert_close(answer, moe_block.shared(x_SND[ROW_P]) + routed)


def test_tasks_part_at_the_router() -> None:
    moe_block = with_full_experts(MoE(CONFIG, dim=16, tasks=6, activation="silu"))
    x_SND, face_PN = tokens()
    answer, _ = moe_block(x_SND, ROW_P, TASK_P, face_PN)
    assert (answer[0] - answer[2]).abs().max() > 0.01, "the same image for tasks 0 and 3"


def test_attention_and_the_shared_expert_run_once_a_row() -> None:
    block = with_full_experts(MoEBlock(BLOCK, CONFIG, tasks=6))
    seen: dict[str, list[int]] = {"attention": [], "shared": [], "experts": []}
    for name, module in (
        ("attention", block.attention),
        ("shared", block.moe.shared),
        ("experts", block.moe.experts),
    ):
        module.register_forward_hook(lambda _, inputs, __, name=name: seen[name].append(len(inputs[0])))
    x_SND, face_PN = tokens()
    answer, _ = block(x_SND, ROW_P, TASK_P, face_PN)
    assert answer.shape == (5, 9, 16)
    assert seen == {"attention": [3], "shared": [3], "experts": [5]}


def test_rows_shared_or_repeated_give_the_same() -> None:
    block = with_full_experts(MoEBlock(BLOCK, CONFIG, tasks=6))
    x_SND, face_PN = tokens()
    shared, _ = block(x_SND, ROW_P, TASK_P, face_PN)
    repeated, _ = block(x_SND[ROW_P], torch.arange(5), TASK_P, face_PN)
    torch.testing.assert_close(shared, repeated)


def test_fresh_block_equals_its_dense_twin() -> None:
    block = MoEBlock(BLOCK, CONFIG, tasks=6)
    twin = MoEBlock(BLOCK, dataclasses.replace(CONFIG, routed=False), tasks=6)
    weights = block.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    x_SND, face_PN = tokens()
    answer, routing = block(x_SND, ROW_P, TASK_P, face_PN)
    dense, nothing = twin(x_SND, ROW_P, TASK_P, face_PN)
    assert routing is not None and nothing is None
    torch.testing.assert_close(answer, dense, atol=1e-6, rtol=0)
