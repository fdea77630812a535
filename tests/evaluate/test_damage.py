"""Damaged images, and where their boxes and points go."""

import numpy as np

from faceum.evaluate.damage import shrink_and_gray, stretch


def test_stretched_face_moves_its_box_and_points(toy):
    row = toy.row("a", (200, 9, 9), landmarks68=toy.landmarks68(), age=3)
    wide = stretch(row)
    assert wide.image.shape == (100, 125, 3)
    assert np.allclose(wide.points5, row.points5 * [1.25, 1])
    assert np.allclose(wide.box, row.box * [1.25, 1, 1.25, 1])
    assert np.allclose(wide.labels["landmarks68"], row.labels["landmarks68"] * [1.25, 1])
    assert wide.labels["age"] == 3


def test_shrunk_face_is_gray_and_32_pixels_high(toy):
    small = shrink_and_gray(toy.row("a", (200, 9, 9)))
    assert round(small.box[3] - small.box[1]) == 32
    assert (small.image == small.image[..., :1]).all()
    assert shrink_and_gray(small).image.shape == small.image.shape
