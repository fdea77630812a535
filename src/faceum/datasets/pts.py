"""Read folders of images with `.pts` files (300W, Helen): 68 landmarks per face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample, box_by_points
from faceum.datasets.tables import choose, find, list_images, parse_numbers, value_or_problem
from faceum.datasets.text import read_text_lines
from faceum.errors import DataError

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
    """Yield the faces of 300W: root has afw, helen, lfpw, ibug, 01_Indoor and 02_Outdoor."""
    return _read("300w", root, choose(split, SPLITS_300W, "300W"))


def read_helen(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of Helen with iBUG's 68 points: root, or root/helen, has trainset and testset."""
    return _read("helen", root, choose(split, SPLITS_HELEN, "Helen"))


def read_pts(path: Path) -> np.ndarray:
    """Return the points (n, 2) float64 of a `.pts` file, in continuous coordinates.

    These files count pixels from one, as MATLAB does: the centre of the first pixel is 1 there and 0.5 here.
    Raises DataError for a file of another form.
    """
    text = "\n".join(line for _, line in read_text_lines(path))
    header, opened, body = text.partition("{")
    body, closed, _ = body.partition("}")
    if not (opened and closed and "n_points" in header):
        raise DataError(f"{path} is not a .pts file: expected 'n_points: 68' and points between braces.")
    coordinates = parse_numbers(body.split(), path)
    if len(coordinates) % 2:
        raise DataError(f"{path} holds {len(coordinates)} numbers; expected pairs of x and y.")
    return coordinates.reshape(-1, 2) - 0.5


def _read(source: str, root: str | Path, folders: tuple[str, ...]) -> Iterator[Sample]:
    for name in folders:
        folder = find(root, f"{source}'s {name}", name, f"{source}/{name}", f"{source.upper()}/{name}")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".pts")
        if not files:
            raise DataError(f"{source}'s {name} has no landmarks: looked for *.pts in {folder}.")
        images = {path.with_suffix(""): path for path in list_images(folder)}
        for path in files:
            landmarks, problem = value_or_problem(read_pts, path, default=np.zeros((0, 2)))
            image = images.get(path.with_suffix(""))
            if image is None:
                problem = f"{path} has no image: looked for {path.stem}.jpg or .png in the same folder"
            yield Sample(
                id=f"{source}-{name.replace('/', '-')}-{path.stem}",
                source=source,
                image=image or path.with_suffix(".jpg"),
                box=box_by_points(landmarks),
                landmarks68=landmarks,
                problem=problem,
            )
