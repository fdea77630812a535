"""What is drawn over the photo itself: a face's box, its coloured parts and its points.

`to_image` is the (2, 3) matrix from the image's continuous pixels to those of the image that is drawn on,
because photos are drawn at another size, and each face is drawn once more enlarged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from faceum.geometry import box_corners, compose, transform_points, warp
from faceum.render.canvas import corner_marks, dot, fill_box, outline_box, stroke
from faceum.render.lettering import Colour, Lettering
from faceum.render.palette import GROUND, PALETTE

if TYPE_CHECKING:
    from faceum.results import Parsing

CONTOURS: tuple[tuple[int, int, bool], ...] = (
    (0, 17, False),
    (17, 22, False),
    (22, 27, False),
    (27, 31, False),
    (31, 36, False),
    (36, 42, True),
    (42, 48, True),
    (48, 60, True),
    (60, 68, True),
)
"""The lines through the 68 iBUG points: first, one past the last, whether the line is closed."""

PARSING_SHARE = 0.5
"""Opacity of the classes' colours."""

HATCHED_SHARE = 0.06
"""Width of the hatched band around a crop, as a share of the crop's side."""


def draw_parsing(image: np.ndarray, parsing: Parsing, to_image: np.ndarray) -> None:
    """Lay the classes' colours over the image, background left clear.

    Where a class other than background reaches the crop's edge, what lies beyond is unknown: its colour goes
    on as a band of stripes that fades out.
    """
    matrix = compose(parsing.matrix, to_image)
    enlargement = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    finer = int(np.clip(np.ceil(enlargement), 1, 6))
    band = round(HATCHED_SHARE * max(parsing.class_map.shape)) * finer
    classes = np.pad(_smooth_enlargement(parsing.class_map, finer), band, mode="edge")
    layer = np.zeros((*classes.shape, 4), np.float32)
    layer[..., 3] = (classes > 0) * _hatching(classes.shape, band)
    layer[..., :3] = PALETTE[classes] * layer[..., 3:]  # premultiplied, ready to be interpolated
    matrix = compose(np.array([[1 / finer, 0, -band / finer], [0, 1 / finer, -band / finer]]), matrix)

    height, width = image.shape[:2]
    corners = transform_points(matrix, box_corners(np.array([0, 0, layer.shape[1], layer.shape[0]])))
    x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    matrix = matrix - np.array([[0, 0, x0], [0, 0, y0]])
    laid = warp(layer, matrix, (y1 - y0, x1 - x0), border="zero") * PARSING_SHARE
    part = image[y0:y1, x0:x1]
    part[:] = np.round(part * (1 - laid[..., 3:]) + laid[..., :3]).clip(0, 255).astype(np.uint8)


def _hatching(shape: tuple[int, ...], band: int) -> np.ndarray:
    """Return the opacity (h, w): 1 inside, diagonal stripes that fade towards the rim in the outer band."""
    rows, columns = np.indices(shape, np.float32)
    inside = np.minimum(np.minimum(rows, shape[0] - 1 - rows), np.minimum(columns, shape[1] - 1 - columns))
    period = max(band / 2.5, 2.0)
    stripes = (rows + columns) % period < period / 2
    return np.where(inside >= band, 1.0, stripes * (inside + 1) / (band + 1)).astype(np.float32)


def reaches_beyond_crop(parsing: Parsing, size: tuple[int, int]) -> bool:
    """Return whether a class other than background meets the crop's edge within an image of that size."""
    edge = np.ones(parsing.class_map.shape, bool)
    edge[1:-1, 1:-1] = False
    return bool((edge & (parsing.class_map > 0) & _inside(parsing, size)).any())


def classes_seen(parsing: Parsing, size: tuple[int, int]) -> set[int]:
    """Return the classes that lie in an image of that (height, width); a crop may reach beyond it."""
    return set(parsing.class_map[_inside(parsing, size)].tolist())


