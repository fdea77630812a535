"""Folders of images with `.pts` files (300W, Helen) -> samples with 68 landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample, box_by_points
from faceum.datasets.tables import choose, find, numbers, read_or_tell
from faceum.errors import DataError
from faceum.image_header import IMAGE_SUFFIXES

SPLITS_300W = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
    "full": ("helen/testset", "lfpw/testset", "ibug"),
    "test": ("01_Indoor", "02_Outdoor"),
}
"""The folders of 300W's usual splits; "test" is the private set of the challenge, published later."""
SPLITS_HELEN = {"train": ("trainset",), "test": ("testset",), "all": ("trainset", "testset")}


def read_300w(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of 300W: root has afw, helen/{trainset,testset}, lfpw/{trainset,testset}, ibug, 01_Indoor ..."""
    return _read("300w", root, choose(split, SPLITS_300W, "300W"))


def read_helen(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of Helen with iBUG's 68 points: root holds trainset and testset, itself or in helen/."""
    return _read("helen", root, choose(split, SPLITS_HELEN, "Helen"))


def read_pts(path: Path) -> np.ndarray:
    """The points (n, 2) float64 of a `.pts` file, in continuous coordinates.

    These files count pixels from one, as MATLAB does, so half a pixel goes off: the centre of the first
    pixel is 1 there and 0.5 here. DataError for a file of another form.
    """
    text = path.read_text(errors="replace")
    header, opened, body = text.partition("{")
    body, closed, _ = body.partition("}")
    if not (opened and closed and "n_points" in header):
        raise DataError(f"{path} is no .pts file: 'n_points: 68' and points between braces are wanted.")
    coordinates = numbers(body.split(), path)
    if len(coordinates) % 2:
        raise DataError(f"{path} holds {len(coordinates)} numbers, which are no pairs of x and y.")
    return coordinates.reshape(-1, 2) - 0.5


def _read(source: str, root: str | Path, folders: tuple[str, ...]) -> Iterator[Sample]:
    for name in folders:
        folder = find(root, f"{source}'s {name}", name, f"{source}/{name}", f"{source.upper()}/{name}")
        files = sorted(folder.rglob("*.pts"))
        if not files:
            raise DataError(f"{source}'s {name} has no landmarks: looked for *.pts in {folder}.")
        for path in files:
            landmarks, wrong_points = read_or_tell(read_pts, path, otherwise=np.zeros((0, 2)))
            image, no_image = read_or_tell(_image_of, path, otherwise=path.with_suffix(".jpg"))
            yield Sample(
                id=f"{source}-{name.replace('/', '-')}-{path.stem}",
                source=source,
                image=image,
                box=box_by_points(landmarks),
                landmarks68=landmarks,
                problem=no_image or wrong_points,
            )


def _image_of(path: Path) -> Path:
    for suffix in IMAGE_SUFFIXES:
        for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
            if candidate.exists():
                return candidate
    raise DataError(f"{path} has no image: looked for {path.stem}.jpg or .png beside it.")
