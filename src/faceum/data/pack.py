"""Samples of any reader in, one Parquet file of our corpus out: the image cut around the face.

A row: id, source, image (WebP), height, width, box, points5, detector_score and the labels that the set has:
age, age_sigma, gender, attributes, expression_votes, mask (PNG), landmarks68, rough_landmarks (true where
another network gave them), identity, person (a name that stands behind the number), masked, and embedding
(another network's 256 numbers, float32); see Sample. Boxes, points and landmarks are moved with the cut; a
mask becomes as large as its image. Lists lie flat, x before y.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.data.pairs import PairSet
from faceum.data.sample import Sample, box_by_points, check_sample
from faceum.detect.base import Detection, Detector
from faceum.errors import DataError
from faceum.extras import missing
from faceum.files import whole_file
from faceum.geometry import boxes_iou, compose, transform_points, warp

ALWAYS = {"id", "source", "image", "height", "width", "box", "points5", "detector_score"}
"""Columns that every packed file has; those of labels only where a face has the label."""
SAME_FACE = 0.3
"""A detection is the labelled face when their boxes' overlap (IoU) is at least this."""


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How faces are cut and written.

    margin: side of the cut in face sizes, less where the image ends; None keeps whole images.
    face_pixels: larger faces are shrunk to this many pixels, the longer side of the box; None keeps the size.
    quality: of the WebP images, 1..100. rows: rows a group, which is what is held in memory.
    refuse: the first wrong label or broken image ends the packing; otherwise it is skipped and counted.
    """

    margin: float | None = 2.6
    face_pixels: int | None = 150
    quality: int = 92
    rows: int = 256
    refuse: bool = False


@dataclass
class PackReport:
    """What became of the samples: rows written, and a sentence for each one skipped."""

    written: int = 0
    skipped: list[str] = field(default_factory=list)


def pack(
    samples: Iterable[Sample],
    path: str | Path,
    *,
    config: PackConfig | None = None,
    detector: Detector | None = None,
    progress: Callable[[PackReport], None] | None = None,
) -> PackReport:
    """Write the samples to a Parquet file, whole or not at all.

    detector: finds box and points, so that all sets have its habit. A labelled face that it misses keeps its
        own box, or that of its points, or the whole image; so do all faces without a detector. A face
        whose five points nobody knows gets detector_score 0.
    progress: called after every row group.
    Raises DataError where pyarrow is missing, nothing could be packed, or `config.refuse` says so.
    """
    config = config or PackConfig()
    report = PackReport()
    with _writer(Path(path)) as write:
        rows: list[dict[str, Any]] = []
        for sample in samples:
            try:
                check_sample(sample)
                rows.append(_row(sample, sample.read(), config, detector))
            except DataError as error:
                if config.refuse:
                    raise
                report.skipped.append(str(error))
                continue
            if len(rows) == config.rows:
                report.written += write(rows)
                rows = []
                if progress:
                    progress(report)
        report.written += write(rows) if rows else 0
        if report.written == 0:
            first = f"; the first: {report.skipped[0]}" if report.skipped else "."
            raise DataError(f"Nothing was packed: {len(report.skipped)} samples were skipped{first}")
    return report


def pack_pairs(pairs: PairSet, path: str | Path) -> int:
    """Write a verification set's pairs (fold, a, b, same) to a Parquet file; how many."""
    pyarrow, parquet = _pyarrow()
    found = pairs.pairs
    columns = {"fold": found.fold, "a": found.a.tolist(), "b": found.b.tolist(), "same": found.same}
    with whole_file(path) as beside:
        parquet.write_table(pyarrow.table(columns), beside)
    return len(found)


def cut_around(
    shape: tuple[int, int], box: np.ndarray, config: PackConfig
) -> tuple[np.ndarray, tuple[int, int]]:
    """The cut for a face: matrix (2, 3) from image to cut, and the cut's (height, width).

    shape: (height, width) of the image. The cut ends on whole pixels of the image.
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


def _row(sample: Sample, image: np.ndarray, config: PackConfig, detector: Detector | None) -> dict[str, Any]:
    box, points5, score = _face_in(image, sample, detector)
    try:
        matrix, size = cut_around(image.shape[:2], box, config)
    except DataError as error:
        raise DataError(f"{sample.name}: {error}.") from error
    person = sample.identity
    return {
        "id": sample.id,
        "source": sample.source,
        "image": _encoded(warp(image, matrix, size), ".webp", cv2.IMWRITE_WEBP_QUALITY, config.quality),
        "height": size[0],
        "width": size[1],
        "box": transform_points(matrix, box.reshape(2, 2)).ravel().tolist(),
        "points5": None if points5 is None else transform_points(matrix, points5).ravel().tolist(),
        "detector_score": score,
        "age": sample.age,
        "age_sigma": sample.age_sigma,
        "gender": sample.gender,
        "attributes": None if sample.attributes is None else np.asarray(sample.attributes, bool).tolist(),
        "expression_votes": None if sample.expression_votes is None else sample.expression_votes.tolist(),
        "mask": None if sample.mask is None else _packed_mask(sample.mask(), matrix, size, image.shape),
        "landmarks68": None
        if sample.landmarks68 is None
        else transform_points(matrix, sample.landmarks68).ravel().tolist(),
        "identity": number_of(person) if isinstance(person, str) else person,
        "person": person if isinstance(person, str) else None,
        "masked": sample.masked,
        "rough_landmarks": sample.rough_landmarks or None,
        "embedding": None if sample.embedding is None else sample.embedding.tolist(),
    }


def number_of(person: str) -> int:
    """A person's name as a number below 2**63, the same in every file: half of its BLAKE2 hash."""
    return int.from_bytes(hashlib.blake2b(person.encode(), digest_size=8).digest(), "big") >> 1


