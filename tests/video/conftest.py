"""Small clips, written by PyAV; every test here skips without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes images as a clip: write_clip(images, times=..., name=..., **codec options)."""

    def write(
        images: Iterable[np.ndarray],
        *,
        name: str = "clip.mp4",
        rate: int = 25,
        times: list[float] | None = None,
        pix_fmt: str = "yuv420p",
        codec: str = "mpeg4",
        prepare: Callable[[Any], None] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            for index, image in enumerate(images):
                if index == 0:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                seconds = index / rate if times is None else times[index]
                frame.time_base = stream.codec_context.time_base
                frame.pts = round(seconds / frame.time_base)
                if prepare is not None:
                    prepare(frame)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def gray_images() -> list[np.ndarray]:
    """Ten plain images (48, 64, 3), each brighter than the one before."""
    return [np.full((48, 64, 3), 20 * number + 20, np.uint8) for number in range(10)]
