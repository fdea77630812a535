"""Moves points, boxes and images between frames by 2 x 3 matrices.

Coordinates are continuous, x then y: the outer corner of the first pixel is (0, 0), its centre (0.5, 0.5). A
matrix (2, 3) takes (x, y, 1) of one frame to (x, y) of another.
"""

from __future__ import annotations

import cv2
import numpy as np

from faceum.errors import ImageError

INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}
BORDERS = {"edge": cv2.BORDER_REPLICATE, "zero": cv2.BORDER_CONSTANT}


def similarity_from_points(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the (2, 3) float64 rotation, scale and shift that brings source nearest to target.

    source, target: (n, 2) points, n >= 2. Nearest in the sum of squared distances, after S. Umeyama,
    "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4), 1991.
    Raises ImageError if the source points coincide or a number is not finite. Never mirrors.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    spread = np.square(source - source_mean).sum()
    if not (np.isfinite(spread) and np.isfinite(target).all()) or spread < 1e-12:
        raise ImageError("The points of a face coincide or are not finite; give points that lie apart.")
    left, strengths, right = np.linalg.svd((target - target_mean).T @ (source - source_mean))
    signs = np.array([1.0, 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0])
    turn_and_scale = (left * signs) @ right * ((strengths * signs).sum() / spread)
    return np.column_stack([turn_and_scale, target_mean - turn_and_scale @ source_mean])


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse (2, 3) float64 matrix; raises ImageError if there is none."""
    matrix = np.asarray(matrix, np.float64)
    (a, b, shift_x), (c, d, shift_y) = matrix
    determinant = a * d - b * c
    if not np.isfinite(matrix).all() or abs(determinant) < 1e-300:
        raise ImageError("The frame of a face has no size; give a box or points with some width and height.")
    back = np.array([[d, -b], [-c, a]]) / determinant
    return np.column_stack([back, -back @ (shift_x, shift_y)])


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (2, 3) float64 matrix that applies `first` and then `second`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.column_stack([second[:, :2] @ first[:, :2], transform_points(second, first[:, 2])])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) matrix to points (..., 2); returns float64."""
    matrix = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def box_corners(box: np.ndarray) -> np.ndarray:
    """Return the corners (4, 2) of a box x0 y0 x1 y1: top left, top right, bottom right, bottom left."""
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def boxes_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n, m), 0..1, of each of first (n, 4) with each of second (m, 4).

    Boxes are x0 y0 x1 y1; a box with x1 <= x0 or y1 <= y0 is empty and overlaps nothing.
    """
    first = np.asarray(first, np.float64).reshape(-1, 1, 4)
    second = np.asarray(second, np.float64).reshape(1, -1, 4)
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    both = _areas(first) + _areas(second) - shared
    return np.divide(shared, both, out=np.zeros_like(shared), where=both > 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)
    return areas


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    *,
    interpolation: str = "linear",
    border: str = "edge",
) -> np.ndarray:
    """Warp an image by a matrix, without aliasing if it shrinks to half or less.

    image: (H, W) or (H, W, C), C <= 4, uint8 or float32. matrix: (2, 3), from image to result coordinates.
    size: (height, width) of the result. interpolation: "linear", "cubic" or "nearest" (for class ids: never
    averaged). border: what is outside the image, its "edge" repeated or "zero".

    Shrinking first averages whole k x k blocks, k the integer part of how many image pixels go into one of
    the result, and interpolates between the averages. Only the part of the image that is needed is
    touched, so a small face in a huge image is cheap, and sides beyond OpenCV's 32,767 pixels are fine.
    """
    if interpolation not in INTERPOLATIONS or border not in BORDERS:
        raise ValueError(
            f"interpolation {interpolation!r} with border {border!r} is not known: "
            f"use one of {', '.join(INTERPOLATIONS)} with one of {', '.join(BORDERS)}"
        )
    height, width = size
    back = invert(matrix)
    pixels_per_result = 1 / np.maximum(np.linalg.norm(np.asarray(matrix, np.float64)[:, :2], axis=0), 1e-9)
    blocks = np.ones(2, int) if interpolation == "nearest" else np.maximum(pixels_per_result.astype(int), 1)
    low, high = _find_needed_part(back, size, blocks, image.shape[:2])
    part = image[low[1] : high[1], low[0] : high[0]]
    blocks = np.minimum(blocks, high - low)
    part = _block_means(part, blocks, BORDERS[border])
    # From result to averaged part: back to the image, shifted to the part, divided by the blocks; then
    # from continuous coordinates to OpenCV's, whose pixel centres are whole numbers.
    back = (back - np.column_stack([np.zeros((2, 2)), low])) / blocks[:, None]
    back[:, 2] += back[:, :2].sum(axis=1) * 0.5 - 0.5
    flags = INTERPOLATIONS[interpolation] | cv2.WARP_INVERSE_MAP
    result: np.ndarray = cv2.warpAffine(part, back, (width, height), flags=flags, borderMode=BORDERS[border])
    return result.reshape(height, width, *image.shape[2:])


def stretch(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image (H, W, C) uint8 to (side, side, C): bicubic (a = -0.5), averaging if it shrinks.

    Keys' kernel (IEEE ASSP 29(6), 1981), widened by as much as the image shrinks, along the rows and then
    along the columns, rounded after each: what Pillow's antialiased bicubic resize does.
    """
    return _resample_lines(_resample_lines(image.transpose(1, 0, 2), side).transpose(1, 0, 2), side)


def _resample_lines(lines: np.ndarray, count: int) -> np.ndarray:
    """Resample n lines (n, ...) uint8 to (count, ...) uint8."""
    step = len(lines) / count
    width = max(step, 1.0)
    result = np.empty((count, *lines.shape[1:]), np.float32)
    for i in range(count):
        centre = (i + 0.5) * step
        low, high = max(int(centre - 2 * width + 0.5), 0), min(int(centre + 2 * width + 0.5), len(lines))
        away = np.abs((np.arange(low, high) + 0.5 - centre) / width)
        near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
        weight = np.where(away < 1, near, np.where(away < 2, far, 0)).astype(np.float32)
        result[i] = np.tensordot(weight / weight.sum(), lines[low:high].astype(np.float32), axes=1)
    return np.clip(np.floor(result + 0.5), 0, 255).astype(np.uint8)


def _find_needed_part(
    back: np.ndarray, size: tuple[int, int], blocks: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper x, y of the part of the image that the result shows, at least one pixel."""
    seen = transform_points(back, box_corners(np.array([0, 0, size[1], size[0]])))
    limit = np.array([shape[1], shape[0]])
    margin = 3 * blocks + 3  # interpolation looks two averages further; the blocks may start anywhere
    low = np.clip(np.floor(seen.min(axis=0)) - margin, 0, limit - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + margin, low + 1, limit).astype(int)
    return low, high


def _block_means(part: np.ndarray, blocks: np.ndarray, border: int) -> np.ndarray:
    """Return the means of blocks (x, y) of pixels; the last blocks are padded with the border."""
    if (blocks == 1).all():
        return np.ascontiguousarray(part)
    (block_w, block_h), (height, width) = blocks.tolist(), part.shape[:2]
    filled = cv2.copyMakeBorder(part, 0, -height % block_h, 0, -width % block_w, border)
    means: np.ndarray = cv2.resize(
        filled, (filled.shape[1] // block_w, filled.shape[0] // block_h), interpolation=cv2.INTER_AREA
    )
    return means
