"""A worker's shard: a status for every image, the rows of its faces, and what a second run does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faceum import FaceAnalyzer
from faceum.errors import DataError, FaceumError, OutputError
from faceum.jobs.batch import shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker

MakeJob = Callable[..., Job]


def run(job: Job) -> None:
    """Do all that is to be done, in this process."""
    worker = ShardWorker(job)
    for shard in shards_to_do(job):
        worker.run(Assignment(shard=shard))


def assert_alike(one: Job, other: Job) -> None:
    """Both batches hold the same rows, up to the order in which other batches sum."""
    tables = [read_results(job.folder, "all").to_table() for job in (one, other)]
    assert tables[0].schema.equals(tables[1].schema)
    for name in tables[0].column_names:
        columns = [table[name].to_pylist() for table in tables]
        if name in ("expression", "error", "source", "status", "model", "parsing"):
            assert columns[0] == columns[1], name
            continue
        assert [cell is None for cell in columns[0]] == [cell is None for cell in columns[1]], name
        numbers = [[cell for cell in column if cell is not None] for column in columns]
        assert np.allclose(*numbers, rtol=1e-3, atol=2e-3), name


def test_rows_are_the_analyzers_answers(make_job: MakeJob, folder: Path) -> None:
    job = make_job(folder)
    run(job)
    assert not verify_batch(job.folder)
    names = read_results(job.folder, "images").to_table()["source"].to_pylist()
    results = list(FaceAnalyzer(**job.options).analyze_many(names))
    rows = read_results(job.folder).to_table().to_pylist()
    faces = [(result.source, face) for result in results for face in result]
    assert len(rows) == len(faces) >= 8
    for row, (source, face) in zip(rows, faces, strict=True):
        assert (row["source"], row["model"]) == (source, face.model)
        assert row["expression"] in face.expression.probabilities and row["parsing"] is None
        assert row["quality"] == pytest.approx(face.quality, abs=1e-3)
        numbers = {
            "embedding": face.embedding, "age": face.age.years, "x1": face.box[2], "score": face.score,
            "Smiling": face.attributes["Smiling"], "nose_y": face.points5[2, 1],
            "landmarks": face.landmarks.ravel(),
        }  # fmt: skip
        for name, value in numbers.items():  # half precision; and other batches sum in another order
            assert np.allclose(row[name], value, rtol=1e-3, atol=1e-3), name


def test_broken_images_are_rows_and_unread_ones_are_retried(make_job: MakeJob, folder: Path) -> None:
    gone = folder / "0" / "06.png"
    content = gone.read_bytes()
    job = make_job(folder)
    gone.unlink()
    run(job)
    images = read_results(job.folder, "images").to_table().to_pydict()
    names = [Path(name).name for name in images["source"]]
    statuses = dict(zip(names, images["status"], strict=True))
    assert statuses.pop("05.png") == "broken" and statuses.pop("06.png") == "unread"
    assert set(statuses.values()) == {"ok"} and len(statuses) == 10
    assert not verify_batch(job.folder), "failed images are results, too"

    (shard,) = shards_to_do(job)  # the broken image is not tried again
    gone.write_bytes(content)
    before = job.folder / "results" / "00000" / f"{shard:08d}.parquet"
    stamp = before.stat().st_ino
    run(job)
    assert not shards_to_do(job) and before.stat().st_ino != stamp
    assert not verify_batch(job.folder)
    whole = make_job(folder, out="whole")
    run(whole)
    assert_alike(job, whole)


@pytest.mark.parametrize("source", ["tar", "parquet"])
def test_tar_shards_and_parquet_hold_images(
    source: str, make_job: MakeJob, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(source)
    job = make_job(path)
    run(job)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    if source == "tar":
        assert [row["source"] for row in rows] == [f"{path}#a/{number}.png" for number in range(3)]
        assert [row["status"] for row in rows] == ["ok", "broken", "ok"]
        assert rows[1]["error"].startswith(f"{path}#a/1.png is not an image")
    else:
        assert [row["source"] for row in rows] == [f"{path}#{number}" for number in range(7)]
        assert {row["status"] for row in rows} == {"ok"} and job.manifest.images == 7
    assert not verify_batch(job.folder)


def test_a_container_that_breaks_off_keeps_its_numbers(
    make_job: MakeJob, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    iter_batches = pq.ParquetFile.iter_batches

    def breaking(self: object, *arguments: object, row_groups: list[int], **more: object) -> object:
        if row_groups == [0]:
            raise OSError(errno.EIO, "Input/output error")
        return iter_batches(self, *arguments, row_groups=row_groups, **more)

    job = make_job(parquet)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", breaking)
    run(job)
    assert not verify_batch(job.folder)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert [row["status"] for row in rows] == ["unread"] * 3 + ["ok"] * 4
    assert "Input/output error" in rows[0]["error"]
    monkeypatch.undo()
    run(job)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert {row["status"] for row in rows} == {"ok"} and not verify_batch(job.folder)
    assert [row["source"].rpartition("#")[2] for row in rows] == list("0123456")


def test_a_careful_worker_tells_each_image_and_skips_the_blamed(make_job: MakeJob, folder: Path) -> None:
    class Told:
        def __init__(self) -> None:
            self.begun, self.done = [], 0

        def advance(self, images: int) -> None:
            self.done += images

        def begin(self, image: int) -> None:
            self.begun.append(image)

    job, told = make_job(folder, images_per_shard=6), Told()
    counts = ShardWorker(job).run(Assignment(shard=0, careful=True, blamed=frozenset([3])), told)
    assert told.begun == [0, 1, 2, 4, 5] and told.done == 6
    assert (counts.images["crashed"], counts.total) == (1, 6)
    (error,) = [one for one in read_results(job.folder, "images").to_table()["error"].to_pylist() if one]
    assert error.endswith("06.png ended the process that analyzed it, twice.")
    assert shards_to_do(job) == [0, 1], "what crashed is tried again"


def test_a_source_that_is_gone_stops_the_run(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"/nowhere/{number}.png\n" for number in range(30)))
    job = make_job(tmp_path / "list.txt", images_per_shard=30)
    with pytest.raises(DataError, match="Of 30 images in shard 0 none could be read"):
        run(job)
    assert shards_to_do(job) == [0] and not list(job.folder.glob("results/*/*"))
    run(Job(folder=job.folder, manifest=job.manifest, options=job.options, accept_all=True))
    assert read_results(job.folder, "images").count_rows() == 30


def test_a_full_disk_leaves_nothing_half_written(
    make_job: MakeJob, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = make_job(folder)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OutputError, match=r"00000000\.parquet cannot be written: the disk is full"):
        run(job)
    assert not [name for _, _, names in os.walk(job.folder / "results") for name in names]
    monkeypatch.undo()
    run(job)
    assert not verify_batch(job.folder)


def test_other_models_and_settings_are_refused_by_name(make_job: MakeJob, folder: Path) -> None:
    make_job(folder)
    for sentence, more in {
        "was begun with tasks = recognition, .* but this run has age": {"tasks": ["age"]},
        "was begun with min_score = None, but this run has 0.9": {"min_score": 0.9},
        "was begun with 4 images per shard, not 5": {"images_per_shard": 5},
    }.items():
        with pytest.raises(DataError, match=sentence):
            make_job(folder, **more)
    with pytest.raises(DataError, match=f"holds results of {folder}, not of {folder}/0"):
        make_job(folder / "0")
    with pytest.raises(FaceumError, match="no kind of rows 'face'; did you mean 'faces'"):
        read_results(folder.parent / "out", "face")
