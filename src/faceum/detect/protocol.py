"""What every face detector takes and gives: RGB image in, `Detection`s, largest first, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from faceum.errors import ImageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One face in an image, in continuous pixels of that image.

    box: (4,) float32, x0 y0 x1 y1; may reach over the image's edge where the face does.
    points5: (5, 2) float32, x then y: left eye, right eye, nose tip, left and right mouth corner, left and
        right as seen in the image.
    score: 0..1, the detector's own; comparable within one detector only.
    """

    box: np.ndarray
    points5: np.ndarray
    score: float


class Detector(Protocol):
    """A face detector. Many threads may share one."""

    name: str
    """The word by which `load_detector` knows it."""

    def detect(self, image_HWC: np.ndarray) -> list[Detection]:
        """All faces of an upright RGB uint8 image (H, W, 3), largest box first.

        An empty list where there is no face, also for an image of any odd size; ImageError for an array
        that is not such an image.
        """
        ...


def check_image(image_HWC: np.ndarray) -> None:
    """ImageError where the array is not an RGB uint8 image (H, W, 3) of at least one pixel."""
    shape = image_HWC.shape
    if len(shape) != 3 or shape[2] != 3 or image_HWC.dtype != np.uint8 or not image_HWC.size:
        raise ImageError(
            f"A detector was given {image_HWC.dtype} of shape {shape}; "
            "it takes an RGB image as uint8 of shape (height, width, 3)."
        )
