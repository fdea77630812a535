"""Rows of faces: choice among overlapping ones against a slow loop, moves, order of the records."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.candidates import Found, joined, without_repeats


def random_found(seed: int, count: int) -> Found:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 40, (count, 2))], axis=1)
    scores = random.choice(np.linspace(0, 1, 7), count)  # ties on purpose
    points = random.uniform(0, 60, (count, 5, 2))
    return Found(boxes=boxes.astype(np.float32), points=points.astype(np.float32), scores=scores)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return float(width * height / (both - width * height))


def kept_by_a_loop(found: Found, most: float) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(found)), key=lambda row: (-found.scores[row], row)):
        if all(overlap(found.boxes[row], found.boxes[better]) <= most for better in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_choice_among_overlapping_faces_equals_a_slow_loop(seed: int) -> None:
    found = random_found(seed, 40)
    expected = kept_by_a_loop(found, 0.3)
    assert 1 < len(expected) < 40
    chosen = without_repeats(found, 0.3)
    assert np.array_equal(chosen.boxes, found.boxes[expected])
    assert np.array_equal(chosen.points, found.points[expected])


def test_no_faces_stay_no_faces() -> None:
    nothing = random_found(0, 0)
    assert len(without_repeats(nothing, 0.3)) == 0
    assert nothing.detections() == []
    assert len(joined([nothing, random_found(1, 3), nothing])) == 3


def test_records_come_largest_first_and_of_equals_the_better_first() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 10], [5, 5, 15, 15]], np.float32)
    found = Found(boxes=boxes, points=np.zeros((3, 5, 2), np.float32), scores=np.array([0.4, 0.5, 0.9]))
    assert [face.score for face in found.detections()] == [0.5, 0.9, 0.4]


def test_moving_scales_first_and_shifts_then() -> None:
    boxes, points = np.array([[1, 2, 3, 4]], np.float32), np.full((1, 5, 2), 2.0, np.float32)
    moved = Found(boxes=boxes, points=points, scores=np.ones(1)).moved(np.array([2, 10]), np.array([100, 0]))
    assert moved.boxes.tolist() == [[102, 20, 106, 40]]
    assert moved.points[0, 0].tolist() == [104, 20]
    assert moved.centres().tolist() == [[104, 30]] and moved.sides().tolist() == [20]
