"""Base on the seven data sets of Faceptor (arXiv 2403.09500), starting from FaRL's encoder.

    faceum convert farl FaRL-Base-Patch16-LAIONFace20M-ep64.pth --out farl.safetensors
    torchrun --nproc-per-node 4 -m faceum train base_faceptor_mix

Hardware: GPUs of 24 GB or more, which divide the batch of 472 images.
Time and expected scores: not run. The data sets and FaRL's file cannot be passed on; each path below is a
folder in the layout that its authors publish, see `faceum data pack --help`.

Batch sizes, loss weights, learning rates and steps are the published ones. Parsing and landmarks have 4
images per step, and each GPU needs one of both for its BatchNorms: start at most 4 processes, or raise
these batch sizes. What differs: losses are weighted by task, so that AffectNet and RAF-DB (4 and 1 there)
have 5 together, by their images; parsing has a Dice loss and class weights besides the cross-entropy;
landmarks have an error in eye distances besides the heat map loss; images are rotated, scaled and shifted
by Gaussian amounts of half the published +-18 and +-10 degrees; colours change without RandAugment; the
warm-up begins at 1/2000 of the peak.
"""

from dataclasses import replace

from faceum.data.augment import AugmentConfig
from faceum.data.mixture import SourceConfig
from faceum.model.configs import BASE
from faceum.train.config import RunConfig
from faceum.train.partial_fc import MarginConfig

FLIP = AugmentConfig(
    turn=0, scale=0, shift=0, points=0, box_crop=0, colour=0, gray=0, blur=0, noise=0, erase=0
)
IMAGE = AugmentConfig(turn=5, colour=0.4, erase=0.25)
PIXELS = AugmentConfig(turn=9, scale=0.05, shift=0.02, gray=0.1, erase=0)
POINTS = AugmentConfig(turn=5, scale=0.05, shift=0.02, gray=0.1, erase=0.3)

run = RunConfig(
    network=replace(BASE, block=replace(BASE.block, drop_path=0.2)),
    initial="farl.safetensors",
    out="runs/base_faceptor_mix",
    sources={
        "ms1mv3": SourceConfig(
            reader="recordio", path="data/ms1m-retinaface-t1", batch_size=256, augment=FLIP, lazy=True,
            tasks=("recognition",),
        ),
        "morph": SourceConfig(
            reader="morph", path="data/morph2", batch_size=64, augment=IMAGE, lazy=True, tasks=("age",)
        ),
        "celeba": SourceConfig(
            reader="celeba", path="data/celeba", batch_size=64, augment=IMAGE, lazy=True,
            tasks=("attributes",),
        ),
        "affectnet": SourceConfig(
            reader="affectnet", path="data/affectnet", batch_size=64, augment=IMAGE, lazy=True,
            tasks=("expression",),
        ),
        "rafdb": SourceConfig(
            reader="rafdb", path="data/rafdb", batch_size=16, augment=IMAGE, lazy=True, tasks=("expression",)
        ),
        "celebamask": SourceConfig(
            reader="celebamask", path="data/CelebAMask-HQ", batch_size=4, augment=PIXELS, lazy=True,
            tasks=("parsing",),
        ),
        "300w": SourceConfig(
            reader="300w", path="data/300w", batch_size=4, augment=POINTS, lazy=True, tasks=("landmarks",)
        ),
    },
    task_weights={
        "recognition": 5, "age": 6, "attributes": 2, "expression": 5, "parsing": 100, "landmarks": 1000
    },
    margin=MarginConfig(kind="cosface", scale=64, margin=0.4),
    steps=50_000,
    warmup=2000,
    lr=5e-4,
    encoder_lr=5e-5,
    weight_decay=0.05,
    grad_clip=5.0,
    precision="bfloat16",
    recompute=True,
    workers=8,
    held_out=None,
)  # fmt: skip
