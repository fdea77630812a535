"""Pasting a parsing equals a slow loop over the image's pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceum.errors import ImageError
from faceum.geometry import invert
from faceum.paste import paste_parsing
from faceum.results import Parsing


def slow_paste(parsing: Parsing, size: tuple[int, int]) -> np.ndarray:
    result, back = np.zeros(size, np.uint8), invert(parsing.matrix)
    for y in range(size[0]):
        for x in range(size[1]):
            column, row = (math.floor(m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2]) for m in back)
            if 0 <= row < parsing.class_map.shape[0] and 0 <= column < parsing.class_map.shape[1]:
                result[y, x] = parsing.class_map[row, column]
    return result


@given(
    st.floats(0.1, 8), st.floats(-4, 4), st.floats(-30, 40), st.floats(-30, 40),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_paste_equals_a_slow_loop(scale, angle, x, y, size):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    classes = np.random.default_rng(0).integers(1, 19, (7, 5), np.uint8)
    parsing = Parsing(class_map=classes, matrix=np.array([[c, -s, x], [s, c, y]]))
    np.testing.assert_array_equal(paste_parsing(parsing, size), slow_paste(parsing, size))


def test_paste_by_hand():
    parsing = Parsing(class_map=np.array([[1, 2]], np.uint8), matrix=np.array([[2.0, 0, 1], [0, 2, 0]]))
    np.testing.assert_array_equal(
        paste_parsing(parsing, (3, 6)), [[0, 1, 1, 2, 2, 0], [0, 1, 1, 2, 2, 0], [0, 0, 0, 0, 0, 0]]
    )


def test_a_crop_outside_the_image_leaves_it_empty():
    parsing = Parsing(class_map=np.ones((4, 4), np.uint8), matrix=np.array([[1.0, 0, 99], [0, 1, 99]]))
    pasted = paste_parsing(parsing, (5, 6))
    assert pasted.dtype == np.uint8
    np.testing.assert_array_equal(pasted, np.zeros((5, 6)))


def test_a_flat_matrix_is_a_sentence():
    with pytest.raises(ImageError):
        paste_parsing(Parsing(class_map=np.ones((4, 4), np.uint8), matrix=np.zeros((2, 3))), (5, 6))