def _face_in(
    image: np.ndarray, sample: Sample, detector: Detector | None
) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """Box, five points and score of the sample's face. Score: None as labelled, 0 a guess or not detected."""
    box, points5 = sample.box, sample.points5
    points = sample.landmarks68 if sample.landmarks68 is not None else points5
    if box is None and points is not None:
        box = box_by_points(points)
    if detector is not None:
        found = _matching(detector.detect(image), box, image.shape[:2])
        if found is not None and found.points5 is not None:
            return found.box.astype(np.float64), found.points5.astype(np.float64), found.score
    if box is None:
        return np.array([0, 0, image.shape[1], image.shape[0]], float), None, 0.0
    return np.asarray(box, np.float64), points5, None if points5 is not None else 0.0


def _matching(
    detections: list[Detection], box: np.ndarray | None, shape: tuple[int, int]
) -> Detection | None:
    """The detection that is the labelled face; without a box, the one nearest to the image's middle."""
    if not detections:
        return None
    boxes = np.stack([found.box for found in detections])
    if box is None:
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(shape[::-1]) / 2
        return detections[int(np.hypot(*middles.T).argmin())]
    overlaps = boxes_iou(boxes, np.asarray(box)[None])[:, 0]
    return detections[int(overlaps.argmax())] if overlaps.max() >= SAME_FACE else None


def _packed_mask(
    mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], shape: tuple[int, ...]
) -> bytes:
    scale_x, scale_y = shape[1] / mask.shape[1], shape[0] / mask.shape[0]
    to_image = np.array([[scale_x, 0, 0], [0, scale_y, 0]])
    moved = warp(mask, compose(to_image, matrix), size, interpolation="nearest")
    return _encoded(moved, ".png", cv2.IMWRITE_PNG_COMPRESSION, 9)


def _encoded(image: np.ndarray, suffix: str, option: int, value: int) -> bytes:
    written, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, [option, value])
    if not written:
        raise DataError(f"an image of shape {image.shape} cannot be written as {suffix}")
    return bytes(data)


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], int]]:
    """Takes rows group by group; when the block ends well, the file stands, without columns nobody used."""
    pyarrow, parquet = _pyarrow()
    schema = _schema(pyarrow)
    used: set[str] = set()

    def write(rows: list[dict[str, Any]]) -> int:
        used.update(name for row in rows for name, value in row.items() if value is not None)
        writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        return len(rows)

    with whole_file(path) as beside:
        everything = beside.with_name(f"{beside.name}.all")
        try:
            with parquet.ParquetWriter(everything, schema) as writer:
                yield write
            with parquet.ParquetFile(everything) as source:
                names = [name for name in schema.names if name in used | ALWAYS]
                with parquet.ParquetWriter(
                    beside, pyarrow.schema([schema.field(name) for name in names])
                ) as last:
                    for group in range(source.num_row_groups):
                        last.write_table(source.read_row_group(group, columns=names))
        finally:
            everything.unlink(missing_ok=True)


def _schema(pyarrow: Any) -> Any:
    """All columns, as this file's docstring tells of them."""
    floats, whole, text = pyarrow.list_(pyarrow.float64()), pyarrow.int64(), pyarrow.string()
    kinds = {"id": text, "source": text, "image": pyarrow.binary(), "height": whole, "width": whole}
    kinds |= {"box": floats, "points5": floats, "detector_score": pyarrow.float64()}
    kinds |= {"age": pyarrow.float64(), "age_sigma": pyarrow.float64(), "gender": whole}
    kinds |= {"attributes": pyarrow.list_(pyarrow.bool_())}
    kinds |= {"expression_votes": floats, "mask": pyarrow.binary(), "landmarks68": floats}
    kinds |= {"identity": whole, "person": text, "masked": pyarrow.bool_()}
    kinds |= {"rough_landmarks": pyarrow.bool_(), "embedding": pyarrow.list_(pyarrow.float32())}
    return pyarrow.schema(list(kinds.items()))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(missing("Packing data", "pyarrow")) from error
    return pyarrow, parquet
