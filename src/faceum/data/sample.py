"""One labelled face as a data set's reader yields it, and the check of its labels.

A reader yields what its files say, right or wrong, with a `problem` if it could not read a face's labels;
`check_sample` names what cannot be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from faceum.crop import box_from_points
from faceum.errors import DataError, FaceumError, ImageError, count_noun
from faceum.image import read_image
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES, TASKS

OLDEST = 130
"""Ages above this many years are wrong labels."""

(EMBEDDING_DIM,) = TASKS["recognition"].label_shape
"""Length of another network's embedding of a face."""


class ImagePart(Protocol):
    """An image inside a larger file, read on demand. It is small and picklable; str() names it."""

    @property
    def path(self) -> Path:
        """The file that contains it."""
        ...

    @property
    def offset(self) -> int:
        """The byte at which its part of the file begins."""
        ...

    def read(self) -> bytes:
        """Return the image's encoded bytes; raises DataError naming the file if they are not there."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One labelled face of a data set. A label is None if the set does not have it.

    id: unique in its source. source: the name of the data set.
    image: the file's path, its encoded bytes, or their place in a larger file. file: the table that contains
        the bytes in the row named by `id`.
    box: (4,) x0 y0 x1 y1, points5: (5, 2), landmarks68: (68, 2) in iBUG order; all in image pixels.
    age: years. age_sigma: standard deviation of its annotators in years. gender: 0 male, 1 female, as
        perceived by the makers of the set. smile: whether the face smiles. attributes: (40,) bool.
    expression_votes: (8,) in the order of tasks.EXPRESSIONS; a single vote if the set has one label per face.
    parsing: a function that returns (h, w) uint8 class ids of tasks.PARSING_CLASSES. They cover the whole
        image, perhaps at another resolution.
    identity: number or name of the person, unique in its source. wears_mask: whether the face wears a mask.
    rough_landmarks: the landmarks were predicted by another network. embedding: (256,) another network's
        embedding of the face; only its direction matters.
    problem: what the reader found wrong with the labels, a sentence without a full stop that names the file.
        Such a label is not None, but its value means nothing.
    """

    id: str
    source: str
    image: Path | bytes | ImagePart
    box: np.ndarray | None = None
    points5: np.ndarray | None = None
    age: float | None = None
    age_sigma: float | None = None
    gender: int | None = None
    smile: bool | None = None
    attributes: np.ndarray | None = None
    expression_votes: np.ndarray | None = None
    parsing: Callable[[], np.ndarray] | None = None
    landmarks68: np.ndarray | None = None
    identity: int | str | None = None
    wears_mask: bool | None = None
    rough_landmarks: bool = False
    embedding: np.ndarray | None = None
    problem: str | None = None
    file: Path | None = None

    @property
    def name(self) -> str:
        """The sample's name in messages: the file of its image, or the row of its table."""
        if not isinstance(self.image, bytes):
            return str(self.image)
        return f"{self.source} {self.id}" if self.file is None else f"{self.file}, row {self.id}"

    @property
    def partial_attributes(self) -> np.ndarray | None:
        """The attributes (40,) as int8: 1 yes, 0 no, -1 unknown; None if nothing is known.

        In a set without the 40 attributes, gender gives Male and smile gives Smiling.
        """
        if self.attributes is not None:
            return np.asarray(self.attributes, np.int8)
        known = {"Male": None if self.gender is None else self.gender == 0, "Smiling": self.smile}
        if all(value is None for value in known.values()):
            return None
        values = np.full(len(ATTRIBUTES), -1, np.int8)
        for name, value in known.items():
            if value is not None:
                values[ATTRIBUTES.index(name)] = value
        return values

    def has_label(self, task: str) -> bool:
        """Return whether the sample has a label of a task."""
        return any(getattr(self, column) is not None for column in TASKS[task].label_columns)

    def read(self) -> np.ndarray:
        """Read the image as RGB uint8 (H, W, 3), upright; raises DataError naming it if that fails."""
        try:
            image = self.image
            return read_image(image if isinstance(image, (Path, bytes)) else image.read())
        except FaceumError as error:
            raise DataError(f"{self.name}: {error}") from error


def check_sample(sample: Sample) -> None:
    """Raise DataError if a label cannot be right, naming file and label. Reads the parsing, not the image."""
    problem = _first_problem(sample)
    if problem:
        raise DataError(f"{sample.name}: {problem}.")


