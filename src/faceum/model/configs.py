"""Layer 2. The named networks, each spelled out: name -> FaceUMConfig."""

from __future__ import annotations

from faceum.crop import CropSpec
from faceum.model.experts import ExpertsConfig
from faceum.model.moe import MoEConfig
from faceum.model.network import FaceUMConfig
from faceum.model.router import RouterConfig
from faceum.model.vit import BlockConfig, StemConfig
from faceum.tasks import TASKS

COMPACT = FaceUMConfig(
    name="compact",
    crops=((CropSpec(policy="similarity", size=112, grid=7), tuple(TASKS)),),
    stem=StemConfig(kind="conv", channels=(24, 48, 96), blocks=(0, 1, 2)),
    block=BlockConfig(width=192, heads=4, head_dim=24, hidden=576, activation="silu"),
    moe=MoEConfig(
        shared_hidden=192,
        router=RouterConfig(experts=8),
        experts=ExpertsConfig(hidden=96, activation="silu"),
    ),
    depth=2,
)

CONFIGS = {config.name: config for config in (COMPACT,)}
