"""The stages of a recipe run in order, resume where they stopped, and are skipped when they are complete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from faceum.cli.app import app
from faceum.config import load_recipe, load_stages
from faceum.model.checkpoint import load_checkpoint
from faceum.train.stages import NETWORK, is_complete, link_stages

RECIPE = """
from dataclasses import replace
from faceum.config import load_recipe
from faceum.train.stages import link_stages

smoke = load_recipe("smoke", [
    "sources.drawn.path=12", "sources.drawn.batch_size=4", "workers=0", "steps=2", "warmup=1", "save_every=1",
    "validate_every=0",
])

def recipe(out="runs/two"):
    return link_stages({"first": smoke, "second": replace(smoke, lr=1e-4, seed=1)}, out)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "two.py"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_stages_run_in_order_and_resume(recipe: Path, tmp_path: Path) -> None:
    words = ["train", str(recipe), f"out={tmp_path / 'run'}"]
    first, second = load_stages(recipe, words[2:]).values()
    assert second.initial == f"{first.out}/{NETWORK}"

    def run(*more: str) -> str:
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("stage=first")
    assert is_complete(first) and not is_complete(second)
    output = run()
    assert f"{first.out}: complete, skipped" in output and f"{second.out}: trained for 2 steps" in output
    assert load_checkpoint(Path(second.out) / NETWORK)[1]["provenance"]["recipe"]["initial"] == second.initial
    assert run().count("complete, skipped") == 2
    output = run("second.steps=3")
    assert f"{first.out}: complete" in output and f"{second.out}: trained for 3 steps" in output
    done = CliRunner().invoke(app, [*words, "second.lr=0.5"])
    assert done.exit_code == 2 and "was begun with lr=0.0001" in done.output


def test_show_prints_the_settings_of_every_stage(recipe: Path) -> None:
    lines = CliRunner().invoke(app, ["train", str(recipe), "--show", "first.steps=5"]).stdout.splitlines()
    assert {"first.steps=5", "second.steps=2", "second.out=runs/two/second"} <= set(lines)
    assert load_stages(recipe, lines) == load_stages(recipe, ["first.steps=5"])


def test_a_stage_with_a_deeper_network_grows(tmp_path: Path) -> None:
    smoke = load_recipe("smoke", [])
    assert smoke.network is not None
    stem = replace(smoke.network.stem, blocks=(1, 2, 3))
    deeper = replace(smoke, network=replace(smoke.network, stem=stem, depth=smoke.network.depth + 1))
    runs = {"first": smoke, "same": replace(smoke, seed=1), "deep": deeper, "on": replace(deeper, seed=2)}
    stages = link_stages(runs, str(tmp_path))
    assert stages["same"].network is None and stages["on"].network is None
    assert stages["deep"].network == deeper.network and stages["deep"].initial == f"{tmp_path}/same/{NETWORK}"
