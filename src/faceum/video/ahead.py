"""Read frames ahead in a thread of their own, so that decoding and analysis run at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 0.1
"""Seconds between two looks at whether the reader was closed."""


class _End:
    """Marks the end in the queue, with the error that caused it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(entries: Iterator[T], size: int, *, drop: bool = False) -> Iterator[T]:
    """Yield the entries in order, which a thread takes up to `size` ahead.

    drop: where the caller is late, leave out the oldest entry that waits instead of making the source wait.
    An error of the source is raised after the entries before it. Closing the iterator stops the thread and
    closes `entries`.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(size)
    closed = threading.Event()
    thread = threading.Thread(
        target=_fill, args=(entries, waiting, closed, drop), name="faceum-frames", daemon=True
    )
    thread.start()
    try:
        while True:
            entry = waiting.get()
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry
    finally:
        closed.set()
        thread.join()


def _fill(entries: Iterator[T], waiting: queue.Queue[T | _End], closed: threading.Event, drop: bool) -> None:
    end = _End()
    try:
        for entry in entries:
            if not _put(entry, waiting, closed, drop):
                break
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller's thread
        end = _End(error)
    finally:
        if hasattr(entries, "close"):
            entries.close()
        _put(end, waiting, closed, drop=False)


def _put(entry: T | _End, waiting: queue.Queue[T | _End], closed: threading.Event, drop: bool) -> bool:
    """Put an entry into the queue; False if the reader was closed before there was room."""
    while not closed.is_set():
        with suppress(queue.Full):
            waiting.put(entry, timeout=0 if drop else PATIENCE)
            return True
        if drop:
            with suppress(queue.Empty):
                waiting.get_nowait()
    return False
