"""Cuts a face out of its image: the square crop that a network sees, its matrices, its face tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np

from faceum.errors import ImageError, ModelError
from faceum.geometry import box_corners, invert, similarity_from_points, stretch, transform_points, warp

POLICIES = ("similarity", "arcface", "box")
FACE_TOKENS = ("centre", "touched")

TEMPLATE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.61], [-0.44, 1.03], [0.44, 1.03]])
"""Mean positions of the five points of a frontal face, from the middle between the eyes, in eye distances."""

ARCFACE = np.array(
    [[38.7946, 52.1963], [74.0318, 52.0014], [56.5252, 72.2366], [42.0493, 92.8655], [71.2299, 92.7041]]
)
"""The ArcFace template in 112 x 112 pixels; half a pixel more than insightface's, which counts middles."""

BOX_EYES = 0.395
"""Height of the eyes in a detected box, as a share of its height from the top (mean of training faces)."""

BOX_SCALE = 2.22
"""Width of a detected box, the mean of width and 0.74 height, in eye distances of a frontal face."""


@dataclass(frozen=True, kw_only=True)
class CropSpec:
    """How a face is cut out of its image; stored with the weights, one for training and inference.

    policy: "similarity" turns, scales and shifts so that the five points meet a template; where only a box
        is known, a square around the box of about the same scale. "arcface" does so with the template of
        ArcFace, and black outside the image, as networks in insightface's convention take faces. "box" adds
        `margin` of the box's size on each side, clips to the image, truncates to integers and stretches to
        the square (as published).
    size: pixels a side. grid: patches a side.
    eye_distance: distance between the eyes, as a share of the crop's side; eye_height: their height.
    margin: only for policy "box".
    face_tokens: a patch is face when its centre lies in the face's box ("centre") or the box touches it
        ("touched").
    """

    policy: str
    size: int
    grid: int
    eye_distance: float = 0.24
    eye_height: float = 0.45
    margin: float = 0.25
    face_tokens: str = "centre"

    def __post_init__(self) -> None:
        for given, options in ((self.policy, POLICIES), (self.face_tokens, FACE_TOKENS)):
            if given not in options:
                raise ModelError(f"A crop spec has no {given!r}; use one of {', '.join(options)}.")

    def to_dict(self) -> dict[str, str | int | float]:
        """Return plain values for a file's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, str | int | float]) -> CropSpec:
        """Build a spec from `to_dict`'s values; raises ModelError for unknown keys."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ModelError(
                f"A crop spec has no {', '.join(sorted(unknown))}; this file needs a newer faceum."
            )
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, kw_only=True)
class Crop:
    """A face cut out of its image.

    image: (S, S, 3) uint8 RGB. matrix: (2, 3) float64 from image to crop pixels; inverse: its inverse.
    face_tokens_N: (grid * grid,) bool, row-major, True on face patches.
    """

    image: np.ndarray
    matrix: np.ndarray
    inverse: np.ndarray
    face_tokens_N: np.ndarray


def crop_face(image: np.ndarray, spec: CropSpec, box: np.ndarray, points5: np.ndarray | None = None) -> Crop:
    """Cut one face out of an image.

    image: (H, W, 3) uint8 RGB. box: x0 y0 x1 y1 in pixels. points5: (5, 2) left eye, right eye, nose tip,
    left and right mouth corner as seen in the image, or None where only the box is known.
    Outside the image its edge is repeated.
    """
    return cut(image, spec, box, crop_matrix(spec, box, points5, image.shape[:2]))


def cut(image: np.ndarray, spec: CropSpec, box: np.ndarray, matrix: np.ndarray) -> Crop:
    """Cut a face out by a given image-to-crop matrix, which training jitters; see `crop_face`."""
    inverse = invert(matrix)
    shape = image.shape[:2]
    if spec.policy == "box" and np.array_equal(matrix, crop_matrix(spec, box, None, shape)):
        x0, y0, x1, y1 = _widen_box(spec, np.asarray(box, np.float64), shape)
        crop = stretch(image[y0:y1, x0:x1], spec.size)
    else:
        border = "zero" if spec.policy == "arcface" else "edge"
        crop = warp(image, matrix, (spec.size, spec.size), border=border)
    mask = mark_face_tokens(spec, box, matrix, inverse)
    return Crop(image=crop, matrix=matrix, inverse=inverse, face_tokens_N=mask)


