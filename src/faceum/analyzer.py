"""FaceAnalyzer: finds the faces in an image and answers the tasks for each.

The steps: image -> detect -> crop -> run the network -> decode -> faces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceum.align import Aligner
from faceum.batching import Pace, run_in_order, zip_strictly
from faceum.crop import Crop, CropSpec, crop_face
from faceum.decode import decode_answers
from faceum.detect.base import MIN_SCORE, Detection, Detector, load_detector
from faceum.detect.candidates import make_candidates, whole_image
from faceum.detect.reduced import SMALLEST, reduce_detector
from faceum.detect.together import TogetherDetector
from faceum.errors import FaceumError, ModelError, unknown_name
from faceum.image import MAX_PIXELS, Source, read_image, source_name
from faceum.match import FMR, Match, match_faces
from faceum.quality import measure_signals
from faceum.recognizer import Recognizer, RecognizerRunner
from faceum.results import Face, Result
from faceum.runner import Runner, load_runner
from faceum.tasks import TASKS
from faceum.threads import finish_before_exit, usable_threads
from faceum.weights.quality import QualityFit
from faceum.weights.thresholds import Thresholds, thresholds

MAX_CROPS = 32
"""Crops per call of the network; more faces take more calls, so that memory stays bounded."""

MAX_WORKERS = 16
"""Images that are decoded and searched for faces at once, however many processors there are."""

GROUP_SIZES = {"cpu": 8, "coreml": 8, "cuda": 32}
"""Images, by the network's device, whose faces the network sees in one call (docs/performance.md)."""


