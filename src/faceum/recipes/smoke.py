"""Smoke: a tiny network learns all six tasks from drawn faces, to run every part of training once.

    faceum train smoke

Hardware: two CPU cores. Time: about two minutes. Data: none; faces are drawn.
Expected on 128 held-out drawn faces of identities seen in training (measured on a CPU in float32): area
under the ROC of all pairs 0.951, age MAE 7.2 years, attributes 90.8 %, expression 60.9 %, parsing mean F1
67.8 %, landmarks NME 4.4 %.
"""

from faceum.crop import CropSpec
from faceum.data.augment import AugmentConfig
from faceum.data.mixture import SourceConfig
from faceum.model.experts import ExpertsConfig
from faceum.model.moe import MoEConfig
from faceum.model.network import FaceUMConfig
from faceum.model.router import RouterConfig
from faceum.model.vit import BlockConfig, StemConfig
from faceum.tasks import TASKS
from faceum.train.config import RunConfig
from faceum.train.partial_fc import MarginConfig

NETWORK = FaceUMConfig(
    name="smoke",
    crops=((CropSpec(policy="similarity", size=64, grid=4), tuple(TASKS)),),
    stem=StemConfig(kind="conv", channels=(16, 32, 48), blocks=(0, 0, 1)),
    block=BlockConfig(dim=64, num_heads=2, head_dim=24, hidden_dim=128, activation="silu"),
    moe=MoEConfig(
        shared_hidden_dim=64,
        router=RouterConfig(num_experts=4),
        experts=ExpertsConfig(hidden_dim=32, activation="silu"),
    ),
    depth=1,
)

GENTLE = AugmentConfig(
    turn=4, scale=0.04, shift=0.02, points=0.02, box_crop=0.1, gray=0, noise=0, erase=0, blur=0
)

run = RunConfig(
    network=NETWORK,
    out="runs/smoke",
    sources={"drawn": SourceConfig(reader="generated", path="1500", batch_size=32, augment=GENTLE)},
    task_weights={
        "recognition": 0.5, "age": 0.2, "attributes": 0.3, "expression": 2, "parsing": 2, "landmarks": 10
    },
    margin=MarginConfig(scale=16, margin=0.1),
    steps=600,
    warmup=30,
    lr=3e-3,
    ema=0.98,
    save_every=200,
    log_every=20,
    validate_every=200,
    held_out_faces=128,
)  # fmt: skip
