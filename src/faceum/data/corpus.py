"""Layer 3. A corpus folder of Parquet files -> labelled faces in memory, teachers' answers joined by id.

One row a face: `image` (encoded bytes), `box`, `points5`, `detector_score` and the source's labels; teachers'
answers lie in `teacher-embedding.<source>.<split>.parquet` and `teacher-landmarks.<source>.<split>.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.errors import DataError, PictureError
from faceum.image import read_image
from faceum.tasks import PARSING_CLASSES

TEACHER_DISAGREEMENT = 0.08
"""Teachers' landmarks that differ by more than this share of the eye distance are left out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFace:
    """One face and what is known of it.

    source: the data set's name. image: (H, W, 3) uint8 RGB. box: (4,) float32. points5: (5, 2) float32, or
    None where the box is a guess, too. labels: any of age (years), attributes (40,) bool, expression_votes
    (8,), parsing (H, W) uint8 class ids, landmarks (68, 2), embedding (256,) of a teacher; all arrays.
    rough_landmarks: the landmarks come from a teacher.
    """

    source: str
    image: np.ndarray
    box: np.ndarray
    points5: np.ndarray | None
    labels: dict[str, np.ndarray]
    rough_landmarks: bool = False


def read_corpus(folder: str | Path, sources: tuple[str, ...], split: str) -> dict[str, list[LabelledFace]]:
    """Read whole sources of one split into memory, pictures decoded.

    Raises DataError where the folder lacks a source or pyarrow is missing.
    """
    return {source: list(_read_source(Path(folder), source, split)) for source in sources}


def _read_source(folder: Path, source: str, split: str) -> Iterator[LabelledFace]:
    rows = _table(folder / f"{source}.{split}.parquet")
    embeddings = _teacher(folder / f"teacher-embedding.{source}.{split}.parquet")
    landmarks = _teacher(folder / f"teacher-landmarks.{source}.{split}.parquet")
    for row in rows:
        labels = _labels(row)
        if row["id"] in embeddings:
            labels["embedding"] = np.frombuffer(embeddings[row["id"]]["embedding"], np.int8)
        taught = landmarks.get(row["id"])
        rough = False
        if "landmarks" not in labels and taught and taught["disagreement"] <= TEACHER_DISAGREEMENT:
            labels["landmarks"] = np.array(taught["landmarks68"], np.float32).reshape(68, 2)
            rough = True
        found = row.get("points5") is not None and row.get("detector_score") != 0
        image = _picture(row)
        if "parsing" in labels and labels["parsing"].shape != image.shape[:2]:
            raise DataError(f"The mask and the picture of {row['id']} differ in size; pack the set anew.")
        yield LabelledFace(
            source=source,
            image=image,
            box=np.array(row["box"], np.float32),
            points5=np.array(row["points5"], np.float32).reshape(5, 2) if found else None,
            labels=labels,
            rough_landmarks=rough,
        )


def _labels(row: dict[str, Any]) -> dict[str, np.ndarray]:
    labels: dict[str, np.ndarray] = {}
    if row.get("age") is not None:
        labels["age"] = np.array(row["age"], np.float32)
    if row.get("attributes") is not None:
        labels["attributes"] = np.array(row["attributes"], np.bool_)
    if row.get("expression_votes") is not None and sum(row["expression_votes"]) > 0:
        labels["expression_votes"] = np.array(row["expression_votes"], np.float32)
    if row.get("landmarks68") is not None:
        labels["landmarks"] = np.array(row["landmarks68"], np.float32).reshape(68, 2)
    if row.get("mask") is not None:
        labels["parsing"] = _mask(row)
    if row.get("identity") is not None:
        labels["identity"] = np.array(row["identity"], np.int64)
    return labels


def _picture(row: dict[str, Any]) -> np.ndarray:
    try:
        return read_image(row["image"])
    except PictureError as error:
        raise DataError(f"The picture of {row['id']}: {error} Pack the set anew or drop the row.") from error


def _mask(row: dict[str, Any]) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(row["mask"], np.uint8), cv2.IMREAD_UNCHANGED) if row["mask"] else None
    if mask is None or mask.ndim != 2 or mask.max() >= len(PARSING_CLASSES):
        raise DataError(
            f"The mask of {row['id']} is no PNG of one channel with class ids below {len(PARSING_CLASSES)}; "
            "pack the set anew or drop the row."
        )
    return mask.astype(np.uint8)


def _table(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError("Reading Parquet needs pyarrow: pip install 'moe-faceum[train]'.") from error
    if not path.exists():
        raise DataError(f"The corpus has no {path.name}: looked for {path}; give the folder that holds it.")
    return parquet.read_table(path).to_pylist()


def _teacher(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in _table(path)} if path.exists() else {}