HELD_PIXELS = 2_100_000
"""Images up to this size (1920 x 1080) are held until the network has seen their faces, in case the points of
a face must be corrected; the network sees the faces of a larger image at once, by themselves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _CutFaces:
    """Faces of one image, found and cut out, before the network has seen them.

    crops: the faces' crops in the faces' order, for each of `FaceAnalyzer._policies`.
    image: the image, if the points of a face are to be checked.
    """

    faces: Sequence[Detection]
    crops: Sequence[Sequence[Crop]]
    image: np.ndarray | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """One image of many: its name, size and faces as far as they are known, or what went wrong."""

    name: str | None
    size: tuple[int, int] | None = None
    faces: Sequence[Face] = ()
    cut: _CutFaces | None = None
    error: str | None = None
    image: np.ndarray | None = None


_Entry = tuple[Source, Any, Any]
"""An image, its boxes and its points, as a user gives them."""


class FaceAnalyzer:
    """Finds faces and answers the tasks for each.

    Many threads may share one analyzer. It pickles by its arguments: another process loads its own.
    """

    def __init__(
        self,
        model: str | Path = "compact",
        *,
        tasks: Iterable[str] | None = None,
        device: str = "auto",
        runtime: str = "auto",
        detector: str | Detector = "auto",
        recognizer: str | Path | None = None,
        min_score: float = MIN_SCORE,
        max_faces: int | None = None,
        min_face: float = SMALLEST,
        max_pixels: int = MAX_PIXELS,
        threads: int | None = None,
    ) -> None:
        """Load the network; the detector's files are read when it is first needed.

        model: a registered name (`faceum models` lists them) or the path of an .onnx or .safetensors file.
        tasks: any of recognition, age, attributes, expression, parsing, landmarks; all of the model's by
            default.
        device: "cpu", "cuda", "coreml" (Apple; falls back to the CPU with a warning), or "auto" for a GPU if
            there is one. The detector runs on the same device as the network.
        runtime: "onnxruntime", "torch", "torch-compiled" (worth its start for thousands of images only), or
            "auto".
        detector: a name, "auto", the path of an .onnx file in SCRFD's convention, or an object of your own;
            see `faceum.detect.base.Detector`.
        recognizer: the path of an .onnx file in insightface's convention, which answers recognition in place
            of the model; see `faceum.recognizer`.
        min_score: detected faces below this score are left out, 0..1.
        max_faces: the number of largest detected faces to keep; all by default.
        min_face: detected faces whose longer side has fewer pixels may be missed; above 24 the detector
            searches a smaller image and is as much faster.
        max_pixels: images of more pixels are refused.
        threads: None for all that affinity and cgroup allow.
        Raises ModelError if one of these is unknown or unavailable here.
        """
        if isinstance(tasks, str):
            raise ModelError(f"tasks is the text {tasks!r}; give a list of names, such as ['age'].")
        _check_limits(min_score, max_faces, min_face)
        if max_pixels < 1:
            raise ModelError(f"max_pixels is {max_pixels}; give at least 1.")
        tasks = None if tasks is None else list(tasks)
        self._arguments = {
            "model": model, "tasks": tasks, "device": device, "runtime": runtime, "detector": detector,
            "recognizer": recognizer,
            "min_score": min_score, "max_faces": max_faces, "min_face": min_face,
            "max_pixels": max_pixels, "threads": threads,
        }  # fmt: skip
        self._threads = usable_threads(threads)
        self._runner: Runner = load_runner(model, runtime, device, threads, tasks=tasks)
        if recognizer is not None:
            own = Recognizer(recognizer, threads=threads, device=self._runner.device)
            self._runner = RecognizerRunner(self._runner, own)
        self._recognizes_by = model if recognizer is None else Path(recognizer)
        if isinstance(detector, str):
            self._detector = load_detector(detector, threads=threads, device=self._runner.device)
            if self._runner.device == "cuda":
                self._lone_detector: Detector = TogetherDetector(self._detector)
            else:  # while many images are searched at once, each search by itself is fastest on one thread
                self._lone_detector = load_detector(detector, threads=1, device=self._runner.device)
        else:
            self._detector = self._lone_detector = detector
        self._whole_detectors = self._detector, self._lone_detector
        self._detector, self._lone_detector = (
            reduce_detector(one, min_face) for one in self._whole_detectors
        )
        self._min_score = min_score
        self._max_faces = max_faces
        self._min_face = min_face
        self._max_pixels = max_pixels
        self.tasks = _choose_tasks(tasks, self._runner.card.tasks)
        """The tasks that are answered, in the order of `faceum.tasks.TASKS`."""
        self._aligner = Aligner(self._runner, self.tasks)

    def __repr__(self) -> str:
        runner = self._runner
        where = f"runtime={runner.runtime!r}, device={runner.device!r}"
        return f"FaceAnalyzer({runner.card.name!r}, {where}, tasks={list(self.tasks)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._arguments)

    @property
    def model_id(self) -> str:
        """The network whose embeddings the faces carry, as name@sha256[:8]."""
        return self._runner.model_id

    def thresholds(self) -> Thresholds:
        """Return the measured thresholds of the network that recognizes; ModelError if it has none."""
        return thresholds(self._recognizes_by)

    def compare(self, a: Source | Face, b: Source | Face, fmr: float = FMR, *, masked: bool = False) -> Match:
        """Judge whether two images show the same person, by the largest face of each.

        a, b: images as `analyze` takes them, or faces with embeddings. fmr: the share of pairs of different
        people that may be taken for one person. masked: use the thresholds for faces with masks.
        Raises FaceumError if an image shows no face, ModelError if the network has no thresholds.
        """
        measured = self.thresholds()
        return match_faces(self._find_largest(a), self._find_largest(b), measured, fmr, masked=masked)

    def _find_largest(self, source: Source | Face) -> Face:
        if isinstance(source, Face):
            return source
        faces = self.analyze(source).faces
        if not faces:
            raise FaceumError(
                f"There is no face in {source_name(source) or 'the image'}; give one with a face."
            )
        return faces[0]

    def with_options(
        self,
        *,
        tasks: Iterable[str] | None = None,
        min_score: float | None = None,
        max_faces: int | None = None,
        min_face: float | None = None,
    ) -> FaceAnalyzer:
        """Return an analyzer with other options that shares this one's networks; it costs next to nothing.

        tasks, min_score, max_faces, min_face: as for the constructor; None keeps this analyzer's value.
        Raises ModelError if one of these is unknown or out of range.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        if tasks is not None:
            other.tasks = _choose_tasks(tasks, self.tasks)
        other._min_score = self._min_score if min_score is None else min_score
        other._max_faces = self._max_faces if max_faces is None else max_faces
        other._min_face = self._min_face if min_face is None else min_face
        _check_limits(other._min_score, other._max_faces, other._min_face)
        other._detector, other._lone_detector = (
            reduce_detector(one, other._min_face) for one in self._whole_detectors
        )
        other._arguments = {
            **self._arguments, "tasks": list(other.tasks), "min_score": other._min_score,
            "max_faces": other._max_faces, "min_face": other._min_face,
        }  # fmt: skip
        return other

    @property
    def runner(self) -> Runner:
        """The network, which `with_runner` replaces."""
        return self._runner

    def with_runner(self, runner: Runner) -> FaceAnalyzer:
        """Return an analyzer that shares this one's detector, but not its network.

        runner: runs the same network elsewhere, such as on another machine; it does not survive pickling.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._runner, other._aligner = runner, Aligner(runner, self.tasks)
        return other

    def analyze(
        self,
        source: Source,
        *,
        boxes: Any = None,
        points5: Any = None,
        cropped: bool = False,
        bgr: bool = False,
    ) -> Result:
        """Return the faces of one image, largest first; the result keeps the image for `Result.plot`.

        source: path, bytes, PIL image, or RGB array; see `read_image`, also for bgr.
        boxes: (n, 4) and points5: (n, 5, 2) replace the detector, together or either alone, in pixels of the
            image; the faces keep their order.
        cropped: the image is one face that fills it; no detector is used.
        Raises ImageError if the image cannot be read, FaceumError if boxes or points do not fit.
        """
        with finish_before_exit():
            image = read_image(source, bgr=bgr, max_pixels=self._max_pixels)
            faces = self._faces(image, self._find(self._detector, image, boxes, points5, cropped))
        height, width = image.shape[:2]
        return Result(source=source_name(source), width=width, height=height, faces=faces, image=image)

    def detect(
        self, image: np.ndarray, *, min_score: float | None = None, one_thread: bool = False
    ) -> list[Detection]:
        """Return the faces of an RGB image (H, W, 3) as `answer` takes them, largest first.

        `answer` corrects the points of turned faces; the image itself is not searched turned. min_score: the
        analyzer's own by default. one_thread: use one thread, for calls that run at the same time.
        """
        detector = self._lone_detector if one_thread else self._detector
        least = self._min_score if min_score is None else min_score
        with finish_before_exit():
            return self._aligner.detect(
                image, detector, min_score=least, max_faces=self._max_faces, search_turned=False
            )

    def answer(self, image: np.ndarray, faces: Sequence[Detection]) -> list[Face]:
        """Answer the tasks for detections in an RGB image (H, W, 3), in their order.

        The points of a detection with a score are corrected if the network's landmarks disagree with them.
        """
        with finish_before_exit():
            return self._faces(image, faces)

    @property
    def threads(self) -> int:
        """How many threads the network may use."""
        return self._threads

    def analyze_many(
        self,
        sources: Iterable[Source],
        *,
        boxes: Iterable[Any] | None = None,
        points5: Iterable[Any] | None = None,
        cropped: bool = False,
        bgr: bool = False,
        keep_images: bool = False,
    ) -> Iterator[Result]:
        """Yield one result per image, in order; an image that fails affects only its own result.

        Worker threads read the images and find the faces, some images ahead of the results taken; the
        network sees the faces of neighbouring images together. On a GPU the detector, too, sees the images of
        all threads together. However many images there are, only a bounded number is held at a time. Your
        iterables run in your thread.

        boxes, points5: one entry per image, each as `analyze` takes it; None for images to detect in.
        keep_images: let each result keep its image for `Result.plot`.
        Raises FaceumError if sources is itself one image, or if the iterables have different lengths.
        """
        one_image = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview))
        one_array = isinstance(sources, np.ndarray) and sources.ndim < 4
        if one_image or one_array or not hasattr(sources, "__iter__"):
            raise FaceumError(
                "analyze_many takes an iterable of images; give a list, or use analyze for one."
            )
        prepare = partial(self._prepare, cropped=cropped, bgr=bgr, keep_image=keep_images)
        return run_in_order(
            zip_strictly(sources, boxes, points5),
            partial(prepare, detector=self._lone_detector),
            self._finish,
            Pace(workers=min(self._threads, MAX_WORKERS), group=GROUP_SIZES[self._runner.device]),
            alone=partial(prepare, detector=self._detector),
        )

    def _prepare(
        self, entry: _Entry, *, detector: Detector, cropped: bool, bgr: bool, keep_image: bool
    ) -> _Prepared:
        """Do all that can be done for one image by itself."""
        source, boxes, points5 = entry
        name = source_name(source)
        try:
            image = read_image(source, bgr=bgr, max_pixels=self._max_pixels)
            size = (image.shape[1], image.shape[0])
            found = self._find(detector, image, boxes, points5, cropped)
            kept = image if keep_image else None
            held = not self._is_checked(found) or size[0] * size[1] <= HELD_PIXELS
            if len(found) > MAX_CROPS or not held:
                # A crowd fills the network by itself, and its crops are too many to keep.
                return _Prepared(name=name, size=size, faces=self._faces(image, found), image=kept)
            return _Prepared(name=name, size=size, cut=self._cut(image, found), image=kept)
        except FaceumError as error:
            sentence = str(error) if name is None or name in str(error) else f"{name}: {error}"
            return _Prepared(name=name, error=sentence)
        except (MemoryError, cv2.error) as error:  # an image too large, or too odd, for detector and crops
            sentence = f"could not be analyzed ({type(error).__name__}: {str(error).strip()})."
            return _Prepared(name=name, error=f"{name or 'The image'} {sentence}")

    def _finish(self, images: Sequence[_Prepared]) -> list[Result]:
        """Return the results of neighbouring images, whose faces the network sees together."""
        with finish_before_exit():
            answered = iter(self._answer([image.cut for image in images if image.cut is not None]))
        results = []
        for image in images:
            if image.size is None:
                results.append(Result(source=image.name, error=image.error))
                continue
            faces = image.faces if image.cut is None else next(answered)
            width, height = image.size
            results.append(
                Result(source=image.name, width=width, height=height, faces=list(faces), image=image.image)
            )
        return results

    def _find(
        self, detector: Detector, image: np.ndarray, boxes: Any, points5: Any, cropped: bool
    ) -> list[Detection]:
        """Return the image's faces as given or, if none are given, as the detector finds them."""
        size = (image.shape[0], image.shape[1])
        if cropped:
            if boxes is not None or points5 is not None:
                raise FaceumError("A cropped image is its own box; leave out boxes and points5, or cropped.")
            return [whole_image(size)]
        if boxes is not None or points5 is not None:
            return make_candidates(boxes, points5, size)
        return self._aligner.detect(image, detector, min_score=self._min_score, max_faces=self._max_faces)

    def _faces(self, image: np.ndarray, found: Sequence[Detection]) -> list[Face]:
        """Answer for the faces of one image, a bounded number of crops at a time."""
        faces: list[Face] = []
        for first in range(0, len(found), MAX_CROPS):
            faces += self._answer([self._cut(image, found[first : first + MAX_CROPS])])[0]
        return faces

    def _is_checked(self, found: Sequence[Detection]) -> bool:
        """Return whether the network's landmarks are needed to check the points of a face."""
        return self._aligner.checks and any(one.score is not None for one in found)

    def _policies(self) -> Iterator[tuple[CropSpec, tuple[str, ...], bool]]:
        """Yield each crop policy, the tasks asked for that use it, and whether its landmarks check points."""
        for spec, tasks in self._runner.card.crops:
            checks = self._aligner.checks and "landmarks" in tasks
            asked = tuple(task for task in tasks if task in self.tasks)
            if asked or checks:
                yield spec, asked, checks

    def _cut(self, image: np.ndarray, found: Sequence[Detection]) -> _CutFaces:
        """Cut the faces out by each crop policy that the tasks need."""
        found = self._aligner.predict(image, found)
        crops = [
            [crop_face(image, spec, one.box, one.points5) for one in found] for spec, _, _ in self._policies()
        ]
        return _CutFaces(faces=found, crops=crops, image=image if self._is_checked(found) else None)

    def _answer(self, images: Sequence[_CutFaces]) -> list[list[Face]]:
        """Return the faces of each image, wrong points corrected; the network sees all images together."""
        answers = self._run_together(images)
        return [self._correct_faces(cut, of_image) for cut, of_image in zip(images, answers, strict=True)]

    def _correct_faces(self, cut: _CutFaces, answers: list[dict[str, Any]]) -> list[Face]:
        """Return one image's faces with their answers; those whose points are wrong are seen once more."""
        found = list(cut.faces)
        if cut.image is not None:
            landmarks = [answer["landmarks"] for answer in answers]
            corrected = self._aligner.correct(cut.image, found, landmarks, self._detector)
            if corrected:
                (again,) = self._run_together([self._cut(cut.image, list(corrected.values()))])
                for i, answer in zip(corrected, again, strict=True):
                    found[i], answers[i] = corrected[i], answer
        if "landmarks" not in self.tasks:
            for answer in answers:
                answer.pop("landmarks", None)
        model = self._runner.model_id
        return [
            Face(box=one.box, points5=one.points5, score=one.score, model=model, **answer)
            for one, answer in zip(found, answers, strict=True)
        ]

    def _run_together(self, images: Sequence[_CutFaces]) -> list[list[dict[str, Any]]]:
        """Return the answers for each image's faces; all images' crops of one policy are seen together."""
        answers: list[dict[str, Any]] = [{} for image in images for _ in image.faces]
        checked = any(image.image is not None for image in images)
        for place, (_, asked, checks) in enumerate(self._policies()):
            crops = [crop for image in images for crop in image.crops[place]]
            extra = ("landmarks",) if checked and checks and "landmarks" not in asked else ()
            tasks = (*asked, *extra)
            for first in range(0, len(crops) if tasks else 0, MAX_CROPS):
                some = self._run(crops[first : first + MAX_CROPS], tasks)
                for answer, more in zip(answers[first:], some, strict=False):
                    answer.update(more)
        left = iter(answers)
        return [[next(left) for _ in image.faces] for image in images]

    def _run(self, crops: Sequence[Crop], tasks: Sequence[str]) -> list[dict[str, Any]]:
        outputs = self._runner.run(
            np.stack([crop.image for crop in crops]), np.stack([crop.face_tokens_N for crop in crops]), tasks
        )
        card = self._runner.card
        answers = decode_answers(outputs, crops, card.labels, card.calibration)
        if "recognition" in tasks and self._quality is not None:
            values = self._quality.predict(measure_signals(outputs["recognition"], crops))
            for answer, value in zip(answers, values, strict=True):
                answer["quality"] = float(value)
        return answers

    @cached_property
    def _quality(self) -> QualityFit | None:
        """The formula of the quality; None if the network that recognizes has none."""
        try:
            return self.thresholds().quality
        except ModelError:
            return None


def _rebuild(kind: type[FaceAnalyzer], arguments: dict[str, Any]) -> FaceAnalyzer:
    """Make a pickled analyzer again."""
    return kind(**arguments)


def _check_limits(min_score: float, max_faces: int | None, min_face: float) -> None:
    if not 0 <= min_score <= 1:
        raise ModelError(f"min_score is {min_score}; scores lie in 0..1.")
    if max_faces is not None and max_faces < 1:
        raise ModelError(f"max_faces is {max_faces}; give at least 1, or leave it out for all faces.")
    if not 0 < min_face < float("inf"):
        raise ModelError(f"min_face is {min_face}; give a number of pixels above 0.")


def _choose_tasks(tasks: Iterable[str] | None, offered: Sequence[str]) -> tuple[str, ...]:
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
