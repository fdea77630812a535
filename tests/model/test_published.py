"""A published checkpoint, converted, answers as a slow transcription of the published network does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from faceum.errors import ModelError
from faceum.model.configs import BASE, DENSE_TASKS, IMAGE_TASKS, REFERENCE
from faceum.model.convert import PARSING_FROM_REFERENCE, convert
from faceum.model.network import FaceUM
from faceum.model.pyramid import fuse_mixed, fuse_plainly
from faceum.model.reference_router import ReferenceRouter, face_experts
from faceum.model.router import RouterConfig
from faceum.model.vit import resize_positions
from faceum.tasks import TASKS

NEAR = 1e-4
"""Largest difference, as a share of an answer's largest value."""

FARL_IDS = (
    "background", "neck", "skin", "cloth", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose",
    "mouth", "l_lip", "u_lip", "hair", "eye_g", "hat", "ear_r", "neck_l",
)  # fmt: skip


@pytest.fixture(scope="module")
def narrow(published: ModuleType, of_sizes: Callable[..., Any]) -> tuple[dict[str, Tensor], FaceUM]:
    """Random values under all published names, and what they convert to."""
    state = published.random_state(published.reference_shapes(published.NARROW), seed=1)
    model, _ = convert("reference", state, config=of_sizes(REFERENCE, published.NARROW))
    return state, model


