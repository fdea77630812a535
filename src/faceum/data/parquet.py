"""Read packed Parquet files: faces, lists of pairs, and another network's answers.

`faceum.data.pack` writes these files and describes their columns. A file of faces may lack any column but id,
source and image. Columns with old names are read, too (`faceum.old_names.COLUMNS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum import old_names
from faceum.data.columns import COLUMNS, REQUIRED, column_problem
from faceum.data.pairs import Pairs
from faceum.data.sample import Sample
from faceum.errors import DataError, count_noun
from faceum.extras import missing

TEACHER_DISAGREEMENT = 0.06
"""Landmarks on which two networks differ by more than this share of the eye distance are left out."""


def read_packed(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of one Parquet file, or of every `<source>.<split>.parquet` in a folder that has faces.

    Raises DataError if a file cannot be read or one of its columns has another type than `pack` writes. A
    wrong cell is the `problem` of its sample.
    """
    for path in list_packed_files(root, split):
        problems = column_problems(path)
        if problems:
            raise DataError(f"{path}: {next(iter(problems.values()))}.")
        yield from read_samples(path)


def list_packed_files(root: str | Path, split: str = "all") -> list[Path]:
    """Return the Parquet files of faces at `root`: the file itself, or those of a folder with that split.

    Raises DataError if `root` is a file of something else, or a folder without any.
    """
    root = Path(root)
    if root.is_file():
        return [require_packed_file(root)]
    pattern = "*.parquet" if split == "all" else f"*.{split}.parquet"
    files = [path for path in sorted(root.glob(pattern)) if _has_faces(path)]
    if not files:
        raise DataError(f"No packed faces were found: looked for {pattern} in {root}.")
    return files


def require_packed_file(path: str | Path) -> Path:
    """Return the path of a Parquet file with one face per row; raises DataError if it is not such a file."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the Parquet file of the set.")
    if not _has_faces(path):
        raise DataError(
            f"{path.name} is not a set of faces: expected the columns {', '.join(sorted(REQUIRED))}."
        )
    return path


def column_problems(path: Path) -> dict[str, str]:
    """Return column -> what is wrong with its type, for the columns of a file of faces that `pack` knows."""
    problems = {}
    for field in open_parquet(path).schema_arrow:
        name = old_names.COLUMNS.get(field.name, field.name)
        problem = column_problem(name, field.type) if name in COLUMNS else None
        if problem:
            problems[field.name] = f"its column {field.name} {problem}"
    return problems


def read_samples(path: Path, leave_out: Mapping[str, Any] | None = None) -> Iterator[Sample]:
    """Yield one sample per row of a file of faces; a wrong cell is its `problem`.

    leave_out: columns to skip.
    """
    file = open_parquet(path)
    known = [
        name
        for name in file.schema_arrow.names
        if old_names.COLUMNS.get(name, name) in COLUMNS and name not in (leave_out or {})
    ]
    number = 0
    for rows in _read_rows(file, path, known):
        for row in rows:
            yield sample_of_row({old_names.COLUMNS.get(k, k): v for k, v in row.items()}, path, number)
            number += 1


def read_pairs(path: str | Path) -> Pairs:
    """Return the pairs of a Parquet file with the columns fold, a, b, same."""
    path = Path(path)
    columns = _read_columns(path, {"fold", "a", "b", "same"}, "a list of pairs")
    if any(value is None for values in columns.values() for value in values):
        raise DataError(f"{path.name} has empty cells; expected fold, a, b and same in every row.")
    return Pairs(
        fold=np.array(columns["fold"]),
        a=np.array(columns["a"], object),
        b=np.array(columns["b"], object),
        same=np.array(columns["same"], bool),
    )


def read_landmarks(path: str | Path) -> dict[str, np.ndarray]:
    """Return id -> (68, 2) float64 points of a Parquet file with the columns id and landmarks68."""
    path = Path(path)
    table = _read_columns(path, {"id", "landmarks68"}, "a list of landmarks")
    points = {}
    for name, numbers in zip(table["id"], table["landmarks68"], strict=True):
        flat, problem = _numbers(numbers)
        if flat is None or problem or len(flat) != 136:
            count = 0 if numbers is None else len(numbers)
            raise DataError(
                f"{path.name}, {name}: got {count_noun(count, 'number')}; expected 136 for 68 landmarks."
            )
        points[name] = flat.astype(np.float64).reshape(68, 2)
    return points


def read_corpus(folder: str | Path, source: str, split: str) -> Iterator[Sample]:
    """Yield the samples of one source and split of a corpus folder, with other networks' answers to them.

    These are joined by id from `teacher-embedding.<source>.<split>.parquet` and
    `teacher-landmarks.<source>.<split>.parquet`, if there are such files. Raises DataError if the folder
    lacks the source.
    """
    folder = Path(folder)
    path = folder / f"{source}.{split}.parquet"
    if not path.exists():
        raise DataError(f"The corpus has no {path.name}: looked for it in {folder}; give the corpus folder.")
    embeddings = _read_answers(folder / f"teacher-embedding.{source}.{split}.parquet")
    landmarks = _read_answers(folder / f"teacher-landmarks.{source}.{split}.parquet")
    for sample in read_packed(path):
        if sample.id in embeddings:
            sample = replace(sample, embedding=np.frombuffer(embeddings[sample.id]["embedding"], np.int8))
        taught = landmarks.get(sample.id)
        if sample.landmarks68 is None and taught and taught["disagreement"] <= TEACHER_DISAGREEMENT:
            points = np.array(taught["landmarks68"], np.float64).reshape(68, 2)
            sample = replace(sample, landmarks68=points, rough_landmarks=True)
        yield sample


def open_parquet(path: Path) -> Any:
    """Open a Parquet file with pyarrow; raises DataError if that is missing or the file cannot be read."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(missing("Reading packed data", "pyarrow", "eval")) from error
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is missing or is not a Parquet file; pack it again.") from error


