"""Arranges a drawn photo, its legend and the faces' cards into one drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceum.render.canvas import fill_box, paste_round
from faceum.render.lettering import Lettering
from faceum.render.palette import CLASS_COLOURS, CLASS_WORDS, GROUND, SOFT_INK, TRACK
from faceum.tasks import PARSING_CLASSES

MARGIN, GAP = 28, 18
"""Pixels around everything, and between things."""

PANORAMA = 2.2
"""Aspect ratio from which on a photo has its cards below it; others have them at the side."""


def arrange(photo: np.ndarray, legend: np.ndarray | None, cards: Sequence[np.ndarray]) -> np.ndarray:
    """Return one drawing: photo, legend below it, cards in columns at the side or in rows below.

    All are RGB uint8 (H, W, 3).
    """
    blocks: list[tuple[np.ndarray, int, int]] = [(photo, 0, 0)]
    photo_h, photo_w = photo.shape[:2]
    floor = photo_h
    if legend is not None:
        blocks.append((legend, 0, floor + GAP))
        floor += GAP + legend.shape[0]
    if photo_w > PANORAMA * photo_h:
        blocks += _rows(cards, photo_w, floor + GAP)
    else:
        blocks += _columns(cards, floor, photo_w + GAP)
    width = max(x + block.shape[1] for block, x, _ in blocks)
    height = max(y + block.shape[0] for block, _, y in blocks)
    drawing = np.full((height + 2 * MARGIN, width + 2 * MARGIN, 3), GROUND, np.uint8)
    for block, x, y in blocks:
        paste_round(drawing, block, (x + MARGIN, y + MARGIN), radius=0 if block is legend else 16)
    return drawing


def draw_legend(
    classes: Sequence[int], width: int, letters: Lettering, *, hatched: bool = False
) -> np.ndarray:
    """Return a strip as wide as the photo that names the colours of these parsing classes.

    hatched: also explain the hatched rim of a crop.
    """
    size, swatch, line = 15, 14, 28
    entries = [(CLASS_COLOURS[PARSING_CLASSES[i]], CLASS_WORDS[PARSING_CLASSES[i]]) for i in classes]
    if hatched:
        entries.append((TRACK, "hatched: beyond the crop, unknown"))
    strip = np.full((line * max(len(entries), 1), width, 3), GROUND, np.uint8)
    x, y = 0.0, 0.0
    for colour, words in entries:
        entry = swatch + 8 + letters.width(words, size)
        if x and x + entry > width:
            x, y = 0.0, y + line
        fill_box(strip, (x, y + 4, x + swatch, y + 4 + swatch), colour, radius=4)
        letters.draw(strip, words, (x + swatch + 8, y + 17), size, SOFT_INK)
        x += entry + 20
    return strip[: int(y) + line]


def _columns(cards: Sequence[np.ndarray], floor: int, left: int) -> list[tuple[np.ndarray, int, int]]:
    tallest = max([floor, *(card.shape[0] for card in cards)])
    placed, x, y = [], left, 0
    for card in cards:
        if y and y + card.shape[0] > tallest:
            x, y = x + card.shape[1] + GAP, 0
        placed.append((card, x, y))
        y += card.shape[0] + GAP
    return placed


def _rows(cards: Sequence[np.ndarray], width: int, top: int) -> list[tuple[np.ndarray, int, int]]:
    placed, x, y, row_height = [], 0, top, 0
    for card in cards:
        if x and x + card.shape[1] > width:
            x, y, row_height = 0, y + row_height + GAP, 0
        placed.append((card, x, y))
        x += card.shape[1] + GAP
        row_height = max(row_height, card.shape[0])
    return placed
