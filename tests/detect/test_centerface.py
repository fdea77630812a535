"""The default detector: decoding against a slow loop, answers on the example portrait in many guises."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.crop import points5_from_landmarks
from faceum.detect.base import Detection
from faceum.detect.centerface import CenterFace, decode_cells
from faceum.geometry import boxes_iou
from faceum.image import read_image

POINTS = np.array([[203.5, 101.2], [246.8, 103.4], [223.5, 127.0], [202.8, 140.2], [246.8, 140.6]])
"""The portrait's five points, read off an enlargement by eye."""
EYES = 43.3


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace(threads=1)


def assert_points(face: Detection, expected: np.ndarray, tolerance: float = 0.1) -> None:
    """Each point within a share of the eye distance."""
    eyes = np.linalg.norm(expected[1] - expected[0])
    assert np.linalg.norm(face.points5 - expected, axis=1).max() <= tolerance * eyes


def test_decoding_equals_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    heat = random.uniform(0, 1, (1, 1, 7, 9)).astype(np.float32)
    size, offset = (random.normal(1, 0.3, (1, 2, 7, 9)).astype(np.float32) for _ in range(2))
    points = random.uniform(0, 1, (1, 10, 7, 9)).astype(np.float32)
    expected = []
    for row in range(7):
        for column in range(9):
            if heat[0, 0, row, column] >= 0.6:
                height, width = np.exp(size[0, :, row, column]) * 4
                x0 = (column + offset[0, 1, row, column] + 0.5) * 4 - width / 2
                y0 = (row + offset[0, 0, row, column] + 0.5) * 4 - height / 2
                face = [x0, y0, x0 + width, y0 + height]
                for point in range(5):
                    face.append(x0 + points[0, 2 * point + 1, row, column] * width)
                    face.append(y0 + points[0, 2 * point, row, column] * height)
                expected.append([*face, heat[0, 0, row, column]])
    found = decode_cells(heat, size, offset, points, min_score=0.6)
    rows = np.concatenate([found.boxes, found.points.reshape(-1, 10), found.scores[:, None]], axis=1)
    assert len(expected) > 10
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-4)


def test_points_of_portrait(detector: CenterFace, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    assert_points(face, POINTS)


def test_mirrored_portrait_has_mirrored_points(detector: CenterFace, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait[:, ::-1])
    assert_points(face, (POINTS * (-1, 1) + (512, 0))[[1, 0, 2, 4, 3]])


@pytest.mark.parametrize("degrees", [-60, -30, 30, 60])
def test_face_on_its_side_is_found_with_its_points(
    detector: CenterFace, portrait: np.ndarray, degrees: float
) -> None:
    turn = cv2.getRotationMatrix2D((225, 118), degrees, 1.0)
    turned = cv2.warpAffine(portrait, turn, (512, 512))
    faces = detector.detect(turned)
    assert_points(faces[0], POINTS @ turn[:, :2].T + turn[:, 2])


@pytest.mark.parametrize("size", [24, 48, 200, 800])
def test_faces_of_any_size_are_found(detector: CenterFace, portrait: np.ndarray, size: int) -> None:
    scale = size / 104.0
    side = round(512 * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    (face,) = detector.detect(cv2.resize(portrait, (side, side), interpolation=method))
    assert_points(face, POINTS * (side / 512), 0.1 if size > 24 else 0.15)


@pytest.mark.parametrize("place", [(0, 0), (870, 420), (1750, 900), (1790, 250)])
def test_face_of_24_pixels_in_a_large_image_is_found(
    detector: CenterFace, portrait: np.ndarray, place: tuple[int, int]
) -> None:
    small = cv2.resize(portrait, (118, 118), interpolation=cv2.INTER_AREA)
    image = np.full((1080, 1920, 3), 127, np.uint8)
    x, y = place
    image[y : y + 118, x : x + 118] = small
    (face,) = detector.detect(image)
    assert_points(face, POINTS * (118 / 512) + place, 0.15)


def test_face_that_fills_the_image_is_found(detector: CenterFace, portrait: np.ndarray) -> None:
    for side in (40, 110, 400, 750, 1500):
        face = cv2.resize(portrait[65:175, 170:280], (side, side))
        (found,) = detector.detect(face)
        assert_points(found, (POINTS - (170, 65)) * (side / 110), 0.15)


def test_all_faces_come_largest_first(detector: CenterFace, portrait: np.ndarray) -> None:
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    image = np.zeros((512, 1024, 3), np.uint8)
    image[:256, :256], image[:, 300:812], image[256:, 768:] = small, portrait, small
    faces = detector.detect(image)
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in faces]
    assert len(faces) == 3 and areas == sorted(areas, reverse=True)


def test_sixteen_threads_share_one_detector_and_get_one_threads_answers(portrait: np.ndarray) -> None:
    images = [np.ascontiguousarray(np.roll(portrait, 7 * step, axis=1)[:300]) for step in range(16)]
    alone = [CenterFace(threads=1).detect(image) for image in images]
    shared = CenterFace(threads=1)  # not opened yet: opening is part of the race
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(shared.detect, images))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other) >= 1
        for first, second in zip(one, other, strict=True):
            np.testing.assert_allclose(first.points5, second.points5, atol=1e-3)
            np.testing.assert_allclose(first.box, second.box, atol=1e-3)


@pytest.mark.skipif("FACEUM_CORPUS" not in os.environ, reason="FACEUM_CORPUS names no corpus")
def test_annotated_faces_of_corpus_are_found(detector: CenterFace) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(Path(os.environ["FACEUM_CORPUS"]) / "photos.val.parquet")
    found, errors = [], []
    for row in table.slice(0, 40).to_pylist():
        faces = detector.detect(read_image(row["image"]))
        boxes = np.array([face.box for face in faces]).reshape(-1, 4)
        for landmarks in (np.array(face).reshape(68, 2) for face in row["landmarks68"]):
            low, high = landmarks.min(axis=0), landmarks.max(axis=0)
            low = low - (0, 0.25 * (high[1] - low[1]))
            overlaps = boxes_iou(np.concatenate([low, high])[None], boxes)[0]
            found.append(bool(len(faces)) and overlaps.max() >= 0.4)
            if found[-1]:
                points = points5_from_landmarks(landmarks)
                distances = np.linalg.norm(faces[overlaps.argmax()].points5 - points, axis=1)
                errors.append(distances.mean() / np.linalg.norm(points[1] - points[0]))
    assert np.mean(found) >= 0.98
    assert np.mean(errors) <= 0.08
