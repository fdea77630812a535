"""Draw an inspection of the routing: the experts of each token, their load, and the overlap of tasks.

At the top is one gray crop per task and MoE block, with tokens tinted by their first expert. Below are one
card per MoE block, with the experts' load by region, and a card with the share of experts that tasks have in
common.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceum.model.routing_stats import NOT_TAKEN, REGIONS, Inspection
from faceum.render.canvas import dot, fill_box, outline_box, paste_round, stroke
from faceum.render.layout import GAP, MARGIN
from faceum.render.lettering import Colour, Lettering, best_lettering, shorten_to_width
from faceum.render.palette import CARD, FAINT_INK, GROUND, INK, SOFT_INK, TRACK, expert_colour

WIDTH = 1536
"""Pixels between the margins."""

LARGEST_TILE, TILE_GAP = 300, 14
"""Pixels: side of a crop, and between two crops."""

FEW_TILES = 6
"""Up to this number, all crops are in one row; otherwise each MoE block has its own row."""

PADDING, LABEL, CELL_HEIGHT = 22, 104, 27
"""Pixels: padding of a card, width of a row's label, height of a row."""

OVERLAP_CELL = 50
"""Side of a cell in the card of overlap, in pixels."""

PALEST, DEEPEST = 0.18, 0.62
"""Opacity of a tint if the gate is 0, and if it is 1."""

LEAST_FOR_NUMBERS = 24
"""Tokens that are drawn with fewer pixels have no number."""


def render_experts(inspection: Inspection, title: str = "") -> np.ndarray:
    """Draw an inspection as an RGB uint8 image. title: the name of the inspected image."""
    letters = best_lettering()
    blocks = [_draw_head(inspection, title, letters)]
    tiles = [(task, moe_block) for moe_block in _moe_blocks(inspection) for task in inspection.tasks]
    columns = len(tiles) if len(tiles) <= FEW_TILES else len(inspection.tasks)
    for first in range(0, len(tiles), columns):
        blocks.append(_draw_tiles(inspection, tiles[first : first + columns], letters))
    cards = [_draw_load_card(inspection, moe_block, letters) for moe_block in _moe_blocks(inspection)]
    if len(inspection.tasks) > 1:
        cards.append(_draw_overlap_card(inspection, letters))
    blocks += _arrange(cards)
    height = sum(block.shape[0] + GAP for block in blocks) - GAP
    drawing = _make_card(height + 2 * MARGIN, WIDTH + 2 * MARGIN, GROUND)
    y = MARGIN
    for block in blocks:
        drawing[y : y + block.shape[0], MARGIN : MARGIN + block.shape[1]] = block
        y += block.shape[0] + GAP
    return drawing


def _moe_blocks(inspection: Inspection) -> range:
    return range(1, inspection.moe_blocks + 1)


def _make_card(height: int, width: int, colour: Colour) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def _draw_head(inspection: Inspection, title: str, letters: Lettering) -> np.ndarray:
    """Draw the title and the legend of colours and marks."""
    head = _make_card(98, WIDTH, GROUND)
    letters.draw(head, "Which expert takes which piece of the face", (0, 26), 27, INK, 600)
    note = "  ·  ".join(filter(None, (title, inspection.network)))
    _draw_to(head, letters, shorten_to_width(letters, note, WIDTH - 720, 15), (WIDTH, 24), 15, FAINT_INK)
    x = 0.0
    for expert in range(inspection.num_experts):
        x = _draw_chip(head, letters, expert, (x, 52)) + 8
    x += 18
    for words in ("tint: first choice, deeper the larger its weight", "dot: second choice"):
        x = _say(head, letters, words, x, 69) + 26
    outline_box(head, (x, 55, x + 16, 71), INK, width=2.2, radius=3)
    _say(head, letters, "face tokens", x + 24, 69)
    return head[:84]


def _say(image: np.ndarray, letters: Lettering, words: str, x: float, baseline: float) -> float:
    letters.draw(image, words, (x, baseline), 14, SOFT_INK)
    return x + letters.width(words, 14)


def _draw_to(
    image: np.ndarray, letters: Lettering, words: str, at: tuple[float, float], size: int, colour: Colour
) -> None:
    """Draw text that ends at x."""
    letters.draw(image, words, (at[0] - letters.width(words, size), at[1]), size, colour)


def _draw_chip(image: np.ndarray, letters: Lettering, expert: int, at: tuple[float, float]) -> float:
    """Draw an expert's number on its colour; return the x at which it ends."""
    x, y = at
    fill_box(image, (x, y, x + 30, y + 22), expert_colour(expert), radius=7)
    _draw_centred(image, letters, str(expert), (x, y, x + 30, y + 22), 14, GROUND)
    return x + 30


