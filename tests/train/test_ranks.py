"""Two ranks with half the batch each have the gradients of one rank with all of it, loss by loss.

Dropout is off, and the published heads' BatchNorms keep the statistics that they were given.
Found on a CPU in float32: nothing is off by more than 4e-6 of its parameter's largest gradient.
Run as a script, this file is one of the ranks.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.running import start_ranks
from torch import Tensor, nn

from faceum.config import load_recipe
from faceum.crop import CropSpec
from faceum.data.face import read_face
from faceum.data.mixture import Batch, SourceConfig, with_tasks
from faceum.data.sources import Data
from faceum.data.synthetic import draw_face
from faceum.model.configs import BASE, DENSE_TASKS, IMAGE_TASKS
from faceum.model.experts import ExpertsConfig
from faceum.tasks import TASKS
from faceum.train import Trainer
from faceum.train.distributed import average_gradients, gather_rows, join_processes, rank
from faceum.train.loop import stream
from faceum.train.trainer import tasks_of_all_ranks

# Of the seven faces rank 0 takes the first, third, ...; in the second mixture one rank lacks four tasks.
SHARES = {
    "even": {
        "all": SourceConfig(batch_size=4),
        "ages": SourceConfig(batch_size=1, tasks=("age",)),
        "taught": SourceConfig(batch_size=2),
    },
    "lopsided": {
        "all": SourceConfig(batch_size=1),
        "ages": SourceConfig(batch_size=2, tasks=("age",)),
        "masks": SourceConfig(batch_size=1, tasks=("parsing",)),
    },
}
SMOKE = load_recipe(Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py")
PUBLISHED = replace(
    BASE,
    crops=(
        (CropSpec(policy="box", size=32, grid=2), IMAGE_TASKS),
        (CropSpec(policy="box", size=64, grid=4), DENSE_TASKS),
    ),
    block=replace(BASE.block, dim=48, num_heads=2, head_dim=16, hidden_dim=64),
    moe=replace(BASE.moe, shared_hidden_dim=64, experts=ExpertsConfig(hidden_dim=16)),
    depth=1,
)
NETWORKS = {"compact": SMOKE.network, "published": PUBLISHED}
CASES = [(network, kind) for network in NETWORKS for kind in SHARES]


def built(network: str, sources: dict[str, SourceConfig]) -> tuple[Trainer, tuple[Batch, ...]]:
    """A trainer without dropout whose fresh zeros are not zero, and this rank's part of a batch."""
    rng = np.random.default_rng(0)
    faces: dict[str, list[Any]] = {}
    for source in sources:
        drawn = [replace(draw_face(f"{source}-{n}"), source=source) for n in range(6)]
        if source == "taught":
            teacher = [rng.integers(-90, 90, 256).astype(np.int8) for _ in drawn]
            drawn = [replace(one, embedding=v) for one, v in zip(drawn, teacher, strict=True)]
        faces[source] = [read_face(one) for one in drawn]
    settings = {"network": NETWORKS[network], "sources": sources, "weighting": "uncertainty"}
    run = replace(SMOKE, **settings, warmup=0, steps=3)
    trainer = Trainer(run, faces, people=24)
    torch.manual_seed(3)
    for value in trainer.network.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.05)
    for module in trainer.network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            freeze(module)
    return trainer, stream(run, trainer.network, Data(faces=faces))[1]


def freeze(norm: nn.Module) -> None:
    """Give a BatchNorm statistics that it keeps in training, too."""
    nn.init.normal_(norm.running_mean, std=0.1)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    norm.eval()
    norm.train = lambda mode=True: norm


