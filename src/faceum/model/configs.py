"""The configs of the named networks."""

from __future__ import annotations

from dataclasses import replace

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
    block=BlockConfig(dim=192, num_heads=4, head_dim=24, hidden_dim=576, activation="silu"),
    moe=MoEConfig(
        shared_hidden_dim=192,
        router=RouterConfig(num_experts=8),
        experts=ExpertsConfig(hidden_dim=96, activation="silu"),
    ),
    depth=2,
)

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Normalization of CLIP's and FaRL's encoders (openai/CLIP, clip.py)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalization of the published code."""

IMAGE_TASKS, DENSE_TASKS = ("recognition", "age", "attributes", "expression"), ("parsing", "landmarks")

BASE = FaceUMConfig(
    name="base",
    crops=(
        (CropSpec(policy="box", size=112, grid=7), IMAGE_TASKS),
        (CropSpec(policy="box", size=512, grid=32), DENSE_TASKS),
    ),
    stem=StemConfig(kind="patch", channels=(), blocks=()),
    block=BlockConfig(
        dim=768, num_heads=12, head_dim=64, hidden_dim=3072, activation="quick_gelu", norm_eps=1e-5
    ),
    moe=MoEConfig(
        shared_hidden_dim=3072,
        router=RouterConfig(num_experts=8),
        experts=ExpertsConfig(hidden_dim=1536, activation="quick_gelu"),
    ),
    depth=10,
    class_token=True,
    heads="published",
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
"""The published architecture on FaRL ViT-B/16, with our router."""

REFERENCE = replace(
    BASE,
    name="reference",
    crops=tuple((replace(spec, face_tokens="touched"), tasks) for spec, tasks in BASE.crops),
    moe=replace(
        BASE.moe,
        router=RouterConfig(kind="reference", num_experts=8),
        experts=ExpertsConfig(hidden_dim=1536, activation="relu"),
    ),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    outputs={"expression": 7},
)
"""BASE with the published router, experts and preprocessing, for published checkpoints."""

CONFIGS = {config.name: config for config in (COMPACT, BASE, REFERENCE)}