def _has_faces(path: Path) -> bool:
    """Return whether a file has one face per row, unlike pairs, other networks' answers and photos."""
    return REQUIRED <= set(open_parquet(path).schema_arrow.names)


def _read_rows(file: Any, path: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in groups; raises DataError if the file is damaged behind its header."""
    import pyarrow

    try:
        for batch in file.iter_batches(batch_size=256, columns=columns):
            yield batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is damaged ({reason}); pack it again.") from error


def _read_columns(path: Path, needed: set[str], what: str) -> dict[str, list[Any]]:
    file = open_parquet(path)
    missing = needed - set(file.schema_arrow.names)
    if missing:
        raise DataError(f"{path.name} is not {what}: it lacks the columns {', '.join(sorted(missing))}.")
    columns: dict[str, list[Any]] = {name: [] for name in sorted(needed)}
    for rows in _read_rows(file, path, sorted(needed)):
        for name, values in columns.items():
            values.extend(row[name] for row in rows)
    return columns


def _read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """Return another network's answers by id; none if there is no such file."""
    if not path.exists():
        return {}
    file = open_parquet(path)
    return {row["id"]: row for rows in _read_rows(file, path, file.schema_arrow.names) for row in rows}


def sample_of_row(row: dict[str, Any], path: Path, number: int) -> Sample:
    """Return a row, by today's columns, as a sample; a cell that cannot be right becomes its `problem`."""
    name = str(row.get("id") or "")
    where = f"{path}, row {name or number}"
    problems = [] if name else [f"row {number} has no id"]
    if not row.get("source"):
        problems.append("its source is empty")
    arrays: dict[str, np.ndarray | None] = {}
    for column in ("box", "points5", "attributes", "expression_votes", "landmarks68", "embedding"):
        arrays[column], problem = _numbers(row.get(column))
        if problem:
            problems.append(f"its {column} {problem}")
    score = row.get("detector_score")
    parsing = row.get("parsing")
    embedding = arrays["embedding"]
    return Sample(
        id=name or f"row {number}",
        source=row.get("source") or "unknown",
        image=row.get("image") or b"",
        file=path,
        box=arrays["box"],
        points5=None if score == 0 else _points(arrays["points5"]),
        age=row.get("age"),
        age_sigma=row.get("age_sigma"),
        gender=row.get("gender"),
        smile=row.get("smile"),
        attributes=arrays["attributes"],
        expression_votes=arrays["expression_votes"],
        parsing=None if parsing is None else partial(decode_parsing, parsing, where),
        landmarks68=_points(arrays["landmarks68"]),
        identity=row.get("identity") if row.get("person") in (None, "") else row["person"],
        wears_mask=row.get("wears_mask"),
        rough_landmarks=bool(row.get("rough_landmarks")),
        embedding=None if embedding is None else embedding.astype(np.float32),
        problem=problems[0] if problems else None,
    )


def _numbers(values: list[Any] | None) -> tuple[np.ndarray | None, str | None]:
    """Return a list's numbers and what is wrong with them; `check_sample` names wrong lengths."""
    if values is None:
        return None, None
    if any(value is None for value in values):
        return np.zeros(0), "has an empty entry"
    return np.array(values), None


def _points(flat: np.ndarray | None) -> np.ndarray | None:
    if flat is None:
        return None
    flat = flat.astype(np.float64)
    return flat.reshape(-1, 2) if len(flat) % 2 == 0 else flat


def decode_parsing(data: bytes, where: str) -> np.ndarray:
    """Return the class ids of a PNG; raises DataError naming `where` if it cannot be decoded."""
    try:
        classes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        classes = None  # too large, or damaged in a way that OpenCV raises for
    if classes is None:
        raise DataError(f"{where}: its parsing cannot be decoded as an image.")
    return np.asarray(classes)
