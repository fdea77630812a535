"""Compact, the small network whose weights ship in the package, in five stages on the project's corpus.

    faceum train compact data=CORPUS
    faceum train compact data=CORPUS stage=knowledge initial=compact

data is the folder of the Parquet corpus; `faceum data pack` makes one from public sets. The first command
runs the stages in order, and resumes; the second runs the last one alone, from the shipped weights.

Hardware: two cores of a CPU with bfloat16 units; `vary`: one GPU, and 16 cores that make crops.
A tenth less time with MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592.
Time in minutes: 69, 105 (AMD EPYC, Zen 5), 8 (NVIDIA H200), 110 and 70 (Intel Xeon with AMX).
Expected scores: LFW, LFW with one side masked, age MAE, attributes, expression, parsing F1, landmarks NME:
    start:     83.9 %, 80.6 %, 5.86, 88.5 %, 74.3 %, 71.4, 5.34 % (mask always on the second image)
    recognize: 91.4 %, 86.7 %, 5.22, 89.6 %, 79.8 %, 73.5, 4.80 %
    vary:      94.7 %, 91.3 %, 4.99, 89.6 %, 84.5 %, 73.8, 4.25 %
    refine:    95.2 %, 91.5 %, 4.93, 89.5 %, 84.1 %, 74.2, 4.17 %
    knowledge: 95.4 %, 91.9 %, 4.98, 89.8 %, 83.9 %, 75.6, 4.03 % (four runs, joined with `refine`)
Each was measured on its own, from the previous network in half precision; never in one piece. `knowledge` ran
four times, the last time as here, and was joined with the weights before, as docs/log.md tells.
"""

from dataclasses import replace
from typing import Any

from faceum.data.augment import AugmentConfig
from faceum.data.mixture import SourceConfig
from faceum.model.configs import COMPACT
from faceum.train.config import RunConfig
from faceum.train.stages import link_stages

WILD = {"scale": 0.1, "shift": 0.04, "points": 0.05, "box_crop": 0.35}
LIGHT = {"gray": 0.1, "erase": 0.05, "blur": 0.15, "noise": 0.08, "box_crop": 0.1, "mask_probability": 0.08}
VARIED = {"colour": 0.45, "blur": 0.3, "mask_probability": 0.08}
FINE = {"colour": 0.35, "blur": 0.2, "mask_probability": 0.1}
WORN = {"stretch": 0.2, "shrink": 0.15, "jpeg": 0.15}
USED = {**WORN, "gray": 0.12, "erase": 0.07, "blur": 0.15, "noise": 0.08, "box_crop": 0.12}
TIGHT = {**USED, "mask_probability": 0.1, "surround": 0.4}
LOOSE = {**TIGHT, "surround": 0.15}
ROUGH = {**WORN, "scale": 0.12, "shift": 0.04, "points": 0.05, "box_crop": 0.3, "turn": 12, "gray": 0.1}


def draw(batch_size: int, *tasks: str, **augment: Any) -> SourceConfig:
    """Return a source that gives every batch so many faces, for all tasks or for those named."""
    settings = SourceConfig(batch_size=batch_size, augment=AugmentConfig(**augment))
    return replace(settings, tasks=tasks) if tasks else settings


# Learn all tasks from random weights. FERPlus is gray. YTF's people are also in LFW and are not trained on.
start = RunConfig(
    network=COMPACT,
    out="runs/compact",
    sources={
        "ferplus": draw(15, gray=0.0, colour=0.35, turn=8, blur=0.1),
        "utkface": draw(14, mask_probability=0.12),
        "celeba": draw(9, mask_probability=0.08, box_crop=0.3),
        "celebamask": draw(4, **WILD, turn=10, gray=0.1),
        "helen_afw": draw(3, **WILD, turn=12, mask_probability=0.05),
        "ytf": draw(2, "landmarks", **WILD, turn=12),
        "masked": draw(1),
    },
    task_weights={
        "recognition": 6.0, "age": 0.25, "attributes": 0.1, "expression": 1.2, "parsing": 1.5,
        "landmarks": 15.0,
    },
    apart=True, steps=9_200, lr=1.5e-3, grad_clip=2.0, precision="bfloat16", device="cpu",
    save_every=250, validate_every=1000,
)  # fmt: skip

