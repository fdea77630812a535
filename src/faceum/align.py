"""Five points for every face, by which it is turned upright: predicted, checked, and corrected.

A face whose box alone is given gets its points from the network. The points of a detected face are checked
against the network's landmarks, which are part of the answers: on a face that is turned far, the detector's
points are those of an upright face, and the landmarks that follow from them disagree. Such a face is seen
again, turned by quarter turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from faceum.crop import CropSpec, are_spread_out, crop_face, points5_from_landmarks, turned_points_from_box
from faceum.decode import decode_answers
from faceum.detect.base import Detection, Detector
from faceum.runner import Runner

MAX_DISAGREEMENT = 0.12
"""Points and landmarks that differ by more, in eye distances, mean a face that is not upright as the points
say. The benchmark benchmarks/turned.py prints the values of good and of bad cases."""

MAX_CORRECTED = 0.1
"""Corrected points are used up to this disagreement, in eye distances, if they halve it."""

MAX_MOVED = 0.2
"""A quarter turn whose points move by more, in eye distances, when the detector refines them is wrong. It
loses 2 of 147 turned faces, and spares most of the checks of faces in profile (docs/log.md)."""

TALL = 1.3
"""A box of the shipped detector that is higher than this times its width holds an upright face: around turned
faces, its boxes are at most 1.23 times as high as wide. Faces in profile need no second look then."""

MAX_LIKELY, SURE = 0.3, 0.9
"""A face found in a turned image counts up to this disagreement if its score is at least this: landmarks of a
face in profile or behind a mask disagree although it is seen upright."""

QUARTER_TURNS = (1, 2, 3)

SEARCHED_TURNS = (2, 1, 3)
"""Quarter turns, counter-clockwise, by which an image is searched again in which nothing was found."""

SIDEWAYS_PIXELS = 640
"""Pixels a side of the images that are searched on their side: most images have no face at all."""

BATCH = 32
"""Crops per call of the network."""


class Aligner:
    """Finds and checks five points with the landmarks of a network. Many threads may share one."""

    def __init__(self, runner: Runner, tasks: Sequence[str]) -> None:
        """runner: the network. tasks: those that are answered, whose crops need the points."""
        self._runner = runner
        card = runner.card
        uses_points = any(card.crop_of(task).policy != "box" for task in tasks)
        self._spec: CropSpec | None = None
        if uses_points and "landmarks" in card.tasks:
            self._spec = card.crop_of("landmarks")

    @property
    def checks(self) -> bool:
        """Whether points of detected faces can be checked: `correct` then needs the landmarks of each."""
        return self._spec is not None and self._spec.policy == "similarity"

    def predict(self, image: np.ndarray, faces: Sequence[Detection]) -> list[Detection]:
        """Return the faces with points for those that have none, if the network can tell them."""
        unknown = [i for i, face in enumerate(faces) if face.points5 is None]
        known = list(faces)
        if self._spec is not None and unknown:
            points = self._points(image, [faces[i].box for i in unknown], [None] * len(unknown))
            for i, one in zip(unknown, points, strict=True):
                if are_spread_out(one, faces[i].box):
                    known[i] = replace(faces[i], points5=one)
        return known

    def detect(
        self,
        image: np.ndarray,
        detector: Detector,
        *,
        min_score: float,
        max_faces: int | None = None,
        search_turned: bool = True,
    ) -> list[Detection]:
        """Return the faces that the detector finds; `correct` checks their points later.

        If nothing is found, the image is searched again by quarter turns, unless `search_turned` is False;
        what is found there counts only if the landmarks agree, or nearly agree with a sure find.
        """
        faces = detector.detect(image, min_score=min_score)[:max_faces]
        if not faces and search_turned and self.checks:
            return self._search_turned(image, detector, min_score, max_faces)
        return faces

    def _search_turned(
        self, image: np.ndarray, detector: Detector, min_score: float, max_faces: int | None
    ) -> list[Detection]:
        """Return the faces found in the first position in which the landmarks agree, else the likeliest."""
        likely: list[tuple[float, list[Detection]]] = []
        for turns in SEARCHED_TURNS:
            found = _detect_turned(image, detector, turns, min_score)[:max_faces]
            agreements = self._disagreements(image, found)
            both = list(zip(found, agreements, strict=True))
            sound = [face for face, apart in both if apart <= MAX_CORRECTED]
            if sound:
                return sound
            sure = [
                (face, apart) for face, apart in both if apart <= MAX_LIKELY and (face.score or 0) >= SURE
            ]
            if sure:
                likely.append((min(apart for _, apart in sure), [face for face, _ in sure]))
        return min(likely, key=lambda one: one[0])[1] if likely else []

    def correct(
        self,
        image: np.ndarray,
        faces: Sequence[Detection],
        landmarks: Sequence[np.ndarray],
        detector: Detector,
    ) -> dict[int, Detection]:
        """Return, by their places in `faces`, the detected faces whose points are wrong, with better points.

        landmarks: the network's landmarks (68, 2) of each face, cut out by its points, in pixels of the
            image. A face without a score was not detected; its points are left alone.
        """
        worst = {
            i: disagreement(face.points5, points5_from_landmarks(one))
            for i, (face, one) in enumerate(zip(faces, landmarks, strict=True))
            if face.score is not None and face.points5 is not None
        }
        refine = getattr(detector, "refine_points", None)  # only the shipped detector has it
        suspects = [
            i
            for i, apart in worst.items()
            if apart > MAX_DISAGREEMENT and (refine is None or not _is_tall(faces[i].box))
        ]
        if not suspects:
            return {}
        boxes = [faces[i].box for i in suspects for _ in QUARTER_TURNS]
        starts = [turned_points_from_box(faces[i].box, turns) for i in suspects for turns in QUARTER_TURNS]
        points = np.stack(self._points(image, boxes, starts))
        plausible = np.array([are_spread_out(one, box) for one, box in zip(points, boxes, strict=True)])
        if refine is not None and plausible.any():
            rough = points[plausible]
            points[plausible] = refine(image, rough)
            moved = [disagreement(a, b) for a, b in zip(rough, points[plausible], strict=True)]
            plausible[plausible] = np.array(moved) <= MAX_MOVED
        rows = np.repeat(suspects, len(QUARTER_TURNS))
        tries = [replace(faces[i], points5=one) for i, one in zip(rows, points, strict=True)]
        apart = np.full(len(tries), np.inf)
        if plausible.any():
            apart[plausible] = self._disagreements(image, [tries[k] for k in np.flatnonzero(plausible)])
        corrected = {}
        for row, i in enumerate(suspects):
            best = len(QUARTER_TURNS) * row + int(apart.reshape(-1, len(QUARTER_TURNS))[row].argmin())
            if apart[best] <= min(MAX_CORRECTED, worst[i] / 2):
                corrected[i] = tries[best]
        return corrected

    def _disagreements(self, image: np.ndarray, faces: Sequence[Detection]) -> list[float]:
        """Return how far the landmarks of each face are from its five points, in eye distances."""
        known = [(face.box, face.points5) for face in faces if face.points5 is not None]
        points = self._points(image, [box for box, _ in known], [points5 for _, points5 in known])
        return [disagreement(points5, one) for (_, points5), one in zip(known, points, strict=True)]

    def _points(
        self, image: np.ndarray, boxes: Sequence[np.ndarray], starts: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Return the five points (5, 2) float32 of the network's landmarks, for crops by boxes and points."""
        assert self._spec is not None
        found: list[np.ndarray] = []
        for first in range(0, len(boxes), BATCH):
            pairs = zip(boxes[first : first + BATCH], starts[first : first + BATCH], strict=True)
            crops = [crop_face(image, self._spec, box, start) for box, start in pairs]
            pixels = np.stack([crop.image for crop in crops])
            tokens = np.stack([crop.face_tokens_N for crop in crops])
            outputs = self._runner.run(pixels, tokens, ("landmarks",))
            answers = decode_answers(outputs, crops)
            found += [points5_from_landmarks(answer["landmarks"]).astype(np.float32) for answer in answers]
        return found


