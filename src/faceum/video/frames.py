"""The frames of a video before they are analyzed, the section to read, and what an opened video offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from faceum.errors import FaceumError


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceFrame:
    """One frame of a video.

    index: its number from 0, counted from where reading starts. time: seconds from the start of the video.
    image: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Section:
    """The part of a video to read: from `start` seconds up to, and without, `end`; None for its end."""

    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not self.start >= 0 or (self.end is not None and not self.end > self.start):
            raise FaceumError(
                f"The section from {self.start} to {self.end} s is empty; give 0 <= start < end, in seconds."
            )

    def frames(self, frames: Iterable[tuple[float, np.ndarray]]) -> Iterator[SourceFrame]:
        """Yield those frames that lie inside, numbered from 0."""
        index = 0
        for seconds, image in frames:
            if self.end is not None and seconds >= self.end:
                return
            if seconds >= self.start - 1e-6:
                yield SourceFrame(index=index, time=seconds, image=image)
                index += 1

    def missing(self, name: str, last: float, duration: float | None) -> list[str]:
        """Return a sentence if the frames of a video of this duration end more than a second too early.

        last: the time of the last frame that could be read.
        """
        end = min(duration or 0.0, float("inf") if self.end is None else self.end)
        if end - last <= 1:
            return []
        return [f"The frames of {name} end at {last:.1f} s, where {end:.1f} s were expected."]


class Video(Protocol):
    """An opened video.

    name: what it was opened by. rate: frames a second as the source states them, an estimate where the rate
    varies. duration: seconds, None if unknown. live: whether frames come at their own pace, so that a reader
    who is late has to leave some out. problems: sentences about what could not be read, complete after the
    last frame.
    """

    name: str
    rate: float
    duration: float | None
    live: bool
    problems: list[str]

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """Yield the frames of a section in the order of their times; closing the iterator closes the video.

        Raises FaceumError if the whole video has no frame that can be read.
        """
        ...
