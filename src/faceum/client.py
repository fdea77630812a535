"""A client of `faceum serve` by the standard library, whose answers are the package's own records."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.errors import FaceumError
from faceum.match import Match
from faceum.people.records import Candidate, Person, Search
from faceum.results import Age, Expression, Face, Parsing, Result

if TYPE_CHECKING:
    from faceum.people.gallery import Enrolled

TIMEOUT = 60.0
"""Seconds to wait for an answer."""


class ServerError(FaceumError):
    """The server refused a request or cannot be reached.

    status: the HTTP status, 0 if there was no answer. code: the error's code. details: its values.
    request_id: finds the request in the server's log. retry_after: seconds to wait, None if it is not known.
    """

    def __init__(self, message: str, *, status: int = 0, body: Mapping[str, Any], retry: str | None) -> None:
        """body: the error's envelope. retry: the header Retry-After."""
        super().__init__(message)
        error = body.get("error", {})
        self.status = status
        self.code: str = error.get("code", "unreachable")
        self.details: Mapping[str, Any] = error.get("details", {})
        self.request_id: str | None = body.get("request_id")
        self.retry_after = float(retry) if retry is not None and retry.isdigit() else None


class Client:
    """Sends images to a server. Threads may share one."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", key: str | None = None, *, timeout: float = TIMEOUT
    ) -> None:
        """url: the server's address. key: an API key if the server wants one. timeout: seconds."""
        self._url = url.rstrip("/")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._timeout = timeout

    def analyze(
        self,
        image: str | Path | bytes,
        *,
        tasks: Iterable[str] | None = None,
        max_faces: int | None = None,
        min_score: float | None = None,
        min_face: float | None = None,
    ) -> Result:
        """Return the faces of one image: a path, or the bytes of an image file.

        tasks, max_faces, min_score, min_face: as for `FaceAnalyzer`. Raises ServerError if the server refuses
        the image or cannot be reached, OSError if the file cannot be read.
        """
        (result,) = self.analyze_many(
            [image], tasks=tasks, max_faces=max_faces, min_score=min_score, min_face=min_face
        )
        return result

    def analyze_many(
        self,
        images: Iterable[str | Path | bytes],
        *,
        tasks: Iterable[str] | None = None,
        max_faces: int | None = None,
        min_score: float | None = None,
        min_face: float | None = None,
    ) -> list[Result]:
        """Return the results of several images, sent in one request; see `analyze`."""
        asked = None if tasks is None else ",".join(tasks)
        query = {"tasks": asked, "max_faces": max_faces, "min_score": min_score, "min_face": min_face}
        answer = self._send("POST", "/v1/analyze", query, images)
        return [result_from_dict(values) for values in answer["results"]]

    def compare(
        self, a: str | Path | bytes, b: str | Path | bytes, *, fmr: float | None = None
    ) -> list[tuple[int, int, Match]]:
        """Return the number of a face of `a`, of a face of `b`, and the verdict, for every pair of faces."""
        pairs = self._send("POST", "/v1/compare", {"fmr": fmr}, [a, b])["pairs"]
        return [(pair.pop("face_a"), pair.pop("face_b"), Match(**pair)) for pair in pairs]

    def enroll(
        self, name: str, images: Iterable[str | Path | bytes], *, largest: bool = False
    ) -> list[Enrolled]:
        """Add images of one person to the server's gallery, and return what became of each."""
        from faceum.people.gallery import Enrolled

        path = f"/v1/people/{urllib.parse.quote(name, safe='')}/samples"
        query = {"largest": str(largest).lower()}
        return [Enrolled(**one) for one in self._send("POST", path, query, images)["images"]]

    def search(self, image: str | Path | bytes, *, count: int = 5, fmr: float | None = None) -> list[Search]:
        """Return the nearest people in the server's gallery for each face of an image, with verdicts."""
        answer = self._send("POST", "/v1/search", {"count": count, "fmr": fmr}, [image])
        return [_search(face) for face in answer["faces"]]

    def people(self) -> list[Person]:
        """Return everyone in the server's gallery, by name."""
        return [Person(**person) for person in self._send("GET", "/v1/people")["people"]]

    def remove(self, name: str) -> int:
        """Remove a person from the server's gallery and return the number of samples removed."""
        return int(self._send("DELETE", f"/v1/people/{urllib.parse.quote(name, safe='')}")["removed"])

    def models(self) -> dict[str, Any]:
        """Return what the server says about its network, labels and limits."""
        return self._send("GET", "/v1/models")

    def is_ready(self) -> bool:
        """Return whether the server can analyze images now."""
        try:
            self._send("GET", "/ready")
        except ServerError:
            return False
        return True

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        images: Iterable[str | Path | bytes] | None = None,
    ) -> dict[str, Any]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        headers, body = dict(self._headers), None
        if images is not None:
            headers["content-type"], body = encode_images(images)
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                values: dict[str, Any] = json.load(answer)
                return values
        except urllib.error.HTTPError as error:
            envelope = _envelope(error.read())
            message = envelope.get("error", {}).get("message", f"{url} answers {error.code} {error.reason}.")
            retry = error.headers.get("retry-after")
            raise ServerError(message, status=error.code, body=envelope, retry=retry) from None
        except OSError as error:
            raise ServerError(f"{self._url} cannot be reached ({error}).", body={}, retry=None) from None


