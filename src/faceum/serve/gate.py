"""What every request passes: request id, Host, origin, API key and rate, security headers, counting."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceum.serve.problems import Problem, busy
from faceum.serve.service import Service
from faceum.serve.settings import is_known_host

LOG = logging.getLogger("faceum.serve")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids of clients that are taken over."""

OPEN_PATHS = ("/", "/health", "/ready", "/openapi.json")
"""Paths that need no key; so does everything under /page/."""

MOST_CHECKS = 16
"""Key checks that may wait for scrypt at once."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy of the page: everything comes from this server, and nothing inline runs."""

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._checking = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = response_headers(scope["path"], request_id)
                names = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in extra if name not in names),
                ]
            await send(message)

        try:
            await self._check(scope["path"], scope["method"], headers)
            await self._app(scope, receive, answer)
        except Problem as problem:
            await send_problem(problem, request_id, answer)
        # The client gets the envelope whatever failed; the traceback goes to the log.
        except Exception:
            LOG.exception("request %s failed", request_id)
            if not status:
                message = f"The server failed; the log tells why under the request id {request_id}."
                await send_problem(Problem("internal", message), request_id, answer)
        finally:
            self._count(scope, status, time.perf_counter() - started, request_id)

    async def _check(self, path: str, method: str, headers: Headers) -> None:
        if not is_known_host(headers.get("host", ""), self._service.settings):
            raise Problem("unknown_host", "The Host header names another server; see --allowed-host.")
        if path.startswith("/v1/") and is_cross_site(headers):
            raise Problem("cross_site", "Pages of other sites cannot use this server.")
        if len(self._service.keys) and path not in OPEN_PATHS and not path.startswith("/page/"):
            await self._check_key(headers)

    async def _check_key(self, headers: Headers) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        keys = self._service.keys
        if keys.is_remembered(key):
            name = keys.owner(key)
        elif self._checking >= MOST_CHECKS:
            raise busy("busy", "Too many keys are being checked; try again in a second.")
        else:
            self._checking += 1
            try:
                name = await asyncio.to_thread(keys.owner, key)
            finally:
                self._checking -= 1
        if name is None:
            raise Problem(
                "unauthorized",
                "The API key is missing or wrong; send it as `Authorization: Bearer KEY`.",
                headers={"www-authenticate": "Bearer"},
            )
        if seconds := keys.wait(name):
            after = max(1, math.ceil(seconds))
            raise Problem(
                "rate_limited",
                f"The key {name} has used up its requests; try again in {after} s.",
                {"seconds": after},
                {"retry-after": str(after)},
            )

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        path = getattr(scope.get("route"), "path", None) or "other"  # the template: no names of people
        metrics = self._service.metrics
        metrics.requests.labels(path, str(status)).inc()
        metrics.seconds.labels(path).observe(seconds)
        LOG.info("%s %s %s %.0f ms %s", scope["method"], path, status, 1000 * seconds, request_id)


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent this request for a page of another site."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def response_headers(path: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that every response carries."""
    is_page = path == "/" or path.startswith("/page/")
    headers = {
        **SECURITY_HEADERS,
        "content-security-policy": PAGE_POLICY if is_page else "default-src 'none'; frame-ancestors 'none'",
        "cache-control": "no-cache" if is_page else "no-store",
        "x-request-id": request_id,
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def send_problem(problem: Problem, request_id: str, send: Send) -> None:
    """Answer with a problem's envelope."""
    body = json.dumps(problem.envelope(request_id), ensure_ascii=False).encode("utf-8", "replace")
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **problem.headers,
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
