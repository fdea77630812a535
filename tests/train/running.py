"""Training by torchrun on small drawn data."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from faceum.train.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "src" / "faceum" / "recipes" / "smoke.py"

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
    out: Path, *words: str, script: Path | None = None, restarts: int = 0, ranks: int = 2, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Train with two processes on the CPU; return when they, their workers and torchrun are gone.

    words: further settings. script: run in place of faceum. restarts: of the workers after one has died.
    ranks: number of processes.
    """
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
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


def start_ranks(ranks: int, words: list[str]) -> list[subprocess.Popen[str]]:
    """Start Python with these words once for each rank, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    several = {
        "PYTHONPATH": found,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
    }
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**ONE_THREAD, **several, "RANK": str(n), "LOCAL_RANK": str(n)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(ranks)
    ]


def write_dying(path: Path, condition: str) -> Path:
    """Write a program that trains, and kills its process before the step at which a condition is true."""
    path.write_text(DYING.replace("CONDITION", condition))
    return path


def read_state(folder: Path) -> dict[str, Any]:
    """Return the newest training state in a run's folder, whole: tensors by name, and the numbers."""
    path = list(Checkpoints(folder / "checkpoints").steps().values())[-1]
    reader = dcp.HuggingFaceStorageReader(str(path))
    known = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(one.size, dtype=one.properties.dtype) for name, one in known.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, storage_reader=reader, no_dist=True)
    numbers = json.loads((path / "state.json").read_text())
    return {**state, **{name: value for name, value in numbers.items() if name not in ("files", "ranks")}}


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
