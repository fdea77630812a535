"""The faces that `faceum cluster` groups: from images, or from the embeddings of a Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

COLUMNS = ("embedding", "source", "id", "face", "x0", "y0", "x1", "y1", "quality", "model")
"""What is read of a Parquet file, where it is there."""


@dataclass(kw_only=True, eq=False)
class Faces:
    """Faces to be grouped.

    sources: where each face is from. numbers: which face of its image it is. boxes: (n, 4) float32 pixels,
    NaN where they are not known. vectors: (n, D) float32. thumbnails: JPEG bytes of each face, empty where
    there are no images. problems: a sentence for each image that could not be used. left_out: number of faces
    of too low a quality. model: id of the network of a Parquet file's embeddings, None where it is not said.
    """

    sources: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    thumbnails: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: int = 0
    model: str | None = None


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


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files that a path names: the file itself, or the results of a `faceum batch`.

    The path is the file, or the batch's output folder; the list is empty if it is neither.
    """
    if path.is_dir():
        return sorted((path / "results").glob("*/*.parquet"))
    return [path] if path.suffix == ".parquet" else []


def faces_of_parquet(paths: Sequence[Path], *, min_quality: float = 0.0) -> Faces:
    """Read the embeddings of Parquet files: a row for each face, lists of numbers in the column `embedding`.

    Columns `source` or `id`, `face`, `x0`, `y0`, `x1`, `y1`, `quality` and `model` are used where they are
    there; rows without an embedding are left out. Raises DataError if a file has no such column, its rows
    have different lengths, the embeddings are of two models, or a quality is asked for and not there.
    """
    try:
        import pyarrow
    except ImportError:
        raise DataError(missing("Reading Parquet", "pyarrow", "cluster")) from None
    table = pyarrow.concat_tables([_read_table(path) for path in paths], promote_options="default")
    name, names, left_out = str(paths[0]), set(table.column_names), 0
    if min_quality > 0:
        if "quality" not in names:
            raise DataError(f"{name} has no column `quality`; leave out --min-quality.")
        low = np.asarray(table["quality"].to_numpy(), np.float64) < min_quality
        table, left_out = table.filter(pyarrow.array(~low)), int(low.sum())
    models = sorted({one for one in table["model"].to_pylist() if one} if "model" in names else ())
    if len(models) > 1:
        raise DataError(
            f"{name} holds embeddings of {len(models)} models, {' and '.join(models[:2])}, which do not "
            "compare; group each model's faces alone."
        )
    if not len(table):
        return Faces(left_out=left_out)
    vectors = _matrix(table["embedding"].combine_chunks(), name)
    count = len(vectors)
    column = next((one for one in ("source", "id") if one in names), None)
    sources: list[Any] = [name] * count if column is None else table[column].to_pylist()
    corners = ("x0", "y0", "x1", "y1")
    known = set(corners) <= names
    boxes = np.stack([table[n].to_numpy() for n in corners], axis=1) if known else np.full((count, 4), np.nan)
    return Faces(
        sources=[one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in sources],
        numbers=[int(n) for n in table["face"].to_pylist()] if "face" in names else list(range(count)),
        boxes=list(boxes.astype(np.float32)),
        vectors=vectors,
        left_out=left_out,
        model=models[0] if models else None,
    )


def _read_table(path: Path) -> Any:
    """Return the rows of a Parquet file that have an embedding, with the columns that matter here."""
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        if "embedding" not in names:
            raise DataError(f"{path} has no column `embedding`; it has {', '.join(names)}.")
        table = pyarrow.parquet.read_table(path, columns=[name for name in COLUMNS if name in names])
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); check the file.") from None
    return table.filter(table["embedding"].is_valid())


def _matrix(column: Any, name: str) -> np.ndarray:
    """Return (n, D) float32 from a column of lists of numbers."""
    flat = column.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
    count = len(column)
    if not count or len(values) % count or len(set(np.diff(_offsets(column, len(values))))) > 1:
        raise DataError(f"{name}: expected embeddings of one length, and at least one; check the column.")
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
