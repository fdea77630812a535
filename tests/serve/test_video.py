"""The route for videos: people and timeline of a drawn clip, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from tests.serve.fakes import encode_clip
from tests.video.conftest import FakeAnalyzer, Scene

pytest.importorskip("av", reason="PyAV is not installed")


class VideoAnalyzer(FakeAnalyzer):
    """Finds the squares of a `Scene`, and lets a server start.

    gate: set while it may look. looking: set once it has begun.
    """

    tasks = ("recognition", "age", "expression", "landmarks")

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.looking = threading.Event(), threading.Event()
        self.gate.set()

    def with_options(self, **options: Any) -> VideoAnalyzer:
        """The same, whatever the tasks."""
        return self

    def detect(self, *args: Any, **options: Any) -> list[Any]:
        """Wait for the gate first."""
        self.looking.set()
        assert self.gate.wait(60)
        return super().detect(*args, **options)


@pytest.fixture
def analyzer() -> VideoAnalyzer:
    """The analyzer of the server under test."""
    return VideoAnalyzer()


def two_people() -> bytes:
    """A clip of 40 frames: a red square all the time, a green one from the 20th frame on."""
    scene = Scene()
    return encode_clip(scene.frame((0, 40 + i, 60), (1, 200 - i, 60) if i >= 20 else None) for i in range(40))


def test_people_and_timeline_come_back(serve: Callable[..., Any]) -> None:
    async def test(client: Any) -> None:
        sent = {"content": two_people(), "headers": {"content-type": "video/mp4"}}
        reply = await client.post("/v1/video", **sent)
        assert reply.status_code == 200, reply.text
        values = reply.json()
        assert values["frames"] == 40 and values["problems"] == []
        first, second = values["tracks"]
        assert (first["first"], first["frames"]) == (0.0, 40)
        assert second["first"] == pytest.approx(0.8, abs=0.25)  # detected several times a second
        assert (round(first["age"]["years"]), round(second["age"]["years"])) == (20, 30)
        by_expression = Image.open(io.BytesIO(base64.b64decode(values["timeline"])))
        assert by_expression.format == "PNG" and by_expression.width == 1280
        reply = await client.post("/v1/video?colour_by=age", **sent)
        by_age = Image.open(io.BytesIO(base64.b64decode(reply.json()["timeline"])))
        assert by_age.size == by_expression.size and by_age.tobytes() != by_expression.tobytes()

    serve(test)


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"", "video/mp4", 400, "malformed_body"),
        (b"no video at all" * 100, "video/mp4", 422, "broken_video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "video/mp4", 422, "broken_video"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "video/mp4", 422, "broken_video"),
        (b"x", "text/plain", 415, "not_an_image"),
        (b"x" * 5000, "video/mp4", 413, "too_large"),
    ],
    ids=["empty", "noise", "playlist", "list of files", "text", "too large"],
)
def test_what_is_no_video_is_refused(
    serve: Callable[..., Any], content: bytes, kind: str, status: int, code: str
) -> None:
    async def test(client: Any) -> None:
        reply = await client.post("/v1/video", content=content, headers={"content-type": kind})
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)

    serve(test, max_bytes=4000)


def test_large_frames_are_refused(serve: Callable[..., Any]) -> None:
    async def test(client: Any) -> None:
        reply = await client.post("/v1/video", content=two_people())
        assert reply.status_code == 422
        assert "320 x 180" in reply.json()["error"]["message"]

    serve(test, max_pixels=1000)


def test_a_second_video_is_asked_to_wait(serve: Callable[..., Any], analyzer: VideoAnalyzer) -> None:
    async def test(client: Any) -> None:
        analyzer.gate.clear()
        first = asyncio.ensure_future(client.post("/v1/video", content=two_people()))
        try:
            assert await asyncio.to_thread(analyzer.looking.wait, 30)
            second = await client.post("/v1/video", content=b"x")
            assert second.status_code == 503 and second.json()["error"]["code"] == "busy"
            assert int(second.headers["retry-after"]) > 0
        finally:
            analyzer.gate.set()
        assert (await first).status_code == 200

    serve(test)