# Give recognition a larger weight, and learn how the teacher's embeddings lie to each other.
recognize = replace(
    start,
    sources={
        **start.sources,
        "ferplus": replace(start.sources["ferplus"], batch_size=10),
        "utkface": draw(18, **LIGHT),
        "celeba": draw(18, "recognition", "attributes", **LIGHT),
        "ytf": replace(start.sources["ytf"], batch_size=1),
        "masked": draw(2),
    },
    task_weights={**start.task_weights, "recognition": 10.0}, relation=10.0, fold_projection=True,
    steps=13_000, warmup=300, lr=1.2e-3, validate_every=2000,
)  # fmt: skip

# Vary the crops more, in large batches; `surround` varies what is around tight crops (age, expression).
vary = replace(
    recognize,
    sources={
        "ferplus": draw(128, gray=0, turn=10, scale=0.09, erase=0.2, blur=0.15, surround=0.3),
        "utkface": draw(136, **VARIED, surround=0.4),
        "celeba": draw(112, "recognition", "attributes", **VARIED, surround=0.2),
        "celebamask": draw(36, **WILD, turn=12, gray=0.1),
        "helen_afw": draw(36, **WILD, turn=14, mask_probability=0.08, surround=0.2),
        "ytf": draw(12, "landmarks", **WILD, turn=12),
        "masked": draw(20, surround=0.2),
    },
    steps=8_200, lr=2.4e-3, device="cuda", workers=15, log_every=250, save_every=1000, validate_every=0,
)  # fmt: skip

# Give recognition, which does not overfit yet, a larger weight than age and attributes, which do.
refine = replace(
    vary,
    sources={
        "ferplus": replace(vary.sources["ferplus"], batch_size=12),
        "utkface": draw(36, **FINE, surround=0.4),
        "celeba": draw(33, "recognition", "attributes", **FINE, surround=0.2),
        "celebamask": replace(vary.sources["celebamask"], batch_size=5),
        "helen_afw": replace(vary.sources["helen_afw"], batch_size=6),
        "ytf": replace(vary.sources["ytf"], batch_size=1),
        "masked": replace(vary.sources["masked"], batch_size=3),
    },
    task_weights={**vary.task_weights, "recognition": 20.0, "age": 0.15},
    steps=10_000, lr=1e-3, device="cpu", workers=1, validate_every=2500,
)  # fmt: skip

# Learn from a better teacher and from twice the sources. The projection to the teacher's embeddings is fitted
# before the first step and folded into the embedding, so that nothing learned is lost.
knowledge = RunConfig(
    initial="compact",
    out="runs/compact",
    sources={
        "utkface": draw(7, "recognition", "age", "attributes", **TIGHT),
        "appareal": draw(7, "recognition", "age", **LOOSE),
        "celeba": draw(8, "recognition", "attributes", **LOOSE),
        "celebawild": draw(7, "recognition", "attributes", **LOOSE),
        "genki": draw(2, "recognition", "attributes", **LOOSE),
        "celebamask": draw(1, "parsing", **ROUGH),
        "celebamask2": draw(4, "recognition", "parsing", **ROUGH),
        "ferplus": draw(8, "expression", gray=0, turn=9, scale=0.08, blur=0.1, surround=0.3, stretch=0.1),
        "helen_afw": draw(3, "landmarks", **ROUGH, mask_probability=0.08),
        "ffhq": draw(4, "recognition", "landmarks", **LOOSE),
        "masked": draw(1, "recognition", **USED),
        "mask12k": draw(4, "recognition", **TIGHT),
        "webfaces": draw(5, "recognition", **LOOSE),
        "humans": draw(4, "recognition", **LOOSE),
    },
    task_weights={
        "recognition": 20.0, "age": 0.2, "attributes": 0.12, "expression": 1.2, "parsing": 2.0,
        "landmarks": 15.0,
    },
    relation=10.0, fold_projection=True, fit_projection=6000, logit_adjustment=0.25, apart=True,
    steps=5_400, warmup=200, optimizer="muon", lr=1e-3, grad_clip=2.0, ema=0.998, precision="bfloat16",
    device="cpu", workers=1, log_every=25, save_every=100, validate_every=0,
)  # fmt: skip


def recipe(out: str = "runs/compact") -> dict[str, RunConfig]:
    """Return the stages in order, each with a folder in `out`."""
    stages = {"start": start, "recognize": recognize, "vary": vary, "refine": refine, "knowledge": knowledge}
    return link_stages(stages, out)
