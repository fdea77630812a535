"""`Sample`, one labelled face as a data set's reader gives it; and the check of its labels.

A reader gives what its files say, right or wrong, with a `problem` where it could not read a face's labels;
`check_sample` names what cannot be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from faceum.crop import box_from_points
from faceum.errors import DataError, FaceumError, ImageError
from faceum.image import read_image
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES

OLDEST = 130
"""Ages above this many years are wrong labels."""

EMBEDDING = 256
"""Numbers in another network's vector of a face."""


class Piece(Protocol):
    """An image inside a larger file, read when it is asked for: small, picklable, named by its str()."""

    @property
    def path(self) -> Path:
        """The file that holds it."""
        ...

    @property
    def offset(self) -> int:
        """The byte at which its part of the file begins."""
        ...

    def read(self) -> bytes:
        """The image's encoded bytes; DataError naming the file where they are not there."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One labelled face of a data set; every label is None where the set does not know it.

    id: unique in its source, fit to be a row's name. source: the data set's name.
    image: the file's path, its encoded bytes, or where in a larger file these are. file: that of a table
        which has the bytes in the row of this id.
    box: (4,) x0 y0 x1 y1, points5: (5, 2), landmarks68: (68, 2) in iBUG order; all in image pixels.
    age: years. age_sigma: standard deviation of its annotators, years. gender: 0 male, 1 female, as the set's
        makers perceived it. attributes: (40,) bool.
    expression_votes: (8,) in the order of tasks.EXPRESSIONS; one vote where the set has one label.
    mask: gives (h, w) uint8 class ids of tasks.PARSING_CLASSES when called; it covers the whole image,
        perhaps at another resolution.
    identity: number or name of the person, unique in its source. masked: wears a face mask.
    rough_landmarks: the landmarks are another network's answer. embedding: (256,) another network's vector
        of the face, of which only the direction counts.
    problem: what its reader found wrong with its labels, a sentence without a full stop that names the file
        where it stands; such a label is not None, but what it holds means nothing.
    """

    id: str
    source: str
    image: Path | bytes | Piece
    box: np.ndarray | None = None
    points5: np.ndarray | None = None
    age: float | None = None
    age_sigma: float | None = None
    gender: int | None = None
    attributes: np.ndarray | None = None
    expression_votes: np.ndarray | None = None
    mask: Callable[[], np.ndarray] | None = None
    landmarks68: np.ndarray | None = None
    identity: int | str | None = None
    masked: bool | None = None
    rough_landmarks: bool = False
    embedding: np.ndarray | None = None
    problem: str | None = None
    file: Path | None = None

    @property
    def name(self) -> str:
        """How a sentence names this sample: its file where it has one, and the row in it."""
        if not isinstance(self.image, bytes):
            return str(self.image)
        return f"{self.source} {self.id}" if self.file is None else f"{self.file}, row {self.id}"

    def read(self) -> np.ndarray:
        """The image, RGB uint8 (H, W, 3), upright; DataError naming it where it cannot be read."""
        try:
            image = self.image
            return read_image(image if isinstance(image, (Path, bytes)) else image.read())
        except FaceumError as error:
            raise DataError(f"{self.name}: {error}") from error


def check_sample(sample: Sample) -> None:
    """Raise DataError naming the file and the label that cannot be right; reads the mask, not the image."""
    problem = _first_problem(sample)
    if problem:
        raise DataError(f"{sample.name}: {problem}.")


def checked(samples: Iterable[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[Sample]:
    """The samples whose labels can be right; of the others the sentence goes to `skipped`.

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
    """Votes (8,) float32 with a single one, for sets that give each face one expression."""
    votes = np.zeros(len(EXPRESSIONS), np.float32)
    votes[EXPRESSIONS.index(expression)] = 1
    return votes


def box_by_points(points: np.ndarray) -> np.ndarray | None:
    """The box (4,) of a face by its 5 or 68 points; None where they are of another number or no face's."""
    if np.shape(points) not in ((5, 2), (68, 2)):
        return None
    try:
        return box_from_points(points)
    except ImageError:
        return None  # whoever checks the points will say what is wrong with them


def _first_problem(sample: Sample) -> str | None:
    if sample.problem:
        return sample.problem
    if sample.age is not None and not 0 <= sample.age <= OLDEST:
        return f"its age is {sample.age:g}; ages lie between 0 and {OLDEST} years"
    if sample.age_sigma is not None and not 0 < sample.age_sigma <= OLDEST:
        return f"its annotators' deviation is {sample.age_sigma:g} years; one above 0 is wanted"
    if sample.gender is not None and sample.gender not in (0, 1):
        return f"its gender is {sample.gender}; 0 (male), 1 (female) or none is wanted"
    return (
        _attributes_problem(sample.attributes)
        or _votes_problem(sample.expression_votes)
        or _points_problem("landmarks", sample.landmarks68, 68)
        or _points_problem("points", sample.points5, 5)
        or _embedding_problem(sample.embedding)
        or _box_problem(sample.box)
        or (_mask_problem(sample.mask()) if sample.mask is not None else None)
    )


def _attributes_problem(attributes: np.ndarray | None) -> str | None:
    if attributes is None:
        return None
    if np.shape(attributes) != (len(ATTRIBUTES),):
        return f"it has {np.size(attributes)} attributes; {len(ATTRIBUTES)} are wanted"
    right = (np.equal(attributes, 0) | np.equal(attributes, 1)).all()
    return None if right else "its attributes hold something other than 0 and 1"


def _votes_problem(votes: np.ndarray | None) -> str | None:
    if votes is None:
        return None
    if np.shape(votes) != (len(EXPRESSIONS),):
        return f"it has votes for {np.size(votes)} expressions; {len(EXPRESSIONS)} are wanted"
    if not np.isfinite(votes).all() or np.min(votes) < 0:
        return "its expression votes hold a negative number or NaN"
    return None if np.sum(votes) > 0 else "its expression votes are all zero, so they say nothing"


def _points_problem(what: str, points: np.ndarray | None, count: int) -> str | None:
    if points is None:
        return None
    if np.shape(points) != (count, 2):
        return f"it has {len(points)} {what}; {count} of x and y are wanted"
    return None if np.isfinite(points).all() else f"its {what} hold NaN or infinity"


def _embedding_problem(embedding: np.ndarray | None) -> str | None:
    if embedding is None:
        return None
    if np.shape(embedding) != (EMBEDDING,):
        return f"another network's vector of it has {np.size(embedding)} numbers; {EMBEDDING} are wanted"
    if not np.isfinite(embedding).all() or not np.any(embedding):
        return "another network's vector of it holds NaN or infinity, or nothing but zeros"
    return None


def _box_problem(box: np.ndarray | None) -> str | None:
    if box is None:
        return None
    if np.shape(box) != (4,) or not np.isfinite(box).all():
        return f"its box {np.asarray(box).tolist()} is not four finite numbers x0 y0 x1 y1"
    if box[2] <= box[0] or box[3] <= box[1]:
        return f"its box {np.asarray(box).tolist()} is reversed or empty; x0 < x1 and y0 < y1 are wanted"
    return None


def _mask_problem(mask: np.ndarray) -> str | None:
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        return f"its mask is {mask.dtype} {mask.shape}; one class id (uint8) a pixel is wanted"
    if mask.max() >= len(PARSING_CLASSES):
        return f"its mask holds class {mask.max()}; classes are 0 to {len(PARSING_CLASSES) - 1}"
    return None
