"""gs:// through gcsfs from an emulated server on loopback: batches, and tar shards for training."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faceum.datasets.tar_shards import read_tar_shards
from faceum.jobs.batch import shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # the emulator has no gRPC
REASON = "needs the extra gs and gcp-storage-emulator, which make does not install"
gcsfs = pytest.importorskip("gcsfs", reason=REASON)
emulator = pytest.importorskip("gcp_storage_emulator.server", reason=REASON)


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file system with the bucket "lake" of an emulated server, which gs:// means."""
    import fsspec

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="lake")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield gcsfs.GCSFileSystem(token="anon", endpoint_url=f"http://127.0.0.1:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


def test_a_bucket_of_gs_gives_the_results_of_the_disk(
    lake: object, make_job: Callable[..., Job], folder: Path, tar: Path
) -> None:
    for path in sorted(folder.rglob("*.png")):
        lake.pipe_file(f"lake/images/{path.relative_to(folder)}", path.read_bytes())
    lake.pipe_file("lake/tars/part-0.tar", tar.read_bytes())
    columns = ["image", "face", "status", "age", "faces"]
    for number, (url, local) in enumerate({"gs://lake/images": folder, "gs://lake/tars/*.tar": tar}.items()):
        tables = []
        for name, source in (("remote", url), ("local", local)):
            job = make_job(source, out=f"{name}-{number}", tasks=["age"])
            worker = ShardWorker(job)
            for shard in shards_to_do(job):
                worker.run(Assignment(shard=shard))
            assert not verify_batch(job.folder)
            tables.append(read_results(job.folder, "all").to_table(columns=columns))
        assert tables[0].equals(tables[1]) and tables[0].num_rows > 3, url
    images = [sample.image for sample in read_tar_shards("gs://lake/tars", "part")]
    assert [image.read() for image in images] == [one.image.read() for one in read_tar_shards(tar)]
