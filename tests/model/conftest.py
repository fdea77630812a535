"""Networks small enough to try a hundred times, with gates that really choose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from faceum.crop import CropSpec
from faceum.model.experts import ExpertsConfig
from faceum.model.moe import MoEConfig
from faceum.model.network import FaceUM, FaceUMConfig
from faceum.model.router import RouterConfig
from faceum.model.vit import BlockConfig, StemConfig
from faceum.tasks import TASKS


@pytest.fixture(scope="session")
def small_config() -> FaceUMConfig:
    """All six tasks at 64 pixels, 16 patches, two mixtures of six experts."""
    return FaceUMConfig(
        name="small",
        crops=((CropSpec(policy="similarity", size=64, grid=4), tuple(TASKS)),),
        stem=StemConfig(kind="conv", channels=(16, 16, 16), blocks=(0, 1, 1)),
        block=BlockConfig(width=32, heads=2, head_dim=12, hidden=48, activation="silu"),
        moe=MoEConfig(
            shared_hidden=32,
            router=RouterConfig(experts=6, k_max_face=3, k_max_background=2),
            experts=ExpertsConfig(hidden=16, activation="silu"),
        ),
        depth=1,
    )


@pytest.fixture(scope="session")
def lively() -> Callable[[FaceUMConfig], FaceUM]:
    """Build a network in evaluation mode whose gates choose firmly and whose zeros are no zeros any more."""

    def build(config: FaceUMConfig, seed: int = 0) -> FaceUM:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = FaceUM(config).eval()
            with torch.no_grad():
                for name, value in network.named_parameters():
                    if name.endswith("router.weight"):
                        value.normal_(std=0.3)
                    elif not value.any():
                        value.normal_(std=0.1)
                for name, value in network.named_buffers():
                    if name.endswith("router.bias"):
                        value.normal_(std=0.03)
        return network

    return build
