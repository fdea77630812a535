"""Run the server: one process or several, with time limits on connections and an orderly end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from faceum.serve.metrics import FOLDER_VARIABLE
from faceum.serve.settings import VARIABLE, Settings

OPENING_TIME = 15.0
"""Seconds in which a connection has to send the head of its next request."""

KEEP_ALIVE = 30
"""Seconds for which an idle connection is kept after an answer."""

DRAIN_TIME = 30
"""Seconds that requests have to end after SIGTERM."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections whose request's head does not arrive in time.

    uvicorn itself limits only the time between two requests, so a client that sends its head byte by byte
    would hold a connection for ever.
    """

    _opening: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first head."""
        super().connection_made(transport)
        self._opening = self.loop.call_later(OPENING_TIME, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Stop the time when a head is complete, start it when another one begins."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_time()
        elif self._opening is None and not self.transport.is_closing():
            self._opening = self.loop.call_later(OPENING_TIME, self._give_up)

    def on_response_complete(self) -> None:
        """Stop the time: between two requests uvicorn's own limit holds."""
        self._stop_time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._stop_time()
        super().connection_lost(exc)

    def _stop_time(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _give_up(self) -> None:
        self._opening = None
        if not self.transport.is_closing():
            self.transport.close()


def run_server(settings: Settings, *, verbose: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are answered first."""
    os.environ[VARIABLE] = settings.to_json()
    # uvicorn raises the signal that ended it once more; the end was orderly, so the exit code is 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    folder = None
    if settings.workers > 1:
        folder = tempfile.mkdtemp(prefix="faceum-metrics-")
        os.environ[FOLDER_VARIABLE] = folder
    try:
        uvicorn.run(
            "faceum.serve.app:app_from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            http=TimedProtocol,
            ws="none",
            log_config=log_config(verbose=verbose),
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=DRAIN_TIME,
            h11_max_incomplete_event_size=16 * 1024,
        )
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def log_config(*, verbose: bool) -> dict[str, Any]:
    """Return the logging of a server process: one line per request, without names and contents."""
    level = "DEBUG" if verbose else "INFO"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "faceum": {"handlers": ["stderr"], "level": level},
            "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            "uvicorn.error": {"level": "INFO"},
        },
    }
