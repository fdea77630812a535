"""Crops: points land on the template, boxes agree with points, face tokens agree with a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceum.crop import (
    BOX_SCALE,
    TEMPLATE,
    CropSpec,
    box_from_points,
    crop_face,
    crop_matrix,
    mark_face_tokens,
    points5_from_landmarks,
)
from faceum.errors import ImageError, ModelError
from faceum.geometry import invert, stretch, transform_points

SIMILARITY = CropSpec(policy="similarity", size=112, grid=7, eye_distance=0.25, eye_height=0.43)
BOX = CropSpec(policy="box", size=112, grid=7, face_tokens="touched")


def placed(scale: float = 40, turn: float = 0, x: float = 150, y: float = 120) -> np.ndarray:
    """A mean face's five points, eyes `scale` pixels apart around (x, y), turned by degrees."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return scale * TEMPLATE @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]


def dotted(points: np.ndarray, colours: list[tuple[int, int, int]], size: int = 300) -> np.ndarray:
    """A black image with a soft dot of 5 pixels at each point."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    image = np.zeros((size, size, 3))
    for (px, py), colour in zip(points, colours, strict=True):
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / 12)[..., None] * colour
    return image.clip(0, 255).astype(np.uint8)


def found(image: np.ndarray, channel: int) -> np.ndarray:
    """The middle of what is bright in a channel, x and y."""
    weight = image[..., channel].astype(float)
    weight[weight < 20] = 0
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("turn", [0, 25, -140])
def test_points_of_a_mean_face_meet_the_template(turn: float) -> None:
    points5 = placed(turn=turn)
    crop = crop_face(np.zeros((300, 300, 3), np.uint8), SIMILARITY, box_from_points(points5), points5)
    expected = TEMPLATE * SIMILARITY.eye_distance * 112 + [56, SIMILARITY.eye_height * 112]
    np.testing.assert_allclose(transform_points(crop.matrix, points5), expected, atol=1e-9)
    np.testing.assert_allclose(transform_points(crop.inverse, expected), points5, atol=1e-9)
    assert crop.image.shape == (112, 112, 3) and crop.image.dtype == np.uint8


@pytest.mark.parametrize("turn", [0, 30])
def test_parsing_at_eyes_and_nose(turn: float) -> None:
    points5 = placed(turn=turn)
    image = dotted(points5[:3], [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    crop = crop_face(image, SIMILARITY, box_from_points(points5), points5)
    for channel, (x, y) in enumerate([(42, 48.16), (70, 48.16), (56, 65.24)]):
        assert found(crop.image, channel) == pytest.approx([x, y], abs=0.2)


def test_other_templates_are_met_too() -> None:
    spec = CropSpec(policy="similarity", size=200, grid=5, eye_distance=0.4, eye_height=0.3)
    matrix = crop_matrix(spec, np.zeros(4), placed(), (300, 300))
    np.testing.assert_allclose(transform_points(matrix, placed())[:2], [[60, 60], [140, 60]], atol=1e-9)


def test_faces_that_are_not_the_mean_are_met_as_well_as_can_be() -> None:
    points5 = placed() + np.random.default_rng(0).normal(0, 3, (5, 2))
    expected = TEMPLATE * 28 + [56, 48.16]
    matrix = crop_matrix(SIMILARITY, np.zeros(4), points5, (300, 300))
    best = np.square(transform_points(matrix, points5) - expected).sum()
    for step in np.eye(6).reshape(6, 2, 3):
        turn = np.array([[0, -1, 0], [1, 0, 0]]) @ np.vstack([matrix, [0, 0, 1]])
        for change in (1e-3 * matrix, 1e-3 * turn, step * [0, 0, 1e-2]):
            for sign in (1, -1):
                near = np.square(transform_points(matrix + sign * change, points5) - expected).sum()
                assert near >= best - 1e-9


def test_box_alone_gives_the_crop_of_a_mean_face() -> None:
    box = box_from_points(placed())
    from_box = crop_matrix(SIMILARITY, box, None, (300, 300))
    from_points = crop_matrix(SIMILARITY, box, placed(), (300, 300))
    np.testing.assert_allclose(from_box, from_points, atol=1e-9)


def test_box_from_68_points_is_that_of_their_five() -> None:
    landmarks = np.random.default_rng(0).uniform(0, 200, (68, 2))
    landmarks[36:42], landmarks[42:48] = placed()[0], placed()[1]
    landmarks[[30, 48, 54]] = placed()[2:]
    np.testing.assert_allclose(points5_from_landmarks(landmarks), placed())
    np.testing.assert_allclose(box_from_points(landmarks), box_from_points(placed()))


def test_box_from_points_has_the_size_of_a_detected_one() -> None:
    x0, y0, x1, y1 = box_from_points(placed(scale=40, x=150))
    assert x1 - x0 == pytest.approx(BOX_SCALE * 40)
    assert 0.74 * (y1 - y0) == pytest.approx(BOX_SCALE * 40)
    assert (x0 + x1) / 2 == pytest.approx(150)
    inside = placed(scale=40)
    assert (inside > [x0, y0]).all() and (inside < [x1, y1]).all()


def test_published_box_policy_by_hand() -> None:
    # 100 x 80 at (20.6, 50.7): a quarter more on each side, clipped left, truncated.
    box = np.array([20.6, 50.7, 120.6, 130.7])
    matrix = crop_matrix(BOX, box, placed(), (300, 300))
    x0, y0, x1, y1 = 0, 30, 145, 150
    corners = transform_points(matrix, np.array([[x0, y0], [x1, y1]]))
    np.testing.assert_allclose(corners, [[0, 0], [112, 112]], atol=1e-9)
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    seen = crop_face(image, BOX, box).image
    np.testing.assert_array_equal(seen, stretch(image[y0:y1, x0:x1], 112))


def test_box_policy_clips_to_the_image() -> None:
    matrix = crop_matrix(BOX, np.array([-50.0, -50, 400, 500]), None, (200, 300))
    np.testing.assert_allclose(
        transform_points(invert(matrix), np.array([[0, 0], [112, 112]])), [[0, 0], [300, 200]]
    )


@pytest.mark.parametrize("spec", [SIMILARITY, BOX])
def test_outside_the_image_the_edge_goes_on(spec: CropSpec) -> None:
    image = np.full((60, 60, 3), 77, np.uint8)
    points5 = placed(x=0, y=0)
    assert (crop_face(image, spec, box_from_points(points5), points5).image == 77).all()


boxes = st.tuples(
    st.floats(-40, 120), st.floats(-40, 120), st.floats(1, 150), st.floats(1, 150), st.floats(-40, 40)
)


@given(drawn=boxes)
def test_centre_tokens_agree_with_a_slow_loop(drawn: tuple[float, ...]) -> None:
    x, y, width, height, turn = drawn
    box = np.array([x, y, x + width, y + height])
    matrix = crop_matrix(SIMILARITY, box, placed(turn=turn), (300, 300))
    mask = mark_face_tokens(SIMILARITY, box, matrix, invert(matrix))
    for row in range(7):
        for column in range(7):
            centre = np.array([column * 16 + 8, row * 16 + 8])
            px, py = transform_points(invert(matrix), centre)
            assert mask[row * 7 + column] == (x <= px < x + width and y <= py < y + height)


@given(drawn=boxes)
def test_touched_tokens_agree_with_a_slow_loop(drawn: tuple[float, ...]) -> None:
    x, y, width, height, _ = drawn
    box = np.array([x, y, x + width, y + height])
    matrix = crop_matrix(BOX, np.array([10.0, 10, 110, 110]), None, (300, 300))
    (left, top), (right, bottom) = transform_points(matrix, box.reshape(2, 2))
    mask = mark_face_tokens(BOX, box, matrix, invert(matrix)).reshape(7, 7)
    for row in range(7):
        for column in range(7):
            rows = math.floor(top / 16) <= row <= math.floor(bottom / 16)
            assert mask[row, column] == (rows and math.floor(left / 16) <= column <= math.floor(right / 16))


def test_turned_box_touches_all_that_its_corners_span() -> None:
    spec = CropSpec(policy="similarity", size=112, grid=7, face_tokens="touched")
    points5 = placed(turn=45)
    box = np.array([140.0, 110, 160, 130])
    matrix = crop_matrix(spec, box, points5, (300, 300))
    corners = transform_points(matrix, np.array([[140, 110], [160, 110], [160, 130], [140, 130]]))
    mask = mark_face_tokens(spec, box, matrix, invert(matrix)).reshape(7, 7)
    for x, y in corners:
        assert mask[int(y // 16), int(x // 16)]


def test_tokens_are_row_major_and_the_face_of_a_mean_face_is_in_the_middle() -> None:
    points5 = placed()
    mask = crop_face(
        np.zeros((300, 300, 3), np.uint8), SIMILARITY, box_from_points(points5), points5
    ).face_tokens_N
    assert mask.shape == (49,) and mask.dtype == bool
    rows, columns = mask.reshape(7, 7).nonzero()
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (row, column) for row in range(1, 6) for column in range(2, 5)
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "points5",
    [np.full((5, 2), 40.0), np.full((5, 2), np.nan), np.full((5, 2), np.inf)],
    ids=["one", "nan", "inf"],
)
def test_degenerate_points_give_a_sentence(points5: np.ndarray) -> None:
    image = np.zeros((90, 90, 3), np.uint8)
    with pytest.raises(ImageError, match="points"):
        crop_face(image, SIMILARITY, np.array([10.0, 10, 60, 60]), points5)
    with pytest.raises(ImageError, match="points"):
        box_from_points(points5)


@pytest.mark.parametrize("spec", [SIMILARITY, BOX])
@pytest.mark.parametrize(
    "box", [[np.nan, 0, 10, 10], [30, 30, 30, 60], [30, 30, 10, 60], [30, 60, 60, 30], [0, 0, np.inf, 9]]
)
def test_boxes_without_a_size_give_a_sentence(spec: CropSpec, box: list[float]) -> None:
    with pytest.raises(ImageError, match="box"):
        crop_face(np.zeros((90, 90, 3), np.uint8), spec, np.array(box, float))


def test_points_carry_a_similarity_crop_even_where_the_box_is_poor() -> None:
    crop = crop_face(np.zeros((300, 300, 3), np.uint8), SIMILARITY, np.zeros(4), placed())
    assert not crop.face_tokens_N.any()


def test_specs_survive_their_file_and_refuse_what_they_do_not_know() -> None:
    for spec in (SIMILARITY, BOX):
        assert CropSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(ModelError, match="border"):
        CropSpec.from_dict({**BOX.to_dict(), "border": "zero"})
    with pytest.raises(ModelError, match="similarity, .*box"):
        CropSpec(policy="warp", size=112, grid=7)
    with pytest.raises(ModelError, match="centre, touched"):
        CropSpec(policy="box", size=112, grid=7, face_tokens="half")
