"""Write samples of any reader to a packed Parquet file, each image cut around its face.

A row has id, source, image (WebP), height, width, box, points5, detector_score and the labels that the set
has: age, age_sigma, gender, smile, attributes, expression_votes, parsing (PNG), landmarks68, rough_landmarks
(true if another network predicted them), identity, person (the name behind the number), wears_mask, and
embedding (another network's 256 numbers, float32); see `faceum.data.sample.Sample` and
`faceum.data.columns`. Boxes, points and landmarks move with the cut; the parsing gets the size of its image.
Lists are flat, x before y.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.data.columns import ALWAYS, arrow_schema
from faceum.data.face import find_labelled
from faceum.data.pairs import PairSet
from faceum.data.sample import Sample, box_by_points, check_sample
from faceum.detect.base import Detector
from faceum.errors import DataError, count_noun
from faceum.extras import missing
from faceum.files import whole_file
from faceum.geometry import compose, transform_points, warp


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How faces are cut and written.

    margin: side of the cut in face sizes, less at the border of the image; None keeps whole images.
    face_pixels: larger faces are shrunk so that the longer side of the box has this many pixels; None keeps
        their size.
    quality: of the WebP images, 1..100. rows: rows per group; one group is held in memory.
    refuse: stop at the first wrong label or broken image; otherwise it is skipped and reported.
    """

    margin: float | None = 2.6
    face_pixels: int | None = 150
    quality: int = 92
    rows: int = 256
    refuse: bool = False


@dataclass
class PackReport:
    """What became of the samples: the number of rows written, and a message and an id per skipped sample."""

    written: int = 0
    skipped: list[str] = field(default_factory=list)
    skipped_ids: list[str] = field(default_factory=list)


def pack(
    samples: Iterable[Sample],
    path: str | Path,
    *,
    config: PackConfig | None = None,
    detector: Detector | None = None,
    progress: Callable[[PackReport], None] | None = None,
) -> PackReport:
    """Write the samples to a Parquet file, whole or not at all.

    detector: finds box and points, so that they are alike in all sets; detections below its default threshold
        do not count. A labelled face that it misses keeps its own box, or that of its points, or the whole
        image. So do all faces if there is no detector. A face without known points gets detector_score 0.
    progress: called after every row group.
    Raises DataError if pyarrow is missing, if nothing could be packed, and as `config.refuse` says.
    """
    config = config or PackConfig()
    report = PackReport()
    with _open_writer(Path(path)) as write:
        rows: list[dict[str, Any]] = []
        for sample in samples:
            try:
                check_sample(sample)
                rows.append(_pack_row(sample, sample.read(), config, detector))
            except DataError as error:
                if config.refuse:
                    raise
                report.skipped.append(str(error))
                report.skipped_ids.append(sample.id)
                continue
            if len(rows) == config.rows:
                report.written += write(rows)
                rows = []
                if progress:
                    progress(report)
        report.written += write(rows) if rows else 0
        if report.written == 0:
            first = f"; the first: {report.skipped[0]}" if report.skipped else "."
            raise DataError(f"Nothing was packed, {count_noun(len(report.skipped), 'sample')} skipped{first}")
    return report


