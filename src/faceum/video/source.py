"""Open a video file, a folder of frames, a camera or a stream as frames with their times."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from faceum.errors import FaceumError
from faceum.image import read_image
from faceum.image.header import is_image_name
from faceum.video.frames import Section, SourceFrame, Video

FOLDER_RATE = 25.0
"""Frames a second of a folder of images, which has no times of its own."""

VideoInput = str | Path | int | Iterable[np.ndarray]
"""What a video is given as: a path, a folder, a camera's number, an address, or RGB arrays (H, W, 3)."""


def open_video(source: VideoInput) -> Video:
    """Open a video by what it is given as; see `VideoInput`. A number, also as text, is a camera.

    Raises FaceumError if it cannot be opened or has no frames, or if PyAV is needed and not installed.
    """
    if isinstance(source, str) and re.fullmatch(r"\d+", source):
        source = int(source)
    if isinstance(source, int):
        return Camera(source)
    if isinstance(source, str) and re.match(r"\w{2,}://", source):
        from faceum.video.stream import StreamVideo

        return StreamVideo(source)
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            return FolderVideo(path)
        from faceum.video.container import FileVideo

        return FileVideo(path)
    return ArraysVideo(source)


class ArraysVideo:
    """RGB arrays in memory or from a generator, at `FOLDER_RATE` frames a second."""

    name, rate, live = "frames", FOLDER_RATE, False
    duration: float | None = None

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        """images: (H, W, 3) uint8 RGB each."""
        self._images = images
        self.problems: list[str] = []

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """See `Video.frames`."""
        yield from section.frames((i / self.rate, read_image(image)) for i, image in enumerate(self._images))


class FolderVideo:
    """A folder whose images are frames, in the order of their names; numbers in names count as numbers."""

    rate, live = FOLDER_RATE, False

    def __init__(self, folder: Path) -> None:
        """Raises FaceumError if the folder holds no image."""
        self.name = str(folder)
        self.problems: list[str] = []
        names = [path for path in folder.iterdir() if is_image_name(path) and not path.name.startswith(".")]
        self._paths = sorted(names, key=_by_numbers)
        if not self._paths:
            raise FaceumError(f"The folder {folder} holds no image; give one that holds frames of a video.")
        self.duration: float | None = len(self._paths) / self.rate

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """See `Video.frames`; an image that cannot be read is left out, and its time passes."""
        yield from section.frames(self._images())
        if len(self.problems) == len(self._paths):
            raise FaceumError(f"No image in {self.name} can be read: {self.problems[0]}")

    def _images(self) -> Iterator[tuple[float, np.ndarray]]:
        for number, path in enumerate(self._paths):
            try:
                yield number / self.rate, read_image(path)
            except FaceumError as error:
                self.problems.append(str(error))


class Camera:
    """A camera of this machine by its number, through OpenCV; times are those of arrival."""

    live = True
    duration: float | None = None

    def __init__(self, number: int) -> None:
        """Raises FaceumError if there is no such camera."""
        self.name = f"camera {number}"
        self.problems: list[str] = []
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise FaceumError(f"Camera {number} cannot be opened; check its number and who may use it.")
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """See `Video.frames`."""
        try:
            yield from section.frames(self._images())
        finally:
            self._capture.release()

    def _images(self) -> Iterator[tuple[float, np.ndarray]]:
        began = time.monotonic()
        while True:
            got, image = self._capture.read()
            if not got:
                self.problems.append(f"{self.name} sends no more frames.")
                return
            yield time.monotonic() - began, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """Return a sort key in which frame2 comes before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
