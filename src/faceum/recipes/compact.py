"""Compact, the small network whose weights ship in the package, in four stages on the project's corpus.

    faceum train compact data=CORPUS
    faceum train compact stage=2 data=CORPUS
    faceum train compact stage=3 data=CORPUS
    faceum train compact stage=4 data=CORPUS

data is the folder of the Parquet corpus; `faceum data pack` makes one from public sets. The first stage
starts from random weights. The second starts from its network and gives recognition a larger weight. The
third has larger batches with stronger augmentation. The fourth gives recognition a larger weight again; its
weights ship.

Hardware: one core of a CPU with bfloat16 units, and one that makes batches. The third stage: one GPU and 16
cores, which make 8,400 training crops per second. The fourth: two cores.
Time: 69 and about 105 minutes (AMD EPYC, Zen 5), 8 minutes (NVIDIA H200, torch 2.11), and 110 (Intel Xeon
with AMX). A tenth less on a CPU with MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592.

Expected scores: LFW, LFW with one side masked, age MAE, attributes, expression, parsing F1, landmarks NME:
    stage 1: 83.9 %, 80.6 %, 5.86, 88.5 %, 74.3 %, 71.4, 5.34 %
    stage 2: 91.4 %, 86.7 %, 5.22, 89.6 %, 79.8 %, 73.5, 4.80 % (the mask is on either side from here on)
    stage 3: 94.7 %, 91.3 %, 4.99, 89.6 %, 84.5 %, 73.8, 4.25 %
    stage 4: 95.2 %, 91.5 %, 4.93, 89.5 %, 84.1 %, 74.2, 4.17 %
Each later stage started from the previous network in half precision. Stage 1 was measured on a run that
followed a schedule of 16,000 steps up to step 4,000 and this one after that. The colour augmentation and
the z loss of stage 1 have changed slightly since (docs/log.md).
"""

from dataclasses import replace

from faceum.data.augment import AugmentConfig
from faceum.data.mixture import SourceConfig
from faceum.errors import RecipeError
from faceum.model.configs import COMPACT
from faceum.train.config import RunConfig

WILD = {"scale": 0.1, "shift": 0.04, "points": 0.05, "box_crop": 0.35}
LIGHT = {"gray": 0.1, "erase": 0.05, "blur": 0.15, "noise": 0.08, "box_crop": 0.1}
VARIED = {"colour": 0.45, "blur": 0.3, "mask_probability": 0.08}

first = RunConfig(
    network=COMPACT,
    out="runs/compact",
    sources={
        # FERPlus is grayscale.
        "ferplus": SourceConfig(
            batch_size=15, augment=AugmentConfig(gray=0.0, colour=0.35, turn=8, blur=0.1)
        ),
        "utkface": SourceConfig(batch_size=14, augment=AugmentConfig(mask_probability=0.12)),
        "celeba": SourceConfig(batch_size=9, augment=AugmentConfig(mask_probability=0.08, box_crop=0.3)),
        "celebamask": SourceConfig(batch_size=4, augment=AugmentConfig(**WILD, turn=10, gray=0.1)),
        "helen_afw": SourceConfig(
            batch_size=3, augment=AugmentConfig(**WILD, turn=12, mask_probability=0.05)
        ),
        # Its identities are also in LFW, so that they are not trained on.
        "ytf": SourceConfig(batch_size=2, augment=AugmentConfig(**WILD, turn=12), tasks=("landmarks",)),
        "masked": SourceConfig(batch_size=1),
    },
    task_weights={
        "recognition": 6.0,
        "age": 0.25,
        "attributes": 0.1,
        "expression": 1.2,
        "parsing": 1.5,
        "landmarks": 15.0,
    },
    apart=True,
    steps=9_200,
    lr=1.5e-3,
    grad_clip=2.0,
    precision="bfloat16",
    device="cpu",
    save_every=250,
    validate_every=1000,
)

second = replace(
    first,
    network=None,
    initial="runs/compact/network.safetensors",
    out="runs/compact-2",
    sources={
        **first.sources,
        "ferplus": replace(first.sources["ferplus"], batch_size=10),
        "utkface": SourceConfig(batch_size=18, augment=AugmentConfig(mask_probability=0.08, **LIGHT)),
        "celeba": SourceConfig(
            batch_size=18,
            augment=AugmentConfig(mask_probability=0.08, **LIGHT),
            tasks=("recognition", "attributes"),
        ),
        "ytf": replace(first.sources["ytf"], batch_size=1),
        "masked": SourceConfig(batch_size=2),
    },
    task_weights={**first.task_weights, "recognition": 10.0},
    relation=10.0,
    fold_projection=True,
    steps=13_000,
    warmup=300,
    lr=1.2e-3,
    validate_every=2000,
)

# Age and expression labels are on tight crops only; `surround` varies what is around them.
third = replace(
    second,
    initial="runs/compact-2/network.safetensors",
    out="runs/compact-3",
    sources={
        "ferplus": SourceConfig(
            batch_size=128,
            augment=AugmentConfig(gray=0, turn=10, scale=0.09, erase=0.2, blur=0.15, surround=0.3),
        ),
        "utkface": SourceConfig(batch_size=136, augment=AugmentConfig(**VARIED, surround=0.4)),
        "celeba": SourceConfig(
            batch_size=112, augment=AugmentConfig(**VARIED, surround=0.2), tasks=("recognition", "attributes")
        ),
        "celebamask": SourceConfig(batch_size=36, augment=AugmentConfig(**WILD, turn=12, gray=0.1)),
        "helen_afw": SourceConfig(
            batch_size=36, augment=AugmentConfig(**WILD, turn=14, mask_probability=0.08, surround=0.2)
        ),
        "ytf": SourceConfig(batch_size=12, augment=AugmentConfig(**WILD, turn=12), tasks=("landmarks",)),
        "masked": SourceConfig(batch_size=20, augment=AugmentConfig(surround=0.2)),
    },
    steps=8_200,
    warmup=300,
    lr=2.4e-3,
    device="cuda",
    workers=15,
    log_every=250,
    save_every=1000,
    validate_every=0,
)

# After the third stage recognition is nearly as good on held-out faces as on training faces, while age and
# attributes overfit: the fourth gives recognition a larger weight.
fourth = replace(
    third,
    initial="runs/compact-3/network.safetensors",
    out="runs/compact-4",
    sources={
        "ferplus": replace(third.sources["ferplus"], batch_size=12),
        "utkface": SourceConfig(
            batch_size=36, augment=AugmentConfig(colour=0.35, blur=0.2, mask_probability=0.1, surround=0.4)
        ),
        "celeba": SourceConfig(
            batch_size=33,
            augment=AugmentConfig(colour=0.35, blur=0.2, mask_probability=0.1, surround=0.2),
            tasks=("recognition", "attributes"),
        ),
        "celebamask": replace(third.sources["celebamask"], batch_size=5),
        "helen_afw": replace(third.sources["helen_afw"], batch_size=6),
        "ytf": replace(third.sources["ytf"], batch_size=1),
        "masked": replace(third.sources["masked"], batch_size=3),
    },
    task_weights={**third.task_weights, "recognition": 20.0, "age": 0.15},
    steps=10_000,
    lr=1e-3,
    device="cpu",
    workers=1,
    validate_every=2500,
)


def recipe(stage: int = 1) -> RunConfig:
    """Return one of the four stages; each later one needs the network of the previous one."""
    stages = {1: first, 2: second, 3: third, 4: fourth}
    if stage not in stages:
        raise RecipeError(f"There is no stage {stage} of compact; use stage=1, 2, 3 or 4.")
    return stages[stage]
