"""A face's parsing and an image's size in; the class of every pixel of the image out."""

from __future__ import annotations

import numpy as np

from faceum.geometry import box_corners, invert, transform_points
from faceum.results import Parsing


def paste_parsing(parsing: Parsing, size: tuple[int, int]) -> np.ndarray:
    """The class id of every pixel of the image, (height, width) uint8; 0 (background) outside the crop.

    size: (height, width) of the image in pixels. Each image pixel takes the class of the map
    pixel in which its centre lies, so class ids are never mixed.
    """
    height, width = size
    pasted = np.zeros((height, width), np.uint8)
    map_height, map_width = parsing.class_map.shape
    corners = transform_points(parsing.matrix, box_corners(np.array([0, 0, map_width, map_height])))
    limit = (width, height)
    x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    to_map = invert(parsing.matrix)
    x, y = np.arange(x0, x1) + 0.5, (np.arange(y0, y1) + 0.5)[:, None]
    column, row = (np.floor(m[0] * x + m[1] * y + m[2]) for m in to_map)
    inside = (column >= 0) & (column < map_width) & (row >= 0) & (row < map_height)
    pasted[y0:y1, x0:x1][inside] = parsing.class_map[row[inside].astype(int), column[inside].astype(int)]
    return pasted
