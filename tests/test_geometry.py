"""Matrices, boxes and the warp, against algebra and a slow loop over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceum.errors import ImageError
from faceum.geometry import (
    box_corners,
    boxes_iou,
    compose,
    invert,
    similarity_from_points,
    stretch,
    transform_points,
    warp,
)

shifts = st.floats(-50, 50)
scales = st.floats(0.05, 8)
turns = st.floats(-math.pi, math.pi)


def turned(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """A similarity matrix."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


similarities = st.builds(turned, scales, turns, shifts, shifts)


@given(similarities)
def test_similarity_is_found_again_from_points(matrix):
    points = np.array([[0, 0], [10, 1], [5, 6], [2, 9], [8, 9]])
    np.testing.assert_allclose(
        similarity_from_points(points, transform_points(matrix, points)), matrix, atol=1e-9
    )


def test_similarity_never_mirrors():
    points = np.array([[0.0, 0], [4, 0], [0, 2]])
    matrix = similarity_from_points(points, points * (-1, 1))
    assert np.linalg.det(matrix[:, :2]) > 0


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_similarity_is_the_nearest_one(seed):
    """No small change of scale, turn or shift comes nearer."""
    random = np.random.default_rng(seed)
    source, target = random.normal(size=(2, 5, 2))
    best = similarity_from_points(source, target)

    def miss(matrix):
        return np.square(transform_points(matrix, source) - target).sum()

    for change in (turned(1 + 1e-3, 0, 0, 0), turned(1, 1e-3, 0, 0), turned(1, 0, 1e-3, 0)):
        for one in (change, invert(change)):
            assert miss(compose(best, one)) >= miss(best) - 1e-12


@pytest.mark.parametrize("points", [np.full((5, 2), 3.0), np.full((5, 2), np.nan)])
def test_points_without_extent_give_a_sentence(points):
    with pytest.raises(ImageError, match=r"points .*\.$"):
        similarity_from_points(points, np.arange(10.0).reshape(5, 2))


@given(similarities, similarities)
def test_invert_and_compose(first, second):
    point = np.array([[3.0, -7.0], [0.5, 0.5]])
    both = compose(first, second)
    np.testing.assert_allclose(
        transform_points(both, point), transform_points(second, transform_points(first, point)), atol=1e-7
    )
    np.testing.assert_allclose(
        transform_points(invert(both), transform_points(both, point)), point, atol=1e-6
    )


@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 3)), np.array([[1.0, 2, 0], [2, 4, 0]]), np.full((2, 3), np.nan)]
)
def test_flat_matrix_has_no_way_back(matrix):
    with pytest.raises(ImageError):
        invert(matrix)


def test_box_corners_go_round_from_top_left():
    np.testing.assert_array_equal(box_corners(np.array([1, 2, 5, 7])), [[1, 2], [5, 2], [5, 7], [1, 7]])


def test_iou_by_hand():
    first = np.array([[0, 0, 2, 2], [0, 0, 0, 5]])
    second = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [3, 3, 1, 1]])
    np.testing.assert_allclose(boxes_iou(first, second), [[1 / 7, 1, 0, 0], [0, 0, 0, 0]])
    assert boxes_iou(np.empty((0, 4)), second).shape == (0, 4)


boxes = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@given(boxes, boxes)
def test_iou_counts_pixels(first, second):
    """Whole-numbered boxes hold whole pixels, which can be counted."""

    def cover(box):
        plane = np.zeros((9, 9), bool)
        plane[box[1] : max(box[3], box[1]), box[0] : max(box[2], box[0])] = True
        return plane

    a, b = cover(first), cover(second)
    expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 0.0
    assert boxes_iou(np.array([first]), np.array([second]))[0, 0] == pytest.approx(expected)


def slow_linear(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: str) -> np.ndarray:
    """Bilinear sampling at the centre of every result pixel, one by one."""
    back, result = invert(matrix), np.zeros((*size, *image.shape[2:]))

    def pixel(row: int, column: int):
        inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        if border == "zero" and not inside:
            return np.zeros(image.shape[2:])
        row = min(max(row, 0), image.shape[0] - 1)
        return image[row, min(max(column, 0), image.shape[1] - 1)].astype(float)

    for v in range(size[0]):
        for u in range(size[1]):
            x, y = transform_points(back, np.array([u + 0.5, v + 0.5])) - 0.5
            column, row = math.floor(x), math.floor(y)
            right, below = x - column, y - row
            top = pixel(row, column) * (1 - right) + pixel(row, column + 1) * right
            bottom = pixel(row + 1, column) * (1 - right) + pixel(row + 1, column + 1) * right
            result[v, u] = top * (1 - below) + bottom * below
    return result


def smooth_image(height: int = 24, width: int = 31) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 5, y * 7, (x + y) * 3], axis=-1).astype(np.float32)


