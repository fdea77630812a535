"""Points for alignment: turned faces are corrected, upright ones are left as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceum.align import Aligner, disagreement
from faceum.crop import box_from_points, points_from_box
from faceum.detect.base import Detection
from faceum.runner import load_runner
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


def test_upright_points_are_kept_as_they_are(aligner: Aligner, portrait: np.ndarray) -> None:
    detector = Upright(BOX)
    detector.face = Detection(box=BOX, points5=POINTS.astype(np.float32), score=0.9)
    (face,) = aligner.detect(portrait, detector, min_score=0.5)
    assert face is detector.face and detector.searched == 1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_wrong_points_of_turned_faces_are_corrected(
    aligner: Aligner, portrait: np.ndarray, turns: int
) -> None:
    image, points = quarter_turns(portrait, POINTS, turns)
    corners = quarter_turns(portrait, BOX.reshape(2, 2), turns)[1]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)
    (face,) = aligner.detect(image, Upright(box), min_score=0.5)
    assert disagreement(points, face.points5) < 0.15
    assert np.array_equal(face.box, box) and face.score == 0.7


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
