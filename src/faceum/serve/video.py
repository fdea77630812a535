"""`POST /v1/video`: a short video in, its people and their timeline out."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from faceum.errors import FaceumError
from faceum.extras import is_installed, missing
from faceum.save import encode_drawing_png
from faceum.serve.analyze import TasksQuery, json_response, order_tasks
from faceum.serve.openapi import UPLOAD_PROBLEMS, json_answer, problems, video_body
from faceum.serve.problems import Problem, busy
from faceum.serve.service import Service
from faceum.serve.uploads import Body, or_gone

NEEDED = ("av", "scipy")
"""Modules of the extra `video` that a server may lack."""

MOST_SECONDS = 60.0
"""Seconds of a video that are analyzed, and seconds that the analysis may take; the rest is left out."""

ColourQuery = Annotated[
    Literal["expression", "age"], Query(description="What the colours of the timeline show.")
]


def can_read_video() -> bool:
    """Return whether the extra `video` is installed."""
    return all(map(is_installed, NEEDED))


def video_router(service: Service) -> APIRouter:
    """Return the route; it answers 404 if the server cannot read video. One video is analyzed at a time."""
    router = APIRouter(tags=["images"])
    lock = asyncio.Lock()

    @router.post(
        "/v1/video",
        summary="Follow the people in a short video",
        openapi_extra=video_body(),
        responses={
            200: json_answer("VideoReply", "A summary of each person, and a timeline as PNG in base64."),
            **problems("not_found", *UPLOAD_PROBLEMS, "broken_video", "not_ready"),
        },
        response_class=Response,
    )
    async def video(
        request: Request, tasks: TasksQuery = None, colour_by: ColourQuery = "expression"
    ) -> Response:
        if not can_read_video():
            raise Problem("not_found", f"This server cannot read video: {missing('reading video', 'av')}")
        if service.batcher is None:
            raise busy("not_ready", "The server is not ready.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("video/") and kind != "application/octet-stream":
            raise Problem(
                "not_an_image",
                f"The content type {kind} is not supported; expected video/* with the file's bytes.",
            )
        with Body(request, service.settings, service.buffers) as body:
            content = await body.read()
            if not content:
                raise Problem("malformed_body", "The request holds no video; send the bytes of a file.")
            if lock.locked():
                raise busy("busy", "Another video is being analyzed; try again in some seconds.", 10)
            async with lock:
                gone = threading.Event()
                work = asyncio.to_thread(
                    _summarize, service, content, order_tasks(tasks), colour_by, gone.is_set
                )
                try:
                    values = await or_gone(request, work)
                finally:
                    gone.set()
        return json_response({**values, "request_id": request.state.request_id})

    return router


def _summarize(
    service: Service,
    content: bytes,
    tasks: tuple[str, ...] | None,
    colour_by: str,
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Return the reply's values; stops early if the client is gone."""
    from faceum.video.analyze import analyze_video
    from faceum.video.container import FileVideo
    from faceum.video.draw import draw_timeline
    from faceum.video.summary import TrackCollector

    analyzer = service.analyzer if tasks is None else service.analyzer.with_options(tasks=tasks)
    collector, frames, seconds, late = TrackCollector(), 0, 0.0, time.monotonic() + MOST_SECONDS
    try:
        video = FileVideo(io.BytesIO(content), max_pixels=service.settings.max_pixels)
        left_out = video.duration is None or video.duration > MOST_SECONDS
        for frame in analyze_video(video, analyzer=analyzer, end=MOST_SECONDS, gallery=service.gallery):
            collector.add(frame)
            frames, seconds = frames + 1, frame.time
            if cancelled() or time.monotonic() > late:
                left_out = True
                break
    except FaceumError as error:
        raise Problem("broken_video", str(error)) from None
    tracks = collector.summaries()
    sentences = list(video.problems)
    if left_out:
        sentences.append(
            f"Only the first {seconds:.1f} seconds were analyzed; `faceum video` has no such limit."
        )
    timeline = encode_drawing_png(draw_timeline(tracks, seconds, colour_by=colour_by))
    return {
        "frames": frames,
        "seconds": seconds,
        "tracks": [track.to_dict() for track in tracks],
        "timeline": base64.b64encode(timeline).decode("ascii"),
        "problems": sentences,
    }
