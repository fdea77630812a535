"""Paths that a user names in, the images they stand for out; folders are walked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from faceum.errors import ImageError

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Files in a folder are taken for images by these endings, in small or capital letters."""


def list_images(paths: Iterable[Path], leave_out: Path | None = None) -> tuple[list[Path], list[str]]:
    """The images that the paths stand for, and a sentence for each folder that holds none.

    A file stands for itself, whatever its name, also when it does not exist: reading it will say so. A folder
    stands for the images in it and below, by name, hidden ones left out. An image that is named twice
    comes once. leave_out: a folder below which nothing is taken, because results are written there;
    ImageError where it is itself one of the folders to read.
    """
    found: dict[Path, None] = {}  # a dict, for its order
    empty = []
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        if leave_out is not None and _same(path, leave_out):
            raise ImageError(
                f"The results would be written to {leave_out}, the folder that is read; "
                f"choose another, for example --out {leave_out / 'faceum'}."
            )
        inside = _below(path, leave_out)
        if not inside:
            empty.append(f"The folder {path} holds no images ({', '.join(ENDINGS)}); name another.")
        found.update(dict.fromkeys(inside))
    return list(found), empty


def _below(folder: Path, leave_out: Path | None) -> list[Path]:
    images = []
    for place, folders, files in os.walk(folder):
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if leave_out is None or not _same(Path(place, name), leave_out)]
        names = sorted(name for name in files if name.lower().endswith(ENDINGS))
        images += [Path(place, name) for name in names if not name.startswith(".")]
    return images


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
