"""A detector that searches a reduced copy of each image: faster, and it misses small faces."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from faceum.detect.base import MIN_SCORE, Detection, Detector, check_image

SMALLEST = 24
"""Longer side in pixels of the smallest faces that detectors find."""


class ReducedDetector:
    """Finds faces from a given size on; their points are measured again in the image itself.

    It is a `Detector`, with the method `refine_points` if the detector inside has one.
    """

    def __init__(self, detector: Detector, min_face: float) -> None:
        """min_face: pixels of a face's longer side, above SMALLEST; smaller faces may be missed."""
        self.name = detector.name
        self._detector = detector
        self._scale = SMALLEST / min_face
        self._refine = getattr(detector, "refine_points", None)
        if self._refine is not None:
            self.refine_points = self._refine

    def detect(self, image_HWC: np.ndarray, *, min_score: float = MIN_SCORE) -> list[Detection]:
        """Return the faces of an image in its own pixels; see `Detector.detect`."""
        check_image(image_HWC)
        height, width = image_HWC.shape[:2]
        size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
        reduced = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
        ratio = np.array([width / size[0], height / size[1]], np.float32)
        found = self._detector.detect(reduced, min_score=min_score)
        faces = [
            replace(
                face,
                box=face.box * np.tile(ratio, 2),
                points5=None if face.points5 is None else face.points5 * ratio,
            )
            for face in found
        ]
        if self._refine is None or not faces or any(face.points5 is None for face in faces):
            return faces
        points = self._refine(image_HWC, np.stack([np.asarray(face.points5) for face in faces]))
        return [replace(face, points5=one) for face, one in zip(faces, points, strict=True)]


def reduce_detector(detector: Detector, min_face: float) -> Detector:
    """Return the detector, inside a ReducedDetector if `min_face` is above SMALLEST."""
    return detector if min_face <= SMALLEST else ReducedDetector(detector, min_face)
