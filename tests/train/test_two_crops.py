"""A network with two crop policies, as `base` is: each batch has a part for either, and all tasks learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from faceum.crop import CropSpec
from faceum.data.mixture import Share
from faceum.data.sources import read_sources
from faceum.model.configs import BASE, DENSE_TASKS, IMAGE_TASKS
from faceum.model.experts import ExpertsConfig
from faceum.tasks import TASKS
from faceum.train import RunConfig, Trainer
from faceum.train.run import stream

NETWORK = replace(
    BASE,
    crops=(
        (CropSpec(policy="box", size=32, grid=2), IMAGE_TASKS),
        (CropSpec(policy="box", size=64, grid=4), DENSE_TASKS),
    ),
    block=replace(BASE.block, width=48, heads=2, head_dim=16, hidden=64, drop_path=0.1),
    moe=replace(BASE.moe, shared_hidden=64, experts=ExpertsConfig(hidden=16)),
    depth=1,
)
DRAWN = Share(reader="generated", path="6", count=3, lazy=True)


def test_each_part_has_its_tasks_and_every_task_learns(drawn_run: Callable[..., RunConfig]) -> None:
    shares = {"all": DRAWN, "masks": replace(DRAWN, count=2, tasks=("parsing",))}
    run = drawn_run(network=NETWORK, shares=shares, encoder_lr=1e-4, lr=1e-3, warmup=0, recompute=True)
    data = read_sources(run.shares, "", people=True)
    trainer = Trainer(run, data.faces, data.people)
    images, dense = parts = stream(run, trainer.network, data)[0]
    assert tuple(images.wanted) == IMAGE_TASKS and images.crop_BCHW.shape == (3, 3, 32, 32)
    assert tuple(dense.wanted) == DENSE_TASKS and dense.crop_BCHW.shape == (5, 3, 64, 64)
    assert dense.wanted["landmarks"].tolist() == [True] * 3 + [False] * 2
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    losses = trainer.train_step([parts])
    assert set(TASKS) < set(losses)
    moved = {name for name, value in trainer.network.named_parameters() if not value.equal(before[name])}
    for task in TASKS:
        assert any(name.startswith(f"heads.{task}.") for name in moved), task
    assert "trunk.stem.patch.weight" in moved
    again = Trainer(replace(run, heat_map=0.0), data.faces, data.people).train_step([parts])
    assert losses["landmarks"] > again["landmarks"] + 0.1, "the heat maps have a loss of their own"
    assert {group["peak"] for group in trainer.optimizer.param_groups} == {1e-4, 1e-3}
