"""What the server counts, in Prometheus' form; one view for all processes."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder in which several processes keep their counts."""

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one process; `text` is the view of all of them."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """waiting: returns the number of images that wait."""
        self._shared = FOLDER_VARIABLE in os.environ
        self._registry = CollectorRegistry()
        registry = None if self._shared else self._registry
        self._waiting = waiting
        self.requests = Counter(
            "faceum_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "faceum_request_seconds", "Time to the answer.", ["path"], buckets=SECONDS, registry=registry
        )
        self.batches = Histogram(
            "faceum_batch_images", "Images analyzed together.", buckets=SIZES, registry=registry
        )
        self.faces = Counter("faceum_faces", "Faces found.", registry=registry)
        self.queue = Gauge(
            "faceum_waiting_images", "Images that wait.", registry=registry, multiprocess_mode="livesum"
        )
        if self._shared:
            MultiProcessCollector(self._registry)

    def text(self) -> bytes:
        """Return all values in Prometheus' text form."""
        self.queue.set(self._waiting())
        return generate_latest(self._registry)

    def close(self) -> None:
        """Remove this process's live values from the shared view."""
        if self._shared:
            mark_process_dead(os.getpid())
