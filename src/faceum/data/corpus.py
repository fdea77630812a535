"""A corpus folder of Parquet files -> samples with teachers' answers; any sample -> a labelled face.

One row a face, see `packed`; teachers' answers lie beside it, joined by id, in
`teacher-embedding.<source>.<split>.parquet` and `teacher-landmarks.<source>.<split>.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from faceum.data.packed import open_parquet, read_packed
from faceum.data.parquet import face_row
from faceum.data.sample import Sample, box_by_points
from faceum.errors import DataError

TEACHER_DISAGREEMENT = 0.08
"""Teachers' landmarks that differ by more than this share of the eye distance are left out."""

LABEL_TYPES = {
    "age": np.float32,
    "attributes": np.bool_,
    "expression_votes": np.float32,
    "parsing": np.uint8,
    "landmarks": np.float32,
    "identity": np.int64,
}
"""The labels that training knows, beside a teacher's embedding, and their types."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledFace:
    """One face with its image and what is known of it.

    source: the data set's name. image: (H, W, 3) uint8 RGB. box: (4,) float32. points5: (5, 2) float32, or
    None where the box is a guess, too. labels: any of age (years), attributes (40,) bool, expression_votes
    (8,), parsing (H, W) uint8 class ids, landmarks (68, 2), identity (the person's number), embedding (256,)
    of a teacher; all arrays. rough_landmarks: the landmarks come from a teacher.
    """

    source: str
    image: np.ndarray
    box: np.ndarray
    points5: np.ndarray | None
    labels: dict[str, np.ndarray]
    rough_landmarks: bool = False


def labelled_face(sample: Sample) -> LabelledFace:
    """Read a sample's image and mask; DataError naming it where they or a label cannot be right.

    A face without a box has that of its points, or else is taken to fill its image. A person's name, unlike
    a number, is no label.
    """
    row = face_row(sample)
    labels: dict[str, np.ndarray] = {
        name: np.asarray(row.labels[name], kind)
        for name, kind in LABEL_TYPES.items()
        if name in row.labels and not isinstance(row.labels[name], str)
    }
    if sample.embedding is not None:
        labels["embedding"] = sample.embedding
    box, points = row.box, labels.get("landmarks", row.points5)
    if box is None and points is not None:
        box = box_by_points(points)
    if box is None:
        box = np.array([0, 0, row.image.shape[1], row.image.shape[0]])
    return LabelledFace(
        source=sample.source,
        image=row.image,
        box=box.astype(np.float32),
        points5=None if row.points5 is None else row.points5.astype(np.float32),
        labels=labels,
        rough_landmarks=sample.rough_landmarks,
    )


def read_corpus(folder: str | Path, sources: tuple[str, ...], split: str) -> dict[str, list[LabelledFace]]:
    """Read whole sources of one split into memory, images decoded.

    Raises DataError where the folder lacks a source, a row cannot be right, or pyarrow is missing.
    """
    return {source: list(map(labelled_face, read_taught(folder, source, split))) for source in sources}


def read_taught(folder: str | Path, source: str, split: str) -> Iterator[Sample]:
    """The samples of one source and split of a corpus, with teachers' answers where there are some."""
    folder = Path(folder)
    path = folder / f"{source}.{split}.parquet"
    if not path.exists():
        raise DataError(f"The corpus has no {path.name}: looked for it in {folder}; give the corpus folder.")
    embeddings = _teacher(folder / f"teacher-embedding.{source}.{split}.parquet")
    landmarks = _teacher(folder / f"teacher-landmarks.{source}.{split}.parquet")
    for sample in read_packed(path):
        if sample.id in embeddings:
            sample = replace(sample, embedding=np.frombuffer(embeddings[sample.id]["embedding"], np.int8))
        taught = landmarks.get(sample.id)
        if sample.landmarks68 is None and taught and taught["disagreement"] <= TEACHER_DISAGREEMENT:
            points = np.array(taught["landmarks68"], np.float64).reshape(68, 2)
            sample = replace(sample, landmarks68=points, rough_landmarks=True)
        yield sample


def _teacher(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in open_parquet(path).read().to_pylist()} if path.exists() else {}
