"""Layer 5. The analyzer: a picture in, its faces with an answer for every task out.

The road: image -> detect -> crop -> runner -> decode -> faces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from faceum.assets import unknown_name
from faceum.crop import Crop, CropSpec, crop_face, points5_from_landmarks
from faceum.decode import decode_answers
from faceum.detect.protocol import Detector
from faceum.detect.registry import load_detector
from faceum.errors import FaceumError, ModelError
from faceum.faces import Face, Result
from faceum.given import Place, given_places, whole_picture
from faceum.image import Source, read_image, source_name
from faceum.runner import load_runner
from faceum.tasks import TASKS

MIN_SCORE = 0.5
"""Detections below this score are left out, unless the caller says otherwise."""

MOST_CROPS = 32
"""Crops that the network sees in one call; more faces take more calls, so that memory stays bounded."""


class FaceAnalyzer:
    """Finds faces and answers the tasks for each. Many threads may share one analyzer."""

    def __init__(
        self,
        model: str | Path = "compact",
        *,
        tasks: Iterable[str] | None = None,
        device: str = "auto",
        runtime: str = "auto",
        detector: str | Detector = "auto",
        min_score: float = MIN_SCORE,
        max_faces: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the network; the detector's files are read when it is first needed.

        model: a registered name (`faceum models` lists them) or the path of an .onnx or .safetensors file.
        tasks: any of recognition, age, attributes, expression, parsing, landmarks; all of the model's by
            default.
        device: "cpu", "cuda", or "auto" for what is there. runtime: "onnxruntime", "torch", or "auto".
        detector: a name, "auto", or an object of your own; see `faceum.detect.protocol.Detector`.
        min_score: found faces below this score are left out, 0..1. max_faces: of the found faces, so many of
            the largest are kept. threads: None for as many as affinity and cgroup leave us.
        Raises ModelError where one of these is unknown or cannot be had here.
        """
        if isinstance(tasks, str):
            raise ModelError(f"tasks is the text {tasks!r}; give a list of names, such as ['age'].")
        if not 0 <= min_score <= 1:
            raise ModelError(f"min_score is {min_score}; scores lie in 0..1.")
        if max_faces is not None and max_faces < 1:
            raise ModelError(f"max_faces is {max_faces}; give at least 1, or leave it out for all faces.")
        self._detector = load_detector(detector, threads=threads) if isinstance(detector, str) else detector
        self._runner = load_runner(model, runtime, device, threads)
        self._min_score = min_score
        self._max_faces = max_faces
        self.tasks = _chosen_tasks(tasks, self._runner.card.tasks)
        """The tasks that are answered, in the order of `faceum.tasks.TASKS`."""

    def analyze(
        self,
        picture: Source,
        boxes: Any = None,
        points5: Any = None,
        cropped: bool = False,
        *,
        bgr: bool = False,
    ) -> list[Face]:
        """The faces of one picture, largest first; an empty list where there are none.

        picture: path, bytes, PIL picture, or RGB array; see `read_image`, also for bgr.
        boxes: (n, 4) and points5: (n, 5, 2) replace the detector, together or either alone, in pixels of the
            upright picture; the faces keep their order.
        cropped: the picture is one face and little else; no detector is used.
        Raises PictureError where the picture cannot be read, FaceumError where boxes or points do not fit.
        """
        image = read_image(picture, bgr=bgr)
        return self._analyze_image(image, boxes, points5, cropped)

    def analyze_many(
        self,
        pictures: Iterable[Source],
        boxes: Iterable[Any] | None = None,
        points5: Iterable[Any] | None = None,
        *,
        cropped: bool = False,
        bgr: bool = False,
    ) -> Iterator[Result]:
        """One result a picture, in order, as each is done; a picture that fails harms only its own result.

        boxes, points5: one entry a picture, each as `analyze` takes it (None where the detector shall look).
        FaceumError where pictures is itself one picture, or where the iterables end at different places.
        """
        one_picture = isinstance(pictures, (str, os.PathLike, bytes, bytearray, memoryview))
        if (
            one_picture
            or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
            or not _can_iterate(pictures)
        ):
            raise FaceumError(
                "analyze_many takes an iterable of pictures; give a list, or use analyze for one."
            )
        return self._results(_together(pictures, boxes, points5), cropped, bgr)

    def _results(
        self, entries: Iterable[tuple[Source, Any, Any]], cropped: bool, bgr: bool
    ) -> Iterator[Result]:
        for picture, boxes, points5 in entries:
            name = source_name(picture)
            try:
                image = read_image(picture, bgr=bgr)
                faces = self._analyze_image(image, boxes, points5, cropped)
            except FaceumError as error:
                sentence = str(error) if name is None or name in str(error) else f"{name}: {error}"
                yield Result(source=name, error=sentence)
            else:
                yield Result(source=name, width=image.shape[1], height=image.shape[0], faces=faces)

    def _analyze_image(self, image: np.ndarray, boxes: Any, points5: Any, cropped: bool) -> list[Face]:
        size = image.shape[:2]
        if cropped:
            if boxes is not None or points5 is not None:
                raise FaceumError(
                    "A cropped picture is its own box; leave out boxes and points5, or cropped."
                )
            places = [whole_picture(size)]
        elif boxes is not None or points5 is not None:
            places = given_places(boxes, points5, size)
        else:
            places = self._detected(image)
        faces: list[Face] = []
        for first in range(0, len(places), MOST_CROPS):
            faces += self._answered(image, places[first : first + MOST_CROPS])
        return faces

    def _detected(self, image: np.ndarray) -> list[Place]:
        found = [face for face in self._detector.detect(image) if face.score >= self._min_score]
        return [
            Place(box=face.box, points5=face.points5, score=face.score) for face in found[: self._max_faces]
        ]

    def _answered(self, image: np.ndarray, places: Sequence[Place]) -> list[Face]:
        places = self._with_points(image, places)
        answers: list[dict[str, Any]] = [{} for _ in places]
        for spec, tasks in self._runner.card.crops:
            asked = [task for task in self.tasks if task in tasks]
            if asked:
                crops = [crop_face(image, spec, place.box, place.points5) for place in places]
                for answer, more in zip(answers, self._run(crops, asked), strict=True):
                    answer.update(more)
        return [
            Face(box=place.box, points5=place.points5, score=place.score, **answer)
            for place, answer in zip(places, answers, strict=True)
        ]

    def _with_points(self, image: np.ndarray, places: Sequence[Place]) -> list[Place]:
        """The places with five points each, where the network's crops need them and it can tell them.

        Where only a box is known, the network first sees a crop by the box and says its landmarks.
        """
        unknown = [i for i, place in enumerate(places) if place.points5 is None]
        known = list(places)
        if unknown and self._needs_points():
            spec = self._runner.card.crop_of("landmarks")
            crops = [crop_face(image, spec, places[i].box) for i in unknown]
            for i, answer in zip(unknown, self._run(crops, ["landmarks"]), strict=True):
                points = points5_from_landmarks(answer["landmarks"]).astype(np.float32)
                if _look_like_a_face(points, places[i].box):
                    known[i] = Place(box=places[i].box, points5=points, score=places[i].score)
        return known

    def _needs_points(self) -> bool:
        card = self._runner.card
        used: list[CropSpec] = [card.crop_of(task) for task in self.tasks]
        return "landmarks" in card.tasks and any(spec.policy == "similarity" for spec in used)

    def _run(self, crops: Sequence[Crop], tasks: Sequence[str]) -> list[dict[str, Any]]:
        outputs = self._runner.run(
            np.stack([crop.image for crop in crops]), np.stack([crop.face_mask_N for crop in crops]), tasks
        )
        return decode_answers(outputs, crops, self._runner.card.labels)


