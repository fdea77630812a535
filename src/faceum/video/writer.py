"""Write a video with the audio of its source copied: H.264 where PyAV's FFmpeg has it, else MPEG-4."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.errors import OutputError
from faceum.files import whole_file
from faceum.video.container import load_av

TIME_BASE = Fraction(1, 60000)
"""Fine enough for 24, 25, 30 and 60 frames a second and for their thousandths less."""

CODECS = {"libx264": {"preset": "veryfast", "crf": "20"}, "libopenh264": {}, "mpeg4": {"q:v": "4"}}
"""Encoder -> its options, best first."""

SUFFIXES = (".mp4", ".mov", ".mkv")

BT709 = 1
"""FFmpeg's number of BT.709, for matrix, primaries and transfer alike."""


class VideoWriter:
    """Writes frames with their own times, and the audio that belongs to them.

    problems: sentences about what could not be kept. The file appears under its name when it is closed.
    """

    def __init__(self, path: Path, *, rate: float, audio_from: str | None = None) -> None:
        """Begin a file.

        path: ends in .mp4, .mov or .mkv. rate: frames a second, as a hint to the encoder. audio_from: the
        file whose first audio stream is copied. Raises OutputError if the file cannot be written.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise OutputError(
                f"A video is written as {', '.join(SUFFIXES)}, got {path.name}; choose one of these."
            )
        self._av = load_av()
        self.problems: list[str] = []
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(path))
        self._container = self._av.open(str(temporary), "w")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._audio_from = audio_from
        self._audio: _AudioCopy | None = None
        self._began = 0.0
        self._last = -1

    def write(self, image: np.ndarray, time: float) -> None:
        """Append a frame (H, W, 3) at a time in seconds; the first one gives the size and the time zero."""
        height, width = image.shape[:2]
        if self._stream is None:
            self._begin(height + height % 2, width + width % 2, time)
        size = (self._stream.width, self._stream.height)
        if (width + width % 2, height + height % 2) != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        elif height % 2 or width % 2:  # the usual pixel format has chroma for pairs of pixels only
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.time_base = TIME_BASE
        frame.pts = max(round((time - self._began) / TIME_BASE), self._last + 1)
        self._last = frame.pts
        self._container.mux(self._stream.encode(frame))
        if self._audio is not None:
            self._audio.copy_until(time - self._began)

    def close(self) -> None:
        """Finish the file; without any frame none is left."""
        if self._stream is None:
            self._container.close()
            self._stack.__exit__(OutputError, OutputError("no frame"), None)
            return
        self._container.mux(self._stream.encode(None))
        if self._audio is not None:
            self._audio.copy_until(float(self._last * TIME_BASE + 1 / self._rate))
            self._audio.close()
        self._container.close()
        self._stack.close()

    def _begin(self, height: int, width: int, time: float) -> None:
        codec = next(name for name in CODECS if _can_encode(self._av, name))
        if codec == "mpeg4":
            self.problems.append("This FFmpeg has no H.264 encoder; the video is written as MPEG-4.")
        stream = self._container.add_stream(codec, rate=self._rate, options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.colorspace = context.color_primaries = context.color_trc = BT709
        self._stream, self._began = stream, time
        if self._audio_from is not None:
            self._audio = _AudioCopy(self._av, self._audio_from, self._container, time)
            if self._audio.problem is not None:
                self.problems.append(self._audio.problem)


class _AudioCopy:
    """Copies the packets of a file's first audio stream."""

    def __init__(self, av: Any, source: str, output: Any, start: float) -> None:
        self.problem: str | None = None
        self._output = output
        self._packets: Any = iter(())
        self._waiting: Any = None
        self._input = av.open(source, metadata_errors="replace")
        if not self._input.streams.audio:
            return
        stream = self._input.streams.audio[0]
        try:
            self._copy = output.add_stream_from_template(stream)
        except (ValueError, av.error.FFmpegError) as error:
            self.problem = (
                f"The audio ({stream.codec_context.name}) cannot be copied into this file: {error}."
            )
            return
        base = stream.time_base
        video = self._input.streams.video[0]
        began = float((video.start_time or 0) * video.time_base) + start
        self._shift = round(began / base)
        if start > 0:
            self._input.seek(self._shift, stream=stream, backward=True)
        self._packets = (packet for packet in self._input.demux(stream) if packet.dts is not None)

    def copy_until(self, seconds: float) -> None:
        """Copy what belongs before a time of the output."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            packet = self._waiting
            if packet is None or (packet.pts - self._shift) * packet.time_base > seconds:
                return
            self._waiting = None
            if packet.pts < self._shift:
                continue
            packet.pts, packet.dts = packet.pts - self._shift, packet.dts - self._shift
            packet.stream = self._copy
            self._output.mux(packet)

    def close(self) -> None:
        self._input.close()


def _can_encode(av: Any, name: str) -> bool:
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True
