"""`POST /v1/compare`: two images in, a verdict for every pair of their faces out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from faceum.match import FMR, match_faces
from faceum.serve.analyze import json_response
from faceum.serve.openapi import UPLOAD_PROBLEMS, image_body, json_answer, problems
from faceum.serve.problems import Problem
from faceum.serve.service import Service
from faceum.serve.uploads import Body, or_gone, read_uploads

FmrQuery = Annotated[
    float,
    Query(gt=0, lt=1, description="Share of pairs of different people that may be taken for one person."),
]
MaskedQuery = Annotated[bool, Query(description="Use the thresholds for faces with masks.")]


def compare_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["images"])

    @router.post(
        "/v1/compare",
        summary="Say whether two images show the same person",
        openapi_extra=image_body("Two images", count=2),
        responses={
            200: json_answer("CompareReply", "A verdict for every pair of faces."),
            **problems(*UPLOAD_PROBLEMS, "no_face"),
        },
        response_class=Response,
    )
    async def compare(request: Request, fmr: FmrQuery = FMR, masked: MaskedQuery = False) -> Response:
        thresholds = service.thresholds()
        if thresholds is None:
            raise Problem("invalid_parameter", "The network has no measured thresholds to judge by.")
        thresholds.at(fmr, masked=masked)
        with Body(request, service.settings, service.buffers) as body:
            uploads = await read_uploads(request, body, service.settings)
            if len(uploads) != 2:
                raise Problem("malformed_body", f"Expected two images to compare, got {len(uploads)}.")
            faces_a = await or_gone(request, service.faces_of(uploads[0]))
            faces_b = await or_gone(request, service.faces_of(uploads[1]))
        for upload, faces in zip(uploads, (faces_a, faces_b), strict=True):
            if not faces:
                name = upload.name or "one of the images"
                raise Problem("no_face", f"There is no face in {name}; send an image with one.")
        pairs = [
            {"face_a": i, "face_b": j, **match_faces(a, b, thresholds, fmr, masked=masked).to_dict()}
            for i, a in enumerate(faces_a)
            for j, b in enumerate(faces_b)
        ]
        names = {"a": uploads[0].name, "b": uploads[1].name}
        return json_response({**names, "pairs": pairs, "request_id": request.state.request_id})

    return router
