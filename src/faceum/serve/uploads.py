"""Read the images of a request: multipart, raw bytes, or JSON with base64; in memory and within limits."""

from __future__ import annotations

import asyncio
import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from faceum.errors import ImageError, count_noun
from faceum.image.header import IMAGE_FORMATS, read_header, sniff
from faceum.serve.problems import Problem, busy
from faceum.serve.settings import Settings

DRAINED = 4
"""A body that is too large is read up to this many times the limit, so that the client gets the answer."""

MOST_FIELDS = 64
"""Parts of a multipart body."""

MOST_NAME = 200
"""Characters of a file name that are kept."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An image as it was sent: its bytes, and its file name where it has one."""

    content: bytes
    name: str | None = None


class Buffers:
    """Counts the bytes of all bodies that are held at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, count: int) -> None:
        """Count more bytes; raises Problem if that is too many."""
        if self.held + count > self._limit:
            raise busy("busy", "Too many uploads are under way; try again in a second.")
        self.held += count

    def give_back(self, count: int) -> None:
        """Count bytes that are no longer held."""
        self.held -= count


class Body:
    """The body of one request, counted in `Buffers` while it is used as a context manager."""

    def __init__(self, request: Request, settings: Settings, buffers: Buffers) -> None:
        self._request, self._settings, self._buffers = request, settings, buffers
        self._counted = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._buffers.give_back(self._counted)

    async def read(self) -> bytes:
        """Return the body; raises Problem if it is too large or too slow, or if the server holds too much."""
        try:
            return await asyncio.wait_for(self._collect(), self._settings.upload_time)
        except asyncio.TimeoutError:
            seconds = self._settings.upload_time
            raise Problem(
                "upload_too_slow",
                f"The body did not arrive within {seconds:g} seconds; send a smaller image.",
                {"seconds": seconds},
                {"connection": "close"},
            ) from None

    async def _collect(self) -> bytes:
        limit, size = self._settings.max_bytes, 0
        chunks: list[bytes] = []
        announced = self._request.headers.get("content-length", "")
        too_large = announced.isdigit() and int(announced) > limit
        async for chunk in self._request.stream():
            size += len(chunk)
            if size > limit:
                too_large = True
            if too_large:
                chunks.clear()
                if size > DRAINED * limit:
                    break
                continue
            self._buffers.take(len(chunk))
            self._counted += len(chunk)
            chunks.append(chunk)
        if too_large:
            raise Problem(
                "too_large",
                f"The body holds more than {limit} bytes, the limit of this server; send a smaller image.",
                {"limit": limit},
                {"connection": "close"},
            )
        return b"".join(chunks)


async def read_uploads(request: Request, body: Body, settings: Settings) -> list[Upload]:
    """Return the images of a request, each checked by its header.

    The content type decides: multipart/form-data with the field `images`, application/json with a list of
    base64 texts under "images", or the bytes of one image. Raises Problem if there is no image, if there are
    too many, or if one is too large; the sentence about a broken image comes from the analyzer.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    reader = _reader(kind.decode("latin-1").lower())
    uploads = reader(await body.read(), parameters)
    if not uploads:
        raise Problem("malformed_body", "The request holds no image; send one in the field 'images'.")
    if len(uploads) > settings.max_images:
        raise Problem(
            "too_many_images",
            f"The request holds {count_noun(len(uploads), 'image')}; "
            f"this server takes {settings.max_images} at once.",
            {"limit": settings.max_images},
        )
    for upload in uploads:
        check_header(upload, settings.max_pixels)
    return uploads


def check_header(upload: Upload, max_pixels: int) -> None:
    """Raise Problem if the bytes are no image, or if its header tells of too many pixels."""
    name = upload.name or "The image"
    if sniff(upload.content) is None:
        formats = f"{', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]}"
        raise Problem("not_an_image", f"{name} is not an image; expected {formats}.")
    try:
        header = read_header(upload.content)
    except (
        ImageError
    ):  # a format whose header only its decoder reads, or a broken file: the analyzer says why
        return
    if header.width * header.height > max_pixels:
        raise Problem(
            "too_many_pixels",
            f"{name} has {header.width} x {header.height} pixels; this server takes {max_pixels} in all.",
            {"limit": max_pixels, "width": header.width, "height": header.height},
        )


def _reader(kind: str) -> Callable[[bytes, Mapping[bytes, bytes]], list[Upload]]:
    if kind == "multipart/form-data":
        return _read_multipart
    if kind == "application/json":
        return lambda body, _: _read_json(body)
    if kind in ("", "application/octet-stream") or kind.startswith("image/"):
        return lambda body, _: [Upload(content=body)] if body else []
    raise Problem(
        "not_an_image",
        f"The content type {kind} is not supported; expected multipart/form-data, application/json or "
        "image/*.",
    )


def _read_json(body: bytes) -> list[Upload]:
    try:
        values = json.loads(body)
        if not isinstance(values, dict) or not isinstance(values.get("images"), list):
            raise ValueError('expected {"images": ["<base64>", ...]}')
        return [Upload(content=_decode_image(text)) for text in values["images"]]
    except (ValueError, RecursionError) as error:
        raise Problem("malformed_body", f"The JSON body cannot be used: {error}.") from None


def _decode_image(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("each image is a base64 text")
    try:
        return b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an image is not base64 ({error})") from None


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


class _Parts:
    """Collects the parts of a multipart body from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return the callbacks by the parser's names for them."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.parts[-1].content.extend(data[start:end]),
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MOST_FIELDS:
            raise Problem("malformed_body", f"The multipart body has more than {MOST_FIELDS} parts.")
        self.parts.append(_Part())

    def _end_header(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True


def _read_multipart(body: bytes, parameters: Mapping[bytes, bytes]) -> list[Upload]:
    parts = _Parts()
    try:
        parser = MultipartParser(parameters.get(b"boundary", b""), parts.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed_body", f"The multipart body cannot be read: {error}.") from None
    if not parts.ended:
        raise Problem("malformed_body", "The multipart body ends before its last boundary.")
    uploads = []
    for part in parts.parts:
        _, options = parse_options_header(part.headers.get(b"content-disposition"))
        if options.get(b"name") == b"images":
            uploads.append(Upload(content=bytes(part.content), name=_file_name(options.get(b"filename"))))
    return uploads


def _file_name(raw: bytes | None) -> str | None:
    """Return a file name without folders and control characters, None if nothing is left."""
    if not raw:
        return None
    text = raw.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in text if letter.isprintable())[:MOST_NAME] or None


async def until_gone(request: Request) -> None:
    """Return when the client has closed the connection; call it after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def or_gone(request: Request, work: Any) -> Any:
    """Await `work`, and cancel it when the client goes away; raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect()
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()


def name_results(results: Sequence[Any], uploads: Sequence[Upload]) -> list[Any]:
    """Return the results with the file names of their uploads as sources."""
    from dataclasses import replace

    return [replace(result, source=upload.name) for result, upload in zip(results, uploads, strict=True)]
