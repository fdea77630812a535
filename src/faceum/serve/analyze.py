"""`POST /v1/analyze`: images in, their results or one drawing out."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from faceum.results import Result
from faceum.serve.batching import Options
from faceum.serve.openapi import UPLOAD_PROBLEMS, image_body, json_answer, problems
from faceum.serve.problems import Problem
from faceum.serve.service import Service, name_error, require_readable
from faceum.serve.uploads import Body, Upload, name_results, or_gone, read_uploads
from faceum.tasks import TASKS

TasksQuery = Annotated[
    str | None,
    Query(
        description=f"Some of {', '.join(TASKS)}, separated by commas; all by default.",
        pattern=rf"^({'|'.join(TASKS)})(,({'|'.join(TASKS)}))*$",
        examples=["age,expression"],
    ),
]
MaxFacesQuery = Annotated[int | None, Query(ge=1, le=1000, description="Keep this many largest faces.")]
MinScoreQuery = Annotated[
    float | None, Query(ge=0, le=1, description="Leave out faces with a lower detector score.")
]
MinFaceQuery = Annotated[
    float | None,
    Query(ge=24, le=10_000, description="Faces with fewer pixels may be missed; the search is faster."),
]
ParsingQuery = Annotated[
    Literal["rle", "png", "none"],
    Query(description="How the parsing maps are written; none leaves them out."),
]
ReturnQuery = Annotated[
    Literal["json", "png"], Query(alias="return", description="Results, or a drawing of the one image sent.")
]

PARSING = {"rle": "rle", "png": "png", "none": None}
"""Value of the parameter `parsing` -> form of `Parsing.to_dict`."""


def analyze_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["images"])

    @router.post(
        "/v1/analyze",
        summary="Find the faces in images and answer the six tasks for each",
        openapi_extra=image_body(),
        responses={
            200: json_answer("AnalyzeReply", "A result for each image, in order.", png=True),
            **problems(*UPLOAD_PROBLEMS, "broken_image"),
        },
        response_class=Response,
    )
    async def analyze(
        request: Request,
        tasks: TasksQuery = None,
        max_faces: MaxFacesQuery = None,
        min_score: MinScoreQuery = None,
        min_face: MinFaceQuery = None,
        parsing: ParsingQuery = "rle",
        form: ReturnQuery = "json",
    ) -> Response:
        options = Options(
            tasks=order_tasks(tasks),
            min_score=min_score,
            min_face=min_face,
            max_faces=min(max_faces or service.settings.max_faces, service.settings.max_faces),
            keep_image=form == "png",
        )
        with Body(request, service.settings, service.buffers) as body:
            uploads = await read_uploads(request, body, service.settings)
            if form == "png" and len(uploads) > 1:
                raise Problem("invalid_parameter", "A drawing shows one image; send one, or ask for JSON.")
            results = await or_gone(request, service.analyze(uploads, options))
        require_readable(results, uploads)
        return await asyncio.to_thread(_answer, request, uploads, results, PARSING[parsing], form)

    return router


def order_tasks(text: str | None) -> tuple[str, ...] | None:
    """Return the tasks of a query in the table's order, so that equal sets are equal."""
    if text is None:
        return None
    asked = set(text.split(","))
    return tuple(task for task in TASKS if task in asked)


def _answer(
    request: Request, uploads: list[Upload], results: list[Result], parsing: Any, form: str
) -> Response:
    if form == "png":
        from faceum.save import encode_drawing_png

        return Response(encode_drawing_png(results[0].plot()), media_type="image/png")
    plain = []
    for result, upload in zip(name_results(results, uploads), uploads, strict=True):
        values = result.to_dict(parsing=parsing)
        values["error"] = None if result.error is None else name_error(result, upload)
        plain.append(values)
    return json_response({"results": plain, "request_id": request.state.request_id})


def json_response(values: Any, status: int = 200) -> Response:
    """Return values as JSON, with every float's own digits and no NaN."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")
