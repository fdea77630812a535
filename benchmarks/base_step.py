"""Benchmark: a training step of `base` on this machine: time against its forward pass, and peak memory.

    python benchmarks/base_step.py [--faces 2] [--rounds 2] [--recompute 0]

A step is both crops of generated faces, all six tasks, bfloat16, on a CPU. The forward pass is that of the
step, without gradients; docs/scaling.md multiplies the time of a GPU's forward pass by the ratio of both.
"""

from __future__ import annotations

import resource
from dataclasses import replace

import torch
from in_turn import in_turn, options, stamp

from faceum.data.face import read_face
from faceum.data.mixture import MixtureDataset, SourceConfig
from faceum.data.synthetic import read_generated
from faceum.model.configs import BASE
from faceum.recipes.smoke import GENTLE
from faceum.train.config import RunConfig
from faceum.train.trainer import Trainer


def peak_memory() -> float:
    """Return the process's peak memory in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    given = options(__doc__, faces=2, rounds=2, recompute=0)
    stamp()
    sources = {"drawn": SourceConfig(batch_size=given.faces, augment=GENTLE)}
    config = RunConfig(
        network=replace(BASE, name="base"), out="unused", sources=sources, steps=1000,
        precision="bfloat16", device="cpu", recompute=bool(given.recompute),
    )  # fmt: skip
    faces = {"drawn": list(map(read_face, read_generated(str(max(given.faces, 8)))))}
    trainer = Trainer(config, faces)
    held = peak_memory()
    parts = tuple(
        MixtureDataset(faces, sources, spec=spec, seed=0, batches=1, tasks=tasks)[0]
        for spec, tasks in BASE.crops
    )

    @torch.no_grad()
    def forward() -> None:
        for part in parts:
            trainer.losses(part)

    trainer.network.train()
    forward()
    before = peak_memory()
    times = in_turn({"forward": forward, "step": lambda: trainer.train_step([parts])}, given.rounds)
    ratio = times["step"].processor / times["forward"].processor
    print(f"forward, {given.faces} faces: {times['forward'].spoken()}")
    print(f"step, {given.faces} faces: {times['step'].spoken()}")
    print(f"step / forward: {ratio.min():.2f} to {ratio.max():.2f} (processor time)")
    print(f"memory: {held:.2f} GB when built, {before:.2f} with a forward pass, {peak_memory():.2f} in all")


if __name__ == "__main__":
    main()
