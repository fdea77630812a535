"""Turn PyAV's frames into upright RGB arrays: rotation flags, HDR, interlaced frames."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

LOG = logging.getLogger("faceum")

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""FFmpeg's number of a transfer function with high dynamic range -> its name."""


def to_rgb(av: Any, frame: Any, rotation: int) -> np.ndarray:
    """Return a frame as upright RGB uint8 (H, W, 3).

    rotation: counterclockwise turn in degrees that the file asks for; the nearest quarter turn is done. HDR
    is converted to BT.709 so that its reference white becomes white; 10 and more bits become 8.
    """
    if frame.color_trc in HDR_TRANSFERS:
        frame = _to_sdr(av, frame)
    image = frame.to_ndarray(format="rgb24")
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def deinterlace(av: Any, frames: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Yield each frame with its rotation flag; from the first interlaced frame on, through FFmpeg's bwdif."""
    graph: Any = None
    layout: tuple[Any, ...] = ()
    rotation = 0
    for frame in frames:
        rotation = frame.rotation
        here = (frame.width, frame.height, frame.format.name)
        if graph is not None and here != layout:
            yield from ((one, rotation) for one in _drain(av, graph))
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, layout = make_graph(av, frame, "bwdif", "mode=send_frame:deint=interlaced"), here
        if graph is None:
            yield frame, rotation
            continue
        graph.push(frame)
        yield from ((one, rotation) for one in _pull_all(av, graph))
    if graph is not None:
        yield from ((one, rotation) for one in _drain(av, graph))


def _to_sdr(av: Any, frame: Any) -> Any:
    """Return an HDR frame in BT.709; the frame itself where this FFmpeg (before 8.0) cannot convert it."""
    graph = make_graph(av, frame, "scale", "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709")
    try:
        graph.push(frame)
        return graph.pull()
    except av.error.FFmpegError as error:
        LOG.warning("%s frames are shown without conversion (%s)", HDR_TRANSFERS[frame.color_trc], error)
        return frame


def make_graph(av: Any, frame: Any, name: str, settings: str) -> Any:
    """Return an FFmpeg graph of one filter for frames like this one."""
    graph = av.filter.Graph()
    base = frame.time_base
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":time_base={base.numerator if base else 1}/{base.denominator if base else 90000}",
    )
    step, sink = graph.add(name, settings), graph.add("buffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    return graph


def _pull_all(av: Any, graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _drain(av: Any, graph: Any) -> Iterator[Any]:
    graph.push(None)
    yield from _pull_all(av, graph)
