"""Layer 3. A Parquet file of labelled faces in, its rows one by one out; and a verification set's pairs.

The columns are those of our corpus: `id`, `image` (encoded bytes), `box`, `points5`, `detector_score`, and
any labels among `age`, `gender`, `attributes`, `expression_votes`, `mask`, `landmarks68`, `identity`. Rows
are read a few at a time, so a set may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.errors import DataError, FaceumError
from faceum.image import read_image
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES

ROWS_AT_ONCE = 64
"""Rows decoded from the file together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceRow:
    """One face of a set.

    id: its name in the set. image: (H, W, 3) uint8 RGB. box: (4,) float64 x0 y0 x1 y1 pixels.
    points5: (5, 2) float64 pixels, None where the set has none or its box is only a guess.
    labels: what is known, None values left out: age (years), gender (0 male, 1 female, as perceived),
        identity, attributes (40,) bool, expression_votes (8,) float, parsing (H, W) uint8, landmarks (68, 2)
        float64.
    """

    id: str
    image: np.ndarray
    box: np.ndarray
    points5: np.ndarray | None
    labels: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """A verification set's pairs, in file order: fold (P,) ids, a and b (P,) face ids, same (P,) bool."""

    fold: np.ndarray
    a: np.ndarray
    b: np.ndarray
    same: np.ndarray

    def __len__(self) -> int:
        return len(self.same)


def read_columns(path: str | Path) -> list[str]:
    """Return the column names of a Parquet file; DataError where it is missing or is none."""
    return list(_open(Path(path)).schema_arrow.names)


def count_rows(path: str | Path) -> int:
    """Return how many rows a Parquet file has; DataError where it is missing or is none."""
    return int(_open(Path(path)).metadata.num_rows)


def read_rows(path: str | Path) -> Iterator[FaceRow]:
    """Yield the faces of a file in order.

    Raises DataError naming the file and the row for a picture that cannot be decoded or a label out of range.
    """
    path = Path(path)
    for batch in _open(path).iter_batches(batch_size=ROWS_AT_ONCE):
        for row in batch.to_pylist():
            yield _face_row(path, row)


def read_pairs(path: str | Path) -> Pairs:
    """Return the pairs of a file with the columns fold, a, b, same."""
    path = Path(path)
    columns = _open(path).read().to_pydict()
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
    """Return id -> (68, 2) float64 points of a file with the columns id and landmarks68."""
    path = Path(path)
    table = _open(path).read(columns=["id", "landmarks68"]).to_pydict()
    rows = zip(table["id"], table["landmarks68"], strict=True)
    return {name: _named(path, name, _landmarks, points) for name, points in rows}


def _open(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError("Reading Parquet needs pyarrow: pip install 'moe-faceum[eval]'.") from error
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the Parquet file of the set.")
    try:
        return parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file; pack the set with `faceum data pack`.") from error


def _face_row(path: Path, row: dict[str, Any]) -> FaceRow:
    missing = {"id", "image", "box"} - row.keys()
    if missing:
        raise DataError(f"{path.name} is no set of faces: it lacks the columns {', '.join(sorted(missing))}.")
    name = row["id"]
    labels = {}
    for column, (label, reader) in _LABELS.items():
        if row.get(column) is not None:
            labels[label] = _named(path, name, reader, row[column])
    image = _named(path, name, read_image, row["image"])
    parsing = labels.get("parsing")
    if parsing is not None and parsing.shape != image.shape[:2]:
        raise DataError(
            f"{path.name}, row {name}: its mask is {parsing.shape[1]} x {parsing.shape[0]} and its picture "
            f"{image.shape[1]} x {image.shape[0]} pixels; they must be one size."
        )
    guessed = row.get("points5") is None or row.get("detector_score") == 0
    return FaceRow(
        id=name,
        image=image,
        box=_named(path, name, _box, row["box"]),
        points5=None if guessed else _named(path, name, _points5, row["points5"]),
        labels=labels,
    )


def _named(path: Path, name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    """Read a value, putting the file and the row before what is wrong with it."""
    try:
        return reader(value)
    except FaceumError as error:
        raise DataError(f"{path.name}, row {name}: {error}") from error


def _numbers(what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, np.float64)
    if array.size != np.prod(shape) or not np.isfinite(array).all():
        raise DataError(f"{what} are {np.prod(shape)} finite numbers; came {array.size}, or some NaN.")
    return array.reshape(shape)


def _box(values: Any) -> np.ndarray:
    return _numbers("The corners of a box", values, (4,))


def _points5(values: Any) -> np.ndarray:
    return _numbers("The coordinates of five points", values, (5, 2))


def _landmarks(values: Any) -> np.ndarray:
    return _numbers("The coordinates of 68 landmarks", values, (68, 2))


def _age(years: Any) -> float:
    if not 0 <= years <= 130:
        raise DataError(f"An age lies between 0 and 130 years; came {years}.")
    return float(years)


def _gender(value: Any) -> int:
    if value not in (0, 1):
        raise DataError(f"The perceived gender is 0 (male) or 1 (female); came {value}.")
    return int(value)


def _attributes(values: Any) -> np.ndarray:
    if len(values) != len(ATTRIBUTES):
        raise DataError(f"A face has {len(ATTRIBUTES)} attributes; came {len(values)}.")
    return np.array(values, bool)


def _votes(values: Any) -> np.ndarray:
    votes = _numbers("Votes for the expressions", values, (len(EXPRESSIONS),))
    if votes.sum() <= 0 or votes.min() < 0:
        raise DataError("The votes for the expressions are all zero or negative, so they say nothing.")
    return votes


def _mask(data: bytes) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.ndim != 2:
        raise DataError("The mask is not a PNG of one channel, a class id a pixel.")
    if mask.max() >= len(PARSING_CLASSES):
        raise DataError(f"The mask holds class {mask.max()}; classes are 0 to {len(PARSING_CLASSES) - 1}.")
    return mask.astype(np.uint8)


def _identity(value: Any) -> int:
    return int(value)


_LABELS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "age": ("age", _age),
    "gender": ("gender", _gender),
    "identity": ("identity", _identity),
    "attributes": ("attributes", _attributes),
    "expression_votes": ("expression_votes", _votes),
    "mask": ("parsing", _mask),
    "landmarks68": ("landmarks", _landmarks),
}
"""Column -> the label's name and what reads and checks it."""
