"""Faults that a test plans for a server."""

from __future__ import annotations

import threading
from collections import Counter


class Faults:
    """What goes wrong: ending of a path -> the fault, and how often it happens."""

    def __init__(self) -> None:
        self.planned: dict[str, tuple[str, int]] = {}
        self.happened: Counter[str] = Counter()
        self.lock = threading.Lock()

    def take(self, path: str) -> str | None:
        """Return the fault of this request, if it has one."""
        with self.lock:
            for ending, (fault, times) in self.planned.items():
                if path.endswith(ending) and times:
                    self.planned[ending] = fault, times - 1
                    self.happened[fault] += 1
                    return fault
        return None