def pack_pairs(pairs: PairSet, path: str | Path, *, skipped: Collection[str] = ()) -> int:
    """Write the pairs (fold, a, b, same) of a verification set to a Parquet file and return their number.

    skipped: ids of faces that were not packed; pairs that name one are left out. Raises DataError if that
    leaves none.
    """
    pyarrow, parquet = _import_pyarrow()
    rows = pairs.pairs
    known = ~(np.isin(rows.a, list(skipped)) | np.isin(rows.b, list(skipped)))
    if not known.any():
        raise DataError("Every pair names a face that was skipped; see what is wrong with the first of them.")
    columns = {
        "fold": rows.fold[known], "a": rows.a[known].tolist(), "b": rows.b[known].tolist(),
        "same": rows.same[known],
    }  # fmt: skip
    with whole_file(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
    return int(known.sum())


def cut_around(
    shape: tuple[int, int], box: np.ndarray, config: PackConfig
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the cut for a face: the matrix (2, 3) from image to cut, and the cut's (height, width).

    shape: (height, width) of the image. The cut ends on whole pixels. Raises DataError if the box lies
    outside the image.
    """
    size = float(max(box[2] - box[0], box[3] - box[1]))
    low, high = np.zeros(2), np.array(shape[::-1], float)
    if config.margin is not None:
        centre = (box[:2] + box[2:]) / 2
        low = np.maximum(np.floor(centre - config.margin * size / 2), low)
        high = np.minimum(np.ceil(centre + config.margin * size / 2), high)
    if (high - low).min() < 1:
        raise DataError(f"the face's box {np.round(box, 1).tolist()} lies outside the image")
    shrink = 1.0 if config.face_pixels is None else min(1.0, config.face_pixels / size)
    width, height = np.maximum(np.round((high - low) * shrink), 1).astype(int)
    scale = np.array([width, height]) / (high - low)
    return np.column_stack([np.diag(scale), -scale * low]), (int(height), int(width))


def _pack_row(
    sample: Sample, image: np.ndarray, config: PackConfig, detector: Detector | None
) -> dict[str, Any]:
    box, points5, score = _locate_face(image, sample, detector)
    try:
        matrix, size = cut_around(image.shape[:2], box, config)
    except DataError as error:
        raise DataError(f"{sample.name}: {error}.") from error
    person = sample.identity
    return {
        "id": sample.id,
        "source": sample.source,
        "image": _encode(warp(image, matrix, size), ".webp", cv2.IMWRITE_WEBP_QUALITY, config.quality),
        "height": size[0],
        "width": size[1],
        "box": transform_points(matrix, box.reshape(2, 2)).ravel().tolist(),
        "points5": None if points5 is None else transform_points(matrix, points5).ravel().tolist(),
        "detector_score": score,
        "age": sample.age,
        "age_sigma": sample.age_sigma,
        "gender": sample.gender,
        "smile": sample.smile,
        "attributes": None if sample.attributes is None else np.asarray(sample.attributes, bool).tolist(),
        "expression_votes": None if sample.expression_votes is None else sample.expression_votes.tolist(),
        "parsing": None
        if sample.parsing is None
        else _pack_parsing(sample.parsing(), matrix, size, image.shape),
        "landmarks68": None
        if sample.landmarks68 is None
        else transform_points(matrix, sample.landmarks68).ravel().tolist(),
        "identity": person_number(person) if isinstance(person, str) else person,
        "person": person if isinstance(person, str) else None,
        "wears_mask": sample.wears_mask,
        "rough_landmarks": sample.rough_landmarks or None,
        "embedding": None if sample.embedding is None else sample.embedding.tolist(),
    }


def person_number(person: str) -> int:
    """Return a number below 2**63 for a person's name, the same in every file: half of its BLAKE2 hash."""
    return int.from_bytes(hashlib.blake2b(person.encode(), digest_size=8).digest(), "big") >> 1


def _locate_face(
    image: np.ndarray, sample: Sample, detector: Detector | None
) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """Return the face's box, five points and score: None if labelled, 0 if guessed or not detected."""
    box, points5 = sample.box, sample.points5
    points = sample.landmarks68 if sample.landmarks68 is not None else points5
    if box is None and points is not None:
        box = box_by_points(points)
    if detector is not None:
        match = find_labelled(detector, image, box)
        if match is not None and match.points5 is not None:
            return match.box.astype(np.float64), match.points5.astype(np.float64), match.score
    if box is None:
        return np.array([0, 0, image.shape[1], image.shape[0]], float), None, 0.0
    return np.asarray(box, np.float64), points5, None if points5 is not None else 0.0


def _pack_parsing(
    classes: np.ndarray, matrix: np.ndarray, size: tuple[int, int], shape: tuple[int, ...]
) -> bytes:
    scale_x, scale_y = shape[1] / classes.shape[1], shape[0] / classes.shape[0]
    to_image = np.array([[scale_x, 0, 0], [0, scale_y, 0]])
    moved = warp(classes, compose(to_image, matrix), size, interpolation="nearest")
    return _encode(moved, ".png", cv2.IMWRITE_PNG_COMPRESSION, 9)


def _encode(image: np.ndarray, suffix: str, option: int, value: int) -> bytes:
    written, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, [option, value])
    if not written:
        raise DataError(f"an image of shape {image.shape} cannot be written as {suffix}")
    return bytes(data)


@contextmanager
def _open_writer(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], int]]:
    """Write rows group by group; if the block succeeds, the file appears, without columns that no row has."""
    pyarrow, parquet = _import_pyarrow()
    schema = arrow_schema()
    used: set[str] = set()

    def write(rows: list[dict[str, Any]]) -> int:
        used.update(name for row in rows for name, value in row.items() if value is not None)
        writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        return len(rows)

    with whole_file(path) as temporary:
        everything = temporary.with_name(f"{temporary.name}.all")
        try:
            with parquet.ParquetWriter(everything, schema) as writer:
                yield write
            with parquet.ParquetFile(everything) as source:
                names = [name for name in schema.names if name in used | ALWAYS]
                with parquet.ParquetWriter(
                    temporary, pyarrow.schema([schema.field(name) for name in names])
                ) as last:
                    for group in range(source.num_row_groups):
                        last.write_table(source.read_row_group(group, columns=names))
        finally:
            everything.unlink(missing_ok=True)


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(missing("Packing data", "pyarrow", "eval")) from error
    return pyarrow, parquet
