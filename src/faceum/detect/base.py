"""The detector protocol, the record of a face found, and the detectors by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from faceum.errors import ImageError, ModelError, unknown_name

MIN_SCORE = 0.5
"""Faces below this score are not reported unless the caller asks for less."""

AUTO = "centerface"
"""The detector that "auto" means; docs/log.md holds the measurements behind the choice."""

DETECTORS = {"centerface": ("faceum.detect.centerface", "CenterFace")}
"""Name -> module and class of each detector; the module is imported when the detector is asked for."""

FILE_DETECTOR = ("faceum.detect.scrfd", "SCRFD")
"""Module and class of the detector that runs an .onnx file in SCRFD's convention."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """A face found or given, before the network has seen it, in continuous pixels of its image.

    box: (4,) float32, x0 y0 x1 y1; may reach beyond the image's edge.
    points5: (5, 2) float32, x then y: left eye, right eye, nose tip, left and right mouth corner, left and
        right as the viewer sees them; None if only the box is known.
    score: the detector's confidence in 0..1, comparable within one detector only; None if the box was given.
    """

    box: np.ndarray
    points5: np.ndarray | None = None
    score: float | None = None

    def __repr__(self) -> str:
        score = "" if self.score is None else f"score={self.score:.2f}, "
        return f"Detection({score}box={tuple(round(float(edge)) for edge in self.box)})"


class Detector(Protocol):
    """A face detector. Many threads may share one.

    A detector may also have two methods: `detect_many(images, *, min_score) -> list[list[Detection]]`, which
    `detect_many` of this module calls and which is quicker for images of one size on a GPU; and
    `refine_points(image, points)`, which measures rough points (n, 5, 2) of faces that are turned far again.
    """

    name: str
    """The name by which `load_detector` knows it."""

    def detect(self, image_HWC: np.ndarray, *, min_score: float = MIN_SCORE) -> list[Detection]:
        """Return all faces of an upright RGB uint8 image (H, W, 3) with their scores, largest box first.

        min_score: faces below this score are left out. Returns an empty list if there is no face, for an
        image of any size; raises ImageError if the array is not such an image.
        """
        ...


def load_detector(name: str = "auto", *, threads: int | None = None, device: str = "cpu") -> Detector:
    """Return the named detector; its files are read when it first sees an image.

    threads: threads per run; None for all that affinity and cgroup allow. device: "cpu", "cuda" or "coreml";
    where onnxruntime cannot use it, the detector runs on the CPU and logs that.
    name: also the path of an .onnx file in SCRFD's convention. Raises ModelError for an unknown name.
    """
    chosen = AUTO if name == "auto" else name
    if not name.endswith(".onnx") and chosen not in DETECTORS:
        raise ModelError(unknown_name(name, "detector", ["auto", *DETECTORS]))
    module, class_name = DETECTORS.get(chosen, FILE_DETECTOR)
    kind = getattr(importlib.import_module(module), class_name)
    file = (name,) if name.endswith(".onnx") else ()
    detector: Detector = kind(*file, threads=threads, device=device)
    return detector


def detect_many(
    detector: Detector, images: Sequence[np.ndarray], *, min_score: float = MIN_SCORE
) -> list[list[Detection]]:
    """Return the faces of each image, images of one size together if the detector can do that."""
    together = getattr(detector, "detect_many", None)
    if together is not None:
        found: list[list[Detection]] = together(images, min_score=min_score)
        return found
    return [detector.detect(image, min_score=min_score) for image in images]


def check_image(image_HWC: np.ndarray) -> None:
    """Raise ImageError if the array is not an RGB uint8 image (H, W, 3) of at least one pixel."""
    shape = image_HWC.shape
    if len(shape) != 3 or shape[2] != 3 or image_HWC.dtype != np.uint8 or not image_HWC.size:
        raise ImageError(
            f"A detector needs an RGB image as uint8 of shape (height, width, 3), got {image_HWC.dtype} of "
            f"shape {shape}."
        )