def disagreement(points5: np.ndarray, others: np.ndarray) -> float:
    """Return the mean distance of two sets of five points (5, 2), in eye distances of the first."""
    eyes = float(np.linalg.norm(points5[1] - points5[0]))
    apart = float(np.linalg.norm(points5 - others, axis=1).mean())
    return apart / eyes if np.isfinite(apart) and eyes > 0 else float("inf")


def _is_tall(box: np.ndarray) -> bool:
    width, height = box[2:] - box[:2]
    return bool(height > TALL * width)


def _detect_turned(image: np.ndarray, detector: Detector, turns: int, min_score: float) -> list[Detection]:
    """Return the faces with points found in the image turned by quarter turns, in pixels of the image itself.

    An image turned by one or three of them is searched at no more than SIDEWAYS_PIXELS a side.
    """
    height, width = image.shape[:2]
    scale = 1.0 if turns == 2 else min(1.0, SIDEWAYS_PIXELS / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image_small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    else:
        image_small = image
    turned = np.ascontiguousarray(np.rot90(image_small, turns))
    back = np.array([width, height], np.float32) / (image_small.shape[1], image_small.shape[0])
    boxes, points, seen = [], [], []
    for face in detector.detect(turned, min_score=min_score):
        if face.points5 is not None:
            corners = _turn_back(face.box.reshape(2, 2), turns, image_small.shape) * back
            boxes.append(np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32))
            points.append((_turn_back(face.points5, turns, image_small.shape) * back).astype(np.float32))
            seen.append(face)
    refine = getattr(detector, "refine_points", None)
    if scale < 1 and refine is not None and points:
        points = list(refine(image, np.stack(points)))
    return [replace(face, box=box, points5=one) for face, box, one in zip(seen, boxes, points, strict=True)]


def _turn_back(points: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return points (n, 2) of the image turned counter-clockwise in pixels of the image of that shape."""
    height, width = shape[:2]
    x, y = points[:, 0], points[:, 1]
    places = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[turns]
    return np.stack(places, axis=1)
