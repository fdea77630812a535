"""Read frames from an address (rtsp, http, ...), and connect again where the stream stalls or ends early."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from faceum.errors import FaceumError
from faceum.video.container import Decoder, load_av, open_container, rate_of, video_stream
from faceum.video.frames import Section, SourceFrame

LOG = logging.getLogger("faceum")

OPEN_SECONDS = 10.0
"""How long a connection may take."""

STALL_SECONDS = 5.0
"""A stream that sends nothing for so long is connected to again."""

GIVE_UP_SECONDS = 30.0
"""A stream that cannot be connected to again for so long has ended."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each new attempt; the last one repeats."""


class StreamVideo:
    """A video at an address.

    A stream without a length is live: after a stall it is connected to again, its time continues by the
    clock, and readers that are late skip frames. A file at an address ends where it ends.
    """

    def __init__(
        self, address: str, *, stall_seconds: float = STALL_SECONDS, give_up_seconds: float = GIVE_UP_SECONDS
    ) -> None:
        """Connect; raises FaceumError if that fails."""
        self.name = without_password(address)
        self.problems: list[str] = []
        self._av = load_av()
        self._address = address
        self._stall_seconds = stall_seconds
        self._give_up_seconds = give_up_seconds
        self._interruptions = 0
        self._closed = threading.Event()
        self._container = self._connect()
        self.rate = rate_of(video_stream(self._container, self.name))
        duration = self._container.duration
        self.duration = None if duration is None or address.startswith("rtsp") else duration / 1e6
        self.live = self.duration is None

    def frames(self, section: Section) -> Iterator[SourceFrame]:
        """See `Video.frames`."""
        images = self._images(section)
        count = 0
        try:
            for frame in section.frames(images):
                count += 1
                yield frame
        finally:
            self._closed.set()
            images.close()
            if self._interruptions:
                times = "" if self._interruptions == 1 else f" {self._interruptions} times"
                self.problems.append(f"{self.name} was interrupted and connected to again{times}.")
        if not count:
            raise FaceumError(
                f"{self.name} sent no frame that can be decoded; check that it plays, and that its server "
                "can send a part of a file (HTTP ranges)."
            )
        if not self.live:
            self.problems += section.missing(self.name, frame.time, self.duration)

    def _images(self, section: Section) -> Generator[tuple[float, np.ndarray], None, None]:
        last, arrived, offset = 0.0, time.monotonic(), 0.0
        container = self._container
        while container is not None:
            decoder = Decoder(self._av, container, self.rate)
            if not self.live and section.start:
                decoder.seek(section.start)
            first = True
            try:
                for seconds, image in decoder.images():
                    if first and self.live:
                        # After a stall the stream may count from anywhere; the clock says how long it took.
                        offset = last + (time.monotonic() - arrived if last else 0.0) - seconds
                    first = False
                    last, arrived = seconds + offset, time.monotonic()
                    yield last, image
            except self._av.error.FFmpegError as error:
                LOG.info("%s: %s", self.name, error)
            finally:
                container.close()
            if not self.live:
                return
            container = self._connect_again()

    def _connect_again(self) -> Any:
        """Return a new container; None if the stream has ended for good."""
        began = time.monotonic()
        attempt = 0
        while time.monotonic() - began < self._give_up_seconds:
            if self._closed.wait(PAUSES[min(attempt, len(PAUSES) - 1)]):
                return None
            attempt += 1
            try:
                container = self._connect()
                video_stream(container, self.name)
            except FaceumError as error:
                LOG.info("%s", error)
                continue
            self._interruptions += 1
            return container
        return None

    def _connect(self) -> Any:
        options = {"rtsp_transport": "tcp"} if self._address.startswith("rtsp") else {}
        try:
            return open_container(
                self._av, self._address, options=options, timeout=(OPEN_SECONDS, self._stall_seconds)
            )
        except FaceumError as error:
            raise FaceumError(str(error).replace(self._address, self.name)) from None


def without_password(address: str) -> str:
    """Return an address without the user's name and password, to show."""
    host = urlsplit(address).netloc
    return address.replace(host, host.rpartition("@")[2], 1) if "@" in host else address
