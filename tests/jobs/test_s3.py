"""Batches from an S3 server on loopback, behind a proxy that is slow, refuses, and cuts answers short."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.jobs.faults import Faults

from faceum.errors import DataError
from faceum.jobs.batch import shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


def make_proxy(port: int, faults: Faults) -> ThreadingHTTPServer:
    """A server that passes requests to the port and spoils some of the answers to GET."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            fault = faults.take(urlsplit(self.path).path) if self.command == "GET" else None
            if fault == "503":
                self.send_error(503, "Slow Down")
                return
            if fault == "slow":
                time.sleep(0.3)
            inner = http.client.HTTPConnection("127.0.0.1", port)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            inner.request(self.command, self.path, body, dict(self.headers))
            answer = inner.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
            if fault == "cut":
                self.wfile.flush()
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Proxy)


@pytest.fixture
def faults(use_s3_at: Callable[[str], None]) -> Iterator[Faults]:
    """An S3 server that s3:// means, and the faults of the proxy before it."""
    inner = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    inner.start()
    faults = Faults()
    proxy = make_proxy(inner.get_host_and_port()[1], faults)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    use_s3_at(f"http://127.0.0.1:{proxy.server_address[1]}")
    yield faults
    proxy.shutdown()
    proxy.server_close()
    inner.stop()


def run(job: Job) -> None:
    """Do all that is to be done, in this process."""
    worker = ShardWorker(job)
    for shard in shards_to_do(job):
        worker.run(Assignment(shard=shard))


def test_faults_of_a_store_change_no_result(
    faults: Faults, make_job: Callable[..., Job], folder: Path, tar: Path, parquet: Path
) -> None:
    store = s3fs.S3FileSystem()
    store.mkdir("lake")
    names = [f"lake/images/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.png"))]
    for name in names:
        store.put_file(str(folder / name.removeprefix("lake/images/")), name)
    store.put_file(str(tar), "lake/tars/part-0.tar")
    store.put_file(str(parquet), "lake/images.parquet")
    s3fs.S3FileSystem.clear_instance_cache()

    sources = {"s3://lake/images": folder, "s3://lake/tars/*.tar": tar, "s3://lake/images.parquet": parquet}
    jobs = {url: make_job(url, out=f"remote-{n}", tasks=["age"]) for n, url in enumerate(sources)}
    faults.planned = {
        "00.png": ("503", 2), "02.png": ("cut", 8), "03.png": ("slow", 1), "04.png": ("cut", 1),
        "part-0.tar": ("cut", 8), "images.parquet": ("503", 3),
    }  # fmt: skip
    for number, (url, job) in enumerate(jobs.items()):
        run(job)
        assert not verify_batch(job.folder), url
        local = make_job(sources[url], out=f"local-{number}", tasks=["age"])
        run(local)
        one, other = (
            read_results(of.folder, "all").to_table(columns=["image", "face", "status", "age", "faces"])
            for of in (job, local)
        )
        assert one.equals(other), url
    assert faults.happened == {"503": 5, "cut": 17, "slow": 1}, "every fault took place"
    first = read_results(jobs["s3://lake/images"].folder, "images").to_table()["source"].to_pylist()
    assert first == [f"s3://{name}" for name in names]


def test_what_a_store_lacks_is_a_row_or_a_sentence(
    faults: Faults, make_job: Callable[..., Job], folder: Path, tmp_path: Path
) -> None:
    store = s3fs.S3FileSystem()
    store.mkdir("pond")
    store.put_file(str(folder / "0" / "00.png"), "pond/00.png")
    (tmp_path / "list.txt").write_text("s3://pond/00.png\ns3://pond/later.png\n")
    job = make_job(tmp_path / "list.txt", tasks=["age"])
    run(job)
    rows = read_results(job.folder, "images").to_table().to_pylist()
    assert [row["status"] for row in rows] == ["ok", "unread"]
    assert rows[1]["error"].startswith("s3://pond/later.png cannot be read")
    store.put_file(str(folder / "0" / "02.png"), "pond/later.png")
    run(job)
    assert read_results(job.folder, "images").to_table()["status"].to_pylist() == ["ok", "ok"]
    with pytest.raises(DataError, match="s3://pond/nothing does not exist, or it is empty"):
        make_job("s3://pond/nothing", out="other")
