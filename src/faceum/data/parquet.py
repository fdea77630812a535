"""Samples or a packed file in, faces with images and checked labels out; and a list of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.data.packed import open_parquet, read_packed, require_faces
from faceum.data.pairs import Pairs
from faceum.data.sample import Sample, check_sample
from faceum.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceRow:
    """One face of a set, read and checked.

    id: its name in the set. image: (H, W, 3) uint8 RGB. box: (4,) float64 x0 y0 x1 y1 pixels, None where the
    set only has images. points5: (5, 2) float64 pixels, None where the set has none or they are a guess.
    labels: what is known, the unknown left out: age (years), age_sigma (its annotators' deviation, years),
        gender (0 male, 1 female, as perceived), identity, attributes (40,) bool, expression_votes (8,)
        float64, parsing (H, W) uint8, landmarks (68, 2) float64.
    """

    id: str
    image: np.ndarray
    box: np.ndarray | None
    points5: np.ndarray | None
    labels: dict[str, Any]


def face_row(sample: Sample, *, parsing: bool = True) -> FaceRow:
    """Read a sample's image and check its labels; DataError naming it where either cannot be right.

    parsing: whether to read its mask, too. A mask of another size than the image decides: the image, the
    box and all points are scaled to it (CelebAMask-HQ is scored at its masks' 512 pixels).
    """
    if not parsing:
        sample = replace(sample, mask=None)
    check_sample(sample)
    image = sample.read()
    mask = None if sample.mask is None else sample.mask()
    scale = np.ones(2)
    if mask is not None and mask.shape != image.shape[:2]:
        size = mask.shape[::-1]
        scale = np.array(size) / image.shape[1::-1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    labels = {
        "age": None if sample.age is None else float(sample.age),
        "age_sigma": sample.age_sigma,
        "gender": sample.gender,
        "identity": sample.identity,
        "attributes": None if sample.attributes is None else np.asarray(sample.attributes, bool),
        "expression_votes": _scaled(sample.expression_votes, np.ones(1)),
        "parsing": mask,
        "landmarks": _scaled(sample.landmarks68, scale),
    }
    return FaceRow(
        id=sample.id,
        image=image,
        box=_scaled(sample.box, np.tile(scale, 2)),
        points5=_scaled(sample.points5, scale),
        labels={name: value for name, value in labels.items() if value is not None},
    )


def read_rows(path: str | Path) -> Iterator[FaceRow]:
    """Yield the faces of a packed file in order.

    Raises DataError naming the file and the face for an image that cannot be decoded or a label out of
    range.
    """
    for sample in read_packed(packed_file(path)):
        yield face_row(sample)


def packed_file(path: str | Path) -> Path:
    """Return the path of a Parquet file with a face a row; DataError where it is missing or another."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the Parquet file of the set.")
    require_faces(path)
    return path


def read_pairs(path: str | Path) -> Pairs:
    """Return the pairs of a Parquet file with the columns fold, a, b, same."""
    path = Path(path)
    columns = open_parquet(path).read().to_pydict()
    missing = {"fold", "a", "b", "same"} - columns.keys()
    if missing:
        raise DataError(
            f"{path.name} is no list of pairs: it lacks the columns {', '.join(sorted(missing))}."
        )
    return Pairs(
        fold=np.array(columns["fold"]),
        a=np.array(columns["a"], object),
        b=np.array(columns["b"], object),
        same=np.array(columns["same"], bool),
    )


def read_landmarks(path: str | Path) -> dict[str, np.ndarray]:
    """Return id -> (68, 2) float64 points of a Parquet file with the columns id and landmarks68."""
    path = Path(path)
    table = open_parquet(path).read(columns=["id", "landmarks68"]).to_pydict()
    points = {}
    for name, numbers in zip(table["id"], table["landmarks68"], strict=True):
        if len(numbers) != 136:
            raise DataError(f"{path.name}, {name}: 68 landmarks are 136 numbers; came {len(numbers)}.")
        points[name] = np.array(numbers, np.float64).reshape(68, 2)
    return points


def _scaled(values: Any, scale: np.ndarray) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float64) * scale
