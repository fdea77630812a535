"""Two ranks with half the batch each have the gradients of one rank with all of it, loss by loss.

Run as a script, this file is one of the ranks.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faceum.config import load_recipe
from faceum.data.corpus import labelled_face
from faceum.data.generated import draw_face
from faceum.data.mixture import Batch, Mixture, Share, with_tasks
from faceum.distributed import average_gradients, joined, rank, world
from faceum.tasks import TASKS
from faceum.train import Trainer
from faceum.train.trainer import tasks_of_all_ranks

# Of the seven faces rank 0 takes the first, third, ...; in the second mixture one rank lacks five tasks.
SHARES = {
    "even": {"all": Share(count=4), "ages": Share(count=1, tasks=("age",)), "taught": Share(count=2)},
    "lopsided": {"all": Share(count=1), "ages": Share(count=2, tasks=("age",))},
}


def built(shares: dict[str, Share]) -> tuple[Trainer, Batch]:
    """A trainer without dropout whose fresh zeros are not zero, and this rank's part of a batch."""
    rng = np.random.default_rng(0)
    faces: dict[str, list[Any]] = {}
    for source in shares:
        drawn = [replace(draw_face(f"{source}-{n}"), source=source) for n in range(6)]
        if source == "taught":
            teacher = [rng.integers(-90, 90, 256).astype(np.int8) for _ in drawn]
            drawn = [replace(one, embedding=v) for one, v in zip(drawn, teacher, strict=True)]
        faces[source] = [labelled_face(one) for one in drawn]
    smoke = load_recipe(Path(__file__).resolve().parents[2] / "recipes" / "smoke.py")
    trainer = Trainer(replace(smoke, shares=shares, weighting="uncertainty", warmup=0), faces, people=24)
    torch.manual_seed(3)
    for value in trainer.network.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.05)
    for module in trainer.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    spec = trainer.network.config.crops[0][0]
    mixture = Mixture(faces, shares, spec=spec, seed=0, batches=3, ranks=(rank(), world()))
    return trainer, mixture[1]


def gradients(trainer: Trainer, batch: Batch) -> dict[str, Any]:
    """Loss -> its value, and its gradients in what ranks share and in this rank's centres."""
    losses, _ = trainer.losses(with_tasks(batch, tasks_of_all_ranks(batch, trainer.device)))
    losses["total"] = trainer.objective.total(losses, [task for task in TASKS if task in losses])
    shared = [*trainer.network.parameters(), *trainer.objective.parameters()]
    found = {}
    for name, loss in losses.items():
        for parameter in [*shared, trainer.centres.weight]:
            parameter.grad = None
        loss.backward(retain_graph=True)
        average_gradients(shared)
        trainer.centres.correct_gradients()
        found[name] = {
            "value": loss.detach(),
            "shared": [one.grad if one.grad is not None else torch.zeros(()) for one in shared],
            "centres": trainer.centres.weight.grad,
        }
    return found


def work(path: str) -> None:
    """What one rank does with each kind of shares: gradients of every loss, then two whole steps."""
    torch.set_num_threads(1)
    told = {}
    with joined():
        for kind, shares in SHARES.items():
            trainer, batch = built(shares)
            found = gradients(trainer, batch)
            steps = [trainer.train_step([(batch,)]) for _ in range(2)]
            biases = [mixture.moe.router.bias for mixture in trainer.network.mixtures]
            centres = trainer.state_dict()["centres"]
            told[kind] = {"losses": found, "steps": steps, "biases": biases, "centres": centres["weight"]}
        torch.save(told, f"{path}.{rank()}")


def start_ranks(ranks: int, path: Path) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(path)],
            env={**os.environ, **several, "RANK": str(n), "LOCAL_RANK": str(n), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(ranks)
    ]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Number of ranks -> what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    running = {ranks: start_ranks(ranks, folder / str(ranks)) for ranks in (1, 2)}
    for processes in running.values():
        errors = [process.communicate(timeout=500)[1] for process in processes]
        assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return {
        ranks: [torch.load(f"{folder / str(ranks)}.{n}", weights_only=True) for n in range(ranks)]
        for ranks in running
    }


def assert_near(one: Tensor, other: Tensor, what: str) -> None:
    assert (one - other).abs().max() <= 1e-5 * max(1.0, float(one.abs().max())), what


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed")
@pytest.mark.parametrize("kind", list(SHARES))
def test_two_ranks_are_one(kind: str, told: dict[int, list[dict[str, Any]]]) -> None:
    alone, pair = told[1][0][kind], [one[kind] for one in told[2]]
    assert set(TASKS) | {"switch", "z", "mutual_information", "total"} == set(alone["losses"])
    for name, wanted in alone["losses"].items():
        assert any(gradient.any() for gradient in wanted["shared"]), f"{name} teaches nothing"
        for one in pair:
            assert_near(wanted["value"], one["losses"][name]["value"], name)
            for place, gradient in enumerate(wanted["shared"]):
                assert_near(gradient, one["losses"][name]["shared"][place], f"{name}, parameter {place}")
        parts = [one["losses"][name]["centres"] for one in pair]
        if wanted["centres"] is not None:
            assert_near(wanted["centres"], torch.cat(parts), f"{name}, centres")
    assert alone["losses"]["recognition"]["centres"].any()
    for one in pair:
        for mine, others in zip(alone["steps"], one["steps"], strict=True):
            assert others == pytest.approx(mine, rel=1e-3, abs=1e-4)
        for bias, other in zip(alone["biases"], one["biases"], strict=True):
            assert bias.any() and torch.equal(bias, other)
        assert torch.equal(pair[0]["centres"], one["centres"]) and one["centres"].shape == (24, 512)


if __name__ == "__main__":
    work(*sys.argv[1:])
