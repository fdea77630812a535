"""Runs that follow each other: each stage starts from the network that the one before has written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from faceum.model.checkpoint import read_metadata
from faceum.train.config import RunConfig
from faceum.train.provenance import require_same_recipe

NETWORK = "network.safetensors"
"""The file of a run's folder that holds its network, written when the run is complete."""


def link_stages(stages: Mapping[str, RunConfig], out: str) -> dict[str, RunConfig]:
    """Return the stages with a folder each in `out`; all but the first start from the previous network.

    A stage whose `network` is another than the stage's before grows: see growth.load_grown.
    """
    linked: dict[str, RunConfig] = {}
    before: RunConfig | None = None
    for name, run in stages.items():
        folder = f"{out}/{name}"
        if before is None:
            linked[name] = replace(run, out=folder)
        else:
            grown = None if run.network == before.network else run.network
            initial = f"{out}/{list(linked)[-1]}/{NETWORK}"
            linked[name] = replace(run, out=folder, network=grown, initial=initial)
        before = run
    return linked


def is_complete(run: RunConfig) -> bool:
    """Return whether the run's folder holds the network of all its steps.

    Raises RecipeError if the run in the folder was begun with other settings.
    """
    network = Path(run.out) / NETWORK
    if not network.is_file():
        return False
    require_same_recipe(network.parent, run)
    return bool(read_metadata(network).get("provenance", {}).get("step") == run.steps)
