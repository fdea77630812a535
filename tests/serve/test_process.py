"""A server that really listens: the client, slow and vanishing clients, many idle ones, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.serve.fakes import FakeAnalyzer, encoded, make_face
from tests.serve.running import Running, until

from faceum.client import Client, ServerError
from faceum.serve import process
from faceum.serve.keys import KeyRing, new_key, read_keys


@pytest.fixture
def running(analyzer: FakeAnalyzer) -> Iterator[Running]:
    """A server without keys."""
    server = Running(analyzer, KeyRing([]))
    yield server
    analyzer.gate.set()
    server.stop()


def test_client_returns_the_packages_records(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "group.png"
    path.write_bytes(encoded(2))
    client = Client(running.url)
    assert client.is_ready() and client.models()["model"] == "compact"
    result = client.analyze(path)
    assert result.source == "group.png" and list(result) == [make_face(0), make_face(1)]
    first, second = client.analyze_many([encoded(0), encoded(3)], tasks=["age"], max_faces=2)
    assert len(first) == 0 and len(second) == 2 and second[0].landmarks is None
    with pytest.raises(ServerError) as caught:
        client.analyze(b"hello")
    assert (caught.value.status, caught.value.code) == (415, "not_an_image")
    assert caught.value.request_id
    with pytest.raises(ServerError) as caught:
        client.people()
    assert caught.value.code == "not_found"


def test_client_says_that_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert not Client(url).is_ready()
    with pytest.raises(ServerError, match="cannot be reached"):
        Client(url).models()


def test_client_sends_its_key(analyzer: FakeAnalyzer) -> None:
    key, line = new_key("lab")
    server = Running(analyzer, KeyRing(read_keys(None, line)))
    try:
        assert len(Client(server.url, key).analyze(encoded(1))) == 1
        with pytest.raises(ServerError) as caught:
            Client(server.url).analyze(encoded(1))
        assert caught.value.status == 401
    finally:
        server.stop()


def test_head_that_does_not_arrive_closes_the_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "OPENING_TIME", 0.3)
    for start in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"):
        with running.connect() as connection:
            connection.sendall(start)
            received = b""
            if start.endswith(b"\r\n\r\n"):  # answered, then the next head hangs
                received = connection.recv(65536)
                connection.sendall(b"GET /hea")
            while piece := connection.recv(65536):
                received += piece
            assert b"200 OK" in received or not received


def test_idle_connections_do_not_hinder(running: Running) -> None:
    idle = [running.connect() for _ in range(200)]
    assert len(Client(running.url).analyze(encoded(1))) == 1
    for connection in idle:
        connection.close()


def test_client_that_hangs_up_frees_its_place(running: Running, analyzer: FakeAnalyzer) -> None:
    batcher = running.app.state.service.batcher
    analyzer.gate.clear()
    body = encoded(1)
    head = f"POST /v1/analyze HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    first, second = running.connect(), running.connect()
    first.sendall(head + body)
    until(lambda: len(analyzer.calls) == 1)
    second.sendall(head + body)
    until(lambda: batcher.waiting == 1)
    second.close()
    until(lambda: batcher.waiting == 0)
    analyzer.gate.set()
    assert b"200 OK" in first.recv(65536)
    first.close()
    assert running.app.state.service.buffers.held == 0


def test_requests_that_have_begun_end_before_the_server(analyzer: FakeAnalyzer) -> None:
    server = Running(analyzer, KeyRing([]))
    analyzer.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(Client(server.url).analyze, encoded(2))
        until(lambda: len(analyzer.calls) == 1)
        server.server.should_exit = True
        until(lambda: not server.server.servers or not server.server.servers[0].is_serving())
        analyzer.gate.set()
        assert len(answer.result(60)) == 2
    server.stop()
    assert not Client(server.url).is_ready()


def run_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `faceum serve` with options that end it at once."""
    command = [sys.executable, "-m", "faceum", "serve", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.slow
def test_command_checks_its_settings(tmp_path: Path) -> None:
    done = run_command("--check")
    assert done.returncode == 0 and "http://127.0.0.1:8000/" in done.stdout
    done = run_command("--check", "--host", "0.0.0.0")
    assert done.returncode == 2 and "--allow-anonymous" in done.stderr
    done = run_command("--new-key", "lab")
    assert done.returncode == 0 and read_keys(None, done.stdout)[0].name == "lab"
    assert run_command("--check", "--host", "0.0.0.0", FACEUM_KEYS=done.stdout).returncode == 0
    assert run_command("--check", "--model", "no-such-model").returncode == 2
    assert run_command("--check", "--gallery", str(tmp_path / "no" / "people.sqlite")).returncode == 2
    (tmp_path / "other.sqlite").write_text("no gallery", encoding="utf-8")
    done = run_command("--check", "--gallery", str(tmp_path / "other.sqlite"))
    assert done.returncode == 2 and "other.sqlite" in done.stderr
    done = run_command("--check", "--recognizer", str(tmp_path / "no.onnx"))
    assert done.returncode == 2 and "no.onnx" in done.stderr
    # An address that is kept for documentation, so no machine has it.
    done = run_command("--check", "--host", "192.0.2.1", "--allow-anonymous")
    assert done.returncode == 2 and "192.0.2.1" in done.stderr


@pytest.mark.slow
def test_two_processes_share_metrics_and_gallery_and_leave_no_file(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "faceum", "serve", "--port", str(port), "--workers", "2"]
    command += ["--gallery", str(tmp_path / "people.sqlite"), "--threads", "1"]
    child: Any = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.DEVNULL
    )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        until(client.is_ready, 240)
        portrait = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"
        assert client.enroll("Eileen", [portrait])[0].added
        assert [(one.name, one.samples) for one in client.people()] == [("Eileen", 1)]
        ((i, j, match),) = client.compare(portrait, portrait, fmr=0.01)
        assert (i, j, match.same, match.fmr) == (0, 0, True, 0.01) and str(match).startswith("Same person")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: client.search(portrait), range(8)))
        assert {faces[0].name for faces in found} == {"Eileen"}
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert 'faceum_requests_total{path="/v1/search",status="200"} 8.0' in text
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(90) == 0
    assert not list(temporary.iterdir()), json.dumps([str(path) for path in temporary.iterdir()])
