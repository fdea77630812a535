from __future__ import annotations

import numpy as np
import pytest

from faceum.data.mask_painter import MASK_SHAPES, paint_mask, paint_mask_by_points5
from faceum.errors import DataError


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(before.astype(int) - after).max(axis=2) > 12


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_mouth_and_nose_tip_are_hidden_and_the_eyes_are_not(image, landmarks68, shape):
    before = image.copy()
    masked = paint_mask(image, landmarks68, np.random.default_rng(3), shape=shape)
    assert masked.shape == image.shape and masked.dtype == np.uint8
    assert (image == before).all(), "the given image must stay as it was"
    touched = changed(image, masked)
    assert touched[112:160, 75:125].mean() > 0.9
    assert not touched[:84, 55:145].any(), "only straps may reach as high as the eyes"
    assert not touched[:, :20].any() and not touched[:, 180:].any()


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_five_points_are_enough(image, landmarks68, shape):
    eyes = [landmarks68[36:42].mean(axis=0), landmarks68[42:48].mean(axis=0)]
    points5 = np.array([*eyes, *landmarks68[[30, 48, 54]]])
    touched = changed(image, paint_mask_by_points5(image, points5, np.random.default_rng(3), shape=shape))
    assert touched[115:155, 80:120].mean() > 0.9
    assert not touched[:80].any()


def test_mask_turns_with_the_face(image, landmarks68):
    upside_down = 200 - landmarks68
    touched = changed(image, paint_mask(image, upside_down, np.random.default_rng(3), shape="surgical"))
    assert touched[40:88, 75:125].mean() > 0.9
    assert not touched[118:].any()


def test_seed_fixes_the_image_and_seeds_differ(image, landmarks68):
    one, same, other = (paint_mask(image, landmarks68, np.random.default_rng(s)) for s in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()


def test_all_shapes_are_drawn(image, landmarks68):
    rng = np.random.default_rng(0)
    images = {paint_mask(image, landmarks68, rng).tobytes() for _ in range(12)}
    assert len(images) == 12


def test_gray_image_stays_gray(image, landmarks68):
    gray = np.repeat(image[..., :1], 3, axis=2)
    masked = paint_mask(gray, landmarks68, np.random.default_rng(1), shape="cloth")
    assert changed(gray, masked).any()
    assert np.ptp(masked, axis=2).max() == 0


@pytest.mark.parametrize("shift", [(1000, 0), (-1000, -1000)])
def test_face_outside_the_image_changes_nothing(image, landmarks68, shift):
    assert (paint_mask(image, landmarks68 + shift, np.random.default_rng(0)) == image).all()


def test_face_cut_by_the_border_is_painted(image, landmarks68):
    assert changed(image, paint_mask(image, landmarks68 + [-90, 60], np.random.default_rng(0))).any()


def test_unusable_input_gives_a_sentence(image, landmarks68):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="68 finite points"):
        paint_mask(image, landmarks68[:67], rng)
    with pytest.raises(DataError, match="68 finite points"):
        paint_mask(image, landmarks68 * np.nan, rng)
    with pytest.raises(DataError, match="surgical, cloth"):
        paint_mask(image, landmarks68, rng, shape="beard")
