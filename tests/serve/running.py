"""A server that listens, in a thread of the tests' process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvicorn
from tests.serve.fakes import FakeAnalyzer

from faceum.serve import process
from faceum.serve.app import build_app
from faceum.serve.keys import KeyRing
from faceum.serve.settings import Settings


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Running:
    """A server in a thread of this process, around the fake analyzer."""

    def __init__(self, analyzer: FakeAnalyzer, keys: KeyRing, **settings: Any) -> None:
        self.app = build_app(replace(Settings(), **settings), analyzer=analyzer, keys=keys)
        config = uvicorn.Config(
            self.app, port=0, http=process.TimedProtocol, log_level="warning", timeout_graceful_shutdown=30
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self) -> None:
        """End it as SIGTERM would."""
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()
