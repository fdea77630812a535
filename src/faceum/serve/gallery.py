"""`/v1/people`: the gallery of the server: list, enroll, search, rename, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response

from faceum.errors import GalleryError
from faceum.people.gallery import FMR, Gallery
from faceum.serve.analyze import json_response
from faceum.serve.compare import MaskedQuery
from faceum.serve.openapi import UPLOAD_PROBLEMS, image_body, json_answer, problems
from faceum.serve.problems import Problem, busy
from faceum.serve.service import Service
from faceum.serve.uploads import Body, or_gone, read_uploads

T = TypeVar("T")

NamePath = Annotated[
    str, Path(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$", examples=["Ada Lovelace"])
]
NewNameQuery = Annotated[
    str, Query(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$", description="The new name.")
]
LargestQuery = Annotated[
    bool, Query(description="Of several faces take the largest; otherwise such an image is refused.")
]
CountQuery = Annotated[int, Query(ge=1, le=100, description="People per face.")]
GalleryFmrQuery = Annotated[
    float, Query(gt=0, lt=1, description="Share of strangers that the search may take for somebody.")
]

MOST_WRITERS = 8
"""Changes of the gallery that may wait for each other."""


class Turns:
    """Runs calls on the gallery in threads, changes one at a time."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def read(self, call: Callable[[Gallery], T]) -> T:
        """Return the answer of a call that changes nothing."""
        return await _run_call(call, self.gallery)

    async def change(self, call: Callable[[Gallery], T]) -> T:
        """Return the answer of a call that changes the gallery; raises Problem if too many wait."""
        if self._waiting >= MOST_WRITERS:
            raise busy("busy", "Too many changes of the gallery are waiting; try again in a second.")
        self._waiting += 1
        try:
            async with self._lock:
                return await _run_call(call, self.gallery)
        finally:
            self._waiting -= 1


async def _run_call(call: Callable[[Gallery], T], gallery: Gallery) -> T:
    try:
        return await asyncio.to_thread(call, gallery)
    except GalleryError as error:
        unknown = str(error).startswith("There is no person")
        raise Problem("not_found" if unknown else "conflict", str(error)) from None


def gallery_router(service: Service) -> APIRouter:
    """Return the routes; they answer 404 if the server has no gallery."""
    router = APIRouter(tags=["people"])
    turns: list[Turns] = []

    def people() -> Turns:
        if service.gallery is None:
            raise Problem("not_found", "This server has no gallery; start it with --gallery.")
        if not turns:
            turns.append(Turns(service.gallery))
        return turns[0]

    _add_reading(router, service, people)
    _add_changing(router, service, people)
    return router


def _add_reading(router: APIRouter, service: Service, people: Callable[[], Turns]) -> None:
    @router.get(
        "/v1/people",
        summary="List everyone in the gallery",
        responses={200: json_answer("PeopleReply", "Everyone, by name."), **problems("not_found")},
        response_class=Response,
    )
    async def list_people(request: Request) -> Response:
        everyone = await people().read(lambda gallery: [one.to_dict() for one in gallery.people()])
        return _reply(request, people=everyone)

    @router.get(
        "/v1/people/{name}",
        summary="Show a person's samples",
        responses={200: json_answer("PersonReply", "The samples, oldest first."), **problems("not_found")},
        response_class=Response,
    )
    async def show_person(request: Request, name: NamePath) -> Response:
        samples = await people().read(lambda gallery: [one.to_dict() for one in gallery.samples(name)])
        return _reply(request, name=name, samples=samples)

    @router.post(
        "/v1/search",
        summary="Find the people whom the faces of an image resemble",
        openapi_extra=image_body("One image", count=1),
        responses={
            200: json_answer("SearchReply", "For each face the nearest people, with verdicts."),
            **problems("conflict", "not_found", *UPLOAD_PROBLEMS),
        },
        response_class=Response,
    )
    async def search(
        request: Request, count: CountQuery = 5, fmr: GalleryFmrQuery = FMR, masked: MaskedQuery = False
    ) -> Response:
        import numpy as np

        turn = people()
        with Body(request, service.settings, service.buffers) as body:
            uploads = await read_uploads(request, body, service.settings)
            if len(uploads) != 1:
                raise Problem("malformed_body", f"Expected one image to search by, got {len(uploads)}.")
            faces = await or_gone(request, service.faces_of(uploads[0]))
        if not faces:
            return _reply(request, faces=[])
        vectors = np.stack([np.asarray(face.embedding) for face in faces])
        found = await turn.read(
            lambda gallery: gallery.search_vectors(
                vectors, count, model=faces[0].model or "", fmr=fmr, masked=masked
            )
        )
        answers = [
            {**one.to_dict(), "box": [float(edge) for edge in face.box]}
            for one, face in zip(found, faces, strict=True)
        ]
        return _reply(request, faces=answers)


def _add_changing(router: APIRouter, service: Service, people: Callable[[], Turns]) -> None:
    @router.post(
        "/v1/people/{name}/samples",
        summary="Enroll images of one person",
        openapi_extra=image_body(),
        responses={
            200: json_answer("EnrollReply", "What became of each image."),
            **problems("not_found", "conflict", *UPLOAD_PROBLEMS),
        },
        response_class=Response,
    )
    async def enroll(request: Request, name: NamePath, largest: LargestQuery = False) -> Response:
        turn = people()
        with Body(request, service.settings, service.buffers) as body:
            uploads = await read_uploads(request, body, service.settings)
            sources = [upload.content for upload in uploads]
            enrolled = await turn.change(lambda gallery: gallery.enroll(name, sources, largest=largest))
        images = [
            {"person": one.person, "source": upload.name, "added": one.added, "problem": one.problem}
            for one, upload in zip(enrolled, uploads, strict=True)
        ]
        return _reply(request, images=images)

    @router.patch(
        "/v1/people/{name}",
        summary="Give a person another name",
        responses={200: json_answer("RenameReply", "The new name."), **problems("not_found", "conflict")},
        response_class=Response,
    )
    async def rename(request: Request, name: NamePath, new: NewNameQuery) -> Response:
        await people().change(lambda gallery: gallery.rename(name, new))
        return _reply(request, name=new)

    @router.delete(
        "/v1/people/{name}",
        summary="Remove a person with all samples",
        responses={
            200: json_answer("RemoveReply", "How many samples were removed."),
            **problems("not_found", "conflict"),
        },
        response_class=Response,
    )
    async def remove(request: Request, name: NamePath) -> Response:
        removed = await people().change(lambda gallery: gallery.remove(name))
        return _reply(request, removed=removed)


def _reply(request: Request, **values: Any) -> Response:
    return json_response({**values, "request_id": request.state.request_id})
