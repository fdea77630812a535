"""The faces on which an exported file is calibrated and compared with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceum.crop import Crop, CropSpec, crop_face, network_input
from faceum.detect.base import load_detector
from faceum.errors import ImageError, ModelError, count_noun
from faceum.image import read_image

MOST_FACES = 100
"""Largest number of faces to calibrate and compare on."""

FEWEST_TO_CALIBRATE = 8
"""Smallest number of faces to calibrate on; ranges of fewer faces are too narrow for others."""

Inputs = tuple[np.ndarray, np.ndarray]
"""Crops (n, 3, S, S), float32 in 0..1, and face tokens (n, N), bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The inputs that a file is compared on.

    compared: inputs to compare the file with torch on.
    calibration: inputs to find the ranges of int8 on; None without int8.
    faces: number of real faces among the compared inputs; 0 means noise.
    on: what they are, for the description of the file.
    """

    compared: Inputs
    calibration: Inputs | None
    faces: int
    on: str


def evidence_in(images: Sequence[Path], spec: CropSpec, *, calibrate: bool) -> Evidence:
    """Return the faces of the images, or noise if there are no images.

    calibrate: use the faces of every other image to calibrate on; those of a single image serve for both.
    Raises ModelError if there are too few of them, or an image cannot be read.
    """
    crops, masks, image_n = faces_in(images, spec)
    if calibrate:
        turn_n = np.unique(image_n, return_inverse=True)[1] % 2
        first_n, rest_n = turn_n == 0, turn_n == 1
        if first_n.sum() < FEWEST_TO_CALIBRATE:
            raise ModelError(
                "int8 is calibrated on the faces of every other image, expected at least "
                f"{FEWEST_TO_CALIBRATE}; got {count_noun(int(first_n.sum()), 'face')} of "
                f"{count_noun(len(images), 'image')}: give more images."
            )
        compared_n, on = rest_n, "faces it was not calibrated on"
        if not rest_n.any():
            compared_n, on = first_n, "the faces it was calibrated on, of one image"
        return Evidence(
            compared=(network_input(crops[compared_n]), masks[compared_n]),
            calibration=(network_input(crops[first_n]), masks[first_n]),
            faces=int(compared_n.sum()),
            on=on,
        )
    if len(crops):
        inputs, on = (network_input(crops), masks), "faces"
    else:
        inputs, on = noise(spec), "noise, as no images were given"
    return Evidence(compared=inputs, calibration=None, faces=len(crops), on=on)


def faces_in(images: Sequence[Path], spec: CropSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return crops (n, S, S, 3) uint8, face tokens (n, N) bool, and the index of each one's image (n,) int.

    At most MOST_FACES. Raises ModelError if an image cannot be read, or if no image has a face.
    """
    detector = load_detector()
    crops: list[Crop] = []
    places: list[int] = []
    for place, path in enumerate(images):
        try:
            image = read_image(path)
        except ImageError as error:
            raise ModelError(f"An image to compare on cannot be read: {error}") from None
        more = [crop_face(image, spec, face.box, face.points5) for face in detector.detect(image)]
        crops += more
        places += [place] * len(more)
        if len(crops) >= MOST_FACES:
            break
    if images and not crops:
        raise ModelError("None of the images to compare on has a face; give others.")
    shape = (0, spec.size, spec.size, 3)
    pixels = np.array([crop.image for crop in crops[:MOST_FACES]], np.uint8).reshape(-1, *shape[1:])
    masks = np.array([crop.face_tokens_N for crop in crops[:MOST_FACES]], bool).reshape(-1, spec.grid**2)
    return pixels, masks, np.array(places[:MOST_FACES], int)


def noise(spec: CropSpec) -> Inputs:
    """Return four crops (4, 3, S, S) of noise, float32 in 0..1, and face tokens (4, N), to compare on."""
    rng = np.random.default_rng(0)
    crops = rng.uniform(size=(4, 3, spec.size, spec.size)).astype(np.float32)
    return crops, rng.uniform(size=(4, spec.grid**2)) < 0.5
