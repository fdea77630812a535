"""The faces that `faceum cluster` groups: from images, or from the embeddings of a Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceum.errors import DataError
from faceum.extras import missing
from faceum.people.sources import face_crop

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer
    from faceum.image import Source

THUMBNAIL = 96
"""Pixels a side of a face on a contact sheet."""


@dataclass(kw_only=True, eq=False)
class Faces:
    """Faces to be grouped.

    sources: where each face is from. numbers: which face of its image it is. boxes: (n, 4) float32 pixels,
    NaN where they are not known. vectors: (n, D) float32. thumbnails: JPEG bytes of each face, empty where
    there are no images. problems: a sentence for each image that could not be used. left_out: number of faces
    of too low a quality.
    """

    sources: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    thumbnails: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: int = 0


def faces_of_images(
    analyzer: FaceAnalyzer,
    images: Iterable[Source],
    progress: Callable[[], None] | None = None,
    *,
    min_quality: float = 0.0,
) -> Faces:
    """Find and embed the faces of images.

    progress: called after each image. min_quality: faces of a lower quality are left out and counted.
    """
    faces, vectors = Faces(), []
    for result in analyzer.analyze_many(images, keep_images=True):
        if result.error is not None:
            faces.problems.append(result.error)
        for number, face in enumerate(result.faces or ()):
            if face.quality is not None and face.quality < min_quality:
                faces.left_out += 1
                continue
            faces.sources.append(result.source or "")
            faces.numbers.append(number)
            faces.boxes.append(np.asarray(face.box, np.float32))
            vectors.append(np.asarray(face.embedding, np.float32))
            if result.image is not None:
                faces.thumbnails.append(_thumbnail(face_crop(result.image, face)))
        if progress is not None:
            progress()
    faces.vectors = np.stack(vectors) if vectors else faces.vectors
    return faces


def faces_of_parquet(path: Path) -> Faces:
    """Read the embeddings of a Parquet file: a row for each face, lists of numbers in the column `embedding`.

    Columns `source` or `id`, `face`, `x0`, `y0`, `x1`, `y1` are taken over where they are there. Raises
    DataError where the file has no such column, or its rows have different lengths.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(missing("Reading Parquet", "pyarrow", "cluster")) from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); check the file.") from None
    names = set(table.column_names)
    if "embedding" not in names:
        raise DataError(f"{path} has no column `embedding`; it has {', '.join(table.column_names)}.")
    table = table.drop_null() if table["embedding"].null_count else table
    vectors = _matrix(table["embedding"].combine_chunks(), path)
    count = len(vectors)
    column = next((name for name in ("source", "id") if name in names), None)
    named: list[Any] = [path.name] * count if column is None else table[column].to_pylist()
    corners = ("x0", "y0", "x1", "y1")
    known = set(corners) <= names
    boxes = np.stack([table[n].to_numpy() for n in corners], axis=1) if known else np.full((count, 4), np.nan)
    return Faces(
        sources=[str(name) for name in named],
        numbers=[int(n) for n in table["face"].to_pylist()] if "face" in names else list(range(count)),
        boxes=list(boxes.astype(np.float32)),
        vectors=vectors,
    )


def _matrix(column: Any, path: Path) -> np.ndarray:
    """Return (n, D) float32 from a column of lists of numbers."""
    flat = column.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
    count = len(column)
    if not count or len(values) % count or len(set(np.diff(_offsets(column, len(values))))) > 1:
        raise DataError(f"{path}: expected embeddings of one length, and at least one; check the column.")
    return values.reshape(count, -1)


def _offsets(column: Any, total: int) -> np.ndarray:
    """Return where each list begins and ends."""
    if hasattr(column, "offsets"):
        return np.asarray(column.offsets)
    return np.linspace(0, total, len(column) + 1).astype(np.int64)


def _thumbnail(crop: np.ndarray) -> bytes:
    small = cv2.resize(crop, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return bytes(encoded.tobytes())
