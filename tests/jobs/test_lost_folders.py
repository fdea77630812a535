"""An output that cannot be written any more, and a source that is gone, in mid-run: one sentence, resume."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceum.errors import FaceumError
from faceum.image import write_image
from faceum.jobs.batch import Tally, shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.local import run_local
from faceum.jobs.read import read_results
from faceum.jobs.worker import Job

MODULE = """
import os, subprocess

class Acting:
    '''A detector that finds nothing; at a red image it first runs commands, the first time only.'''

    def __init__(self, commands, done):
        self.commands, self.done = commands, done

    def detect(self, image, **_):
        if image[0, 0].tolist() == [255, 0, 0] and not os.path.exists(self.done):
            open(self.done, "w").close()
            for command in self.commands:
                subprocess.run(command, check=True)
        return []
"""

MakeActing = Callable[[list[list[str]]], Job]


@pytest.fixture
def acting(make_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeActing:
    """A function that plans 60 images in 3 shards; at the fifth image of the second the commands are run."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "acting.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    import acting as module

    for number in range(60):
        colour = (255, 0, 0) if number == 24 else (9, 9, number)
        write_image(tmp_path / "images" / f"{number:02d}.png", np.full((32, 32, 3), colour, np.uint8))

    def make(commands: list[list[str]]) -> Job:
        job = make_job(tmp_path / "images", images_per_shard=20, tasks=["age"])
        detector = module.Acting(commands, str(tmp_path / "done"))
        return replace(job, options={**job.options, "detector": detector})

    return make


def assert_resumes(job: Job, source: Path) -> None:
    """The run goes on: each image has its row, as if nothing had been."""
    assert run_local(job, shards_to_do(job), 1, Tally()) == []
    assert not verify_batch(job.folder)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert [row["source"] for row in rows] == [str(path) for path in sorted(source.iterdir())]
    assert {row["status"] for row in rows} == {"ok"}


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[list[list[str]]]:
    """Commands that make the output read-only: by its rights, or for root by a read-only mount."""
    out = str(tmp_path / "out")
    if os.geteuid():
        yield [["chmod", "-R", "a-w", out]]
        subprocess.run(["chmod", "-R", "u+w", out], check=True)
        return
    mount = shutil.which("mount")
    (tmp_path / "try").mkdir()
    trial = str(tmp_path / "try")
    if mount is None or subprocess.run([mount, "--bind", trial, trial], capture_output=True).returncode:
        pytest.skip("root writes in spite of rights, and may not mount here")
    subprocess.run(["umount", trial], check=True)
    yield [[mount, "--bind", out, out], [mount, "-o", "remount,bind,ro", out]]
    subprocess.run(["umount", out], capture_output=True)


def test_an_output_made_read_only_in_mid_run(
    acting: MakeActing, lock: list[list[str]], tmp_path: Path
) -> None:
    job = acting(lock)
    with pytest.raises(FaceumError) as caught:
        run_local(job, shards_to_do(job), 1, Tally())
    sentence = str(caught.value)
    assert "00000001.parquet cannot be written: " in sentence and "\n" not in sentence
    assert "read-only" in sentence or "no right" in sentence
    assert [path.name for path in (job.folder / "results").rglob("*.*")] == ["00000000.parquet"]
    if os.geteuid():
        subprocess.run(["chmod", "-R", "u+w", str(job.folder)], check=True)
    else:
        subprocess.run(["umount", str(job.folder)], check=True)
    assert_resumes(job, tmp_path / "images")


def test_a_file_in_place_of_the_output_in_mid_run(acting: MakeActing, tmp_path: Path) -> None:
    results, kept = tmp_path / "out" / "results", tmp_path / "kept"
    job = acting([["mv", str(results), str(kept)], ["touch", str(results)]])
    with pytest.raises(FaceumError, match=r"00000001\.parquet cannot be written: a file is in the way"):
        run_local(job, shards_to_do(job), 1, Tally())
    results.unlink()
    kept.rename(results)
    assert [path.name for path in results.rglob("*.*")] == ["00000000.parquet"]
    assert_resumes(job, tmp_path / "images")


def test_a_source_that_vanishes_in_mid_run(acting: MakeActing, tmp_path: Path) -> None:
    """The shard under way keeps what it has read, and the next one stops the run."""
    source, away = tmp_path / "images", tmp_path / "away"
    job = acting([["mv", str(source), str(away)]])
    with pytest.raises(FaceumError, match="Of 20 images in shard 2 none could be read") as caught:
        run_local(job, shards_to_do(job), 1, Tally())
    assert "\n" not in str(caught.value)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert len(rows) == 40
    lost = [row for row in rows if row["status"] != "ok"]
    assert lost and all(row["status"] == "unread" and row["image"] > 4 for row in lost)
    assert shards_to_do(job) == [1, 2], "the next run tries again what could not be read"
    away.rename(source)
    assert_resumes(job, source)
