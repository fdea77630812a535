"""Measure where the time of `compact` goes, and what its MoE blocks cost compared with the dense twin.

    python benchmarks/inside.py [--rounds 20] [--folder results/benchmarks]

Prints, for 1, 8 and 64 faces in torch, the shares of all six tasks' time: trunk, attention and norms of the
MoE blocks, shared experts, routers, routed experts, each head. Then the parameters of `compact` and of its
dense twin, and compact / twin: six tasks in torch and in onnxruntime, and a training step on generated faces.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from in_turn import THREADS, claim, in_turn, options, stamp
from networks import seeded
from torch import nn

from faceum.config import load_recipe
from faceum.export.evidence import noise
from faceum.export.onnx import export_onnx
from faceum.model.configs import COMPACT
from faceum.runner import load_runner
from faceum.train.loop import read_data, stream
from faceum.train.trainer import Trainer

RECIPES = Path(__file__).resolve().parents[1] / "src" / "faceum" / "recipes"
DENSE = replace(COMPACT, name="compact-dense", moe=replace(COMPACT.moe, routed=False))


class Watch:
    """Seconds that named modules take, a call of the whole network at a time."""

    def __init__(self, parts: dict[str, list[nn.Module]]) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        for name, modules in parts.items():
            for module in modules:
                began: list[float] = []
                module.register_forward_pre_hook(lambda *_, began=began: began.append(time.perf_counter()))
                module.register_forward_hook(self._add(name, began))

    def _add(self, name: str, began: list[float]) -> Callable[..., None]:
        def add(*_: object) -> None:
            self.spent[name] += time.perf_counter() - began.pop()

        return add


def stages(rounds: int) -> None:
    """Print the share of the time of each part of the network."""
    network = seeded(COMPACT)
    moes = [block.moe for block in network.moe_blocks]
    watch = Watch(
        {
            "stem": [network.trunk.stem],
            "trunk": [network.trunk],
            "moe_blocks": list(network.moe_blocks),
            "shared experts": [moe.shared for moe in moes],
            "routers": [moe.router for moe in moes],
            "routed experts": [moe.experts for moe in moes],
            **{f"{task} head": [head] for task, head in network.heads.items()},
            "all": [network],
        }
    )
    for faces in (1, 8, 64):
        crops = torch.rand(faces, 3, 112, 112)
        masks = torch.rand(faces, 49) < 0.5
        shares = defaultdict(list)
        for round_ in range(rounds + 2):
            watch.spent.clear()
            network(crops, masks)
            if round_ >= 2:
                for name, seconds in watch.spent.items():
                    shares[name].append(seconds)
        whole = float(np.median(shares.pop("all")))
        print(f"  {faces} faces, all six tasks: {whole * 1e3:.4g} ms in torch")
        for name, seconds in shares.items():
            print(f"    {name}: {np.median(seconds) / whole:.1%}", flush=True)


def compare_with_twin(rounds: int, folder: Path) -> None:
    """Print the cost of the MoE blocks, in parameters and time."""
    networks = {"compact": seeded(COMPACT), "dense twin": seeded(DENSE)}
    for name, network in networks.items():
        print(f"  {name}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")
    for faces in (1, 64):
        crops, masks = torch.rand(faces, 3, 112, 112), torch.rand(faces, 49) < 0.5
        with torch.inference_mode():
            times = in_turn(
                {
                    name: lambda one=network, seen=(crops, masks): one(*seen)
                    for name, network in networks.items()
                },
                rounds,
                warm=2,
            )
        claim(f"torch, six tasks, {faces} faces: compact / dense twin", times, "compact", "dense twin")
    folder.mkdir(parents=True, exist_ok=True)
    runners = {}
    for name, network in networks.items():
        path = folder / f"{network.config.name}-random.onnx"
        export_onnx(network, {"licence": "random weights"}, path)
        runners[name] = load_runner(str(path), "onnxruntime", "cpu", THREADS)
    crops, masks = noise(COMPACT.crops[0][0])
    images = (crops[:1].transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    times = in_turn(
        {
            name: lambda one=runner: one.run(images, masks[:1], COMPACT.tasks)
            for name, runner in runners.items()
        },
        rounds * 3,
        warm=3,
    )
    claim("onnxruntime, six tasks, one face: compact / dense twin", times, "compact", "dense twin")


def training(rounds: int) -> None:
    """Print the time of a training step of each network on the same generated batches."""
    smoke = load_recipe(RECIPES / "smoke.py")
    taken = {}
    for name, config in (("compact", COMPACT), ("dense twin", DENSE)):
        run = replace(smoke, network=config, precision="bfloat16", device="cpu", out="unused", steps=64)
        data = read_data(run)
        trainer = Trainer(run, data.faces, data.people)
        batches = stream(run, trainer.network, data)
        taken[name] = (trainer, [batches[number] for number in range(4)])
    times = in_turn(
        {
            name: lambda trainer=trainer, made=made: trainer.train_step([made[trainer.step % len(made)]])
            for name, (trainer, made) in taken.items()
        },
        rounds,
        warm=2,
    )
    claim("training step: compact / dense twin", times, "compact", "dense twin")


def main() -> None:
    """Time and print."""
    given = options(__doc__, rounds=20, folder="results/benchmarks")
    stamp()
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        stages(given.rounds)
    compare_with_twin(given.rounds, Path(given.folder))
    training(given.rounds)


if __name__ == "__main__":
    main()
