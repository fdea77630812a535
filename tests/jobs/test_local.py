"""Worker processes that die: the parent notices, begins their shards again, and finds the image at fault."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceum.errors import FaceumError
from faceum.image import write_image
from faceum.jobs.batch import Tally, shards_to_do
from faceum.jobs.check import batch_status, verify_batch
from faceum.jobs.local import run_local
from faceum.jobs.read import read_results
from faceum.jobs.worker import Job

DEADLY = """
import os, signal

class Deadly:
    '''A detector that finds nothing; a red image kills its process, as a fault in native code would.'''

    def detect(self, image, **_):
        if image[0, 0].tolist() == [255, 0, 0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return []
"""


def test_an_image_that_kills_every_worker_becomes_a_row(
    make_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    import deadly

    for number in range(9):
        red = (255, 0, 0) if number == 4 else (9, 9, 9)
        write_image(tmp_path / "images" / f"{number}.png", np.full((64, 64, 3), red, np.uint8))
    job = make_job(tmp_path / "images", images_per_shard=3, tasks=["age"])
    job = replace(job, options={**job.options, "detector": deadly.Deadly()})
    tally = Tally()
    assert run_local(job, shards_to_do(job), 2, tally) == []
    assert not verify_batch(job.folder)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["crashed"] + ["ok"] * 4
    assert tally.lost == 4 and tally.counts.total == 9  # twice together, twice alone


def test_a_worker_that_cannot_go_on_stops_the_run(make_job: Callable[..., Job], folder: Path) -> None:
    job = make_job(folder, tasks=["age"])
    Path(job.options["model"]).stat()
    job = replace(job, options={**job.options, "model": "missing.onnx"})
    with pytest.raises(FaceumError, match=r"missing\.onnx"):
        run_local(job, shards_to_do(job), 2, Tally())
    assert len(shards_to_do(job)) == 3


def test_kills_at_random_moments_change_nothing(
    make_job: Callable[..., Job], folder: Path, tmp_path: Path
) -> None:
    """A parent or a worker dies by kill -9, time and again; the results are those of an undisturbed run."""
    whole = make_job(folder, out="whole", images_per_shard=2, tasks=["age", "recognition"])
    run_local(whole, shards_to_do(whole), 1, Tally())
    command = [sys.executable, "-m", "faceum", "batch", str(folder), "--out", str(tmp_path / "cut")]
    command += ["--model", str(whole.options["model"]), "--device", "cpu", "--tasks", "age,recognition"]
    command += ["--images-per-shard", "2", "--workers", "2", "--threads", "1", "--max-failures", "0.5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    dice = random.Random(15)
    for turn in range(3):
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as parent:
            deadline = time.monotonic() + dice.uniform(0.5, 4.0)
            while time.monotonic() < deadline and parent.poll() is None:
                time.sleep(0.02)
            victims = [parent.pid] if turn % 2 else children(parent.pid)[:1]
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            if turn % 2 == 0:
                assert parent.wait(300) == 0, parent.stderr.read()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not verify_batch(tmp_path / "cut")
    assert batch_status(tmp_path / "cut").counts.images == {"ok": 11, "broken": 1}
    one, other = (
        read_results(path, "all").to_table().to_pylist() for path in (whole.folder, tmp_path / "cut")
    )
    assert one == other


def children(pid: int) -> list[int]:
    """The processes that a process has started, by /proc."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except OSError:
        return []
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
