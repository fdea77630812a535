"""Where samples come from: folders of people, an image's key, and a face's own crop."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceum.crop import CropSpec, crop_face
from faceum.errors import GalleryError
from faceum.files import sha256_of
from faceum.image.header import is_image_name

if TYPE_CHECKING:
    from faceum.results import Face

CROP = CropSpec(policy="similarity", size=160, grid=1)
"""How the crops look that a gallery keeps, and those on contact sheets."""


def people_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each person's name and image, sorted by name, from a folder with one folder of images per person.

    Folders within a person's folder belong to the person; hidden files and folders are left out. GalleryError
    where there is no such folder.
    """
    if not folder.is_dir():
        raise GalleryError(
            f"There is no folder {folder}; give one that holds a folder of images for each person."
        )
    people = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    if not people:
        raise GalleryError(f"{folder} holds no folders; put each person's images into a folder of that name.")
    for person in people:
        for place, folders, files in os.walk(person):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if is_image_name(name) and not name.startswith("."):
                    yield person.name, Path(place, name)


def image_key(source: Any) -> str:
    """Return the SHA-256 of an image: of a file's bytes, or of an array's values and shape."""
    if isinstance(source, (str, os.PathLike)):
        return sha256_of(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return hashlib.sha256(source).hexdigest()
    values = np.ascontiguousarray(source)
    return hashlib.sha256(repr((values.shape, values.dtype.str)).encode() + values.tobytes()).hexdigest()


def face_crop(image: np.ndarray, face: Face) -> np.ndarray:
    """Return the face cut out of its image, upright, (160, 160, 3) uint8 RGB."""
    return crop_face(image, CROP, face.box, face.points5).image


def face_jpeg(image: np.ndarray, face: Face) -> bytes:
    """Return the face's crop as the bytes of a JPEG file."""
    _, encoded = cv2.imencode(".jpg", face_crop(image, face)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(encoded.tobytes())