def keep_valid(samples: Iterable[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[Sample]:
    """Yield the samples whose labels can be right; append the message of the others to `skipped`.

    refuse: raise the first DataError instead.
    """
    for sample in samples:
        try:
            check_sample(sample)
        except DataError as error:
            if refuse:
                raise
            skipped.append(str(error))
            continue
        yield sample


def one_vote(expression: str) -> np.ndarray:
    """Return votes (8,) float32 with a single vote, for sets that give each face one expression."""
    votes = np.zeros(len(EXPRESSIONS), np.float32)
    votes[EXPRESSIONS.index(expression)] = 1
    return votes


def box_by_points(points: np.ndarray) -> np.ndarray | None:
    """Return the box (4,) of a face by its 5 or 68 points; None if they are not the points of a face."""
    if np.shape(points) not in ((5, 2), (68, 2)):
        return None
    try:
        return box_from_points(points)
    except ImageError:
        return None  # check_sample says what is wrong with the points


def _first_problem(sample: Sample) -> str | None:
    if sample.problem:
        return sample.problem
    if sample.age is not None and not 0 <= sample.age <= OLDEST:
        return f"its age is {sample.age:g}; ages lie between 0 and {OLDEST} years"
    if sample.age_sigma is not None and not 0 < sample.age_sigma <= OLDEST:
        return f"its annotators' deviation is {sample.age_sigma:g} years; expected one above 0"
    if sample.gender is not None and sample.gender not in (0, 1):
        return f"its gender is {sample.gender}; expected 0 (male), 1 (female) or none"
    return (
        _attributes_problem(sample.attributes)
        or _votes_problem(sample.expression_votes)
        or _points_problem("landmarks", sample.landmarks68, 68)
        or _points_problem("points", sample.points5, 5)
        or _embedding_problem(sample.embedding)
        or _box_problem(sample.box)
        or (_parsing_problem(sample.parsing()) if sample.parsing is not None else None)
    )


def _attributes_problem(attributes: np.ndarray | None) -> str | None:
    if attributes is None:
        return None
    if np.shape(attributes) != (len(ATTRIBUTES),):
        return f"it has {count_noun(np.size(attributes), 'attribute')}; expected {len(ATTRIBUTES)}"
    right = (np.equal(attributes, 0) | np.equal(attributes, 1)).all()
    return None if right else "its attributes hold values other than 0 and 1"


def _votes_problem(votes: np.ndarray | None) -> str | None:
    if votes is None:
        return None
    if np.shape(votes) != (len(EXPRESSIONS),):
        return f"it has votes for {count_noun(np.size(votes), 'expression')}; expected {len(EXPRESSIONS)}"
    if not np.isfinite(votes).all() or np.min(votes) < 0:
        return "its expression votes hold a negative number or NaN"
    return None if np.sum(votes) > 0 else "its expression votes are all zero"


def _points_problem(what: str, points: np.ndarray | None, count: int) -> str | None:
    if points is None:
        return None
    if np.shape(points) != (count, 2):
        return f"it has {len(points)} {what}; expected {count} of x and y"
    return None if np.isfinite(points).all() else f"its {what} hold NaN or infinity"


def _embedding_problem(embedding: np.ndarray | None) -> str | None:
    if embedding is None:
        return None
    if np.shape(embedding) != (EMBEDDING_DIM,):
        return f"its embedding has {count_noun(np.size(embedding), 'number')}; expected {EMBEDDING_DIM}"
    if not np.isfinite(embedding).all() or not np.any(embedding):
        return "its embedding holds NaN or infinity, or only zeros"
    return None


def _box_problem(box: np.ndarray | None) -> str | None:
    if box is None:
        return None
    if np.shape(box) != (4,) or not np.isfinite(box).all():
        return f"its box {np.asarray(box).tolist()} is not four finite numbers x0 y0 x1 y1"
    if box[2] <= box[0] or box[3] <= box[1]:
        return f"its box {np.asarray(box).tolist()} is reversed or empty; expected x0 < x1 and y0 < y1"
    return None


def _parsing_problem(classes: np.ndarray) -> str | None:
    if classes.ndim != 2 or classes.dtype != np.uint8 or classes.size == 0:
        return f"its parsing is {classes.dtype} {classes.shape}; expected one class id (uint8) per pixel"
    if classes.max() >= len(PARSING_CLASSES):
        return f"its parsing holds class {classes.max()}; classes are 0 to {len(PARSING_CLASSES) - 1}"
    return None
