"""The result records: plain data about faces in an image, and their JSON-ready form.

All coordinates are pixels of the image, x then y, continuous: the outer corner of the first pixel
is (0, 0) and its centre (0.5, 0.5). A part whose task was not asked for is None. The records carry data only;
what makes them (decode) and what uses them (render, save, paste) lies above. `to_dict()` gives dicts, lists,
strings, ints, floats and None; its shape is `schema/result-1.json` in this package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

SCHEMA = "faceum.result/1"
"""The name and version that every `Result.to_dict()` carries under "schema"."""


def result_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every `Result.to_dict()` fulfils."""
    text = (resources.files("faceum") / "schema" / "result-1.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@dataclass(frozen=True, kw_only=True, eq=False)
class Age:
    """How old a face looks.

    years: expectation of the age distribution over 0..100, in years.
    std: standard deviation of that distribution, in years.
    """

    years: float
    std: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, ready for JSON."""
        return {"years": float(self.years), "std": float(self.std)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Expression:
    """What a face expresses.

    label: the most probable of `faceum.tasks.EXPRESSIONS`.
    probabilities: label -> probability in 0..1; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain words and numbers, ready for JSON."""
        return {"label": self.label, "probabilities": _plain_dict(self.probabilities)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsing:
    """Which part of the face each pixel of the face's crop is.

    class_map: (h, w) uint8, ids of `faceum.tasks.PARSING_CLASSES`.
    matrix: (2, 3) float64, takes continuous class-map coordinates (x, y, 1) to pixels of the image.
    """

    class_map: np.ndarray
    matrix: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Nested lists, ready for JSON."""
        return {"class_map": self.class_map.tolist(), "matrix": np.asarray(self.matrix, np.float64).tolist()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face of an image, with an answer for every task that was asked for.

    box: (4,) float32, x0 y0 x1 y1 in pixels; may reach beyond the image.
    points5: (5, 2) float32 pixels: left eye, right eye, nose tip, left and right mouth corner, left and right
        as seen in the image; None when not known.
    score: the detector's confidence in 0..1; None when the box was given.
    embedding: (512,) float32 of length 1; the dot product of two is their cosine similarity.
    age: see `Age`.
    attributes: name of `faceum.tasks.ATTRIBUTES` -> probability in 0..1, each on its own.
    expression: see `Expression`.
    landmarks: (68, 2) float32 pixels, iBUG order.
    parsing: see `Parsing`.
    """

    box: np.ndarray
    points5: np.ndarray | None = None
    score: float | None = None
    embedding: np.ndarray | None = None
    age: Age | None = None
    attributes: dict[str, float] | None = None
    expression: Expression | None = None
    landmarks: np.ndarray | None = None
    parsing: Parsing | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; None for every part that was not asked for."""
        return {
            "box": _plain_list(self.box),
            "points5": None if self.points5 is None else _plain_list(self.points5),
            "score": None if self.score is None else _plain_number(self.score),
            "embedding": None if self.embedding is None else _plain_list(self.embedding),
            "age": None if self.age is None else self.age.to_dict(),
            "attributes": None if self.attributes is None else _plain_dict(self.attributes),
            "expression": None if self.expression is None else self.expression.to_dict(),
            "landmarks": None if self.landmarks is None else _plain_list(self.landmarks),
            "parsing": None if self.parsing is None else self.parsing.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What came of one image: its faces, or the sentence that says why there are none.

    source: the image's path where it has one, else None.
    width, height: size of the image in pixels; None when it could not be read.
    faces: the faces found (empty when there are none); None exactly when `error` is set.
    error: one sentence when the image could not be used, else None.
    """

    source: str | None = None
    width: int | None = None
    height: int | None = None
    faces: Sequence[Face] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of one image, as `schema/result-1.json` describes it."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "width": None if self.width is None else int(self.width),
            "height": None if self.height is None else int(self.height),
            "faces": None if self.faces is None else [face.to_dict() for face in self.faces],
            "error": self.error,
        }


def _plain_number(number: float) -> float:
    """A Python float; a float32 keeps its own short digits (0.3, not 0.30000001192092896)."""
    return float(str(number)) if isinstance(number, np.float32) else float(number)


def _plain_list(array: np.ndarray) -> list[Any]:
    """Nested lists of floats that read back as exactly the same float32 values."""
    array = np.asarray(array, np.float32)
    if array.ndim == 1:
        return [_plain_number(number) for number in array]
    return [_plain_list(row) for row in array]


def _plain_dict(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: _plain_number(value) for name, value in probabilities.items()}
