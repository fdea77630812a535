"""An ordered pipeline: worker threads prepare entries, the caller's thread finishes them in groups.

The caller's thread takes the entries, a bounded number ahead, so a generator of entries runs in the thread
of its owner; closing the iterator cancels pending work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat, takewhile
from types import TracebackType
from typing import Any, Generic, TypeVar

from faceum.errors import FaceumError

E = TypeVar("E")
P = TypeVar("P")
R = TypeVar("R")

GROUPS_AHEAD = 3
"""Groups under way before the first of them has to be ready."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many entries are under way at a time.

    workers: threads that prepare. group: entries that are finished together. With `GROUPS_AHEAD` these bound
        how many entries are taken, and held, before their turn.
    """

    workers: int
    group: int

    @property
    def ahead(self) -> int:
        """Groups that are under way at once: enough for every worker, whatever their size."""
        return max(GROUPS_AHEAD, 1 + -(-2 * self.workers // self.group))


def run_in_order(
    entries: Iterable[E],
    prepare: Callable[[E], P],
    finish: Callable[[list[P]], list[R]],
    pace: Pace,
    *,
    alone: Callable[[E], P] | None = None,
) -> Iterator[R]:
    """Yield one result per entry, in order, as each is done.

    prepare: the work on one entry by itself, run by a worker thread. finish: turns the prepared entries of a
    group into their results, run by the caller's thread. alone: replaces `prepare` if there is only one entry
    in all, which may use every processor; run by the caller's thread.

    An exception of `prepare`, or of taking an entry, is raised after the results of the entries before it.
    Closing the iterator, or an interruption, cancels pending work and waits for running work: no thread is
    left.
    """
    source = _Source(iter(entries))
    under_way: deque[list[Future[P]]] = deque()
    taken = source.take(pace.group)
    if len(taken) == 1 and alone is not None:
        yield from finish([alone(taken[0])])
        taken = []
    pool = ThreadPoolExecutor(pace.workers, thread_name_prefix="faceum")
    try:
        while True:
            while taken:
                under_way.append([pool.submit(prepare, entry) for entry in taken])
                taken = source.take(pace.group) if len(under_way) < pace.ahead else []
            if not under_way:
                break
            group = under_way.popleft()
            ready = list(takewhile(lambda one: one.exception() is None, group))
            yield from finish([one.result() for one in ready]) if ready else ()
            for failed in group[len(ready) :]:
                failed.result()
            taken = source.take(pace.group)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if source.error is not None:
        raise source.error


def zip_strictly(
    sources: Iterable[E], boxes: Iterable[Any] | None, points5: Iterable[Any] | None
) -> Iterator[tuple[E, Any, Any]]:
    """Yield images with their boxes and points; raises FaceumError if one iterable ends before another."""
    end = object()
    sides = [iter(repeat(None)) if side is None else iter(side) for side in (boxes, points5)]
    counted = [name for name, side in (("boxes", boxes), ("points5", points5)) if side is not None]
    for number, source in enumerate(sources):
        box, points = (next(side, end) for side in sides)
        if box is end or points is end:
            raise FaceumError(f"{' or '.join(counted)} end after {number} images, but there are more images.")
        yield source, box, points
    for name, side, values in zip(("boxes", "points5"), sides, (boxes, points5), strict=True):
        if values is not None and next(side, end) is not end:
            raise FaceumError(f"{name} have more entries than there are images; give one entry per image.")


class _Source(Generic[E]):
    """Entries up to the first that cannot be taken, whose error is kept for later."""

    def __init__(self, entries: Iterator[E]) -> None:
        self._entries = entries
        self.error: Exception | None = None

    def take(self, count: int) -> list[E]:
        """Return the next `count` entries, or as many as there are."""
        taken: list[E] = []
        if self.error is None:
            with self:
                for entry in self._entries:
                    taken.append(entry)
                    if len(taken) == count:
                        break
        return taken

    def __enter__(self) -> _Source[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # An interruption is not kept for later.
        if isinstance(error, Exception):
            self.error = error
        return self.error is not None
