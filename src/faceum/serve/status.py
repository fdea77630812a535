"""`/health`, `/ready`, `/metrics` and `/v1/models`: what a server is, and how it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from faceum.render.palette import CLASS_COLOURS, CLASS_WORDS, EXPERT_COLOURS
from faceum.serve.analyze import json_response
from faceum.serve.experts import can_inspect
from faceum.serve.openapi import json_answer, problems
from faceum.serve.problems import busy
from faceum.serve.service import Service
from faceum.serve.video import can_read_video
from faceum.tasks import TASKS
from faceum.weights.registry import load_registry

CONTESTED = (
    "Attractive", "Big_Lips", "Big_Nose", "Chubby", "Double_Chin", "Male", "Narrow_Eyes", "Pale_Skin",
    "Young",
)  # fmt: skip
"""Attributes that judge people, or that people disagree on; the page hides them behind a switch."""


def status_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["server"])

    @router.get(
        "/health",
        summary="Say that the process answers",
        responses={200: json_answer("Health", "It does."), **problems()},
        response_class=Response,
    )
    async def health() -> Response:
        return json_response({"status": "ok"})

    @router.get(
        "/ready",
        summary="Say whether images can be analyzed now",
        responses={200: json_answer("Health", "They can."), **problems("not_ready")},
        response_class=Response,
    )
    async def ready() -> Response:
        if service.batcher is None:
            raise busy("not_ready", "The server is starting or stopping.")
        return json_response({"status": "ready"})

    @router.get(
        "/metrics",
        summary="Counts and times in Prometheus' form",
        responses={200: {"description": "The values.", "content": {"text/plain": {}}}, **problems()},
        response_class=Response,
    )
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get(
        "/v1/models",
        summary="Describe the network, its labels, the limits and the registered weights",
        responses={200: json_answer("ModelsReply", "The description."), **problems()},
        response_class=Response,
    )
    async def models(request: Request) -> Response:
        return json_response({**describe_server(service), "request_id": request.state.request_id})

    return router


def describe_server(service: Service) -> dict[str, Any]:
    """Return what clients and the page need to know about the server."""
    settings, thresholds = service.settings, service.thresholds()
    limits = ("max_bytes", "max_pixels", "max_images", "max_faces", "queue", "deadline", "upload_time")
    return {
        "model": settings.model,
        "tasks": list(service.analyzer.tasks),
        "labels": {task.name: list(task.labels) for task in TASKS.values() if task.labels},
        "contested": list(CONTESTED),
        "parsing": {
            name: {"word": CLASS_WORDS[name], "colour": list(colour)}
            for name, colour in CLASS_COLOURS.items()
        },
        "limits": {name: getattr(settings, name) for name in limits},
        "thresholds": None if thresholds is None else thresholds.to_dict(),
        "gallery": service.gallery is not None,
        "video": can_read_video(),
        "experts": {"colours": [list(one) for one in EXPERT_COLOURS]}
        if can_inspect(settings.model)
        else None,
        "registered": [asdict(asset) for asset in load_registry().values()],
    }
