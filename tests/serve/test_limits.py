"""Limits: bytes, pixels, images, faces, time, places in the queue, and what stays in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.fakes import FakeAnalyzer, encoded

from faceum.results import Result
from faceum.serve.batching import Batcher, Options
from faceum.serve.problems import Problem


async def in_pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """A body in pieces, so that its length is not announced."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def stalled() -> AsyncIterator[bytes]:
    """A body that never ends."""
    yield b"\x89PNG"
    await asyncio.sleep(60)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def test_each_limit_has_its_code(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        long = encoded(1) + bytes(3000)
        assert refusal(await client.post("/v1/analyze", content=long)) == (413, "too_large")
        assert refusal(await client.post("/v1/analyze", content=in_pieces(long))) == (413, "too_large")
        wide = encoded(1, (60, 60))
        assert refusal(await client.post("/v1/analyze", content=wide)) == (422, "too_many_pixels")
        three = [("images", encoded(1))] * 3
        assert refusal(await client.post("/v1/analyze", files=three)) == (400, "too_many_images")
        assert refusal(await client.post("/v1/analyze", content=stalled())) == (408, "upload_too_slow")
        many = await client.post("/v1/analyze", content=encoded(9))
        assert len(many.json()["results"][0]["faces"]) == 4

    serve(test, max_bytes=2000, max_pixels=3000, max_images=2, max_faces=4, upload_time=0.5)


def test_bodies_together_are_bounded(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        analyzer.gate.clear()
        first = asyncio.create_task(client.post("/v1/analyze", content=encoded(1) + bytes(900)))
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        answer = await client.post("/v1/analyze", content=encoded(1) + bytes(900))
        assert refusal(answer) == (503, "busy") and answer.headers["retry-after"]
        analyzer.gate.set()
        assert (await first).status_code == 200
        assert (await client.post("/v1/analyze", content=encoded(1) + bytes(900))).status_code == 200

    serve(test, max_buffered=1500)


def test_full_queue_says_when_to_come_back(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        analyzer.gate.clear()
        posts = [asyncio.create_task(client.post("/v1/analyze", content=encoded(1)))]
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        posts += [asyncio.create_task(client.post("/v1/analyze", content=encoded(1))) for _ in range(5)]
        done, _ = await asyncio.wait(posts, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result() for task in done]
        assert {refusal(answer) for answer in refused} == {(503, "busy")}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        analyzer.gate.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*posts)]
        assert sorted(statuses) == [200, 200, 200, 503, 503, 503]

    serve(test, queue=2, max_images=2)


def test_waiting_images_form_one_batch(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        analyzer.gate.clear()
        posts = [asyncio.create_task(client.post("/v1/analyze", content=encoded(1)))]
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        posts += [asyncio.create_task(client.post("/v1/analyze", content=encoded(n))) for n in (2, 3, 4)]
        await asyncio.sleep(0.3)
        analyzer.gate.set()
        answers = await asyncio.gather(*posts)
        assert [len(answer.json()["results"][0]["faces"]) for answer in answers] == [1, 2, 3, 4]
        assert [size for size, _ in analyzer.calls] == [1, 3]

    serve(test)


def test_images_that_wait_too_long_are_refused(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        analyzer.gate.clear()
        first = asyncio.create_task(client.post("/v1/analyze", content=encoded(1)))
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(client.post("/v1/analyze", content=encoded(1)))
        await asyncio.sleep(0.4)
        analyzer.gate.set()
        assert (await first).status_code == 200
        assert refusal(await second) == (503, "deadline")

    serve(test, deadline=0.2)


def test_client_that_goes_away_frees_its_places(analyzer: FakeAnalyzer) -> None:
    async def test() -> None:
        batcher = Batcher(analyzer, places=2)
        analyzer.gate.clear()
        first = asyncio.create_task(batcher.analyze([encoded(1)], Options()))
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(batcher.analyze([encoded(1)] * 2, Options()))
        await asyncio.sleep(0.05)
        with pytest.raises(Problem):
            await batcher.analyze([encoded(1)], Options())
        second.cancel()
        await asyncio.wait([second])
        assert batcher.waiting == 0
        analyzer.gate.set()
        assert len(await batcher.analyze([encoded(3)], Options())) == 1
        await first
        await asyncio.to_thread(batcher.close)
        assert [size for size, _ in analyzer.calls] == [1, 1]

    asyncio.run(asyncio.wait_for(test(), 30))


def test_failure_costs_its_own_batch(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        analyzer.failure = RuntimeError("the network is on fire")
        answer = await client.post("/v1/analyze", content=encoded(1), headers={"x-request-id": "abc"})
        assert refusal(answer) == (500, "internal")
        assert answer.json()["request_id"] == "abc" and "fire" not in answer.text
        analyzer.failure = None
        assert (await client.post("/v1/analyze", content=encoded(1))).status_code == 200

    serve(test)


def test_closing_finishes_what_has_begun(analyzer: FakeAnalyzer) -> None:
    async def test() -> tuple[Any, Any]:
        batcher = Batcher(analyzer)
        analyzer.gate.clear()
        first = asyncio.create_task(batcher.analyze([encoded(1)], Options()))
        while not analyzer.calls:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(batcher.analyze([encoded(1)], Options()))
        await asyncio.sleep(0.05)
        threading.Timer(0.2, analyzer.gate.set).start()
        await asyncio.to_thread(batcher.close)
        return (await asyncio.gather(first, second, return_exceptions=True))[:2]

    first, second = asyncio.run(asyncio.wait_for(test(), 30))
    assert isinstance(first[0], Result)
    assert isinstance(second, Problem) and second.code == "not_ready"


def test_uploads_are_never_written_to_disk(
    serve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import tempfile

    opened: list[Any] = []
    real = builtins.open

    def watched(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            opened.append(file)
        return real(file, mode, *args, **more)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(builtins, "open", watched)
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, lambda *_, name=name, **__: pytest.fail(f"{name} was used"))

    async def test(client: httpx.AsyncClient) -> None:
        large = encoded(1) + bytes(3_000_000)  # more than what form parsers usually keep in memory
        for given in ({"files": {"images": large}}, {"content": large}):
            assert (await client.post("/v1/analyze", **given)).status_code == 200

    serve(test)
    assert not opened and not list(tmp_path.iterdir())


def test_uploads_are_not_logged(serve: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        await client.post("/v1/analyze?tasks=age", files={"images": ("secret-name.png", encoded(1))})
        await client.get("/v1/people/Secret%20Person")

    with caplog.at_level("DEBUG", "faceum"):
        serve(test)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("faceum")]
    assert any("/v1/analyze 200" in line for line in lines)
    assert not [line for line in lines if "secret" in line.lower()]
