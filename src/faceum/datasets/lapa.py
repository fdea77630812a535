"""Read LaPa: a parsing in our classes, box and five points.

LaPa's 11 classes become ours: skin, nose, lips, inner mouth and hair by name. Left and right are
decided by the landmarks of the same image, not by name, since sets disagree about whose left it is: ours is
CelebAMask-HQ's, the person's own left. LaPa has no ears, neck, glasses, hat, earring, necklace and cloth:
there its parsing says background, which contradicts CelebAMask-HQ for a network trained on both.
Its 106 landmarks do not contain the 68 (eyes have eight points, brows a thickness), so none are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample, box_by_points
from faceum.datasets.tables import choose, find, list_images, parse_numbers, read_parsing, value_or_problem
from faceum.datasets.text import read_lines
from faceum.errors import DataError
from faceum.tasks import PARSING_CLASSES

SPLITS = {name: (name,) for name in ("train", "val", "test")} | {"all": ("train", "val", "test")}
TO_OURS = np.array(
    [
        PARSING_CLASSES.index(name)
        for name in ("background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "mouth",
                     "l_lip", "hair")
    ],
    np.uint8,
)  # fmt: skip
"""LaPa's class id -> ours, before left and right are decided."""
POINTS5 = (104, 105, 54, 84, 90)
"""Of the 106 landmarks: the pupils, the nose tip and the mouth's corners, left and right as seen upright."""
SIDES = (((2, 3), slice(33, 42), slice(42, 51)), ((4, 5), slice(66, 75), slice(75, 84)))
"""Two classes that are each other's mirror, and the landmarks of the part on the person's right and left."""


def read_lapa(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of LaPa: root has {train,val,test}/{images/*.jpg, labels/*.png, landmarks/*.txt}."""
    for part in choose(split, SPLITS, "LaPa"):
        found = find(root, f"LaPa's {part} images", f"{part}/images")
        images = list_images(found)
        without = _list_points(found.parent / "landmarks") - {image.stem for image in images}
        for image in [*images, *(found / f"{stem}.jpg" for stem in sorted(without))]:
            folder = image.parent.parent
            path = folder / "landmarks" / f"{image.stem}.txt"
            points, problem = value_or_problem(_landmarks, path, default=np.full((106, 2), np.nan))
            points5 = points[list(POINTS5)]
            if image.stem in without:
                problem = f"{path} has no image: looked for {image}"
            yield Sample(
                id=f"lapa-{image.stem}",
                source="lapa",
                image=image,
                box=box_by_points(points5),
                points5=points5,
                parsing=partial(_read_parsing, folder / "labels" / f"{image.stem}.png", points),
                problem=problem,
            )


def _list_points(folder: Path) -> set[str]:
    """Return the stems of the files of landmarks in a folder."""
    return {path.stem for path in folder.glob("*") if path.suffix.lower() == ".txt"}


def _landmarks(path: Path) -> np.ndarray:
    if not path.exists():
        raise DataError(f"LaPa's landmarks are missing: looked for {path}.")
    rows = [parse_numbers(words, where) for where, words in read_lines(path)]
    points = [row for row in rows if len(row) == 2]
    if len(rows) != 107 or rows[0].tolist() != [106] or len(points) != 106:
        raise DataError(f"{path} holds {len(points)} points; expected the number 106 and 106 points.")
    if not np.isfinite(points).all():
        raise DataError(f"{path} holds NaN or infinity; expected numbers.")
    return np.array(points)


def _read_parsing(path: Path, points: np.ndarray) -> np.ndarray:
    lapa = read_parsing(path)
    if lapa.max() >= len(TO_OURS):
        raise DataError(f"{path} holds class {lapa.max()}; LaPa's classes are 0 to {len(TO_OURS) - 1}.")
    to_ours = TO_OURS.copy()
    for classes, right, left in SIDES:
        rights = 0.0  # how much nearer the first class is to the person's right than to the left
        for sign, class_id in zip((1, -1), classes, strict=True):
            if (lapa == class_id).any():
                centre = np.argwhere(lapa == class_id).mean(axis=0)[::-1] + 0.5
                distances = [np.linalg.norm(points[side].mean(axis=0) - centre) for side in (left, right)]
                rights += sign * float(distances[0] - distances[1])
        if rights > 0:
            to_ours[list(classes)] = TO_OURS[list(classes[::-1])]
    ours: np.ndarray = to_ours[lapa]
    return ours
