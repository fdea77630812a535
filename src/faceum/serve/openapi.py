"""The description of the API: the records' schemas, examples, and the problems of each path."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from faceum.results import result_schema
from faceum.serve.problems import KINDS

EVERYWHERE = (
    "unauthorized", "cross_site", "unknown_host", "invalid_parameter", "rate_limited", "busy", "internal",
)  # fmt: skip
"""Problems that every path under /v1 may answer with."""

DESCRIPTION = """Find the faces in images and answer six tasks for each: recognition, age, attributes,
expression, parsing, landmarks. Every error has one form:
`{"error": {"code", "message", "details"}, "request_id"}`."""

_NUMBER, _STRING, _BOOLEAN = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
_INTEGER = {"type": "integer", "minimum": 0}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Any] = {
    "Problem": _object(
        error=_object(
            code={"type": "string", "enum": list(KINDS)}, message=_STRING, details={"type": "object"}
        ),
        request_id=_STRING,
    ),
    "AnalyzeReply": _object(results=_list(_ref("Result")), request_id=_STRING),
    "Match": _object(
        face_a=_INTEGER, face_b=_INTEGER, same=_BOOLEAN, cosine=_NUMBER, threshold=_NUMBER, fmr=_NUMBER,
        tmr=_NUMBER, tmr_low=_NUMBER, tmr_high=_NUMBER, measured=_BOOLEAN, set=_STRING,
        model=_or_null(_STRING),
    ),
    "CompareReply": _object(
        a=_or_null(_STRING), b=_or_null(_STRING), pairs=_list(_ref("Match")), request_id=_STRING
    ),
    "Person": _object(name=_STRING, samples=_INTEGER, added=_STRING),
    "PeopleReply": _object(people=_list(_ref("Person")), request_id=_STRING),
    "PersonReply": _object(name=_STRING, samples=_list({"type": "object"}), request_id=_STRING),
    "EnrollReply": _object(
        images=_list(
            _object(person=_STRING, source=_or_null(_STRING), added=_BOOLEAN, problem=_or_null(_STRING))
        ),
        request_id=_STRING,
    ),
    "SearchReply": _object(faces=_list({"type": "object"}), request_id=_STRING),
    "RenameReply": _object(name=_STRING, request_id=_STRING),
    "RemoveReply": _object(removed=_INTEGER, request_id=_STRING),
    "ExpertsReply": _object(faces=_list({"type": "object"}), request_id=_STRING),
    "VideoReply": _object(
        frames=_INTEGER, seconds=_NUMBER, tracks=_list({"type": "object"}), timeline=_STRING,
        problems=_list(_STRING), request_id=_STRING,
    ),
    "ModelsReply": _object(
        model=_STRING, tasks=_list(_STRING), labels={"type": "object"}, contested=_list(_STRING),
        parsing={"type": "object"}, limits={"type": "object"}, thresholds=_or_null({"type": "object"}),
        gallery=_BOOLEAN, video=_BOOLEAN, experts=_or_null({"type": "object"}),
        registered=_list({"type": "object"}), request_id=_STRING,
    ),
    "Health": _object(status=_STRING),
}  # fmt: skip
"""Name -> JSON Schema of a body; `Result` and `Face` come from the package's own schema file."""


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""An example of an image in base64: a PNG file of one pixel."""


def image_body(description: str = "One or more images", *, count: int | None = None) -> dict[str, Any]:
    """Return the OpenAPI part for a body of images in any of its three forms.

    count: how many images there must be, None for one or more.
    """
    binary = {"type": "string", "format": "binary"}
    length = {"minItems": 1} if count is None else {"minItems": count, "maxItems": count}
    raw = (
        {}
        if count == 2
        else {kind: {"schema": binary} for kind in ("image/jpeg", "application/octet-stream")}
    )
    return {
        "requestBody": {
            "required": True,
            "description": f"{description}: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC or JPEG 2000.",
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["images"],
                        "properties": {"images": _list(binary) | length},
                    },
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["images"],
                        "properties": {
                            "images": _list({"type": "string", "format": "base64-image", "minLength": 1})
                            | length
                        },
                    },
                    **({} if count == 2 else {"example": {"images": [PIXEL]}}),  # two would need faces
                },
                **raw,
            },
        }
    }


def video_body() -> dict[str, Any]:
    """Return the OpenAPI part for a body that is the bytes of one video file."""
    schema = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "description": "The bytes of one video file: MP4, MOV, WebM, Matroska, AVI, MPEG or Ogg.",
            "content": {"video/mp4": {"schema": schema}},
        }
    }


def json_answer(name: str, description: str, *, png: bool = False) -> dict[str, Any]:
    """Return the OpenAPI part of a response with one of `SCHEMAS`; png: or a PNG file."""
    content: dict[str, Any] = {"application/json": {"schema": _ref(name)}}
    if png:
        content["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": content}


UPLOAD_PROBLEMS = ("malformed_body", "upload_too_slow", "too_large", "not_an_image")
"""Problems of every path that takes images."""


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI parts of the problems that a path may answer with, by status."""
    by_status: dict[int | str, list[str]] = {}
    for code in (*codes, *EVERYWHERE):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {
        status: {
            "description": " ".join(f"`{code}`: {KINDS[code].meaning}" for code in codes),
            "content": {
                "application/json": {
                    "schema": _ref("Problem"),
                    "example": {
                        "error": {"code": codes[0], "message": KINDS[codes[0]].meaning, "details": {}},
                        "request_id": "8c6f1d0b2a94e375",
                    },
                }
            },
        }
        for status, codes in by_status.items()
    }


def describe(app: FastAPI, version: str, *, with_keys: bool, max_images: int) -> dict[str, Any]:
    """Return the OpenAPI document of the application; max_images: of a request."""
    document = get_openapi(
        title="faceum", version=version, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    components = document.setdefault("components", {})
    schema = _with_refs(result_schema())
    definitions = schema.pop("$defs")
    schema.pop("$schema"), schema.pop("$id")
    components["schemas"] = {**SCHEMAS, "Result": schema, **definitions}
    for operations in document["paths"].values():
        for operation in operations.values():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                if "properties" in body["schema"]:
                    body["schema"]["properties"]["images"].setdefault("maxItems", max_images)
    if with_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            if path.startswith("/v1/") or path == "/metrics":
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return document


def _with_refs(schema: Any) -> Any:
    """Return a schema whose references point into the document's components."""
    if isinstance(schema, dict):
        return {
            name: value.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _with_refs(value)
            for name, value in schema.items()
        }
    return [_with_refs(value) for value in schema] if isinstance(schema, list) else schema
