"""torchrun restarts the workers after one was killed, and the run ends where an undisturbed one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from faceum.model.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed"),
]

RECIPE = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"
WORDS = (
    "sources.drawn.path=24 sources.drawn.batch_size=6 steps=6 warmup=2 workers=0 device=cpu "
    "save_every=2 log_every=1 validate_every=0"
)

DYING = """
import os, signal, sys
from faceum.cli.app import app
from faceum.train import Trainer

step = Trainer.train_step

def dying_step(self, batches):
    if self.step == 5 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batches)

Trainer.train_step = dying_step
app(sys.argv[1:])
"""


def torchrun(program: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*start, "--max-restarts", "1", *program, "train", str(RECIPE), *WORDS.split(), f"out={out}"],
        capture_output=True,
        text=True,
        # Otherwise restarted workers find the addresses of the killed ones, see docs/training.md.
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        timeout=300,
    )


def test_run_survives_a_killed_worker(tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    for name, program in (("whole", ["-m", "faceum"]), ("disturbed", [str(script)])):
        done = torchrun(program, tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "SIGKILL" in done.stderr or "exitcode: -9" in done.stderr, done.stderr
    whole, disturbed = (
        load_checkpoint(tmp_path / name / "network.safetensors")[0].state_dict()
        for name in ("whole", "disturbed")
    )
    for name, value in whole.items():
        torch.testing.assert_close(disturbed[name], value, msg=name)
    record = (tmp_path / "disturbed" / "run.json").read_text()
    assert '"step": 4' in record, "it resumed from the checkpoint of step 4"
