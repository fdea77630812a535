"""Points for alignment: turned faces are corrected, upright ones are left as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceum import FaceAnalyzer
from faceum.align import Aligner, disagreement
from faceum.crop import box_from_points, points_from_box
from faceum.detect.base import Detection
from faceum.runner import Runner, load_runner
from faceum.weights.registry import asset_names

POINTS = np.array([[202.5, 101.0], [247.0, 103.5], [223.5, 127.0], [202.5, 140.0], [245.5, 141.0]])
"""The portrait's five points, read off an enlargement."""
BOX = np.array([181, 57, 271, 179], np.float32)


class Upright:
    """Finds the portrait's box, always with the points of an upright face, or nothing in one position."""

    name = "upright"

    def __init__(self, box: np.ndarray, blind_to: np.ndarray | None = None) -> None:
        self.face = Detection(box=box, points5=points_from_box(box).astype(np.float32), score=0.7)
        self.blind_to = blind_to
        self.searched = 0

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        self.searched += 1
        if self.blind_to is not None and np.array_equal(image_HWC, self.blind_to):
            return []
        return [self.face]


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    if "compact" not in asset_names("model"):
        pytest.skip("no weights are shipped yet")
    return Aligner(load_runner("compact", "onnxruntime", "cpu", 1), ("recognition",))


