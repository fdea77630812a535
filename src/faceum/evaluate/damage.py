"""Damage the images of a set, with their boxes and points moved along: stretched, gray and small, or weak."""

from __future__ import annotations

import zlib
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


def weaken_rows(rows: Iterable[LabelledFace], seed: int = 0) -> Iterator[LabelledFace]:
    """Yield the faces, two thirds of them smaller, blurred, compressed, or dark and noisy.

    How and how much depends on the seed and the face's id alone.
    """
    for row in rows:
        rng = np.random.default_rng((seed, zlib.crc32(row.id.encode())))
        yield row if rng.random() < 1 / 3 else WEAKENED[rng.integers(len(WEAKENED))](row, rng)


def _weaken_size(row: LabelledFace, rng: np.random.Generator) -> LabelledFace:
    """Return the face 12 to 48 pixels high."""
    scale = min(float(np.exp(rng.uniform(np.log(12), np.log(48)))) / (row.place[3] - row.place[1]), 1.0)
    height, width = row.image.shape[:2]
    return _resize(row, (max(round(width * scale), 1), max(round(height * scale), 1)), cv2.INTER_AREA)


def _weaken_focus(row: LabelledFace, rng: np.random.Generator) -> LabelledFace:
    """Return the face blurred by 1 to 8 % of its height."""
    spread = float((row.place[3] - row.place[1]) * np.exp(rng.uniform(np.log(0.01), np.log(0.08))))
    return replace(row, image=cv2.GaussianBlur(row.image, (0, 0), spread))


def _weaken_file(row: LabelledFace, rng: np.random.Generator) -> LabelledFace:
    """Return the face as a JPEG file of quality 2 to 20 keeps it."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(2, 20))]
    data = cv2.imencode(".jpg", row.image[..., ::-1], quality)[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return replace(row, image=np.ascontiguousarray(decoded[..., ::-1]))


def _weaken_light(row: LabelledFace, rng: np.random.Generator) -> LabelledFace:
    """Return the face at 5 to 30 % of its light, with the noise that this brings."""
    dark = row.image * rng.uniform(0.05, 0.3) + rng.normal(0, rng.uniform(1, 8), row.image.shape)
    return replace(row, image=np.clip(dark, 0, 255).astype(np.uint8))


WEAKENED: tuple[Callable[[LabelledFace, np.random.Generator], LabelledFace], ...] = (
    _weaken_size,
    _weaken_focus,
    _weaken_file,
    _weaken_light,
)
"""What may befall a face that is weakened."""


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
