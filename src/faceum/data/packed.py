"""Our own Parquet corpus -> samples, a row group at a time; wrong labels come out as they are.

The columns are those that `pack` writes; a file may lack any but id, source and image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.data.sample import Sample
from faceum.errors import DataError
from faceum.extras import missing


def read_packed(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of one Parquet file, or of every `<source>.<split>.parquet` in a folder that has images."""
    for path in packed_files(root, split):
        for row in _rows(path):
            yield sample_of_row(row, path)


def packed_files(root: str | Path, split: str = "all") -> list[Path]:
    """The Parquet files of faces under `root`: itself, or those of a folder whose split fits.

    DataError where `root` is a file of something else, or a folder without any.
    """
    root = Path(root)
    if root.is_file():
        require_faces(root)
        return [root]
    pattern = "*.parquet" if split == "all" else f"*.{split}.parquet"
    files = [path for path in sorted(root.glob(pattern)) if is_faces(path)]
    if not files:
        raise DataError(f"No packed faces were found: looked for {pattern} in {root}.")
    return files


def is_faces(path: Path) -> bool:
    """Whether a Parquet file has a face a row, unlike lists of pairs, teachers' answers and whole photos."""
    return {"id", "source", "image"} <= set(open_parquet(path).schema_arrow.names)


def require_faces(path: Path) -> None:
    """DataError where a Parquet file has no face a row."""
    if not is_faces(path):
        raise DataError(f"{path.name} is no set of faces: the columns id, source and image are wanted.")


def open_parquet(path: Path) -> Any:
    """The file opened by pyarrow; DataError where pyarrow is missing or the file is none of Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(missing("Reading packed data", "pyarrow")) from error
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, FileNotFoundError) as error:
        raise DataError(f"{path} is missing or is no Parquet file; pack it anew.") from error


def sample_of_row(row: dict[str, Any], path: Path) -> Sample:
    """One row as a sample; a list of a wrong length keeps it, for the check to name."""
    found = row.get("points5") is not None and row.get("detector_score") != 0
    person = row.get("person") or row.get("identity")
    return Sample(
        id=row["id"],
        source=row["source"],
        image=row["image"] or b"",
        file=path,
        box=_array(row.get("box")),
        points5=_points(row["points5"]) if found else None,
        age=row.get("age"),
        age_sigma=row.get("age_sigma"),
        gender=row.get("gender"),
        attributes=_array(row.get("attributes")),
        expression_votes=_array(row.get("expression_votes")),
        mask=partial(_mask, row["mask"], f"{path}, row {row['id']}") if row.get("mask") else None,
        landmarks68=_points(row.get("landmarks68")),
        identity=person,
        masked=row.get("masked"),
        rough_landmarks=bool(row.get("rough_landmarks")),
        embedding=None if row.get("embedding") is None else np.array(row["embedding"], np.float32),
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in open_parquet(path).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def _array(values: list[Any] | None) -> np.ndarray | None:
    return None if values is None else np.array(values)


def _points(values: list[float] | None) -> np.ndarray | None:
    if values is None:
        return None
    flat = np.array(values, np.float64)
    return flat.reshape(-1, 2) if len(flat) % 2 == 0 else flat


def _mask(data: bytes, where: str) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise DataError(f"{where}: its mask cannot be decoded as an image.")
    return np.asarray(mask)
