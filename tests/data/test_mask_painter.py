from __future__ import annotations

import numpy as np
import pytest

from faceum.data.mask_painter import MASK_SHAPES, paint_mask, paint_mask_by_points5
from faceum.errors import DataError


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(before.astype(int) - after).max(axis=2) > 12


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_mouth_and_nose_tip_are_hidden_and_the_eyes_are_not(picture, landmarks68, shape):
    before = picture.copy()
    masked = paint_mask(picture, landmarks68, np.random.default_rng(3), shape=shape)
    assert masked.shape == picture.shape and masked.dtype == np.uint8
    assert (picture == before).all(), "the given picture must stay as it was"
    touched = changed(picture, masked)
    assert touched[112:160, 75:125].mean() > 0.9
    assert not touched[:84, 55:145].any(), "only straps may reach as high as the eyes"
    assert not touched[:, :20].any() and not touched[:, 180:].any()


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_five_points_are_enough(picture, landmarks68, shape):
    eyes = [landmarks68[36:42].mean(axis=0), landmarks68[42:48].mean(axis=0)]
    points5 = np.array([*eyes, *landmarks68[[30, 48, 54]]])
    touched = changed(picture, paint_mask_by_points5(picture, points5, np.random.default_rng(3), shape=shape))
    assert touched[115:155, 80:120].mean() > 0.9
    assert not touched[:80].any()


def test_the_mask_turns_with_the_face(picture, landmarks68):
    upside_down = 200 - landmarks68
    touched = changed(picture, paint_mask(picture, upside_down, np.random.default_rng(3), shape="surgical"))
    assert touched[40:88, 75:125].mean() > 0.9
    assert not touched[118:].any()


def test_a_seed_fixes_the_picture_and_seeds_differ(picture, landmarks68):
    one, same, other = (paint_mask(picture, landmarks68, np.random.default_rng(s)) for s in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()


def test_all_shapes_are_drawn(picture, landmarks68):
    rng = np.random.default_rng(0)
    pictures = {paint_mask(picture, landmarks68, rng).tobytes() for _ in range(12)}
    assert len(pictures) == 12


def test_a_gray_picture_stays_gray(picture, landmarks68):
    gray = np.repeat(picture[..., :1], 3, axis=2)
    masked = paint_mask(gray, landmarks68, np.random.default_rng(1), shape="cloth")
    assert changed(gray, masked).any()
    assert np.ptp(masked, axis=2).max() == 0


@pytest.mark.parametrize("shift", [(1000, 0), (-1000, -1000)])
def test_a_face_outside_the_picture_changes_nothing(picture, landmarks68, shift):
    assert (paint_mask(picture, landmarks68 + shift, np.random.default_rng(0)) == picture).all()


def test_a_face_cut_by_the_border_is_painted(picture, landmarks68):
    assert changed(picture, paint_mask(picture, landmarks68 + [-90, 60], np.random.default_rng(0))).any()


def test_unusable_input_is_a_sentence(picture, landmarks68):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="68 finite points"):
        paint_mask(picture, landmarks68[:67], rng)
    with pytest.raises(DataError, match="68 finite points"):
        paint_mask(picture, landmarks68 * np.nan, rng)
    with pytest.raises(DataError, match="surgical, cloth"):
        paint_mask(picture, landmarks68, rng, shape="beard")
