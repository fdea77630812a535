"""Compact: the small network whose weights ship in the package, from nothing, on the project's corpus.

    faceum train recipes/compact.py data=CORPUS

data is the folder of the Parquet corpus (`faceum data pack` makes one from public sets).
Hardware: one core of a CPU with bfloat16 units, and one that makes batches. Time: about two and a half hours.
Expected scores: those of the shipped weights stand in the model card; of this recipe anew: not run.
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
    steps=16_000,
    lr=1.5e-3,
    clip=2.0,
    precision="bfloat16",
    device="cpu",
    save_every=250,
    validate_every=1000,
)
