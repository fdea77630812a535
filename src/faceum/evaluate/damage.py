"""Damage the images of a set, with their boxes and points moved along: stretched, or gray and small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from faceum.data.face import LabelledFace

STRETCH = 1.25
"""Factor by which a stretched image is wider."""

SMALL = 32
"""Height in pixels of a face in a shrunk image."""


def stretch(row: LabelledFace) -> LabelledFace:
    """Return the face with its image made wider by `STRETCH`."""
    height, width = row.image.shape[:2]
    return _resize(row, (round(width * STRETCH), height), cv2.INTER_LINEAR)


def shrink_and_gray(row: LabelledFace) -> LabelledFace:
    """Return the face with its image gray, and its box shrunk to at most `SMALL` pixels high."""
    gray = cv2.cvtColor(cv2.cvtColor(row.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    height, width = row.image.shape[:2]
    scale = min(SMALL / (row.place[3] - row.place[1]), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return _resize(replace(row, image=gray), size, cv2.INTER_AREA)


DAMAGES: dict[str, Callable[[LabelledFace], LabelledFace]] = {"stretched": stretch, "small": shrink_and_gray}
"""Protocol -> the damage to one side of each pair."""


def damage_rows(rows: Iterable[LabelledFace], damage: str) -> Iterator[LabelledFace]:
    """Yield the faces after one of `DAMAGES`."""
    return map(DAMAGES[damage], rows)


def _resize(row: LabelledFace, size: tuple[int, int], interpolation: int) -> LabelledFace:
    """Return the face at another size (width, height), without its parsing."""
    factor = np.array(size) / row.image.shape[1::-1]
    labels = {name: value for name, value in row.labels.items() if name != "parsing"}
    if "landmarks68" in labels:
        labels["landmarks68"] = labels["landmarks68"] * factor
    return replace(
        row,
        image=cv2.resize(row.image, size, interpolation=interpolation),
        box=None if row.box is None else row.box * np.tile(factor, 2),
        points5=None if row.points5 is None else row.points5 * factor,
        labels=labels,
    )
