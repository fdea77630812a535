"""Two accumulated batches of three faces against one batch of the same six: losses and gradients.

The gradients are those of the second step, so that the weights of the first are compared, too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor, nn

from faceum.data.mixture import SourceConfig
from faceum.tasks import TASKS
from faceum.train import RunConfig, Trainer
from faceum.train.loop import read_data, stream

EQUAL = [*(task for task in TASKS if task != "parsing"), "z"]
UNEQUAL = ["parsing", "balance", "mutual_information"]
"""Losses that are no mean over faces, as docs/training.md says."""


def take_steps(run: RunConfig) -> tuple[Trainer, dict[str, float]]:
    """Take two steps without dropout; return the trainer, with the gradients of the last, and its losses."""
    data = read_data(run)
    for number, face in enumerate(data.faces["drawn"]):
        face.labels["embedding"] = np.random.default_rng(number).integers(-90, 90, 256).astype(np.int8)
    trainer = Trainer(run, data.faces, data.people)
    for module in trainer.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batches = stream(run, trainer.network, data)
    for step in range(2):
        numbers = range(step * run.accumulate, (step + 1) * run.accumulate)
        values = trainer.train_step([batches[number] for number in numbers])
    return trainer, {name: float(value) for name, value in values.items()}


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    modules = {"network": trainer.network, "objective": trainer.objective, "partial_fc": trainer.partial_fc}
    named = {f"{key} {n}": p.grad for key, module in modules.items() for n, p in module.named_parameters()}
    return {name: gradient for name, gradient in named.items() if gradient is not None}


@pytest.fixture
def both(drawn_run: Callable[..., RunConfig]) -> Callable[..., list[tuple[Trainer, dict[str, float]]]]:
    def make(tasks: tuple[str, ...], **settings: float) -> list[tuple[Trainer, dict[str, float]]]:
        runs = [
            drawn_run(
                sources={"drawn": SourceConfig(reader="generated", path="24", batch_size=size, tasks=tasks)},
                accumulate=6 // size,
                **settings,
            )
            for size in (6, 3)
        ]
        return [take_steps(run) for run in runs]

    return make


def test_accumulation_is_a_larger_batch(both: Callable[..., list[tuple[Trainer, dict[str, float]]]]) -> None:
    tasks = tuple(task for task in TASKS if task != "parsing")
    (larger, expected), (accumulated, values) = both(
        tasks, relation=0, balance_weight=0, mutual_information=0, grad_clip=1e9
    )
    assert [values[name] for name in (*EQUAL, "total", "gradient_norm")] == pytest.approx(
        [expected[name] for name in (*EQUAL, "total", "gradient_norm")], rel=1e-4
    )
    mine, others = gradients(larger), gradients(accumulated)
    assert mine.keys() == others.keys() and "partial_fc weight" in mine
    largest = max(float(gradient.abs().max()) for gradient in mine.values())
    for name, gradient in mine.items():
        assert float((gradient - others[name]).abs().max()) <= 1e-4 * largest, name


def test_losses_of_a_whole_batch_differ(both: Callable[..., list[tuple[Trainer, dict[str, float]]]]) -> None:
    (_, expected), (_, values) = both(tuple(TASKS), relation=1.0, grad_clip=1e9)
    for name in UNEQUAL:
        assert values[name] != pytest.approx(expected[name], rel=1e-4), name