@given(
    st.builds(turned, st.floats(0.55, 4), turns, st.floats(-9, 30), st.floats(-9, 30)),
    st.sampled_from(["edge", "zero"]),
)
@settings(max_examples=30, deadline=None)
def test_warp_equals_a_slow_loop(matrix, border):
    """OpenCV rounds sampling places to 1/32 pixel; the image's steepest step, next to zeros, is 255."""
    image = smooth_image()
    expected = slow_linear(image, matrix, (13, 17), border)
    found = warp(image, matrix, (13, 17), border=border)
    near_the_edge = border == "zero"
    assert np.abs(found - expected).max() <= (255 * 2 / 32 if near_the_edge else 7 * 2 / 32)


def test_warp_by_the_identity_and_a_shift_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), (9, 12)), image)
    shifted = warp(image, np.array([[1.0, 0, -2], [0, 1, -3]]), (4, 5))
    np.testing.assert_array_equal(shifted, image[3:7, 2:7])


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_is_the_mean_of_the_pixels(factor):
    image = np.random.default_rng(0).integers(0, 256, (48, 72), np.uint8)
    size = (48 // factor, 72 // factor)
    means = image.reshape(size[0], factor, size[1], factor).mean(axis=(1, 3))
    found = warp(image, np.eye(2, 3) / factor, size)
    assert np.abs(found - means).max() <= 0.51


@given(st.floats(0.02, 0.5), turns)
@settings(max_examples=30, deadline=None)
def test_fine_checkerboard_shrinks_to_gray(scale, angle):
    """Plain bilinear sampling would leave black and white spots; averaged, little of the pattern is left."""
    y, x = np.mgrid[0:400, 0:400]
    image = ((x + y) % 2 * 255).astype(np.uint8)
    matrix = turned(scale, angle, 0, 0)
    matrix[:, 2] = 5 - transform_points(matrix, np.array([200.0, 200.0]))
    found = warp(image, matrix, (10, 10))[3:7, 3:7].astype(float)
    assert np.abs(found - 127.5).max() <= 45


@given(st.floats(0.05, 0.5), turns)
@settings(max_examples=30, deadline=None)
def test_shrinking_keeps_places(scale, angle):
    """On a slope the value is the place: a shift of half a pixel anywhere in the pyramid would show."""
    y, x = np.mgrid[0:120, 0:120]
    image = np.stack([x + 0.5, y + 0.5], axis=-1).astype(np.float32)
    matrix = turned(scale, angle, 0, 0)
    matrix[:, 2] = 2.5 - transform_points(matrix, np.array([60.0, 60.0]))
    u = np.arange(5) + 0.5
    places = transform_points(invert(matrix), np.stack(np.meshgrid(u, u), axis=-1))
    margin = 2 / scale
    inside = ((places > margin) & (places < 120 - margin)).all(axis=-1)
    found = warp(image, matrix, (5, 5))
    assert np.abs(found - places)[inside].max(initial=0) <= 0.05 / scale


def test_stretching_averages_only_the_shrunk_axis():
    image = np.zeros((4, 40), np.uint8)
    image[:, ::2] = 200
    matrix = np.array([[0.25, 0, 0], [0, 2.0, 0]])
    np.testing.assert_array_equal(warp(image, matrix, (8, 10)), np.full((8, 10), 100))


def test_nearest_never_mixes_classes():
    classes = np.random.default_rng(0).choice(np.array([0, 7, 18], np.uint8), (60, 60))
    found = warp(classes, turned(0.2, 0.4, 3, 1), (12, 12), interpolation="nearest")
    assert set(np.unique(found)) <= {0, 7, 18}


@pytest.mark.parametrize("shape", [(100, 40_000, 3), (40_000, 100, 3)])
def test_sides_beyond_opencvs_limit(shape):
    image = np.zeros(shape, np.uint8)
    image[-50:, -50:] = 200
    matrix = np.array([[1.0, 0, 20 - shape[1]], [0, 1, 20 - shape[0]]])
    assert (warp(image, matrix, (20, 20)) == 200).all()


@pytest.mark.parametrize("matrix", [turned(1, 0, 5000, 5000), turned(1e-4, 0, 0, 0), turned(300, 0.3, -9, 4)])
def test_odd_frames_still_give_a_image(matrix):
    for shape in ((1, 1, 3), (7, 300, 3)):
        found = warp(np.full(shape, 77, np.uint8), matrix, (16, 16))
        assert found.shape == (16, 16, 3)
        assert (found == 77).all()


def test_unknown_words_name_the_options():
    with pytest.raises(ValueError, match="linear, cubic, nearest"):
        warp(np.zeros((2, 2), np.uint8), np.eye(2, 3), (2, 2), interpolation="bilinear")


@pytest.mark.parametrize("size", [(112, 70), (112, 112), (300, 112), (112, 900), (1, 112), (2, 112)])
def test_stretching_is_what_pillow_does(size: tuple[int, int]) -> None:
    """Along one side exactly, up to rounding; Pillow's order of the two sides depends on its version."""
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC))
    ours = stretch(image, 112)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("size", "side"), [((40, 70), 112), ((300, 113), 112), ((37, 900), 16), ((1, 1), 16)]
)
def test_stretching_both_sides_is_nearly_what_pillow_does(size: tuple[int, int], side: int) -> None:
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    assert np.abs(stretch(image, side).astype(int) - expected).mean() < 0.5
