"""Augment a labelled face: cut, move, mirror and recolour it into a training crop, labels included."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from faceum.crop import CropSpec, crop_matrix, cut
from faceum.data.face import LabelledFace, training_labels
from faceum.data.mask_painter import paint_mask
from faceum.geometry import compose, transform_points, warp
from faceum.tasks import PARSING_CLASSES


def _mirror_words(words: tuple[str, ...]) -> np.ndarray:
    """Return the place of each word after a flip: l_x and r_x swap."""
    swap = {"l_": "r_", "r_": "l_"}
    mirrored = [swap[word[:2]] + word[2:] if word[:2] in swap else word for word in words]
    return np.array([words.index(other) if other in words else i for i, other in enumerate(mirrored)])


PARSING_MIRROR = _mirror_words(PARSING_CLASSES).astype(np.uint8)
"""Class id -> class id in the mirrored image (u_lip, l_lip, neck_l and ear_r stay)."""

LANDMARK_MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)
"""For each place in the mirrored image, which of the 68 points is there (iBUG order)."""

STRETCH = 4 / 3
"""Largest factor by which an image is made wider; narrower by at most its inverse."""

SHRINK_SIDES = (24, 64)
"""Smallest and largest side in pixels to which a crop is shrunk."""

JPEG_QUALITY = (20, 90)
"""Lowest and highest quality of JPEG compression."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray (ITU-R BT.601)."""

ROUGH_WEIGHT = 0.3
"""Weight of landmarks that another network predicted; annotated ones have 1."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training crops differ from the crop that inference takes.

    turn: standard deviation of the rotation in degrees. scale: of the logarithm of the scale.
    shift: of the shift, as a fraction of the crop. points: of each of the five points, in eye distances.
    box_crop: probability that the crop is taken by the (jittered) box alone. flip: of mirroring.
    colour: strength of brightness, contrast, gamma and saturation changes. gray: probability of gray.
    blur: of blurring, or shrinking and enlarging. noise: of sensor noise. erase: of a painted rectangle.
    mask_probability: of painting a face mask on a face with known landmarks.
    stretch: of making the image wider or narrower first, by a factor of 0.75 to 1.33.
    shrink: of shrinking the crop to 24 to 64 pixels a side and enlarging it again.
    jpeg: of compressing the crop as JPEG.
    surround: probability that one colour, or an enlarged part of the image, fills the crop beyond the image
        instead of the repeated edge, so that what is learned from tight crops also holds in wide images.
    """

    turn: float = 6.0
    scale: float = 0.06
    shift: float = 0.025
    points: float = 0.04
    box_crop: float = 0.2
    flip: float = 0.5
    colour: float = 0.35
    gray: float = 0.2
    blur: float = 0.25
    noise: float = 0.15
    erase: float = 0.15
    mask_probability: float = 0.0
    stretch: float = 0.0
    shrink: float = 0.0
    jpeg: float = 0.0
    surround: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingCrop:
    """An augmented face.

    image: (S, S, 3) uint8 RGB. face_tokens_N: (N,) bool. labels: those of `training_labels`, the parsing at
    crop size, landmarks as fractions of the crop. eye_distance: of the outer eye corners as a fraction of the
    crop, the unit of landmark errors (1 if unknown). landmark_weight: their weight in the loss.
    """

    image: np.ndarray
    face_tokens_N: np.ndarray
    labels: dict[str, np.ndarray]
    eye_distance: float
    landmark_weight: float


NO_AUGMENTATION = AugmentConfig(
    turn=0, scale=0, shift=0, points=0, box_crop=0, flip=0, colour=0, gray=0, blur=0, noise=0, erase=0
)


def augment(
    face: LabelledFace, spec: CropSpec, config: AugmentConfig, rng: np.random.Generator
) -> TrainingCrop:
    """Cut, move, mirror and recolour one face; points, parsing and left/right classes move along."""
    image, known = face.image, training_labels(face)
    if (
        config.mask_probability
        and "landmarks68" in known
        and "parsing" not in known
        and rng.random() < config.mask_probability
    ):
        image = paint_mask(image, known["landmarks68"], rng)
    matrix, box = _jitter(face, spec, config, rng)
    flip = rng.random() < config.flip
    if flip:
        matrix = compose(matrix, np.array([[-1.0, 0.0, spec.size], [0.0, 1.0, 0.0]]))
    cropped = cut(image, spec, box, matrix)
    crop = cropped.image
    if config.surround and "parsing" not in known and rng.random() < config.surround:
        crop = _surround(crop, image, matrix, rng)
    crop = _recolour(crop, config, rng)
    labels = {name: _move_label(name, value, matrix, spec.size, flip) for name, value in known.items()}
    crop = _erase(crop, config, labels, rng)
    eye_distance = 1.0
    if "landmarks68" in labels:
        eye_distance = float(np.linalg.norm(labels["landmarks68"][36] - labels["landmarks68"][45]))
    return TrainingCrop(
        image=crop,
        face_tokens_N=cropped.face_tokens_N,
        labels=labels,
        eye_distance=max(eye_distance, 0.05),
        landmark_weight=ROUGH_WEIGHT if face.rough_landmarks else 1.0,
    )


