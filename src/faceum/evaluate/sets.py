"""Layer 4. A set's name and Parquet file in; the set, and the protocols that its labels allow, out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from faceum.data.parquet import Pairs, count_rows, read_columns, read_landmarks, read_pairs, read_rows
from faceum.errors import DataError
from faceum.evaluate.protocols import LabelledSet

TIGHT_SETS = ("utkface", "ferplus")
"""Sets of chips cut so close to the face that no detector can be asked to find it in each."""

PROTOCOL_OF_COLUMN = {
    "age": "age",
    "attributes": "attributes",
    "expression_votes": "expression",
    "mask": "parsing",
    "landmarks68": "landmarks",
}
"""A column of labels -> the protocol that it allows."""


def load_set(
    name: str, path: str | Path, *, limit: int | None = None, tight: bool | None = None
) -> LabelledSet:
    """Return the set in a Parquet file, ready to be read.

    name: its word in the report. path: the file, or a folder that holds `<name>.val.parquet`.
    Beside a file `lfw.val.parquet` a list of pairs `lfw-pairs.val.parquet` allows verification, and points in
    `teacher-landmarks.lfw.val.parquet`, or a column landmarks68, the masked protocol.
    limit: only so many faces and so many pairs, from all over the file. tight: whether pictures are
    cut too tightly to detect in; None decides by the name. Raises DataError for a missing file and one
    without labels.
    """
    file = Path(path)
    if file.is_dir():
        file = file / f"{name}.val.parquet"
    columns = read_columns(file)
    protocols = [word for column, word in PROTOCOL_OF_COLUMN.items() if column in columns]
    source, dot, rest = file.name.partition(".")
    pairs_file = file.with_name(f"{source}-pairs{dot}{rest}")
    pairs = None
    landmarks: Mapping[str, np.ndarray] = {}
    if pairs_file.exists():
        pairs = read_pairs(pairs_file)
        pairs = pairs if limit is None else _thinned(pairs, limit)
        landmarks = _mask_points(file, columns)
        protocols += ["verification", *(["masked"] if landmarks else [])]
    if not protocols:
        raise DataError(
            f"{file.name} has none of the labels {', '.join(PROTOCOL_OF_COLUMN)}, nor pairs in "
            f"{pairs_file.name} beside it, so there is nothing to score."
        )
    return LabelledSet(
        name=name,
        rows=lambda: read_rows(file),
        every=1 if limit is None else math.ceil(count_rows(file) / limit),
        protocols=tuple(protocols),
        pairs=pairs,
        landmarks=landmarks,
        tight=name in TIGHT_SETS if tight is None else tight,
    )


def parse_sets(entries: list[str]) -> dict[str, Path]:
    """Return name -> path from words like "lfw=folder/lfw.val.parquet"; DataError for one that is not so."""
    sets = {}
    for entry in entries:
        name, sign, path = entry.partition("=")
        if not (name and sign and path):
            raise DataError(f"--set takes NAME=PATH, such as lfw=corpus/lfw.val.parquet; came {entry}.")
        if name in sets:
            raise DataError(f"The set {name} was given twice; give each set a name of its own.")
        sets[name] = Path(path)
    return sets


def _mask_points(file: Path, columns: list[str]) -> Mapping[str, np.ndarray]:
    beside = file.with_name(f"teacher-landmarks.{file.name}")
    if beside.exists():
        return read_landmarks(beside)
    return read_landmarks(file) if "landmarks68" in columns else {}


def _thinned(pairs: Pairs, limit: int) -> Pairs:
    """At most `limit` pairs, evenly spaced, so that every fold and both kinds are still there."""
    kept = np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int))
    return Pairs(fold=pairs.fold[kept], a=pairs.a[kept], b=pairs.b[kept], same=pairs.same[kept])
