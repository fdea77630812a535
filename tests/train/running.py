"""Training by torchrun on small drawn data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"

SMALL = "sources.drawn.path=24 sources.drawn.batch_size=6 device=cpu log_every=1".split()
"""Settings of `smoke` that take seconds."""

DYING = """
import os, signal, sys
from faceum.cli.app import app
from faceum.train import Trainer

step = Trainer.train_step

def dying_step(self, batches):
    if CONDITION:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batches)

Trainer.train_step = dying_step
app(sys.argv[1:])
"""

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""The environment of a process that shares the machine."""


def torchrun(
    out: Path, *words: str, script: Path | None = None, restarts: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Train with two processes on the CPU; return when they, their workers and torchrun are gone.

    words: further settings. script: run in place of faceum. restarts: of the workers after one has died.
    """
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = ["-m", "faceum"] if script is None else [str(script)]
    return subprocess.run(
        [
            *start,
            "--max-restarts",
            str(restarts),
            *program,
            "train",
            str(RECIPE),
            *SMALL,
            *words,
            f"out={out}",
        ],
        capture_output=True,
        text=True,
        env={**ONE_THREAD, **environment},
        timeout=300,
    )


def write_dying(path: Path, condition: str) -> Path:
    """Write a program that trains, and kills its process before the step at which a condition is true."""
    path.write_text(DYING.replace("CONDITION", condition))
    return path
