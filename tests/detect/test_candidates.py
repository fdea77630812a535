"""Candidates: overlap suppression against a slow loop, shifts, order of records, given faces."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.candidates import (
    Candidates,
    concatenate,
    make_candidates,
    suppress_overlaps,
    whole_image,
)
from faceum.errors import FaceumError


def random_candidates(seed: int, count: int) -> Candidates:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 40, (count, 2))], axis=1)
    scores = random.choice(np.linspace(0, 1, 7), count)  # ties on purpose
    points = random.uniform(0, 60, (count, 5, 2))
    return Candidates(boxes=boxes.astype(np.float32), points=points.astype(np.float32), scores=scores)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return float(width * height / (both - width * height))


def kept_by_a_loop(candidates: Candidates, most: float) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(candidates)), key=lambda row: (-candidates.scores[row], row)):
        if all(overlap(candidates.boxes[row], candidates.boxes[better]) <= most for better in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_overlap_suppression_equals_a_slow_loop(seed: int) -> None:
    candidates = random_candidates(seed, 40)
    expected = kept_by_a_loop(candidates, 0.3)
    assert 1 < len(expected) < 40
    chosen = suppress_overlaps(candidates, 0.3)
    assert np.array_equal(chosen.boxes, candidates.boxes[expected])
    assert np.array_equal(chosen.points, candidates.points[expected])


def test_empty_candidates() -> None:
    nothing = random_candidates(0, 0)
    assert len(suppress_overlaps(nothing, 0.3)) == 0
    assert nothing.detections() == []
    assert len(concatenate([nothing, random_candidates(1, 3), nothing])) == 3


def test_detections_are_sorted_by_size_then_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 10], [5, 5, 15, 15]], np.float32)
    candidates = Candidates(
        boxes=boxes, points=np.zeros((3, 5, 2), np.float32), scores=np.array([0.4, 0.5, 0.9])
    )
    assert [face.score for face in candidates.detections()] == [0.5, 0.9, 0.4]


def test_moved_scales_before_it_shifts() -> None:
    boxes, points = np.array([[1, 2, 3, 4]], np.float32), np.full((1, 5, 2), 2.0, np.float32)
    moved = Candidates(boxes=boxes, points=points, scores=np.ones(1)).transform(
        np.array([2, 10]), np.array([100, 0])
    )
    assert moved.boxes.tolist() == [[102, 20, 106, 40]]
    assert moved.points[0, 0].tolist() == [104, 20]
    assert moved.centres().tolist() == [[104, 30]] and moved.sides().tolist() == [20]


SIZE = (100, 200)
POINTS = [[70, 40], [90, 40], [80, 52], [72, 62], [88, 62]]


def test_given_faces_keep_order_and_values() -> None:
    boxes = [[10, 10, 50, 60], [-5, 20, 300, 90]]
    faces = make_candidates(boxes, [POINTS, POINTS], SIZE)
    assert [face.box.tolist() for face in faces] == boxes
    assert faces[0].box.dtype == np.float32 and faces[0].score is None
    assert faces[1].points5.tolist() == POINTS


def test_points_alone_make_a_box_around_them() -> None:
    (face,) = make_candidates(None, [POINTS], SIZE)
    x0, y0, x1, y1 = face.box
    assert x0 < 70 and x1 > 90 and y0 < 40 and y1 > 62
    assert (x0 + x1) / 2 == pytest.approx(80, abs=1)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))])
def test_no_boxes_mean_no_faces(boxes: object) -> None:
    assert make_candidates(boxes, None, SIZE) == []
    assert make_candidates(None, boxes, SIZE) == []


@pytest.mark.parametrize(
    ("boxes", "points5", "sentence"),
    [
        ([10, 10, 50, 60], None, r"shape \(4,\), expected \(n, 4\)"),
        ([[10, 10, 50]], None, r"shape \(1, 3\)"),
        ([[10, 10, 50, 60], [1, 2]], None, "not numbers of shape"),
        ("boxes", None, "not numbers"),
        ([[10, 10, np.nan, 60]], None, "cannot be a pixel"),
        ([[10, 10, np.inf, 60]], None, "cannot be a pixel"),
        ([[0, 0, 1e30, 1e30]], None, "cannot be a pixel"),
        ([[10**400, 10, 50, 60]], None, "not numbers"),
        ([[10, 10, 10, 60]], None, r"Box 0 \(10, 10, 10, 60\) has no width"),
        ([[0, 0, 9, 9], [10, 60, 50, 10]], None, "Box 1 .* has no width or height"),
        ([[200, 0, 210, 10]], None, "outside the image of 200 x 100"),
        ([[-20, -20, 0, 10]], None, "outside the image"),
        ([[10, 10, 50, 60]], [POINTS, POINTS], "1 box but points5 for 2"),
        ([[10, 10, 50, 60]], POINTS, r"points5 have the shape \(5, 2\)"),
        ([[10, 10, 50, 60]], [[[3, 3]] * 5], "points5 of face 0 coincide"),
        (None, [[[3, 3]] * 5], "coincide"),
        (None, np.array([POINTS]) + 5000, "outside the image"),
        (None, np.array([POINTS]) * np.nan, "cannot be a pixel"),
    ],
)
def test_wrong_boxes_and_points_raise(boxes: object, points5: object, sentence: str) -> None:
    with pytest.raises(FaceumError, match=sentence):
        make_candidates(boxes, points5, SIZE)


def test_whole_image_is_a_box() -> None:
    assert whole_image((100, 200)).box.tolist() == [0, 0, 200, 100]