def quarter_turns(image: np.ndarray, points: np.ndarray, turns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the square image turned counter-clockwise, and where the points are in it."""
    side = image.shape[0]
    for _ in range(turns):
        points = np.stack([points[..., 1], side - points[..., 0]], axis=-1)
    return np.ascontiguousarray(np.rot90(image, turns)), points


def test_points_from_box_inverts_box_from_points() -> None:
    box = np.array([10.0, 20, 84, 120])
    assert box_from_points(points_from_box(box)) == pytest.approx(box)


def test_disagreement_is_in_eye_distances() -> None:
    assert disagreement(POINTS, POINTS) == 0
    eyes = np.linalg.norm(POINTS[1] - POINTS[0])
    assert disagreement(POINTS, POINTS + (0, eyes)) == pytest.approx(1)
    assert disagreement(np.zeros((5, 2)), POINTS) == float("inf")
    assert disagreement(POINTS, POINTS * np.nan) == float("inf")


class Counting:
    """A runner that notes the tasks of each call."""

    def __init__(self, inner: Runner) -> None:
        self.inner, self.calls = inner, []
        self.card, self.runtime, self.device = inner.card, inner.runtime, inner.device
        self.model_id = inner.model_id

    def run(self, crops_BSSC: np.ndarray, tokens_BN: np.ndarray, tasks: tuple[str, ...]) -> dict:
        self.calls.append((len(crops_BSSC), tuple(tasks)))
        return self.inner.run(crops_BSSC, tokens_BN, tasks)


def analyzer_of(detector: Upright, tasks: tuple[str, ...]) -> tuple[FaceAnalyzer, Counting]:
    """Return an analyzer with that detector, and its runner."""
    if "compact" not in asset_names("model"):
        pytest.skip("no weights are shipped yet")
    analyzer = FaceAnalyzer(detector=detector, tasks=tasks, device="cpu", threads=1)
    analyzer._runner = Counting(analyzer._runner)
    analyzer._aligner = Aligner(analyzer._runner, tasks)
    return analyzer, analyzer._runner


@pytest.mark.parametrize("tasks", [("recognition",), ("landmarks", "age")])
def test_upright_face_is_answered_and_checked_in_one_run(
    portrait: np.ndarray, tasks: tuple[str, ...]
) -> None:
    detector = Upright(BOX)
    detector.face = Detection(box=BOX, points5=POINTS.astype(np.float32), score=0.9)
    analyzer, runner = analyzer_of(detector, tasks)
    (face,) = analyzer.analyze(portrait)
    assert detector.searched == 1 and len(runner.calls) == 1
    assert set(runner.calls[0][1]) == {*tasks, "landmarks"}
    assert np.array_equal(face.points5, detector.face.points5)
    assert (face.landmarks is not None) == ("landmarks" in tasks)
    (given,) = analyzer.analyze(portrait, boxes=[BOX], points5=[POINTS])
    assert set(runner.calls[-1][1]) == set(tasks)
    if "recognition" in tasks:
        assert face.similarity(given) == pytest.approx(1, abs=1e-5)
    else:
        assert face.age.years == pytest.approx(given.age.years, abs=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_wrong_points_of_turned_faces_are_corrected(portrait: np.ndarray, turns: int) -> None:
    image, points = quarter_turns(portrait, POINTS, turns)
    corners = quarter_turns(portrait, BOX.reshape(2, 2), turns)[1]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)
    analyzer, _ = analyzer_of(Upright(box), ("recognition",))
    (upright,) = analyzer.analyze(portrait, boxes=[BOX], points5=[POINTS])
    large = cv2.resize(image, None, fx=3, fy=3)  # above HELD_PIXELS
    large_analyzer, _ = analyzer_of(Upright(3 * box), ("recognition",))
    for image_scale, faces in (
        (1, analyzer.analyze(image).faces),
        (1, analyzer.answer(image, analyzer.detect(image))),
        (1, next(analyzer.analyze_many([image, image])).faces),
        (3, next(large_analyzer.analyze_many([large, large])).faces),
    ):
        (face,) = faces
        assert disagreement(points * image_scale, face.points5) < 0.15
        assert np.array_equal(face.box, box * image_scale) and face.score == 0.7
        assert face.similarity(upright) > 0.9 and face.landmarks is None
    (given,) = analyzer.analyze(image, boxes=[box], points5=[Upright(box).face.points5])
    assert given.similarity(upright) < 0.5, "points that are given are used as they are"


def test_one_of_several_faces_is_corrected(portrait: np.ndarray) -> None:
    turned, _ = quarter_turns(portrait, POINTS, 2)
    both = np.concatenate([portrait, turned], axis=1)
    box = np.array([512 - 271, 512 - 179, 512 - 181, 512 - 57], np.float32) + np.array(
        [512, 0, 512, 0], np.float32
    )
    upright = Detection(box=BOX, points5=POINTS.astype(np.float32), score=0.9)
    detector = Upright(box)
    detector.detect = lambda image_HWC, *, min_score=0.5: [detector.face, upright]  # type: ignore[method-assign]
    analyzer, runner = analyzer_of(detector, ("recognition", "age"))
    first, second = analyzer.analyze(both)
    assert np.array_equal(second.points5, upright.points5) and second.score == 0.9
    assert first.similarity(second) > 0.9
    assert runner.calls[0][0] == 2 and runner.calls[-1][0] == 1, "the upright face is seen once"


class FindsUpright(Upright):
    """Finds the portrait's face, but only in the portrait itself."""

    def __init__(self, portrait: np.ndarray) -> None:
        super().__init__(BOX)
        self.face = Detection(box=BOX, points5=POINTS.astype(np.float32), score=0.9)
        self.portrait = portrait

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        self.searched += 1
        return [self.face] if np.array_equal(image_HWC, self.portrait) else []


@pytest.mark.parametrize(("turns", "searched"), [(2, 2), (3, 3), (1, 4)])
def test_image_without_a_find_is_searched_by_quarter_turns(
    aligner: Aligner, portrait: np.ndarray, turns: int, searched: int
) -> None:
    image, points = quarter_turns(portrait, POINTS, turns)
    corners = quarter_turns(portrait, BOX.reshape(2, 2), turns)[1]
    detector = FindsUpright(portrait)
    (face,) = aligner.detect(image, detector, min_score=0.5)
    assert detector.searched == searched
    assert face.points5 == pytest.approx(points)
    assert face.box == pytest.approx([*corners.min(axis=0), *corners.max(axis=0)])
    assert aligner.detect(image, detector, min_score=0.5, search_turned=False) == []


def test_large_images_are_searched_on_their_side_at_reduced_size(
    aligner: Aligner, portrait: np.ndarray
) -> None:
    image, points = quarter_turns(cv2.resize(portrait, (1280, 1280)), POINTS * 2.5, 3)
    detector = FindsUpright(
        cv2.resize(cv2.resize(portrait, (1280, 1280)), (640, 640), interpolation=cv2.INTER_AREA)
    )
    detector.face = Detection(box=BOX * 1.25, points5=(POINTS * 1.25).astype(np.float32), score=0.9)
    (face,) = aligner.detect(image, detector, min_score=0.5)
    assert face.points5 == pytest.approx(points, abs=1e-3)


def test_faces_found_upside_down_must_agree(aligner: Aligner) -> None:
    gray = np.full((512, 512, 3), 127, np.uint8)
    gray[0] = 0  # not the same upside down
    assert aligner.detect(gray, Upright(BOX, blind_to=gray), min_score=0.5) == []
