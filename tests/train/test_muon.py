"""Muon: equal to torch's where torch has it, orthogonal by singular values, and resumable."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from faceum.errors import RecipeError
from faceum.model.configs import COMPACT
from faceum.model.network import FaceUM
from faceum.recipes.compact import knowledge
from faceum.train.muon import as_matrices, is_matrix, orthogonalize
from faceum.train.optim import build_optimizer


class Encoder(nn.Module):
    """Named as a network's encoder: a matrix, a convolution, experts, and what is left to AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleDict(
            {
                "linear": nn.Linear(24, 40),
                "conv": nn.Conv2d(16, 32, 3),
                "depthwise": nn.Conv2d(32, 32, 3, groups=32),
                "norm": nn.LayerNorm(8),
            }
        )
        self.trunk.register_parameter("experts", nn.Parameter(torch.randn(3, 20, 32)))
        self.heads = nn.Linear(24, 40)


def set_gradients(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_matrices_of_the_encoder_are_chosen() -> None:
    module = Encoder()
    groups = build_optimizer(module, lr=1e-3, weight_decay=0.05, kind="muon").param_groups
    names = {parameter: name for name, parameter in module.named_parameters()}
    matrices = {names[one] for group in groups if group["matrices"] for one in group["params"]}
    assert matrices == {"trunk.linear.weight", "trunk.conv.weight", "trunk.experts"}
    assert sum(len(group["params"]) for group in groups) == len(names), "each parameter once"
    network = FaceUM(COMPACT)
    groups = build_optimizer(network, lr=1e-3, weight_decay=0.05, kind="muon").param_groups
    share = sum(one.numel() for group in groups if group["matrices"] for one in group["params"])
    assert share > 0.4 * sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize("shape", [(32, 32), (20, 64), (64, 20), (3, 20, 32)])
def test_singular_values_end_near_one(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert (values.max() < 1.3) and (values.median() > 0.6)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = torch.cosine_similarity(orthogonalize(matrix).flatten(), (u @ v).flatten(), 0)
    assert cosine > 0.95


def test_steps_equal_those_of_torch() -> None:
    reference = pytest.importorskip("torch.optim", reason="no torch")
    if not hasattr(reference, "Muon"):
        pytest.skip("this torch has no Muon")
    module = Encoder()
    ours = build_optimizer(module, lr=1e-2, weight_decay=0.05, kind="muon")
    plain = copy.deepcopy(module)
    whole = [plain.trunk["linear"].weight, plain.trunk["conv"].weight, plain.trunk.experts]
    pieces = [
        nn.Parameter(piece.detach().clone())
        for one in whole
        for piece in (as_matrices(one) if one.dim() == 3 else [as_matrices(one)])
    ]
    theirs = reference.Muon(pieces, lr=1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adam = build_optimizer(plain, lr=1e-2, weight_decay=0.05)
    for step in range(3):
        set_gradients(module, step)
        set_gradients(plain, step)
        gradients = [
            piece
            for one in whole
            for piece in (as_matrices(one.grad) if one.dim() == 3 else [as_matrices(one.grad)])
        ]
        for piece, gradient in zip(pieces, gradients, strict=True):
            piece.grad = gradient.clone()
        for optimizer in (ours, theirs, adam):
            optimizer.step()
    ours_now = [module.trunk["linear"].weight, module.trunk["conv"].weight, *module.trunk.experts]
    for one, other in zip(ours_now, pieces, strict=True):
        assert torch.allclose(as_matrices(one), other, atol=2e-3), "bfloat16 inside"
    assert torch.equal(module.heads.weight, plain.heads.weight), "the rest is AdamW"
    assert torch.equal(module.trunk["depthwise"].weight, plain.trunk["depthwise"].weight)


def test_small_matrices_vectors_and_kernels() -> None:
    assert is_matrix(torch.empty(16, 16)) and not is_matrix(torch.empty(15, 64))
    assert is_matrix(torch.empty(24, 3, 3, 3)) and not is_matrix(torch.empty(64, 1, 3, 3))
    assert is_matrix(torch.empty(2, 16, 16)) and not is_matrix(torch.empty(64))


def test_closures_and_sharded_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="closure"):
        build_optimizer(Encoder(), lr=1e-3, weight_decay=0, kind="muon").step(lambda: 0.0)
    with pytest.raises(RecipeError, match="muon"):
        replace(knowledge, optimizer="muon", shard="blocks")
