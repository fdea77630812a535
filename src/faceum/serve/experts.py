"""`POST /v1/experts`: one image in, the experts that each token of its faces takes out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from faceum.errors import FaceumError
from faceum.extras import missing, torch_is_installed
from faceum.results import Face
from faceum.serve.analyze import TasksQuery, json_response, order_tasks
from faceum.serve.batching import Options
from faceum.serve.openapi import UPLOAD_PROBLEMS, image_body, json_answer, problems
from faceum.serve.problems import Problem, busy
from faceum.serve.service import Service, require_readable
from faceum.serve.uploads import Body, or_gone, read_uploads
from faceum.weights.registry import resolve_model

if TYPE_CHECKING:
    from faceum.model.network import FaceUM

MOST_FACES = 8
"""Largest faces of an image whose experts are shown."""

MOST_WAITING = 4
"""Requests that may wait for each other."""

FacesQuery = Annotated[
    int, Query(ge=1, le=MOST_FACES, description="Show the experts of this many largest faces.")
]


class Inspector:
    """Runs the network on faces and keeps its routing, one request at a time.

    It is the torch network, since ONNX files do not give their routing; it is loaded at the first request.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._network: FaceUM | None = None
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def inspect(
        self, image: np.ndarray, faces: Sequence[Face], tasks: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return `Inspection.to_dict` for each face; raises Problem if too many requests wait."""
        if self._waiting >= MOST_WAITING:
            raise busy("busy", "Too many images wait for their experts; try again in a second.")
        self._waiting += 1
        try:
            async with self._lock:
                return await asyncio.to_thread(self._inspect, image, faces, tasks)
        finally:
            self._waiting -= 1

    def _inspect(
        self, image: np.ndarray, faces: Sequence[Face], tasks: Sequence[str]
    ) -> list[dict[str, Any]]:
        from faceum.model.routing_stats import inspect_face
        from faceum.weights.load import load_model

        if self._network is None:
            self._network = load_model(self._model)
        return [inspect_face(self._network, image, face.box, face.points5, tasks).to_dict() for face in faces]


def can_inspect(model: str) -> bool:
    """Return whether torch and the weights that it reads are here."""
    try:
        resolve_model(model, "safetensors")
    except FaceumError:
        return False
    return torch_is_installed()


def experts_router(service: Service) -> APIRouter:
    """Return the route; it answers 404 if the server cannot inspect its network."""
    router = APIRouter(tags=["images"])
    model = service.settings.model
    inspector = Inspector(model)

    @router.post(
        "/v1/experts",
        summary="Show which expert takes which token of a face, for each task and MoE block",
        openapi_extra=image_body("One image", count=1),
        responses={
            200: json_answer("ExpertsReply", "The routing of each face, largest first."),
            **problems("not_found", *UPLOAD_PROBLEMS, "broken_image"),
        },
        response_class=Response,
    )
    async def experts(
        request: Request, tasks: TasksQuery = None, max_faces: FacesQuery = MOST_FACES
    ) -> Response:
        if not can_inspect(model):
            reason = "it has no .safetensors file of the network."
            if not torch_is_installed():
                reason = missing("inspecting a network", "torch")
            raise Problem("not_found", f"This server cannot show the experts: {reason}")
        with Body(request, service.settings, service.buffers) as body:
            uploads = await read_uploads(request, body, service.settings)
            if len(uploads) != 1:
                raise Problem("malformed_body", f"Expected one image to inspect, got {len(uploads)}.")
            options = Options(tasks=("recognition",), max_faces=max_faces, keep_image=True)
            (result,) = await or_gone(request, service.analyze(uploads, options))
            require_readable([result], uploads)
            found = list(result)
            asked = order_tasks(tasks) or tuple(service.analyzer.tasks)
            inspected = []
            if found and result.image is not None:
                inspected = await inspector.inspect(result.image, found, asked)
        faces = [
            {"box": [float(edge) for edge in face.box], **values}
            for face, values in zip(found, inspected, strict=True)
        ]
        return json_response({"faces": faces, "request_id": request.state.request_id})

    return router