def _jitter(
    face: LabelledFace, spec: CropSpec, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix from image to crop near the one that inference uses, and a box near the face's."""
    labelled = face.place.astype(np.float32)
    size = labelled[2:] - labelled[:2]
    box = labelled + config.shift * 2 * rng.standard_normal(4) * np.tile(size, 2)
    points = None if face.points5 is None else face.points5.astype(np.float32)
    stretch = np.eye(2, 3)
    if config.stretch and rng.random() < config.stretch:
        stretch[0, 0] = STRETCH ** rng.uniform(-1, 1)
        points = points if points is None else transform_points(stretch, points)
    if points is not None and rng.random() >= config.box_crop:
        eye_distance = np.linalg.norm(points[3:].mean(0) - points[:2].mean(0))
        points = points + config.points * eye_distance * rng.standard_normal((5, 2))
    else:
        points = None
    shape = (face.image.shape[0], round(face.image.shape[1] * stretch[0, 0]))
    stretched_box = transform_points(stretch, box.reshape(2, 2)).ravel()
    matrix = crop_matrix(spec, stretched_box, points, shape)
    turn = np.deg2rad(config.turn * rng.standard_normal())
    scale = np.exp(config.scale * rng.standard_normal())
    middle = np.full(2, spec.size / 2)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = config.shift * spec.size * rng.standard_normal(2)
    jitter = np.column_stack([rotation, middle - rotation @ middle + shift])
    return compose(compose(stretch, matrix), jitter), box


def _move_label(name: str, value: np.ndarray, matrix: np.ndarray, size: int, flip: bool) -> np.ndarray:
    if name == "landmarks68":
        points = transform_points(matrix, value) / size
        return (points[LANDMARK_MIRROR] if flip else points).astype(np.float32)
    if name == "parsing":
        classes = warp(value, matrix, (size, size), interpolation="nearest", border="edge")
        return PARSING_MIRROR[classes] if flip else classes
    return value


def _surround(
    crop: np.ndarray, image: np.ndarray, matrix: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Fill the crop beyond the image with a colour or a random part of the image."""
    size = crop.shape[0]
    inside = warp(np.ones(image.shape[:2], np.uint8), matrix, (size, size), border="zero")
    if inside.all():
        return crop
    if rng.random() < 0.5:
        beyond = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), crop.shape)
    else:
        height, width = np.maximum(np.array(image.shape[:2]) * rng.uniform(0.2, 0.7, 2), 1).astype(int)
        y, x = rng.integers(0, image.shape[0] - height + 1), rng.integers(0, image.shape[1] - width + 1)
        beyond = cv2.resize(image[y : y + height, x : x + width], (size, size))
    return np.where(inside[..., None] > 0, crop, beyond)


def _recolour(crop: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < config.blur:
        crop = _soften(crop, rng)
    if config.colour:
        contrast, brightness, saturation, gamma = config.colour * rng.uniform(-1, 1, 4)
        mixing = (1 + contrast) * ((1 + saturation) * np.eye(3) - saturation * LUMA)
        offset = -0.45 * contrast + 0.4 * brightness + 0.1 * config.colour * rng.uniform(-1, 1, 3)
        crop = cv2.transform(crop, np.column_stack([mixing, 255 * offset]))
        crop = cv2.LUT(crop, (255 * (np.arange(256) / 255) ** np.exp(gamma) + 0.5).astype(np.uint8))
    if rng.random() < config.gray:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < config.noise:
        grain = 255 * rng.uniform(0.01, 0.06) * rng.standard_normal(crop.shape, dtype=np.float32)
        crop = np.clip(crop + grain + 0.5, 0, 255).astype(np.uint8)
    if config.shrink and rng.random() < config.shrink:
        crop = _shrink(crop, int(rng.integers(SHRINK_SIDES[0], SHRINK_SIDES[1] + 1)))
    if config.jpeg and rng.random() < config.jpeg:
        crop = _compress(crop, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
    return crop


def _soften(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6))
    return _shrink(crop, int(crop.shape[0] * rng.uniform(0.3, 0.8)))


def _shrink(crop: np.ndarray, side: int) -> np.ndarray:
    """Shrink a crop to so many pixels a side and enlarge it again."""
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _compress(crop: np.ndarray, quality: int) -> np.ndarray:
    """Return the crop after JPEG compression."""
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _erase(
    crop: np.ndarray, config: AugmentConfig, labels: dict[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Paint a rectangle over the crop, unless it has a parsing, which would become wrong."""
    if "parsing" in labels or rng.random() >= config.erase:
        return crop
    size = crop.shape[0]
    height, width = (size * rng.uniform(0.1, 0.4, 2)).astype(int)
    y, x = rng.integers(0, size - height), rng.integers(0, size - width)
    crop = crop.copy()
    crop[y : y + height, x : x + width] = rng.integers(0, 256, (1, 1, 3), dtype=np.uint8)
    return crop
