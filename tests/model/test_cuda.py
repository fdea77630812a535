"""A GPU in bfloat16 against a CPU in float32: network, experts and torch runner; weights rounded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from faceum.model.configs import BASE, REFERENCE
from faceum.model.experts import Experts, ExpertsConfig
from faceum.model.network import FaceUM, FaceUMConfig, round_weights
from faceum.model.router import FaceRouter, RouterConfig
from faceum.runner import load_runner
from faceum.tasks import TASKS

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

Lively = Callable[[FaceUMConfig], FaceUM]


def even(config: FaceUMConfig) -> FaceUMConfig:
    """Every expert taken by every token: bfloat16 may turn a close routing round, and with it the answer."""
    every = config.moe.router.num_experts
    router = replace(config.moe.router, top_p=2.0, k_max_face=every, k_max_background=every)
    return replace(config, moe=replace(config.moe, router=router))


def narrow(config: FaceUMConfig) -> FaceUMConfig:
    """`base` or `reference` with one dense block and slim layers."""
    return replace(
        config,
        depth=1,
        block=replace(config.block, dim=96, num_heads=2, head_dim=48, hidden_dim=96),
        moe=replace(config.moe, shared_hidden_dim=96, experts=replace(config.moe.experts, hidden_dim=48)),
    )


def crops_of(config: FaceUMConfig, place: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    spec = config.crops[place][0]
    generator = torch.Generator().manual_seed(3)
    crop_BCHW = torch.rand(2, 3, spec.size, spec.size, generator=generator)
    return crop_BCHW, torch.rand(2, spec.grid**2, generator=generator) < 0.5


def assert_near(rough: np.ndarray, exact: np.ndarray, task: str) -> None:
    """Of one shape and apart, in the mean, by a few of bfloat16's steps of what the answers spread."""
    assert rough.shape == exact.shape and np.isfinite(rough).all(), task
    assert np.abs(rough - exact).mean() < 0.05 * np.abs(exact).mean(), task


def test_weights_rounded_once_answer_as_autocast_does(small_config: FaceUMConfig, lively: Lively) -> None:
    network, (crop_BCHW, mask_BN) = lively(small_config), crops_of(small_config)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        before = dict(network(crop_BCHW, mask_BN))
        round_weights(network, torch.bfloat16)
        after = network(crop_BCHW, mask_BN)
    assert network.moe_blocks[0].moe.experts.fc1.dtype == torch.bfloat16
    assert network.moe_blocks[0].moe.router.weight.dtype == torch.float32
    for task, answer in before.items():
        assert torch.equal(after[task], answer), task


@needs_gpu
def test_gpu_answers_as_the_cpu_does(small_config: FaceUMConfig, lively: Lively) -> None:
    network, (crop_BCHW, mask_BN) = lively(even(small_config)), crops_of(small_config)
    with torch.inference_mode():
        exact = network(crop_BCHW, mask_BN)
        network.cuda()
        with torch.autocast("cuda", torch.bfloat16):
            rough = network(crop_BCHW.cuda(), mask_BN.cuda())
    for task in TASKS:
        assert_near(rough[task].float().cpu().numpy(), exact[task].numpy(), task)


@needs_gpu
@pytest.mark.parametrize("config", [BASE, REFERENCE], ids=lambda config: config.name)
def test_nothing_waits_for_the_gpu(config: FaceUMConfig, lively: Lively) -> None:
    network = lively(narrow(config)).cuda()
    round_weights(network, torch.bfloat16)
    for place in range(2):
        crop_BCHW, mask_BN = (one.cuda() for one in crops_of(network.config, place))
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            network(crop_BCHW, mask_BN)
            torch.cuda.set_sync_debug_mode("error")
            try:
                answers = network(crop_BCHW, mask_BN)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert all(torch.isfinite(answer).all() for answer in answers.values())


@needs_gpu
def test_slots_not_taken_stay_out_of_the_sum() -> None:
    torch.manual_seed(0)
    experts = Experts(ExpertsConfig(hidden_dim=48), num_experts=8, dim=64).eval()
    router = FaceRouter(RouterConfig(), dim=64, tasks=3)
    torch.nn.init.normal_(experts.fc2, std=0.1)
    torch.nn.init.normal_(router.weight, std=0.3)
    experts.to("cuda", torch.bfloat16)
    router.cuda()
    x_PND = torch.randn(3, 200, 64, device="cuda").bfloat16()
    routing = router(x_PND, torch.arange(3, device="cuda"), torch.rand(3, 200, device="cuda") < 0.5)
    assert not routing.active_PNK.all()
    waited = experts(x_PND, routing).detach()
    with torch.no_grad():
        torch.testing.assert_close(experts(x_PND, routing), waited, atol=0.02, rtol=0.02)


@needs_gpu
def test_runner_answers_as_on_the_cpu(tiny_model) -> None:
    rng = np.random.default_rng(1)
    crops, masks = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8), rng.uniform(size=(3, 16)) < 0.5
    exact = load_runner(tiny_model, "torch", "cpu", 1).run(crops, masks, tuple(TASKS))
    by_gpu = load_runner(tiny_model, "torch", "cuda")
    assert by_gpu.device == "cuda"
    for task, answer in by_gpu.run(crops, masks, tuple(TASKS)).items():
        assert answer.dtype == np.float32
        assert_near(answer, exact[task], task)
