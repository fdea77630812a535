"""Given boxes and points are checked, and said to be wrong in a sentence."""

import numpy as np
import pytest

from faceum.errors import FaceumError
from faceum.given import given_places, whole_image

SIZE = (100, 200)
POINTS = [[70, 40], [90, 40], [80, 52], [72, 62], [88, 62]]


def test_boxes_and_points_keep_their_order_and_values():
    boxes = [[10, 10, 50, 60], [-5, 20, 300, 90]]
    places = given_places(boxes, [POINTS, POINTS], SIZE)
    assert [place.box.tolist() for place in places] == boxes
    assert places[0].box.dtype == np.float32 and places[0].score is None
    assert places[1].points5.tolist() == POINTS


def test_points_alone_make_a_box_around_them():
    (place,) = given_places(None, [POINTS], SIZE)
    x0, y0, x1, y1 = place.box
    assert x0 < 70 and x1 > 90 and y0 < 40 and y1 > 62
    assert (x0 + x1) / 2 == pytest.approx(80, abs=1)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))])
def test_no_boxes_are_no_faces(boxes):
    assert given_places(boxes, None, SIZE) == []
    assert given_places(None, boxes, SIZE) == []


@pytest.mark.parametrize(
    ("boxes", "points5", "sentence"),
    [
        ([10, 10, 50, 60], None, r"shape \(4,\), wanted is \(n, 4\)"),
        ([[10, 10, 50]], None, r"shape \(1, 3\)"),
        ([[10, 10, 50, 60], [1, 2]], None, "not numbers of shape"),
        ("boxes", None, "not numbers"),
        ([[10, 10, np.nan, 60]], None, "no place in an image"),
        ([[10, 10, np.inf, 60]], None, "no place in an image"),
        ([[0, 0, 1e30, 1e30]], None, "no place in an image"),
        ([[10, 10, 10, 60]], None, r"Box 0 \(10, 10, 10, 60\) has no width"),
        ([[0, 0, 9, 9], [10, 60, 50, 10]], None, "Box 1 .* has no width or height"),
        ([[200, 0, 210, 10]], None, "outside the image of 200 x 100"),
        ([[-20, -20, 0, 10]], None, "outside the image"),
        ([[10, 10, 50, 60]], [POINTS, POINTS], "1 boxes but points5 for 2"),
        ([[10, 10, 50, 60]], POINTS, r"points5 have the shape \(5, 2\)"),
        ([[10, 10, 50, 60]], [[[3, 3]] * 5], "points5 of face 0 are one point"),
        (None, [[[3, 3]] * 5], "are one point"),
        (None, np.array([POINTS]) + 5000, "outside the image"),
        (None, np.array([POINTS]) * np.nan, "no place in an image"),
    ],
)
def test_what_cannot_be_is_a_sentence(boxes, points5, sentence):
    with pytest.raises(FaceumError, match=sentence):
        given_places(boxes, points5, SIZE)


def test_a_whole_image_is_a_box():
    assert whole_image((100, 200)).box.tolist() == [0, 0, 200, 100]