def encode_images(images: Iterable[str | Path | bytes]) -> tuple[str, bytes]:
    """Return content type and body of a multipart request with images in the field `images`."""
    boundary = uuid.uuid4().hex
    parts = []
    for number, image in enumerate(images, 1):
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        name = f"image-{number}" if isinstance(image, bytes) else Path(image).name
        name = "".join(letter for letter in name if letter.isprintable() and letter not in '"\\')
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="images"; filename="{name}"\r\n'
            "content-type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode("utf-8", "replace") + content + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(parts) + f"--{boundary}--\r\n".encode()


def result_from_dict(values: Mapping[str, Any]) -> Result:
    """Return the record that `Result.to_dict` wrote, parsing maps as runs or as rows."""
    faces = values["faces"]
    return Result(
        source=values["source"],
        width=values["width"],
        height=values["height"],
        faces=None if faces is None else [face_from_dict(face) for face in faces],
        error=values["error"],
    )


def face_from_dict(values: Mapping[str, Any]) -> Face:
    """Return the record that `Face.to_dict` wrote."""
    age, expression, parsing = values["age"], values["expression"], values["parsing"]
    return Face(
        box=np.array(values["box"], np.float32),
        points5=_array(values["points5"]),
        score=values["score"],
        embedding=_array(values["embedding"]),
        age=None if age is None else Age(**age),
        attributes=values["attributes"],
        expression=None if expression is None else Expression(**expression),
        landmarks=_array(values["landmarks"]),
        parsing=None if parsing is None else _parsing(parsing),
        model=values["model"],
        quality=values.get("quality"),
    )


def _search(values: Mapping[str, Any]) -> Search:
    """Return the record that `Search.to_dict` wrote; its name follows from its candidates."""
    fields = {name: value for name, value in values.items() if name != "name"}
    candidates = tuple(Candidate(**one) for one in values["candidates"])
    return Search(**{**fields, "candidates": candidates, "box": _array(values["box"])})


def _parsing(values: Mapping[str, Any]) -> Parsing:
    if "rle" in values:
        runs = values["rle"]
        classes = np.repeat(np.array(runs["values"], np.uint8), runs["counts"]).reshape(runs["size"])
    else:
        classes = np.array(values["class_map"], np.uint8)
    return Parsing(class_map=classes, matrix=np.array(values["matrix"], np.float64))


def _array(values: Any) -> np.ndarray | None:
    return None if values is None else np.array(values, np.float32)


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
