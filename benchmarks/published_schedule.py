"""Write the published schedule out with our modules and weights, as what `base` is compared with.

It runs one whole encoder pass per task. In the MoE blocks all patch tokens are routed in both passes, with
those of the other region set to zero. The experts run grouped as ours do, so only the schedules differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import torch
from torch import Tensor

from faceum.model import pyramid
from faceum.model.moe import MoEBlock
from faceum.model.network import FaceUM
from faceum.model.reference_router import COUNTED, FLOOR, MORE, MOST_BACKGROUND, MOST_FACE
from faceum.model.router import Routing

Crops = dict[int, tuple[Tensor, Tensor]]
"""Crop size -> crops (B, 3, S, S) and face masks (B, N)."""


def ours(model: FaceUM, crops: Crops, *, heads: bool) -> dict[str, Tensor]:
    """Return the answers (or the heads' tokens) by our schedule: one call a resolution."""
    answers = {}
    for spec, tasks in model.config.crops:
        crop_BCHW, mask_BN = crops[spec.size]
        if heads:
            answers.update(model(crop_BCHW, mask_BN, tasks).answers)
            continue
        x_BND, _ = model.trunk((crop_BCHW - model.mean) / model.std)
        batch = len(crop_BCHW)
        row_P = torch.arange(batch, device=x_BND.device).repeat(len(tasks))
        task_P = torch.cat([row_P.new_full((batch,), model.config.tasks.index(task)) for task in tasks])
        x_PND, _ = model._mix(x_BND, mask_BN, row_P, task_P)
        answers.update(zip(tasks, x_PND.split(batch), strict=True))
    return answers


def published(model: FaceUM, crops: Crops, *, heads: bool) -> dict[str, Tensor]:
    """Return the same by the published schedule; `model` has the reference router."""
    answers = {}
    for task in model.config.tasks:
        crop_BCHW, mask_BN = crops[model.config.crop_of(task).size]
        x_BND, maps = model.trunk((crop_BCHW - model.mean) / model.std)
        for block in model.moe_blocks:
            assert isinstance(block, MoEBlock)
            x_BND = _block(block, x_BND, mask_BN, model.config.tasks.index(task))
        with mock.patch.object(pyramid, "fuse", pyramid.fuse_plainly):
            answers[task] = model.heads[task](x_BND[:, 1:], maps) if heads else x_BND
    return answers


def _block(block: MoEBlock, x_BND: Tensor, mask_BN: Tensor, task: int) -> Tensor:
    x_BND = x_BND + block.attention(block.attention_norm(x_BND))
    y_BND = block.mlp_norm(x_BND)
    class_B1D, patch_BND = block.moe.shared(y_BND[:, :1]), y_BND[:, 1:]
    face_BN1 = mask_BN[..., None]
    in_face = _one_pass(block, patch_BND * face_BN1, task, region=1)
    outside = _one_pass(block, patch_BND * ~face_BN1, task, region=0)
    return x_BND + torch.cat([class_B1D, torch.where(face_BN1, in_face, outside)], dim=1)


def _one_pass(block: MoEBlock, x_BND: Tensor, task: int, *, region: int) -> Tensor:
    """Run all tokens of one image, zeroed ones too, through as many experts as the published rule says."""
    assert len(x_BND) == 1 and block.moe.router is not None and block.moe.experts is not None
    p_BNE = (x_BND @ block.moe.router.weight[task, region].T).softmax(-1) + FLOOR
    count = MOST_BACKGROUND
    if region == 1:
        count = min(round((p_BNE > COUNTED).sum(-1).double().mean().item()) + MORE, MOST_FACE)
    gate_BNK, expert_BNK = p_BNE.topk(count, dim=-1)
    none = torch.zeros(0)
    choice = Routing(
        expert_BNK, gate_BNK, torch.ones_like(expert_BNK, dtype=torch.bool), none, none, none, none
    )
    return block.moe.experts(x_BND, choice)


def same(one: dict[str, Tensor], other: dict[str, Tensor], tasks: Sequence[str]) -> float:
    """Return the largest difference of any task's answers, as a share of its largest value."""
    apart = [((one[task] - other[task]).abs().max() / other[task].abs().max()).item() for task in tasks]
    return max(apart)
