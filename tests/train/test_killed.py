"""A run that is killed, between steps or while it writes a checkpoint, ends as the uninterrupted one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.running import read_state, same

from faceum.train import RunConfig, train
from faceum.train.checkpoints import Checkpoints

KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from faceum.config import load_recipe
from faceum.data.mixture import SourceConfig
from faceum.train import Trainer, checkpoints, train

recipe, out, where, workers = sys.argv[1:]
words = [f"out={out}", "steps=8", "warmup=2", "save_every=3", "log_every=1", "validate_every=0"]
words += ["sources.drawn.path=24", "sources.drawn.batch_size=6", f"workers={workers}"]
run = load_recipe(recipe, words)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

step, write = Trainer.train_step, checkpoints._write_shards

def dying_step(self, batches):
    if self.step == 5:
        die()
    return step(self, batches)

def dying_write(folder, tensors):
    write(folder, tensors)
    if "00000006" in folder.name:
        for path in folder.iterdir():
            os.truncate(path, os.path.getsize(path) // 2)
        die()

if where == "step":
    Trainer.train_step = dying_step
else:
    checkpoints._write_shards = dying_write
train(run)
"""


@pytest.mark.parametrize(("where", "workers"), [("step", 0), ("step", 2), ("checkpoint", 0)])
def test_kill_9_and_resume(
    where: str, workers: int, drawn_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """The uninterrupted run makes its batches itself, so workers must change nothing, either."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    words = [sys.executable, "-c", KILLED, str(recipe), str(cut), where, str(workers)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Returns when its workers, who hold the pipes, too, have gone after it.
    done = subprocess.run(words, capture_output=True, text=True, env=one_thread, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(Checkpoints(cut / "checkpoints").steps()) == [3]
    assert len(list((cut / "checkpoints").iterdir())) == (1 if where == "step" else 2), (
        "an unfinished state lies there"
    )

    sources = train_sources()
    resumed = train(drawn_run(out=str(cut), sources=sources, workers=workers))
    expected = train(drawn_run(out=str(whole), sources=sources))
    torch.set_num_threads(threads)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    ends = [read_state(folder) for folder in (cut, whole)]
    assert same(*ends) and ends[0]["step"] == 8
    assert curve(cut) == curve(whole) and len(curve(cut)) == 8
    record = json.loads((cut / "run.json").read_text())
    assert record["step"] == 3 and record["earlier"][0]["step"] == 0


def train_sources() -> dict[str, Any]:
    """The sources of the killed process, by the same settings."""
    from faceum.config import load_recipe

    recipe = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"
    return load_recipe(recipe, ["sources.drawn.path=24", "sources.drawn.batch_size=6"]).sources


def curve(folder: Path) -> list[dict[str, Any]]:
    """Every logged row, without what the clock says."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
