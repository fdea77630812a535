"""A network with two crop policies, as `base` is: each batch has a part for either, and all tasks learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from faceum.crop import CropSpec
from faceum.data.mixture import SourceConfig
from faceum.data.sources import read_sources
from faceum.datasets.registry import read_dataset
from faceum.errors import RecipeError
from faceum.model.configs import BASE, DENSE_TASKS, IMAGE_TASKS
from faceum.model.experts import ExpertsConfig
from faceum.model.network import FaceUM
from faceum.tasks import TASKS
from faceum.train import RunConfig, Trainer, train
from faceum.train.loop import stream
from faceum.train.trainer import share_norms

NETWORK = replace(
    BASE,
    crops=(
        (CropSpec(policy="box", size=32, grid=2), IMAGE_TASKS),
        (CropSpec(policy="box", size=64, grid=4), DENSE_TASKS),
    ),
    block=replace(BASE.block, dim=48, num_heads=2, head_dim=16, hidden_dim=64, drop_path=0.1),
    moe=replace(BASE.moe, shared_hidden_dim=64, experts=ExpertsConfig(hidden_dim=16)),
    depth=1,
)
DRAWN = SourceConfig(reader="generated", path="6", batch_size=3, lazy=True)


def test_each_part_has_its_tasks_and_every_task_learns(drawn_run: Callable[..., RunConfig]) -> None:
    sources = {"all": DRAWN, "masks": replace(DRAWN, batch_size=2, tasks=("parsing",))}
    run = drawn_run(network=NETWORK, sources=sources, encoder_lr=1e-4, lr=1e-3, warmup=0, recompute=True)
    data = read_sources(run.sources, "", read_dataset, people=True)
    trainer = Trainer(run, data.faces, data.people)
    images, dense = parts = stream(run, trainer.network, data)[0]
    assert tuple(images.has_label) == IMAGE_TASKS and images.crop_BCHW.shape == (3, 3, 32, 32)
    assert tuple(dense.has_label) == DENSE_TASKS and dense.crop_BCHW.shape == (5, 3, 64, 64)
    assert dense.has_label["landmarks"].tolist() == [True] * 3 + [False] * 2
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


def test_one_face_for_a_head_with_batch_norms_is_refused_before_the_first_step(
    drawn_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    sources = {
        "all": replace(DRAWN, tasks=("age",)),
        "masks": replace(DRAWN, batch_size=1, tasks=("parsing",)),
    }
    run = drawn_run(network=NETWORK, sources=sources, steps=2, held_out=None, out=str(tmp_path))
    with pytest.raises(RecipeError, match="head of parsing need 2 faces.*gets 1"):
        train(run)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_norms_of_many_gpus_count_together_under_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FaceUM(NETWORK)
    names = list(network.state_dict())
    share_norms(network, torch.device("cuda"))
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules()), "one process"
    monkeypatch.setattr("faceum.train.trainer.world", lambda: 2)
    share_norms(network, torch.device("cpu"))
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules()), "no GPU"
    share_norms(network, torch.device("cuda"))
    plain = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules())
    assert not any(isinstance(module, plain) for module in network.modules())
    assert list(network.state_dict()) == names
