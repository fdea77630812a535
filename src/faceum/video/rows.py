"""Write frames as rows and tracks as a table while a video goes by: JSON lines, JSON, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceum.errors import OutputError
from faceum.extras import is_installed, missing
from faceum.files import whole_file, write_text
from faceum.results import Face
from faceum.tasks import ATTRIBUTES, EXPRESSIONS
from faceum.video.records import Frame, TrackedFace
from faceum.video.summary import TrackSummary

GROUP = 2000
"""Rows of a Parquet file that are written together."""


class Rows(Protocol):
    """A file of rows that grows frame by frame."""

    def add(self, frame: Frame) -> None:
        """Append a frame."""
        ...

    def close(self) -> None:
        """Finish the file; only then does it exist under its name."""
        ...


def open_rows(path: Path) -> Rows:
    """Begin a file of rows, by its ending; OutputError for another ending or where it cannot be written."""
    if path.suffix.lower() == ".jsonl":
        return JSONRows(path)
    if path.suffix.lower() == ".parquet":
        return ParquetRows(path)
    raise OutputError(
        f"Rows are written as .jsonl or .parquet, got {path.name}; choose one of these endings."
    )


class JSONRows:
    """A line of JSON per frame, as `Frame.to_dict` gives it, without embeddings and parsing maps."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))

    def add(self, frame: Frame) -> None:
        """See `Rows.add`."""
        plain = frame.to_dict(parsing=None)
        for face in plain["faces"]:
            for one in (face, face["raw"] or {}):
                one.pop("embedding", None)
                one.pop("parsing", None)
        self._file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        """See `Rows.close`."""
        self._stack.close()


class ParquetRows:
    """A row per face and frame: frames without faces have none. The columns are always the same."""

    def __init__(self, path: Path) -> None:
        """Begin the file; OutputError without pyarrow."""
        self._arrow, parquet = _pyarrow()
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(path))
        self._schema = _schema(self._arrow)
        self._writer = self._stack.enter_context(parquet.ParquetWriter(temporary, self._schema))
        self._rows: list[dict[str, Any]] = []

    def add(self, frame: Frame) -> None:
        """See `Rows.add`."""
        self._rows += [_row(frame, face) for face in frame.faces]
        if len(self._rows) >= GROUP:
            self._flush()

    def close(self) -> None:
        """See `Rows.close`."""
        self._flush()
        self._stack.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def write_tracks(path: Path, tracks: Sequence[TrackSummary]) -> None:
    """Write the summaries as .json or .parquet; OutputError for another ending."""
    if path.suffix.lower() == ".json":
        plain = {"schema": "faceum.tracks/1", "tracks": [track.to_dict() for track in tracks]}
        write_text(path, json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        return
    check_tracks_path(path)
    arrow, parquet = _pyarrow()
    rows = []
    for track in tracks:
        row = track.to_dict()
        age = row.pop("age") or {"years": None, "std": None}
        row |= {"age": age["years"], "age_std": age["std"], "crop": track.crop_jpeg()}
        row |= {name: json.dumps(row[name]) for name in ("attributes", "expressions", "moments")}
        rows.append(row)
    integers = ("track_id", "frames")
    floats = ("first", "last", "crop_time", "age", "age_std")
    texts = ("name", "attributes", "expressions", "moments")
    schema = arrow.schema(
        [
            *((name, arrow.int64()) for name in integers),
            *((name, arrow.float64()) for name in floats),
            *((name, arrow.string()) for name in texts),
            ("embedding", arrow.list_(arrow.float32())),
            ("crop", arrow.binary()),
        ]
    )
    with whole_file(path) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), temporary)


def check_tracks_path(path: Path) -> None:
    """Raise OutputError for a name that is neither .json nor .parquet, or without pyarrow for the latter."""
    if path.suffix.lower() not in (".json", ".parquet"):
        raise OutputError(f"Tracks are written as .json or .parquet, got {path.name}; choose one of these.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    if not is_installed("pyarrow"):
        raise OutputError(missing("Writing Parquet files", "pyarrow", "video"))
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet


def _schema(arrow: Any) -> Any:
    numbers = arrow.list_(arrow.float32())
    fields = [
        ("index", arrow.int64()), ("time", arrow.float64()), ("track_id", arrow.int64()),
        ("name", arrow.string()), ("detected", arrow.bool_()), ("weight", arrow.float32()),
        ("quality", arrow.float32()),
        ("score", arrow.float32()),
    ]  # fmt: skip
    for prefix in ("", "raw_"):
        fields += [(f"{prefix}{name}", numbers) for name in ("box", "points5", "landmarks")]
        fields += [(f"{prefix}{name}", arrow.float32()) for name in ("age", "age_std")]
        fields += [(f"{prefix}expression", arrow.string())]
        fields += [(f"{prefix}expression_{label}", arrow.float32()) for label in EXPRESSIONS]
        fields += [(f"{prefix}{label}", arrow.float32()) for label in ATTRIBUTES]
    return arrow.schema(fields)


def _row(frame: Frame, face: TrackedFace) -> dict[str, Any]:
    row: dict[str, Any] = {
        "index": frame.index, "time": frame.time, "track_id": face.track_id, "name": face.name,
        "detected": face.detected, "weight": face.weight, "quality": face.quality,
        "score": face.score,
    }  # fmt: skip
    return row | _values(face, "") | ({} if face.raw is None else _values(face.raw, "raw_"))


def _values(face: Face, prefix: str) -> dict[str, Any]:
    places = {"box": face.box, "points5": face.points5, "landmarks": face.landmarks}
    values: dict[str, Any] = {
        name: None if place is None else np.ravel(place).tolist() for name, place in places.items()
    }
    if face.age is not None:
        values |= {"age": face.age.years, "age_std": face.age.std}
    if face.expression is not None:
        values["expression"] = face.expression.label
        values |= {f"expression_{label}": p for label, p in face.expression.probabilities.items()}
    values |= face.attributes or {}
    return {f"{prefix}{name}": value for name, value in values.items()}
