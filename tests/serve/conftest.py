"""Applications around a small analyzer, called in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from faceum.extras import is_installed

NEEDED = ("fastapi", "httpx", "prometheus_client", "python_multipart", "uvicorn")
"""Modules of the extras `serve` and `dev`; without them there is nothing to test here."""

collect_ignore_glob = [] if all(map(is_installed, NEEDED)) else ["test_*.py"]


@pytest.fixture
def analyzer() -> Any:
    """An analyzer that answers at once."""
    from tests.serve.fakes import FakeAnalyzer

    return FakeAnalyzer()


@pytest.fixture
def serve(analyzer: Any) -> Callable[..., Any]:
    """Run an async function with a client of an application around the fake analyzer."""
    import httpx

    from faceum.serve.app import build_app
    from faceum.serve.keys import KeyRing
    from faceum.serve.settings import Settings

    def run(test: Any, *, keys: Any = None, headers: Any = None, **settings: Any) -> None:
        async def main() -> None:
            given = replace(Settings(), **settings)
            app = build_app(given, analyzer=analyzer, keys=keys or KeyRing([]))
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with app.router.lifespan_context(app):
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost:8000", headers=headers
                ) as client:
                    await test(client)

        asyncio.run(asyncio.wait_for(main(), 60))

    return run
