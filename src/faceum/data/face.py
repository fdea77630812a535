"""`LabelledFace`: a face with its image and checked labels; and which detection is the labelled face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from faceum.data.sample import Sample, box_by_points, check_sample
from faceum.detect.base import Detection, Detector
from faceum.geometry import boxes_iou
from faceum.tasks import TASKS

LEAST_IOU = 0.4
"""A detection is the labelled face if the overlap of their boxes (IoU) is at least this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFace:
    """One face of a data set with its image and labels, read and checked.

    id: its name in the set. source: the name of the set. image: (H, W, 3) uint8 RGB.
    box: (4,) float64 x0 y0 x1 y1 in pixels, the set's or that of its points; None if it has neither.
    points5: (5, 2) float64 in pixels, None if the set has none or they are a guess.
    labels: the known labels by their names in `Sample`: age, age_sigma, gender, identity, attributes (40,)
        int8 (1 yes, 0 no, -1 unknown), expression_votes (8,) float64, parsing (H, W) uint8, landmarks68
        (68, 2) float64, embedding (256,).
    rough_landmarks: the landmarks were predicted by another network.
    """

    id: str
    source: str
    image: np.ndarray
    box: np.ndarray | None
    points5: np.ndarray | None
    labels: dict[str, Any]
    rough_landmarks: bool = False

    @property
    def place(self) -> np.ndarray:
        """The box (4,), or that of the whole image if there is none."""
        height, width = self.image.shape[:2]
        return np.array([0, 0, width, height], np.float64) if self.box is None else self.box


def read_face(sample: Sample, *, parsing: bool = True) -> LabelledFace:
    """Read a sample's image and check its labels; raises DataError naming it if either cannot be right.

    parsing: whether to read its parsing, too. If the parsing has another size than the image, the image, the
    box and all points are scaled to it (CelebAMask-HQ is scored at 512 pixels).
    """
    if not parsing:
        sample = replace(sample, parsing=None)
    check_sample(sample)
    image = sample.read()
    classes = None if sample.parsing is None else sample.parsing()
    scale = np.ones(2)
    if classes is not None and classes.shape != image.shape[:2]:
        size = classes.shape[::-1]
        scale = np.array(size) / image.shape[1::-1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    labels = {
        "age": None if sample.age is None else float(sample.age),
        "age_sigma": sample.age_sigma,
        "gender": sample.gender,
        "identity": sample.identity,
        "attributes": sample.partial_attributes,
        "expression_votes": _scale(sample.expression_votes, np.ones(1)),
        "parsing": classes,
        "landmarks68": _scale(sample.landmarks68, scale),
        "embedding": sample.embedding,
    }
    box = sample.box
    points = sample.landmarks68 if sample.landmarks68 is not None else sample.points5
    if box is None and points is not None:
        box = box_by_points(points)
    return LabelledFace(
        id=sample.id,
        source=sample.source,
        image=image,
        box=_scale(box, np.tile(scale, 2)),
        points5=_scale(sample.points5, scale),
        labels={name: value for name, value in labels.items() if value is not None},
        rough_landmarks=sample.rough_landmarks,
    )


def training_labels(face: LabelledFace) -> dict[str, np.ndarray]:
    """Return the labels that teach a task: each `Task.label` in its dtype, and the person's number.

    A person's name is no label; the readers of training data number the persons.
    """
    labels = {
        task.label: np.asarray(face.labels[task.label], task.label_dtype)
        for task in TASKS.values()
        if task.label in face.labels
    }
    identity = face.labels.get("identity")
    if identity is not None and not isinstance(identity, str):
        labels["identity"] = np.asarray(identity, np.int64)
    return labels


def find_labelled(detector: Detector, image: np.ndarray, box: np.ndarray | None) -> Detection | None:
    """Detect faces and return the one that is the labelled face; None if no detection is.

    Detections below the detector's default threshold do not count.
    box: the labelled face's box (4,). The detection that overlaps it most is that face, if their IoU is at
    least LEAST_IOU. Without a box it is the detection nearest to the middle of the image.
    """
    detections = detector.detect(image)
    if not detections:
        return None
    boxes = np.stack([detection.box for detection in detections])
    if box is None:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array([image.shape[1], image.shape[0]]) / 2
        return detections[int(np.linalg.norm(centres, axis=1).argmin())]
    overlaps = boxes_iou(boxes, np.asarray(box)[None])[:, 0]
    best = int(overlaps.argmax())
    return detections[best] if overlaps[best] >= LEAST_IOU else None


def _scale(values: Any, scale: np.ndarray) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float64) * scale
