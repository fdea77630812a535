"""`faceum train` by torchrun: two processes with workers make one run, also where one of them is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from faceum.model.checkpoint import load_checkpoint
from faceum.train.checkpoints import Checkpoints

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed")

RECIPE = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"
WORDS = (
    "sources.drawn.path=24 sources.drawn.batch_size=6 steps=6 warmup=2 workers=2 device=cpu tensorboard=true"
)
WORDS += " save_every=3 log_every=1 validate_every=3 held_out_faces=8"

DYING = """
import os, signal, sys
from faceum.cli.app import app
from faceum.train import Trainer

step = Trainer.train_step

def dying_step(self, batches):
    if self.step == 5 and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batches)

Trainer.train_step = dying_step
app(sys.argv[1:])
"""


def torchrun(program: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    """Two processes on the CPU that train; returns when they, their workers and torchrun are gone."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["train", str(RECIPE), *WORDS.split(), f"out={out}"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, *program, *words], capture_output=True, text=True, env=one_thread, timeout=200
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("torchrun") / "whole"
    done = torchrun(["-m", "faceum"], out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained for 6 steps") == 1, "the first process alone speaks"
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every logged row, without what the clock says."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in found]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def assert_shown(folder: Path) -> None:
    """TensorBoard has each number of metrics.jsonl once."""
    shown, reported = curves(folder), rows(folder)
    for row in reported:
        names = row.keys() - {"step", "kind"}
        assert names
        for name in names:
            points = [value for step, value in shown[f"{row['kind']}/{name}"] if step == row["step"]]
            assert points == [pytest.approx(row[name], rel=1e-6)], (row["step"], name)
    assert [step for step, _ in shown["train/total"]] == [1, 2, 3, 4, 5, 6]


def test_two_processes_write_one_run(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "run.json", "skipped.txt", "metrics.jsonl", "checkpoints", "network.safetensors", "best.safetensors",
        "tensorboard",
    }  # fmt: skip
    assert [(row["step"], row["kind"]) for row in rows(whole)] == [
        *((step, "train") for step in (1, 2, 3)), (3, "validation"),
        *((step, "train") for step in (4, 5, 6)), (6, "validation"),
    ]  # fmt: skip
    assert json.loads((whole / "run.json").read_text())["environment"]["ranks"] == 2
    assert list(Checkpoints(whole / "checkpoints").steps()) == [3, 6]
    assert len(list((whole / "tensorboard").iterdir())) == 1, "the first process alone writes"
    assert_shown(whole)


def test_run_resumes_after_a_killed_rank(whole: Path, tmp_path: Path) -> None:
    script, cut = tmp_path / "dying.py", tmp_path / "cut"
    script.write_text(DYING)
    done = torchrun([str(script)], cut)
    assert done.returncode != 0 and "SIGKILL" in done.stderr, done.stderr
    assert list(Checkpoints(cut / "checkpoints").steps()) == [3]
    assert not (cut / "network.safetensors").exists()

    done = torchrun(["-m", "faceum"], cut)
    assert done.returncode == 0, done.stderr
    # The sum of two ranks' numbers does not depend on their order, so not even the last bit differs.
    expected, resumed = (load_checkpoint(folder / "network.safetensors")[0] for folder in (whole, cut))
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows(cut) == rows(whole)
    assert_shown(cut)
    record = json.loads((cut / "run.json").read_text())
    assert record["step"] == 3 and record["earlier"][0]["step"] == 0
