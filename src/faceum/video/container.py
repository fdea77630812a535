"""Read frames from video files by PyAV: times, broken packets, and the section to read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from faceum.errors import FaceumError
from faceum.extras import missing
from faceum.video.convert import deinterlace, to_rgb
from faceum.video.frames import Section, SourceFrame

LOG = logging.getLogger("faceum")

RATE_IF_UNKNOWN = 25.0

FILE_FORMATS = "mov,matroska,webm,avi,mpeg,mpegvideo,mpegts,ogg,flv,asf,m4v,h264,hevc,mjpeg,gif"
"""FFmpeg's readers for bytes of strangers: those that open no other file or address, as playlists do."""


def load_av() -> Any:
    """Return the module `av`; raises FaceumError if it is not installed."""
    try:
        import av
    except ModuleNotFoundError:
        raise FaceumError(missing("Reading video", "av")) from None
    return av


class FileVideo:
    """A video file in any format that PyAV's FFmpeg reads."""

    live = False

    def __init__(self, file: Path | BinaryIO, *, max_pixels: int | None = None) -> None:
        """file: a path, or an open file, of which `FILE_FORMATS` are read. max_pixels: of a frame.

        Raises FaceumError if the file is missing, cannot be read, has no video stream, or larger frames.
        """
        self.name = str(file) if isinstance(file, Path) else "The video"
        self.problems: list[str] = []
        self._av = load_av()
        if isinstance(file, Path):
            if not file.exists():
                raise FaceumError(f"There is no file {file}; check the path.")
            self._container = open_container(self._av, self.name)
        else:
            options = {"format_whitelist": FILE_FORMATS, "protocol_whitelist": "none"}
            self._container = open_container(self._av, self.name, file=file, options=options)
        stream = video_stream(self._container, self.name)
        width, height = stream.codec_context.width, stream.codec_context.height
        if max_pixels is not None and width * height > max_pixels:
            self._container.close()
            raise FaceumError(
                f"{self.name} has {width} x {height} pixels; give one with at most {max_pixels} a frame."
            )
        stream.thread_type = "AUTO"
        self.rate = rate_of(stream)
        duration = self._container.duration
        self.duration = None if duration is None else duration / 1e6
        self.has_audio = bool(self._container.streams.audio)

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """See `Video.frames`."""
        decoder = Decoder(self._av, self._container, self.rate)
        count = 0
        try:
            if section.start:
                decoder.seek(section.start)
            for frame in section.frames(decoder.images()):
                count += 1
                yield frame
        finally:
            self._container.close()
            if decoder.broken:
                self.problems.append(f"{self.name}: broken packets or frames, left out: {decoder.broken}.")
        if not count and section.start and self.duration is not None:
            raise FaceumError(
                f"{self.name} has no frame from {section.start:g} s on; it lasts {self.duration:g} s."
            )
        if not count:
            raise FaceumError(f"{self.name} has no frame that can be decoded; check that it plays.")
        self.problems += section.missing(self.name, frame.time, self.duration)


class Decoder:
    """Decodes the first video stream of a container into upright RGB images with their times.

    broken: packets and frames that could not be decoded and were left out.
    """

    def __init__(self, av: Any, container: Any, rate: float) -> None:
        """av: the module. container: an opened one. rate: frames a second, for frames without a time."""
        self._av = av
        self._container = container
        self._stream = container.streams.video[0]
        self._rate = rate
        self._began = float((self._stream.start_time or 0) * self._stream.time_base)
        self.broken = 0

    def seek(self, seconds: float) -> None:
        """Go to the last key frame before a time; a file that cannot seek is read from its start."""
        target = int((seconds + self._began) / self._stream.time_base)
        try:
            self._container.seek(target, stream=self._stream, backward=True)
        except self._av.error.FFmpegError as error:
            LOG.info("%s cannot seek (%s); it is read from the start", self._container.name, error)

    def images(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the time in seconds and the upright RGB image (H, W, 3) of each frame.

        Times rise: a frame without a time, or whose time does not rise, comes one frame after the previous.
        """
        last = -1 / self._rate
        for frame, rotation in deinterlace(self._av, self._decoded()):
            seconds = None if frame.time is None else frame.time - self._began
            if seconds is None or seconds <= last:
                seconds = last + 1 / self._rate
            last = seconds
            yield seconds, to_rgb(self._av, frame, rotation)

    def _decoded(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.error.EOFError:
                return
            except self._av.error.ExitError:  # the time-out of a stream
                raise
            except self._av.error.FFmpegError:  # the file ends in the middle, or its index is broken
                self.broken += 1
                return
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.broken += 1
                else:
                    yield frame


def open_container(av: Any, name: str, *, file: BinaryIO | None = None, **options: Any) -> Any:
    """Open a container for reading, by its name or from an open file; raises FaceumError if FFmpeg cannot."""
    try:
        return av.open(name if file is None else file, metadata_errors="replace", **options)
    except av.error.FFmpegError as error:
        raise FaceumError(
            f"{name} cannot be read as a video ({error.strerror or error}); check that it plays."
        ) from None


def video_stream(container: Any, name: str) -> Any:
    """Return the first video stream; raises FaceumError if there is none."""
    if not container.streams.video or not container.streams.video[0].codec_context:
        container.close()
        raise FaceumError(f"{name} has no video stream that can be decoded; give a file with one.")
    return container.streams.video[0]


def rate_of(stream: Any) -> float:
    """Return the frames a second that a stream states."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate and 0.01 < rate < 1000 else RATE_IF_UNKNOWN
