"""Networks small enough to try a hundred times, with gates that really choose."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

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
    """All six tasks at 64 pixels, 16 patches, two moe_blocks of six experts."""
    return FaceUMConfig(
        name="small",
        crops=((CropSpec(policy="similarity", size=64, grid=4), tuple(TASKS)),),
        stem=StemConfig(kind="conv", channels=(16, 16, 16), blocks=(0, 1, 1)),
        block=BlockConfig(dim=32, num_heads=2, head_dim=12, hidden_dim=48, activation="silu"),
        moe=MoEConfig(
            shared_hidden_dim=32,
            router=RouterConfig(num_experts=6, k_max_face=3, k_max_background=2),
            experts=ExpertsConfig(hidden_dim=16, activation="silu"),
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


@pytest.fixture(scope="session")
def published() -> ModuleType:
    """Import published_network.py of this folder; tests are no package that it could be imported from."""
    place = Path(__file__).with_name("published_network.py")
    spec = importlib.util.spec_from_file_location(place.stem, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def of_sizes() -> Callable[[FaceUMConfig, Any], FaceUMConfig]:
    """A named config at the widths that published_network.Sizes tells."""

    def build(config: FaceUMConfig, sizes: Any) -> FaceUMConfig:
        return replace(
            config,
            block=replace(
                config.block,
                dim=sizes.dim,
                num_heads=sizes.num_heads,
                head_dim=sizes.dim // sizes.num_heads,
                hidden_dim=sizes.hidden_dim,
            ),
            moe=replace(
                config.moe,
                shared_hidden_dim=sizes.hidden_dim,
                experts=replace(config.moe.experts, hidden_dim=sizes.expert_hidden_dim),
            ),
            depth=sizes.dense_blocks,
            moe_blocks=sizes.moe_blocks,
        )

    return build
