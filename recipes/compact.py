"""Compact: the small network whose weights ship in the package, from nothing, on the project's corpus.

    faceum train recipes/compact.py data=CORPUS

data is the folder of the Parquet corpus (`faceum data pack` makes one from public sets).
Hardware: one core of a CPU with bfloat16 units, and one that makes batches. Time:
69 minutes there (AMD EPYC, Zen 5).
Expected scores: LFW 83.9 %, one side masked 80.6 %, age MAE 5.86, attributes 88.5 %, expression 74.3 %,
parsing F1 71.4, landmarks NME 5.34 %: those of the shipped weights, whose run followed a schedule over
16,000 steps up to step 4,000 and this one from there. Of this recipe in one piece: not run.
"""

from faceum.data.augment import AugmentConfig
from faceum.data.mixture import Share
from faceum.model.configs import COMPACT
from faceum.train.settings import RunConfig

WILD = {"scale": 0.1, "shift": 0.04, "points": 0.05, "box_crop": 0.35}

run = RunConfig(
    network=COMPACT,
    out="runs/compact",
    shares={
        # FERPlus is gray already.
        "ferplus": Share(count=15, augment=AugmentConfig(gray=0.0, colour=0.35, turn=8, blur=0.1)),
        "utkface": Share(count=14, augment=AugmentConfig(mask=0.12)),
        "celeba": Share(count=9, augment=AugmentConfig(mask=0.08, box_crop=0.3)),
        "celebamask": Share(count=4, augment=AugmentConfig(**WILD, turn=10, gray=0.1)),
        "helen_afw": Share(count=3, augment=AugmentConfig(**WILD, turn=12, mask=0.05)),
        # Its people stand in LFW, too, so nothing is learned about who they are.
        "ytf": Share(count=2, augment=AugmentConfig(**WILD, turn=12), tasks=("landmarks",)),
        "masked": Share(count=1),
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
    clip=2.0,
    precision="bfloat16",
    device="cpu",
    save_every=250,
    validate_every=1000,
)