def masks(grid: int) -> dict[str, Tensor]:
    """Face masks (grid * grid,), row-major."""
    face, edge = torch.zeros(2, grid, grid, dtype=torch.bool)
    face[grid // 5 : 4 * grid // 5, grid // 4 : 3 * grid // 4] = True
    edge[0, -1] = True
    every = {"typical": face, "empty": face & ~face, "full": face | ~face, "one patch": edge}
    return {name: mask.flatten() for name, mask in every.items()}


def image(size: int, seed: int) -> Tensor:
    """(3, size, size) in 0..1."""
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def differences(
    published: ModuleType, sizes: Any, state: dict[str, Tensor], model: FaceUM, mask: str
) -> dict[str, float]:
    """Each task's largest difference from the transcription, as a share of its largest value."""
    found = {}
    for spec, tasks in [(spec, tasks) for spec, tasks in model.config.crops if tasks]:
        size = spec.size
        crop, face = image(size, seed=size), masks(size // 16)[mask]
        normalized = (crop - model.mean[0]) / model.std[0]
        expected = published.answers(state, sizes, normalized, face, tasks)
        output = model(crop[None], face[None], tasks)
        for task in tasks:
            ours = output[task][0]
            if task == "parsing":
                ours = torch.stack([ours[TASKS["parsing"].labels.index(name)] for name in FARL_IDS])
            assert ours.shape == expected[task].shape
            found[task] = float((ours - expected[task]).abs().max() / expected[task].abs().max())
    return found


@pytest.mark.parametrize("mask", ["typical", "empty", "full", "one patch"])
def test_all_answers_are_the_published_ones(published: ModuleType, narrow: Any, mask: str) -> None:
    found = differences(published, published.NARROW, *narrow, mask)
    assert set(found) == set(TASKS)
    assert max(found.values()) < NEAR, found


def test_all_answers_are_the_published_ones_at_full_width(published: ModuleType) -> None:
    state = published.random_state(published.reference_shapes(published.FULL), seed=2)
    # All names, shapes and 1025 position rows as published; only the dense crops are small, for the time.
    (image, dense) = REFERENCE.crops
    small = replace(dense[0], size=128, grid=8)
    config = replace(REFERENCE, crops=(image, (small, dense[1]), (dense[0], ())))
    model, account = convert("reference", state, config=config)
    assert len(account.used) + len(account.by_rule) == len(state)
    found = differences(published, published.FULL, state, model, "typical")
    assert set(found) == set(TASKS)
    assert max(found.values()) < NEAR, found


@torch.no_grad()
def test_other_images_in_the_batch_change_nothing(narrow: Any) -> None:
    _, model = narrow
    crops = torch.stack([image(112, seed) for seed in range(4)])
    faces = torch.stack(list(masks(7).values()))
    together = model(crops, faces)
    for i in range(4):
        alone = model(crops[i : i + 1], faces[i : i + 1])
        for task in IMAGE_TASKS:
            torch.testing.assert_close(together[task][i], alone[task][0], rtol=1e-4, atol=1e-5)


def test_class_order_is_the_recorded_one() -> None:
    assert [TASKS["parsing"].labels[ours] for ours in PARSING_FROM_REFERENCE] == list(FARL_IDS)


# The router by itself.


def two_passes(p_weight: Tensor, x: Tensor, face: Tensor) -> tuple[Tensor, Tensor, int]:
    """The published rule token by token for one image: chosen experts and gates, -1 and 0 where not taken.

    p_weight: gates (2, E, D), background and face. x: patch tokens (N, D). face: (N,).
    """
    experts = p_weight.shape[1]
    expert, gate, face_k = torch.full((len(x), 6), -1), torch.zeros(len(x), 6), 0
    for region in (1, 0):
        rows = []
        for token, is_face in zip(x, face.tolist(), strict=True):
            seen = token if is_face == bool(region) else torch.zeros_like(token)
            rows.append(((p_weight[region] @ seen).softmax(0) + 1e-4).tolist())
        k = 2
        if region == 1:
            k = face_k = min(round(sum(sum(p > 0.1 for p in row) for row in rows) / len(rows)) + 2, 6)
        for n, row in enumerate(rows):
            if bool(face[n]) == bool(region):
                best = sorted(range(experts), key=lambda e, row=row: (-row[e], e))[:k]
                expert[n, : len(best)] = torch.tensor(best)
                gate[n, : len(best)] = torch.tensor([row[e] for e in best])
    return expert, gate, face_k


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("experts", [6, 8, 12])
def test_choice_is_that_of_the_two_passes(sharpness: float, experts: int) -> None:
    torch.manual_seed(3)
    tasks, width, patches = 6, 12, 16
    router = ReferenceRouter(RouterConfig(kind="reference", num_experts=experts), dim=width, tasks=tasks)
    router.weight.data.normal_(std=sharpness)
    x_PND = torch.randn(5, patches + 1, width)
    face_PN = torch.stack([torch.arange(patches + 1) < taken for taken in (1, 3, 9, 16, 17)])
    task_P = torch.tensor([0, 3, 3, 5, 1])
    routing = router(x_PND, task_P, face_PN)
    assert not routing.active_PNK[:, 0].any()
    for pair in range(5):
        weight = router.weight[task_P[pair]].detach()
        expert, gate, _ = two_passes(weight, x_PND[pair, 1:], face_PN[pair, 1:])
        ours = routing.topk_experts_PNK[pair, 1:].masked_fill(~routing.active_PNK[pair, 1:], -1)
        if sharpness:  # where all are alike, the rule leaves the routing open
            assert torch.equal(ours, expert)
        assert torch.equal((ours >= 0).sum(1), (expert >= 0).sum(1))
        torch.testing.assert_close(routing.weights_PNK[pair, 1:].detach(), gate)
    assert routing.load_TRE.sum() == routing.active_PNK.sum()


@pytest.mark.parametrize(
    ("noted", "k"),
    [
        ([1, 1, 1, 1], 3),
        ([1, 2, 1, 2], 4),
        ([2, 3, 2, 3], 4),
        ([3, 4, 3, 4], 6),
        ([0, 1, 0, 1], 2),
        ([8] * 4, 6),
    ],
)
def test_halves_are_rounded_to_the_even_number(noted: list[int], k: int) -> None:
    """Means 1, 1.5, 2.5, 3.5, 0.5 and 8: rounded 1, 2, 2, 4, 0 and 8, and 2 more, at most 6."""
    p_NE = torch.zeros(1, 5, 8)
    for token, count in enumerate(noted, 1):
        p_NE[0, token, :count] = 0.2
    p_NE[0, 0] = 0.2  # the class token does not count
    assert face_experts(p_NE, torch.ones(1, 5, dtype=torch.bool)).tolist() == [k]


def test_zeroed_tokens_are_noted_for_all_experts() -> None:
    """One face token that notes 1 expert, and 3 zeroed ones that note 8: mean 6.25, 6 + 2, at most 6."""
    p_NE = torch.zeros(1, 5, 8)
    p_NE[0, :, 0] = 0.9
    face = torch.tensor([[True, True, False, False, False]])
    assert face_experts(p_NE, face).tolist() == [6]
    assert face_experts(p_NE.repeat(1, 1, 2), face).tolist() == [2]  # 16 experts: 1/16 is not noted: 0.25


def test_published_router_needs_a_class_token() -> None:
    with pytest.raises(ModelError, match="class_token"):
        replace(REFERENCE, class_token=False)


# FaRL's encoder and our router.


@pytest.mark.parametrize("sizes_name", ["NARROW", "FULL"])
@torch.no_grad()
def test_farl_starts_as_the_dense_encoder(
    published: ModuleType, of_sizes: Callable[..., Any], sizes_name: str
) -> None:
    sizes = getattr(published, sizes_name)
    state = published.random_state(published.farl_shapes(sizes), seed=4)
    model, _ = convert("farl", state, config=of_sizes(BASE, sizes))
    after: list[Tensor] = []
    for block in (*model.trunk.blocks, *model.moe_blocks):
        block.register_forward_hook(
            lambda _m, _i, out: after.append(out[0] if isinstance(out, tuple) else out)
        )
    visual = published.part(state, "visual.")
    # The stored rows are for 32 x 32 patches; from there on both go the same way.
    visual["positional_embedding"] = resize_positions(visual["positional_embedding"], 32, class_token=True)
    dense = replace(sizes, dense_blocks=sizes.dense_blocks + sizes.moe_blocks)
    for size in (112,) if sizes_name == "FULL" else (112, 512):
        crop, after[:] = image(size, seed=5), []
        task = "age" if size == 112 else "parsing"
        model(crop[None], masks(size // 16)["typical"][None], (task,))
        normalized = (crop - model.mean[0]) / model.std[0]
        for depth, ours in enumerate(after, 1):
            expected = published.before_moe_blocks(visual, replace(dense, dense_blocks=depth), normalized)
            assert (ours[0] - expected).abs().max() <= 1e-5 * expected.abs().max(), f"block {depth - 1}"
        assert len(after) == dense.dense_blocks


@torch.no_grad()
def test_farl_mixtures_add_nothing_at_first_and_can_learn(published: ModuleType, of_sizes: Any) -> None:
    state = published.random_state(published.farl_shapes(published.NARROW), seed=4)
    model, account = convert("farl", state, config=of_sizes(BASE, published.NARROW))
    moe = model.moe_blocks[1].moe
    assert not moe.experts.fc2.any() and moe.experts.fc1.any() and moe.router.weight.any()
    assert torch.equal(moe.shared.fc1.weight, state["visual.transformer.resblocks.3.mlp.c_fc.weight"])
    assert any(name.startswith("heads.") for name in account.fresh)
    twin, _ = convert("farl", state, config=of_sizes(BASE, published.NARROW), seed=1)
    assert not torch.equal(twin.moe_blocks[1].moe.router.weight, moe.router.weight)


def test_one_trunk_pass_however_many_tasks(narrow: Any) -> None:
    _, model = narrow
    passes: list[int] = []
    handle = model.trunk.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        model(image(112, 0)[None], masks(7)["typical"][None], IMAGE_TASKS)
        model(image(512, 0)[None], masks(32)["typical"][None], DENSE_TASKS)
    handle.remove()
    assert len(passes) == 2


@pytest.mark.parametrize("form", [fuse_plainly, fuse_mixed])
def test_both_forms_of_the_fusion_are_the_plain_convolution(form: Callable[..., torch.Tensor]) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 5, side, side, requires_grad=True) for side in (24, 12, 6, 3)]
    weight = torch.randn(7, 20, 3, 3, requires_grad=True)
    enlarged = [
        torch.nn.functional.interpolate(x, size=(24, 24), mode="bilinear", align_corners=False) for x in maps
    ]
    plain = torch.nn.functional.conv2d(torch.cat(enlarged, 1), weight, padding=1)
    ours = form(maps, weight)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    to = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * to).sum(), [*maps, weight])
    for got, want in zip(torch.autograd.grad((ours * to).sum(), [*maps, weight]), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_published_heads_can_be_trained(published: ModuleType, of_sizes: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = FaceUM(of_sizes(BASE, published.NARROW)).train()
    for size, tasks in ((112, IMAGE_TASKS), (512, DENSE_TASKS)):
        crops, faces = torch.rand(2, 3, size, size), torch.rand(2, (size // 16) ** 2) < 0.5
        has_label_TB = torch.ones(len(tasks), 2, dtype=torch.bool)
        output = model(crops, faces, tasks, has_label_TB)
        torch.stack([output[task].square().mean() for task in tasks]).sum().backward()
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert not without