def _chosen_tasks(tasks: Iterable[str] | None, offered: Sequence[str]) -> tuple[str, ...]:
    if tasks is None:
        return tuple(offered)
    chosen = list(tasks)
    for task in chosen:
        if task not in TASKS:
            raise ModelError(unknown_name(str(task), "task", TASKS))
        if task not in offered:
            raise ModelError(f"This model does not answer {task!r}; it answers {', '.join(offered)}.")
    if not chosen:
        raise ModelError(f"No task was asked for; give some of {', '.join(offered)}.")
    return tuple(task for task in TASKS if task in chosen)


def _can_iterate(pictures: Any) -> bool:
    return hasattr(pictures, "__iter__")


def _together(
    pictures: Iterable[Source], boxes: Iterable[Any] | None, points5: Iterable[Any] | None
) -> Iterator[tuple[Source, Any, Any]]:
    """Pictures with their boxes and points; FaceumError where one iterable ends before another."""
    end = object()
    sides = [iter(repeat(None)) if side is None else iter(side) for side in (boxes, points5)]
    counted = [name for name, side in (("boxes", boxes), ("points5", points5)) if side is not None]
    for number, picture in enumerate(pictures):
        box, points = (next(side, end) for side in sides)
        if box is end or points is end:
            raise FaceumError(
                f"{' or '.join(counted)} end after {number} pictures, but there are more pictures."
            )
        yield picture, box, points
    for name, side, values in zip(("boxes", "points5"), sides, (boxes, points5), strict=True):
        if values is not None and next(side, end) is not end:
            raise FaceumError(f"{name} have more entries than there are pictures; give one entry a picture.")


def _look_like_a_face(points5: np.ndarray, box: np.ndarray) -> bool:
    """Whether predicted points lie apart enough to turn a face by; a network's wild guess must not."""
    apart = np.ptp(points5, axis=0).max()
    return bool(np.isfinite(points5).all() and apart > 0.1 * max(box[2] - box[0], box[3] - box[1]))
