"""How images of any size are looked at: every place once, work bounded, small images enlarged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceum.detect.tiling import FIRST_SIDE, LAST_SIDE, MIN_SIDE, NEXT_SCALE, scales_of, tiles_of

SIDES = st.integers(1, 9000)


@given(height=SIDES, width=SIDES)
def test_scales_go_down_to_one_look_at_the_whole(height: int, width: int) -> None:
    scales = scales_of(height, width)
    assert scales == sorted(scales, reverse=True) and len(set(scales)) == len(scales)
    whole = scales[-1] * max(height, width) <= LAST_SIDE
    assert whole or scales[-1] * min(height, width) * NEXT_SCALE < MIN_SIDE
    if max(height, width) >= FIRST_SIDE:
        assert 0.5 <= scales[0] <= 1.0, "a face of 24 pixels keeps at least 12 in the first look"
    else:
        assert 1.0 <= scales[0] <= 4.0


def test_small_images_are_enlarged_and_moderate_ones_left_alone() -> None:
    assert scales_of(48, 48) == [4.0]
    assert scales_of(100, 128) == [2.0]
    assert scales_of(240, 320) == [1.0]
    assert scales_of(480, 640) == [1.0, NEXT_SCALE]
    assert scales_of(1536, 1000)[0] == 0.5


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    points=st.lists(st.tuples(SIDES, SIDES), max_size=9),
)
def test_every_point_belongs_to_one_tile_that_shows_its_surroundings(
    height: int, width: int, points: list[tuple[int, int]]
) -> None:
    tiles = list(tiles_of(height, width, core=512, margin=96))
    middles = np.array([(x % width, y % height) for x, y in points], float).reshape(-1, 2)
    owners = np.array([tile.owns(middles) for tile in tiles])
    assert (owners.sum(axis=0) == 1).all()
    for tile, owned in zip(tiles, owners, strict=True):
        for x, y in middles[owned]:
            assert tile.left <= max(0, x - 96) and tile.right >= min(width, x + 96)
            assert tile.top <= max(0, y - 96) and tile.bottom >= min(height, y + 96)
        assert 0 <= tile.left < tile.right <= width and 0 <= tile.top < tile.bottom <= height
        assert max(tile.right - tile.left, tile.bottom - tile.top) <= 512 + 2 * 96


@pytest.mark.parametrize("place", [(-3.0, 5.0), (5.0, -3.0), (1200.0, 5.0), (5.0, 1200.0)])
def test_face_with_centre_outside_image(place: tuple[float, float]) -> None:
    tiles = list(tiles_of(1100, 1100, core=512, margin=96))
    assert sum(bool(tile.owns(np.array([place]))[0]) for tile in tiles) == 1
