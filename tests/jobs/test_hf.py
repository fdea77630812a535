"""hf:// from a server on loopback with the part of the Hub's API that is read, and with its faults."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from tests.jobs.faults import Faults

from faceum.datasets.tar_shards import read_tar_shards
from faceum.jobs.batch import shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("huggingface_hub") is None,
        reason="needs the extra hf",
    ),
]

REPO, PAGE = "lab/lake", 3
"""The data set that the hub has, and the entries in a page of a listing."""

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(Faults):
    """Files of one data set, and the faults of the server."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.url = ""

    def entries(self, folder: str) -> list[dict[str, object]]:
        """Return what the API says about the files and folders in a folder."""
        start = f"{folder}/" if folder else ""
        found: dict[str, dict[str, object]] = {}
        for path in sorted(self.files):
            if path.startswith(start):
                first, deeper, _ = path[len(start) :].partition("/")
                found.setdefault(start + first, self.entry(start + first, is_folder=bool(deeper)))
        return list(found.values())

    def entry(self, path: str, *, is_folder: bool) -> dict[str, object]:
        """Return what the API says about a file or folder."""
        oid = hashlib.sha1(path.encode()).hexdigest()
        if is_folder:
            return {"type": "directory", "oid": oid, "size": 0, "path": path}
        return {"type": "file", "oid": oid, "size": len(self.files[path]), "path": path}


class Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does: information about a repository, trees in pages, and files with ranges."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        fault = self.hub.take(path)
        if fault is not None and fault != "cut":
            self.answer(int(fault), b"", {"Retry-After": "0"} if fault == "429" else {})
        elif path.startswith(f"/api/datasets/{REPO}/tree/main"):
            self.tree(path.removeprefix(f"/api/datasets/{REPO}/tree/main").strip("/"), address.query)
        elif path in (f"/api/datasets/{REPO}", f"/api/datasets/{REPO}/revision/main"):
            self.hub.asked["repository"] += 1
            self.answer(200, json.dumps({"id": REPO, "sha": SHA, "siblings": []}).encode())
        elif path.startswith(f"/datasets/{REPO}/resolve/main/"):
            self.file(path.removeprefix(f"/datasets/{REPO}/resolve/main/"), cut=fault == "cut")
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answer about single paths."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        paths = [value for name, value in parse_qsl(body) if name == "paths"]
        self.hub.asked["paths-info"] += 1
        entries = [one for path in paths for one in self.hub.entries(path.rpartition("/")[0])]
        found = [one for one in entries if one["path"] in paths]
        self.answer(200, json.dumps(found).encode())

    def tree(self, folder: str, query: str) -> None:
        entries = self.hub.entries(folder)
        if not entries:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        first = int(parse_qs(query).get("cursor", ["0"])[0])
        headers = {}
        if first + PAGE < len(entries):
            address = f"{self.hub.url}{urlsplit(self.path).path}?cursor={first + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
            self.hub.asked["further page"] += 1
        self.answer(200, json.dumps(entries[first : first + PAGE]).encode(), headers)

    def file(self, name: str, *, cut: bool) -> None:
        data = self.hub.files.get(name)
        if data is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": SHA,
        }
        asked = self.headers.get("Range")
        if asked is None:
            self.answer(200, data, headers, cut=cut)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
        self.hub.asked["range"] += 1
        if start >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self.answer(206, data[start:stop], headers, cut=cut)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        """Send an answer; cut: close the connection after half of the body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub(folder: Path, tar: Path, parquet: Path) -> Iterator[Hub]:
    """A server with the images of `folder`, the tar shard and the Parquet file in one data set."""
    made = Hub()
    for path in sorted(folder.rglob("*.*")):
        made.files[f"images/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    made.files["tars/part-0.tar"] = tar.read_bytes()
    made.files["images.parquet"] = parquet.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": made}))
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def run_python(hub: Hub, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the hub as HF_ENDPOINT, which huggingface_hub reads when it is imported."""
    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH")])
    )
    own = {"PYTHONPATH": path, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)


def run_batch(hub: Hub, model: Path, source: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Run `faceum batch` with two workers, so that planning and reading happen in different processes."""
    options = ["--images-per-shard", "4", "--tasks", "age", "--model", model.with_suffix(".onnx")]
    more = ["--workers", "2", "--threads", "1", "--device", "cpu", "--max-failures", "0.5"]
    return run_python(hub, "-m", "faceum", "batch", source, "--out", out, *options, *more)


def test_faults_of_the_hub_change_no_result(
    hub: Hub,
    make_job: Callable[..., Job],
    folder: Path,
    tar: Path,
    parquet: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    place = f"hf://datasets/{REPO}"
    sources = {f"{place}/images": folder, f"{place}@main/tars/*.tar": tar, f"{place}/images.parquet": parquet}
    hub.planned = {
        "/revision/main": ("503", 1), "/tree/main/images/1": ("429", 1), "images/0/00.png": ("503", 1),
        "0/02.png": ("cut", 3), "1/03.png": ("cut", 1), "part-0.tar": ("cut", 1),
        "images.parquet": ("429", 1),
    }  # fmt: skip
    columns = ["image", "face", "status", "age", "faces"]
    for number, (url, here) in enumerate(sources.items()):
        out = tmp_path / f"remote-{number}"
        done = run_batch(hub, tiny_model, url, out)
        assert done.returncode == 0, done.stderr
        assert not verify_batch(out), url
        job = make_job(here, out=f"local-{number}", tasks=["age"])
        worker = ShardWorker(job)
        for shard in shards_to_do(job):
            worker.run(Assignment(shard=shard))
        tables = [read_results(of, "all").to_table(columns=columns) for of in (out, job.folder)]
        assert tables[0].equals(tables[1]), url
    assert hub.happened == {"503": 2, "429": 2, "cut": 5}, "every fault took place"
    assert hub.asked["further page"] and hub.asked["range"]
    first = read_results(tmp_path / "remote-0", "images").to_table()["source"].to_pylist()
    assert first == [f"{place}/images/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.png"))]


def test_what_the_hub_lacks_or_refuses_is_one_sentence(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """A folder that cannot be listed must not be left out in silence."""
    hub.planned = {"/tree/main/images/1": ("403", 99)}
    for source, sentence in {
        f"hf://datasets/{REPO}/images": "cannot be listed",
        f"hf://datasets/{REPO}/nothing": "does not exist, or it is empty",
        "hf://datasets/lab/pond": "does not exist, or it is empty",
    }.items():
        done = run_batch(hub, tiny_model, source, tmp_path / "out")
        assert done.returncode == 2 and sentence in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / "out" / "manifest.json").exists()


def test_tar_shards_of_the_hub_are_those_of_the_disk(hub: Hub, tar: Path) -> None:
    hub.planned = {"part-0.tar": ("cut", 2), f"/api/datasets/{REPO}": ("503", 1)}
    script = (
        "import hashlib, sys\nfrom faceum.datasets.tar_shards import read_tar_shards\n"
        "for sample in read_tar_shards(sys.argv[1], 'part'):\n"
        "    print(sample.id, hashlib.sha256(sample.image.read()).hexdigest())\n"
    )
    done = run_python(hub, "-c", script, f"hf://datasets/{REPO}/tars")
    expected = [
        f"{sample.id} {hashlib.sha256(sample.image.read()).hexdigest()}" for sample in read_tar_shards(tar)
    ]
    assert done.stdout.splitlines() == expected and len(expected) == 3, done.stderr
    assert hub.happened == {"cut": 2, "503": 1} and hub.asked["range"]