def gradients(trainer: Trainer, parts: tuple[Batch, ...]) -> dict[str, Any]:
    """Loss and its part -> its value, gradients in what ranks share and in this rank's centres."""
    trainer.network.train()
    shared = [*trainer.network.parameters(), *trainer.objective.parameters()]
    found = {}
    for number, part in enumerate(parts):
        losses, _ = trainer.losses(with_tasks(part, tasks_of_all_ranks(part, trainer.device)))
        losses["total"] = trainer.objective.total(losses, [task for task in TASKS if task in losses])
        for name, loss in losses.items():
            for parameter in [*shared, trainer.partial_fc.weight]:
                parameter.grad = None
            loss.backward(retain_graph=True)
            average_gradients(shared)
            trainer.partial_fc.correct_gradients()
            found[f"{name} {number}"] = {
                "value": loss.detach(),
                "shared": [one.grad if one.grad is not None else torch.zeros(()) for one in shared],
                "partial_fc": trainer.partial_fc.weight.grad,
            }
    return found


def work(path: str) -> None:
    """What one rank does in each case: gradients of every loss, then two whole steps."""
    torch.set_num_threads(1)
    reported = {}
    with join_processes():
        for network, kind in CASES:
            trainer, parts = built(network, SHARES[kind])
            found = gradients(trainer, parts)
            steps = [
                {name: float(value) for name, value in trainer.train_step([parts]).items()} for _ in range(2)
            ]
            biases = [moe_block.moe.router.bias for moe_block in trainer.network.moe_blocks]
            reported[f"{network} {kind}"] = {
                "losses": found,
                "steps": steps,
                "biases": biases,
                "partial_fc": gather_rows(trainer.partial_fc.weight.detach()),
                "names": [
                    name
                    for module in (trainer.network, trainer.objective)
                    for name, _ in module.named_parameters()
                ],
            }
        torch.save(reported, f"{path}.{rank()}")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Number of ranks -> what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    running = {ranks: start_ranks(ranks, [__file__, str(folder / str(ranks))]) for ranks in (1, 2)}
    for processes in running.values():
        errors = [process.communicate(timeout=500)[1] for process in processes]
        assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return {
        ranks: [torch.load(f"{folder / str(ranks)}.{n}", weights_only=True) for n in range(ranks)]
        for ranks in running
    }


NOISE = float(torch.finfo(torch.float32).eps)


def assert_near(expected: Tensor, other: Tensor, what: str, floor: float = 0.0) -> None:
    """No number is off by more than 1e-5 of the largest expected one, or by the floor."""
    off = float((expected - other).abs().max())
    assert off <= max(1e-5 * float(expected.abs().max()), floor), f"{what}: off by {off:.2g}"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed")
@pytest.mark.parametrize("case", [" ".join(case) for case in CASES])
def test_two_ranks_are_one(case: str, reported: dict[int, list[dict[str, Any]]]) -> None:
    alone, pair = reported[1][0][case], [one[case] for one in reported[2]]
    named = {name.split()[0] for name in alone["losses"]}
    assert named == set(TASKS) | {"balance", "z", "mutual_information", "total"}
    for name, expected in alone["losses"].items():
        largest = max(float(gradient.abs().max()) for gradient in expected["shared"])
        assert largest > 0, f"{name} teaches nothing"
        for one in pair:
            assert_near(expected["value"], one["losses"][name]["value"], name, floor=NOISE)
            others = one["losses"][name]["shared"]
            for parameter, gradient, other in zip(alone["names"], expected["shared"], others, strict=True):
                # What is the same for all places has no effect under a softmax: its gradient is rounding.
                floor = NOISE * largest if parameter.endswith("query.bias") else 0.0
                assert_near(gradient, other, f"{name}, {parameter}", floor)
        parts = [one["losses"][name]["partial_fc"] for one in pair]
        if expected["partial_fc"] is not None:
            assert_near(expected["partial_fc"], torch.cat(parts), f"{name}, centres")
    assert alone["losses"]["recognition 0"]["partial_fc"].any()
    for one in pair:
        for mine, others in zip(alone["steps"], one["steps"], strict=True):
            assert others == pytest.approx(mine, rel=1e-3, abs=1e-4)
        for bias, other in zip(alone["biases"], one["biases"], strict=True):
            assert bias.any() and torch.equal(bias, other)
        assert torch.equal(pair[0]["partial_fc"], one["partial_fc"]) and one["partial_fc"].shape == (24, 512)


if __name__ == "__main__":
    work(*sys.argv[1:])