def _inside(parsing: Parsing, size: tuple[int, int]) -> np.ndarray:
    """Return which pixels of the class map have their centre in the image."""
    rows, columns = np.indices(parsing.class_map.shape)
    x, y = np.moveaxis(transform_points(parsing.matrix, np.stack([columns, rows], axis=-1) + 0.5), -1, 0)
    return np.asarray((x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0]))


def draw_landmarks(image: np.ndarray, landmarks: np.ndarray, to_image: np.ndarray) -> None:
    """Draw the 68 points as dots, joined by fine lines along brows, eyes, nose, lips and jaw."""
    points = transform_points(to_image, landmarks)
    eye_distance = float(np.hypot(*(points[36:42].mean(axis=0) - points[42:48].mean(axis=0))))
    radius = float(np.clip(eye_distance * 0.026, 0.7, 3.2))
    for first, end, closed in CONTOURS:
        stroke(image, points[first:end], (255, 255, 255), width=radius * 0.7, closed=closed, alpha=0.5)
    for point in points:
        dot(image, point, radius * 1.45, GROUND, alpha=0.55)
    for point in points:
        dot(image, point, radius, (255, 255, 255))


def draw_points5(image: np.ndarray, points5: np.ndarray, to_image: np.ndarray, colour: Colour) -> None:
    """Draw the five points as rings."""
    points = transform_points(to_image, points5)
    radius = float(np.clip(np.hypot(*(points[0] - points[1])) * 0.05, 1.5, 5.0))
    for x, y in points:
        around = (x - radius, y - radius, x + radius, y + radius)
        outline_box(image, around, GROUND, width=radius * 0.9, radius=radius, alpha=0.5)
        outline_box(image, around, colour, width=radius * 0.5, radius=radius)


def draw_box(
    image: np.ndarray, box: np.ndarray, to_image: np.ndarray, colour: Colour, number: str, letters: Lettering
) -> None:
    """Draw a face's box: a fine line with strong corners, and its number on a tag above it."""
    (x0, y0), (x1, y1) = transform_points(to_image, np.asarray(box, np.float64).reshape(2, 2))
    side = max(min(x1 - x0, y1 - y0), 1.0)
    edges = (x0, y0, x1, y1)
    width, radius = float(np.clip(side * 0.018, 1.5, 4.0)), side * 0.08
    outline_box(image, edges, colour, width=1.0, radius=radius, alpha=0.55)
    corner_marks(image, edges, colour, width=width, radius=radius, length=side * 0.2)

    size = int(np.clip(side * 0.16, 12, 20))
    tag_w, tag_h = letters.width(number, size, 600) + size * 0.9, size * 1.35
    # Above the box, or inside it if the image ends there.
    top = y0 - tag_h - 5 if y0 - tag_h - 5 >= 0 else max(y0, 0) + 5
    left = float(np.clip(x0, 0, max(image.shape[1] - tag_w, 0)))
    fill_box(image, (left, top, left + tag_w, top + tag_h), colour, radius=tag_h * 0.35)
    letters.draw(image, number, (left + size * 0.45, top + size * 1.03), size, GROUND, 600)


def _smooth_enlargement(class_map: np.ndarray, finer: int) -> np.ndarray:
    """Return the class map `finer` times as large, with smooth instead of stepped borders."""
    if finer == 1:
        return class_map
    present = np.unique(class_map)
    size = (class_map.shape[1] * finer, class_map.shape[0] * finer)
    best = np.full(size[::-1], -np.inf, np.float32)
    classes = np.zeros(size[::-1], np.uint8)
    for label in present:
        # Blurring by a pixel first keeps the corners of single pixels from showing as scallops.
        share = cv2.GaussianBlur((class_map == label).astype(np.float32), (0, 0), 0.8)
        share = cv2.resize(share, size, interpolation=cv2.INTER_CUBIC)
        better = share > best
        best[better], classes[better] = share[better], label
    return classes
