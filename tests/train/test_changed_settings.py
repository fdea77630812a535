"""A run that goes on with other settings: those that it cannot honour are refused, the others taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faceum.data.mixture import SourceConfig
from faceum.errors import RecipeError
from faceum.train import RunConfig, train
from faceum.train.checkpoints import Checkpoints
from faceum.train.provenance import require_same_recipe

DRAWN = SourceConfig(reader="generated", path="8", batch_size=4)
SOURCES = {"drawn": DRAWN, "more": replace(DRAWN, tasks=("age",))}


@pytest.fixture
def begun(drawn_run: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Train one step, and return a function that gives the recipe with other settings."""

    def make(**settings: Any) -> RunConfig:
        return drawn_run(**{"sources": SOURCES, "steps": 1, "save_every": 1, "apart": False, **settings})

    train(make())
    return make


def test_changed_settings_are_reported(begun: Callable[..., RunConfig]) -> None:
    run = begun()
    folder = Path(run.out)
    before = (folder / "run.json").read_bytes()
    ages = run.task_weights.get("age", "none")
    block = replace(run.network.block, hidden_dim=96)
    share = replace(DRAWN, batch_size=5, lazy=True)
    for settings, said in (
        ({"lr": 1e-4}, [f"lr={run.lr}, not 0.0001"]),
        ({"weight_decay": 0.0}, [f"weight_decay={run.weight_decay}, not 0.0"]),
        ({"encoder_lr": 1e-3}, ["encoder_lr=none, not 0.001"]),
        ({"seed": 5}, [f"seed={run.seed}, not 5"]),
        ({"margin": None}, ['margin={"kind": "cosface", ', ", not none"]),
        ({"network": replace(run.network, block=block)}, ["network.block.hidden_dim=", ", not 96"]),
        ({"task_weights": {"age": 9.0}}, [f"task_weights.age={ages}, not 9.0"]),
        ({"sources": {"drawn": share, "more": SOURCES["more"]}},
         ["sources.drawn.batch_size=4, not 5; sources.drawn.lazy=false, not true"]),
        ({"sources": {"drawn": DRAWN}}, ["sources.more={", ", not none"]),
        ({"sources": dict(reversed(SOURCES.items()))}, ['sources=["drawn", "more"], not ["more", "drawn"]']),
        ({"apart": True, "held_out": "test"}, ["held_out=val, not test", "apart=false, not true"]),
    ):  # fmt: skip
        with pytest.raises(RecipeError) as caught:
            train(replace(run, **settings))
        sentence = str(caught.value)
        assert sentence.startswith(f"The run in {folder} was begun with ")
        assert sentence.endswith("; restore these settings, or begin a new run with another out=...")
        assert all(part in sentence for part in said), sentence
    assert (folder / "run.json").read_bytes() == before, "a refused start leaves no record"


def test_settings_that_may_change_are_accepted(begun: Callable[..., RunConfig]) -> None:
    moved = begun().out + "-moved"
    Path(begun().out).rename(moved)
    train(
        begun(
            out=moved, data="elsewhere", steps=2, workers=1, device="cpu", recompute=True, log_every=2,
            save_every=2, keep_checkpoints=1, held_out=None, held_out_faces=8,
        )
    )  # fmt: skip
    assert list(Checkpoints(f"{moved}/checkpoints").steps()) == [2]
    record = json.loads(Path(moved, "run.json").read_text())
    assert (record["step"], record["recipe"]["steps"], record["earlier"][0]["recipe"]["steps"]) == (1, 2, 1)
    sources = {**SOURCES, "drawn": replace(DRAWN, path="another folder")}
    require_same_recipe(Path(moved), begun(held_out=None, compile=True, validate_every=3, sources=sources))


def test_folder_without_checkpoints_starts_from_the_beginning(begun: Callable[..., RunConfig]) -> None:
    for path in Checkpoints(f"{begun().out}/checkpoints").steps().values():
        shutil.rmtree(path)
    train(begun(seed=5))
    assert json.loads(Path(begun().out, "run.json").read_text())["recipe"]["seed"] == 5