def _draw_centred(
    image: np.ndarray, letters: Lettering, words: str, box: Sequence[float], size: int, colour: Colour
) -> None:
    x = (box[0] + box[2] - letters.width(words, size, 600)) / 2
    letters.draw(image, words, (x, (box[1] + box[3]) / 2 + size * 0.36), size, colour, 600)


def _draw_tiles(inspection: Inspection, tiles: Sequence[tuple[str, int]], letters: Lettering) -> np.ndarray:
    """Draw crops in a row, each below its task and MoE block."""
    side = min(LARGEST_TILE, (WIDTH - (len(tiles) - 1) * TILE_GAP) // len(tiles))
    row = _make_card(side + 30, WIDTH, GROUND)
    for column, (task, moe_block) in enumerate(tiles):
        x = column * (side + TILE_GAP)
        letters.draw(row, task, (x, 18), 16, INK, 600)
        _draw_to(row, letters, f"MoE block {moe_block}", (x + side, 18), 13, FAINT_INK)
        paste_round(row, draw_tokens(inspection, task, moe_block, side, letters), (x, 30), radius=10)
    return row


def draw_tokens(
    inspection: Inspection, task: str, moe_block: int, side: int, letters: Lettering
) -> np.ndarray:
    """Draw the gray crop (side, side, 3), with tokens tinted by their first expert, marks and outline."""
    crop, route = inspection.crops[task], inspection.route(task, moe_block)
    gray = cv2.resize(crop.image, (side, side), interpolation=cv2.INTER_CUBIC) @ (0.299, 0.587, 0.114)
    tile = np.repeat(np.round(gray * 0.82 + 12)[..., None], 3, axis=2).astype(np.uint8)
    grid = round(len(crop.face_tokens_N) ** 0.5)
    step = side / grid
    for token, (experts, gates) in enumerate(zip(route.topk_experts_NK, route.weights_NK, strict=True)):
        x, y = token % grid * step, token // grid * step
        first = int(experts[0])
        if first == NOT_TAKEN:
            continue
        gap = 1 if step >= 8 else 0
        box = (round(x), round(y), round(x + step) - gap, round(y + step) - gap)
        deep = PALEST + (DEEPEST - PALEST) * float(np.clip(gates[0], 0, 1))
        fill_box(tile, box, expert_colour(first), radius=step / 8, alpha=deep)
        if step >= LEAST_FOR_NUMBERS:
            for shift, colour in ((1, GROUND), (0, INK)):  # with a shadow, to be legible on light skin
                letters.draw(tile, str(first), (x + 5 + shift, y + 15 + shift), 12, colour, 600)
        if len(experts) > 1 and experts[1] != NOT_TAKEN:
            place, radius = (x + step * 0.77, y + step * 0.77), step * 0.12
            dot(tile, place, radius + 1.2, GROUND, alpha=0.7)
            dot(tile, place, radius, expert_colour(int(experts[1])))
    _outline(tile, crop.face_tokens_N.reshape(grid, grid), step)
    return tile


def _outline(tile: np.ndarray, mask: np.ndarray, step: float) -> None:
    """Draw a light line on a dark one around the face tokens, inside the tile."""
    padded = np.pad(mask, 1)
    across = np.argwhere(padded[:-1, 1:-1] != padded[1:, 1:-1])  # (row, column) at which an edge begins
    down = np.argwhere(padded[1:-1, :-1] != padded[1:-1, 1:])
    edges = [np.array([(x, y), (x + 1, y)], np.float64) * step for y, x in across]
    edges += [np.array([(x, y), (x, y + 1)], np.float64) * step for y, x in down]
    limit = tile.shape[0] - 1.5
    for colour, width, alpha in ((GROUND, 4.6, 0.55), (INK, 2.2, 1.0)):
        for edge in edges:
            stroke(tile, np.clip(edge, 1.5, limit), colour, width=width, alpha=alpha)


def _draw_load_card(inspection: Inspection, moe_block: int, letters: Lettering) -> np.ndarray:
    """Draw the heat maps of a MoE block, task x expert, that of face tokens above that of background."""
    cell = min(42, (WIDTH - 2 * PADDING - LABEL - 64) // inspection.num_experts)
    width = 2 * PADDING + LABEL + cell * inspection.num_experts + 64
    section = 44 + CELL_HEIGHT * len(inspection.tasks)
    card = _draw_card(section * 2 + 92, width)
    letters.draw(card, f"MoE block {moe_block}", (PADDING, PADDING + 19), 20, INK, 600)
    note = "share of the choices that fell on each expert, in %"
    _draw_to(card, letters, note, (width - PADDING, PADDING + 18), 13, FAINT_INK)
    load, weight = inspection.load(moe_block), inspection.weight(moe_block)
    for place, region in enumerate((1, 0)):
        top = PADDING + 36 + place * section
        letters.draw(card, REGIONS[region].upper(), (PADDING, top + 15), 12, FAINT_INK, 600)
        left = PADDING + LABEL
        for expert in range(inspection.num_experts):
            x = left + expert * cell
            fill_box(card, (x + 4, top + 1, x + cell - 4, top + 19), expert_colour(expert), radius=6)
            _draw_centred(card, letters, str(expert), (x, top + 1, x + cell, top + 19), 13, GROUND)
        _draw_to(card, letters, "weight", (width - PADDING, top + 15), 12, FAINT_INK)
        for row, task in enumerate(inspection.tasks):
            y = top + 24 + row * CELL_HEIGHT
            letters.draw(card, task, (PADDING, y + 18), 15, SOFT_INK)
            for expert in range(inspection.num_experts):
                x = left + expert * cell
                share = float(load[row, region, expert])
                _draw_heat(card, letters, (x, y, x + cell, y + CELL_HEIGHT), share, expert_colour(expert))
            spoken = "-" if np.isnan(weight[row, region]) else f"{weight[row, region]:.2f}"
            _draw_to(card, letters, spoken, (width - PADDING, y + 18), 14, SOFT_INK)
    note = "weight: the gates of a token's experts together, mean over the tokens"
    letters.draw(card, note, (PADDING, card.shape[0] - PADDING), 13, FAINT_INK)
    return card


def _draw_heat(
    image: np.ndarray, letters: Lettering, box: Sequence[float], share: float, colour: Colour
) -> None:
    """Draw a cell whose opacity shows a share; write the per cent in it unless they round to 0."""
    inner = (box[0] + 1.5, box[1] + 1.5, box[2] - 1.5, box[3] - 1.5)
    fill_box(image, inner, TRACK, radius=5, alpha=0.55)
    depth = share**0.6 if share > 0 else 0.0
    fill_box(image, inner, colour, radius=5, alpha=depth)
    if share >= 0.005:
        light = np.dot(colour, (0.299, 0.587, 0.114)) * depth > 110
        _draw_centred(image, letters, f"{100 * share:.0f}", box, 13, GROUND if light else INK)


def _draw_overlap_card(inspection: Inspection, letters: Lettering) -> np.ndarray:
    """Draw how much each two tasks share experts, as a lower triangle with the tasks on the diagonal."""
    tasks, overlap = inspection.tasks, inspection.overlap()
    width = max(2 * PADDING + OVERLAP_CELL * (len(tasks) - 1) + LABEL, 360)
    card = _draw_card(2 * PADDING + 84 + OVERLAP_CELL * len(tasks), width)
    letters.draw(card, "Shared experts", (PADDING, PADDING + 19), 20, INK, 600)
    for line, words in enumerate(
        ("in %: 100 where two tasks spread their", "tokens alike, 0 where no expert serves both")
    ):
        letters.draw(card, words, (PADDING, PADDING + 44 + 19 * line), 13, FAINT_INK)
    for row, task in enumerate(tasks):
        y = PADDING + 74 + row * OVERLAP_CELL
        for column in range(row):
            x = PADDING + column * OVERLAP_CELL
            box = (x, y, x + OVERLAP_CELL, y + OVERLAP_CELL)
            _draw_heat(card, letters, box, float(overlap[row, column]), INK)
        x = PADDING + row * OVERLAP_CELL
        letters.draw(card, task, (x + 8, y + OVERLAP_CELL / 2 + 5), 15, SOFT_INK)
    return card


def _draw_card(height: int, width: int) -> np.ndarray:
    """Draw an empty card with round corners."""
    card = _make_card(height, width, GROUND)
    fill_box(card, (0, 0, width, height), CARD, radius=16)
    return card


def _arrange(cards: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrange the cards in as many rows as needed."""
    shelves: list[list[np.ndarray]] = []
    free = 0
    for card in cards:
        if not shelves or card.shape[1] > free:
            shelves.append([])
            free = WIDTH
        shelves[-1].append(card)
        free -= card.shape[1] + GAP
    drawn = []
    for shelf in shelves:
        row = _make_card(max(card.shape[0] for card in shelf), WIDTH, GROUND)
        x = 0
        for card in shelf:
            row[: card.shape[0], x : x + card.shape[1]] = card
            x += card.shape[1] + GAP
        drawn.append(row)
    return drawn