def crop_matrix(
    spec: CropSpec, box: np.ndarray, points5: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """Return the (2, 3) matrix from image to crop pixels by the spec's policy; shape is the image's (H, W).

    Raises ImageError if the points coincide, or if a box that is needed has no size.
    """
    box = np.asarray(box, dtype=np.float64)
    if (spec.policy == "box" or points5 is None) and not (
        np.isfinite(box).all() and (box[2:] > box[:2]).all()
    ):
        raise ImageError(
            f"The box {box.tolist()} of a face has no size: give x0, y0, x1, y1 with x1 > x0 and y1 > y0."
        )
    if spec.policy == "box":
        return _stretch_box(spec, box, shape)
    unit = spec.size * spec.eye_distance
    middle = np.array([spec.size / 2, spec.size * spec.eye_height])
    if points5 is not None and spec.policy == "arcface":
        return similarity_from_points(np.asarray(points5, dtype=np.float64), ARCFACE * (spec.size / 112))
    if points5 is not None:
        return similarity_from_points(np.asarray(points5, dtype=np.float64), TEMPLATE * unit + middle)
    eyes, eye_distance = _locate_eyes(box)
    scale = unit / eye_distance
    return np.array([[scale, 0, middle[0] - scale * eyes[0]], [0, scale, middle[1] - scale * eyes[1]]])


def points_from_box(box: np.ndarray) -> np.ndarray:
    """Return the mean five points (5, 2) of an upright face in a detected box (4,)."""
    eyes, eye_distance = _locate_eyes(np.asarray(box, np.float64))
    return TEMPLATE * eye_distance + eyes


def turned_points_from_box(box: np.ndarray, turns: int) -> np.ndarray:
    """Return the mean five points of a face in a box, turned by quarter turns about the box's centre."""
    centre = (box[:2] + box[2:]) / 2
    half = (box[2:] - box[:2]) / 2
    if turns % 2:
        half = half[::-1]
    points = points_from_box(np.concatenate([centre - half, centre + half])) - centre
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns % 4]
    return np.asarray(points @ np.array([[cosine, sine], [-sine, cosine]]) + centre)


def _locate_eyes(box: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle between the eyes of an upright face in a detected box, and their distance."""
    eye_distance = ((box[2] - box[0]) + 0.74 * (box[3] - box[1])) / 2 / BOX_SCALE
    return np.array([(box[0] + box[2]) / 2, box[1] + BOX_EYES * (box[3] - box[1])]), eye_distance


def _stretch_box(spec: CropSpec, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    x0, y0, x1, y1 = _widen_box(spec, box, shape)
    scale_x, scale_y = spec.size / (x1 - x0), spec.size / (y1 - y0)
    return np.array([[scale_x, 0, -scale_x * x0], [0, scale_y, -scale_y * y0]])


def _widen_box(spec: CropSpec, box: np.ndarray, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box with its margin, clipped to the image and truncated, at least one pixel."""
    margin = spec.margin * (box[2:] - box[:2])
    limit = np.array([shape[1], shape[0]])
    low = np.clip(np.trunc(box[:2] - margin), 0, limit - 1)
    high = np.clip(np.trunc(box[2:] + margin), low + 1, limit)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def mark_face_tokens(spec: CropSpec, box: np.ndarray, matrix: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return which patches of the crop the face box (image pixels) covers, (grid * grid,) bool, row-major."""
    patch = spec.size / spec.grid
    if spec.face_tokens == "touched":
        corners = transform_points(matrix, box_corners(box))
        index = np.arange(spec.grid)
        first, last = np.floor(corners.min(0) / patch), np.floor(corners.max(0) / patch)
        columns = (index >= first[0]) & (index <= last[0])
        rows = (index >= first[1]) & (index <= last[1])
        return (rows[:, None] & columns[None, :]).ravel()
    centre = (np.arange(spec.grid) + 0.5) * patch
    x, y = np.meshgrid(centre, centre)
    place = transform_points(inverse, np.stack([x.ravel(), y.ravel()], axis=-1))
    return np.all((place >= np.asarray(box)[:2]) & (place < np.asarray(box)[2:]), axis=-1)


def points5_from_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Return the five points (5, 2) of 68 landmarks (68, 2), left and right as the viewer sees them."""
    eyes = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def box_from_points(points: np.ndarray) -> np.ndarray:
    """Return the box (4,) that a detector would give for five points (5, 2) or 68 landmarks (68, 2)."""
    points5 = points if len(points) == 5 else points5_from_landmarks(points)
    to_face = invert(similarity_from_points(np.asarray(points5, dtype=np.float64), TEMPLATE))
    unit = float(np.hypot(to_face[0, 0], to_face[1, 0]))
    height = BOX_SCALE / 0.74 * unit
    middle = to_face[:, 2] + np.array([0.0, (0.5 - BOX_EYES) * height])
    half = np.array([BOX_SCALE * unit / 2, height / 2])
    return np.concatenate([middle - half, middle + half])


def are_spread_out(points5: np.ndarray, box: np.ndarray) -> bool:
    """Return whether predicted points (5, 2) lie far enough apart in their face's box to turn the face by.

    A network's wild guess, with all points in one place or not finite, does not.
    """
    apart = np.ptp(points5, axis=0).max()
    return bool(np.isfinite(points5).all() and apart > 0.1 * max(box[2] - box[0], box[3] - box[1]))


def network_input(crops_BSSC: np.ndarray) -> np.ndarray:
    """Return uint8 RGB crops (B, S, S, 3) as network input, float32 (B, 3, S, S) in 0..1."""
    return np.ascontiguousarray(crops_BSSC.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
