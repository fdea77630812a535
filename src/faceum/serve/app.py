"""The application: routes, page and handlers of errors put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse
from starlette.routing import compile_path
from starlette.staticfiles import StaticFiles

import faceum
from faceum.errors import FaceumError
from faceum.serve.analyze import analyze_router, json_response
from faceum.serve.compare import compare_router
from faceum.serve.experts import experts_router
from faceum.serve.gallery import gallery_router
from faceum.serve.gate import Gate
from faceum.serve.keys import KeyRing
from faceum.serve.openapi import describe
from faceum.serve.problems import Problem
from faceum.serve.service import Service
from faceum.serve.settings import Settings, settings_from_environment
from faceum.serve.status import status_router
from faceum.serve.video import video_router
from faceum.tasks import TASKS

PAGE = Path(__file__).resolve().parent / "page"
"""The folder of the page: HTML, CSS, JavaScript and the example image, served as they are."""

GONE = 499
"""The status that is counted where a client went away before its answer; nobody receives it."""


def build_app(settings: Settings, *, analyzer: Any = None, keys: KeyRing | None = None) -> FastAPI:
    """Return the ASGI application of one process.

    analyzer, keys: made from the settings and the environment if they are None.
    """
    service = Service(settings, analyzer=analyzer, keys=keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(title="faceum", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.service = service
    for router in (
        status_router(service),
        analyze_router(service),
        compare_router(service),
        gallery_router(service),
        experts_router(service),
        video_router(service),
    ):
        app.include_router(router)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        with_keys, most = bool(len(service.keys)), settings.max_images
        return json_response(describe(app, faceum.__version__, with_keys=with_keys, max_images=most))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    _add_handlers(app)
    app.add_middleware(Gate, service=service)
    return app


def app_from_environment() -> FastAPI:
    """Return the application of a worker process, with the settings in its environment."""
    return build_app(settings_from_environment())


def _describe(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a parameter: patterns in words, the rest as the check says it."""
    if error["type"] == "string_pattern_mismatch":
        if error["loc"][-1] == "tasks":
            return f"expected names of tasks with commas between them, of {', '.join(TASKS)}"
        return "expected a name without slashes and control characters"
    return str(error["msg"])


def _add_handlers(app: FastAPI) -> None:
    """Answer every error with the envelope."""

    def respond(request: Request, problem: Problem) -> Response:
        response = json_response(problem.envelope(request.state.request_id), problem.status)
        response.headers.update(problem.headers)
        return response

    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> Response:
        return respond(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        fields = {str(one["loc"][-1]): _describe(one) for one in error.errors()}
        sentence = "; ".join(f"{name}: {message}" for name, message in fields.items())
        return respond(request, Problem("invalid_parameter", f"{sentence}.", {"parameters": fields}))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(sorted(_methods_of(app, request)))
            message = f"{request.url.path} does not take {request.method}; it takes {allowed}."
            problem = Problem("method_not_allowed", message, headers={"allow": allowed})
        elif error.status_code == 404:
            problem = Problem("not_found", f"There is no {request.url.path} here; see /openapi.json.")
        else:
            problem = Problem("malformed_body", str(error.detail))
        return respond(request, problem)

    @app.exception_handler(FaceumError)
    async def on_faceum(request: Request, error: FaceumError) -> Response:
        return respond(request, Problem("invalid_parameter", str(error)))

    @app.exception_handler(ClientDisconnect)
    async def on_gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)


def _methods_of(app: FastAPI, request: Request) -> set[str]:
    """Return the methods of all routes with the path of a request."""
    methods: set[str] = set()
    for path, operations in app.openapi()["paths"].items():
        if compile_path(path)[0].match(request.url.path):
            methods |= {method.upper() for method in operations}
    return methods or {"GET", "HEAD"}
