"""The errors in answers to clients: a status, a code for programs, and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its code, its HTTP status, and when it occurs."""

    code: str
    status: int
    meaning: str


KINDS: dict[str, Kind] = {
    kind.code: kind
    for kind in (
        Kind("malformed_body", 400, "The body cannot be read as its content type says."),
        Kind("too_many_images", 400, "The request holds more images than the server takes at once."),
        Kind("unauthorized", 401, "The API key is missing or wrong."),
        Kind("cross_site", 403, "A page of another site sent the request."),
        Kind("not_found", 404, "There is no such path or person."),
        Kind("method_not_allowed", 405, "The path does not take this method."),
        Kind("upload_too_slow", 408, "The body did not arrive in time."),
        Kind("conflict", 409, "The name is taken, or the network does not match the gallery."),
        Kind("too_large", 413, "The body holds more bytes than the server takes."),
        Kind("not_an_image", 415, "The content type or the bytes are not those of an image."),
        Kind("unknown_host", 421, "The Host header names another server."),
        Kind("invalid_parameter", 422, "A parameter is out of range or unknown."),
        Kind("too_many_pixels", 422, "An image holds more pixels than the server takes."),
        Kind("broken_image", 422, "An image cannot be decoded."),
        Kind("broken_video", 422, "The video cannot be decoded, or has no frame."),
        Kind("no_face", 422, "The operation needs a face and the image shows none, or several."),
        Kind("rate_limited", 429, "The key has used up its requests for now."),
        Kind("internal", 500, "The server failed; the request id finds the reason in its log."),
        Kind("busy", 503, "Too many images are waiting; try again after Retry-After seconds."),
        Kind("deadline", 503, "The images waited too long; try again after Retry-After seconds."),
        Kind("not_ready", 503, "The server is starting or stopping."),
    )
}
"""Code -> its kind."""


@dataclass(eq=False)
class Problem(Exception):
    """A request cannot be answered.

    code: one of `KINDS`. message: one sentence. details: plain values for programs. headers: extra headers of
    the response.
    """

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.code].status

    def envelope(self, request_id: str) -> dict[str, Any]:
        """Return the body of the response."""
        error = {"code": self.code, "message": self.message, "details": dict(self.details)}
        return {"error": error, "request_id": request_id}


def busy(code: str, message: str, seconds: int = 1) -> Problem:
    """Return a problem that asks the client to come back after some seconds."""
    return Problem(code, message, headers={"retry-after": str(seconds)})
