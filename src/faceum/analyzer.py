"""The analyzer: an image in, its faces with an answer for every task out.

The road: image -> detect -> crop -> runner -> decode -> faces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.batching import Pace, in_order
from faceum.crop import Crop, CropSpec, crop_face, points5_from_landmarks
from faceum.decode import decode_answers
from faceum.detect.protocol import Detector
from faceum.detect.registry import load_detector
from faceum.errors import FaceumError, ModelError, unknown_name
from faceum.given import Place, given_places, whole_image
from faceum.image import Source, read_image, source_name
from faceum.results import Face, Result
from faceum.runner import load_runner
from faceum.tasks import TASKS
from faceum.threads import usable_threads

MIN_SCORE = 0.5
"""Detections below this score are left out, unless the caller says otherwise."""

MOST_CROPS = 32
"""Crops that the network sees in one call; more faces take more calls, so that memory stays bounded."""

MOST_WORKERS = 16
"""Images that are decoded and searched for faces at once, however many processors there are."""

GROUPS = {"cpu": 8, "cuda": 32}
"""Images, by the network's device, whose faces it sees in one call (docs/performance.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Looked:
    """Faces of one image, found and cut out, before the network has seen them.

    crops: by crop policy, the asked tasks that use it and the faces' crops, in the places' order.
    """

    places: Sequence[Place]
    crops: Sequence[tuple[tuple[str, ...], Sequence[Crop]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """One image of many: its name and size, and its faces as far as they are; or what went wrong."""

    name: str | None
    size: tuple[int, int] | None = None
    faces: Sequence[Face] = ()
    looked: _Looked | None = None
    error: str | None = None


_Entry = tuple[Source, Any, Any]
"""An image, its boxes and its points, as a user gives them."""


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
        device: "cpu", "cuda", or "auto" for what is there. runtime: "onnxruntime", "torch",
            "torch-compiled" (worth its start for thousands of images only), or "auto".
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
        self._threads = usable_threads(threads)
        self._detector = load_detector(detector, threads=threads) if isinstance(detector, str) else detector
        # While many images are searched at once, each search by itself is quickest on one thread.
        self._lone_detector = load_detector(detector, threads=1) if isinstance(detector, str) else detector
        tasks = None if tasks is None else list(tasks)
        self._runner = load_runner(model, runtime, device, threads, tasks=tasks)
        self._min_score = min_score
        self._max_faces = max_faces
        self.tasks = _chosen_tasks(tasks, self._runner.card.tasks)
        """The tasks that are answered, in the order of `faceum.tasks.TASKS`."""

    def analyze(
        self,
        source: Source,
        boxes: Any = None,
        points5: Any = None,
        cropped: bool = False,
        *,
        bgr: bool = False,
    ) -> list[Face]:
        """The faces of one image, largest first; an empty list where there are none.

        image: path, bytes, PIL image, or RGB array; see `read_image`, also for bgr.
        boxes: (n, 4) and points5: (n, 5, 2) replace the detector, together or either alone, in pixels of the
            image; the faces keep their order.
        cropped: the image is one face and little else; no detector is used.
        Raises ImageError where the image cannot be read, FaceumError where boxes or points do not fit.
        """
        image = read_image(source, bgr=bgr)
        places = self._places(self._detector, image, boxes, points5, cropped)
        return self._faces(image, places)

    def analyze_many(
        self,
        sources: Iterable[Source],
        boxes: Iterable[Any] | None = None,
        points5: Iterable[Any] | None = None,
        *,
        cropped: bool = False,
        bgr: bool = False,
    ) -> Iterator[Result]:
        """One result an image, in order, as each is done; an image that fails harms only its own result.

        Worker threads read the images and find the faces, some images ahead of the results that you take;
        the network sees the faces of neighbouring images together. However many images there are, only so
        many are held at a time. Your iterables run in your thread.

        boxes, points5: one entry an image, each as `analyze` takes it (None where the detector shall look).
        FaceumError where sources is itself one image, or where the iterables end at different places.
        """
        one_image = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview))
        one_array = isinstance(sources, np.ndarray) and sources.ndim < 4
        if one_image or one_array or not hasattr(sources, "__iter__"):
            raise FaceumError(
                "analyze_many takes an iterable of images; give a list, or use analyze for one."
            )
        return self._results(_together(sources, boxes, points5), cropped, bgr)

    def _results(self, entries: Iterator[_Entry], cropped: bool, bgr: bool) -> Iterator[Result]:
        prepare = partial(self._prepared, cropped=cropped, bgr=bgr)
        return in_order(
            entries,
            partial(prepare, detector=self._lone_detector),
            self._finished,
            Pace(workers=min(self._threads, MOST_WORKERS), group=GROUPS[self._runner.device]),
            alone=partial(prepare, detector=self._detector),
        )

    def _prepared(self, entry: _Entry, *, detector: Detector, cropped: bool, bgr: bool) -> _Prepared:
        """All that can be done for one image by itself."""
        source, boxes, points5 = entry
        name = source_name(source)
        try:
            image = read_image(source, bgr=bgr)
            size = (image.shape[1], image.shape[0])
            places = self._places(detector, image, boxes, points5, cropped)
            if len(places) > MOST_CROPS:
                # A crowd fills the network by itself, and its crops are too many to keep.
                return _Prepared(name=name, size=size, faces=self._faces(image, places))
            return _Prepared(name=name, size=size, looked=self._look(image, places))
        except FaceumError as error:
            sentence = str(error) if name is None or name in str(error) else f"{name}: {error}"
            return _Prepared(name=name, error=sentence)
        except (MemoryError, cv2.error) as error:  # too large, or too odd, for what searches and cuts it
            sentence = f"could not be analysed ({type(error).__name__}: {str(error).strip()})."
            return _Prepared(name=name, error=f"{name or 'The image'} {sentence}")

    def _finished(self, images: Sequence[_Prepared]) -> list[Result]:
        """The results of neighbouring images, whose faces the network sees together."""
        looked = [image.looked for image in images if image.looked is not None]
        answered = iter(self._answered(looked))
        results = []
        for image in images:
            if image.size is None:
                results.append(Result(source=image.name, error=image.error))
                continue
            faces = image.faces if image.looked is None else next(answered)
            width, height = image.size
            results.append(Result(source=image.name, width=width, height=height, faces=list(faces)))
        return results

    def _places(
        self, detector: Detector, image: np.ndarray, boxes: Any, points5: Any, cropped: bool
    ) -> list[Place]:
        """Where the image's faces are, by what was given or by the detector."""
        size = (image.shape[0], image.shape[1])
        if cropped:
            if boxes is not None or points5 is not None:
                raise FaceumError("A cropped image is its own box; leave out boxes and points5, or cropped.")
            return [whole_image(size)]
        if boxes is not None or points5 is not None:
            return given_places(boxes, points5, size)
        found = [face for face in detector.detect(image) if face.score >= self._min_score]
        return [
            Place(box=face.box, points5=face.points5, score=face.score) for face in found[: self._max_faces]
        ]

    def _faces(self, image: np.ndarray, places: Sequence[Place]) -> list[Face]:
        """The faces of one image, a bounded number of crops at a time."""
        faces: list[Face] = []
        for first in range(0, len(places), MOST_CROPS):
            faces += self._answered([self._look(image, places[first : first + MOST_CROPS])])[0]
        return faces

    def _look(self, image: np.ndarray, places: Sequence[Place]) -> _Looked:
        """The faces cut out, by each crop policy that the asked tasks need."""
        places = self._with_points(image, places)
        crops = []
        for spec, tasks in self._runner.card.crops:
            asked = tuple(task for task in self.tasks if task in tasks)
            if asked:
                crops.append((asked, [crop_face(image, spec, p.box, p.points5) for p in places]))
        return _Looked(places=places, crops=crops)

    def _answered(self, images: Sequence[_Looked]) -> list[list[Face]]:
        """The faces of each image; the network sees all images' crops of one policy together."""
        answers: list[dict[str, Any]] = [{} for image in images for _ in image.places]
        for policy in zip(*(image.crops for image in images), strict=True):
            asked = policy[0][0]
            crops = [crop for _, of_image in policy for crop in of_image]
            for first in range(0, len(crops), MOST_CROPS):
                some = self._run(crops[first : first + MOST_CROPS], asked)
                for answer, more in zip(answers[first:], some, strict=False):
                    answer.update(more)
        left = iter(answers)
        return [
            [Face(box=p.box, points5=p.points5, score=p.score, **next(left)) for p in image.places]
            for image in images
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
            np.stack([crop.image for crop in crops]), np.stack([crop.face_tokens_N for crop in crops]), tasks
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


def _together(
    sources: Iterable[Source], boxes: Iterable[Any] | None, points5: Iterable[Any] | None
) -> Iterator[_Entry]:
    """Images with their boxes and points; FaceumError where one iterable ends before another."""
    end = object()
    sides = [iter(repeat(None)) if side is None else iter(side) for side in (boxes, points5)]
    counted = [name for name, side in (("boxes", boxes), ("points5", points5)) if side is not None]
    for number, source in enumerate(sources):
        box, points = (next(side, end) for side in sides)
        if box is end or points is end:
            raise FaceumError(f"{' or '.join(counted)} end after {number} images, but there are more images.")
        yield source, box, points
    for name, side, values in zip(("boxes", "points5"), sides, (boxes, points5), strict=True):
        if values is not None and next(side, end) is not end:
            raise FaceumError(f"{name} have more entries than there are images; give one entry an image.")


def _look_like_a_face(points5: np.ndarray, box: np.ndarray) -> bool:
    """Whether predicted points lie apart enough to turn a face by; a network's wild guess must not."""
    apart = np.ptp(points5, axis=0).max()
    return bool(np.isfinite(points5).all() and apart > 0.1 * max(box[2] - box[0], box[3] - box[1]))
