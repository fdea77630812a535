"""Paint a face mask on a face in an RGB image, placed by landmarks.

Training images are augmented with it, and the protocol "masked" paints it on one side of each pair.

The mask is a sheet with its own coordinates: u from -1 (image left) to 1, v from 0 (upper edge) to 1 (lower
edge). 3 x 7 control points of the sheet are computed from the landmarks. Pleats, seams, patterns and shading
are functions of u and v; the light on the mask is estimated from the skin that it hides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from faceum.errors import DataError

MASK_SHAPES = ("surgical", "cloth", "respirator", "gaiter")
"""The shapes that `paint_mask` can draw; a respirator is like an N95, a gaiter is a raised tube scarf."""

_FABRICS = {
    "surgical": (
        (165, 205, 228),
        (178, 220, 214),
        (240, 242, 244),
        (238, 205, 214),
        (42, 44, 48),
        (205, 208, 212),
    ),
    "respirator": ((242, 242, 240), (226, 228, 230), (48, 50, 54), (236, 232, 220), (188, 200, 214)),
}
"""Usual colours (RGB) of surgical masks and respirators; cloth masks and gaiters have any colour."""

_PATTERNS = ("plain", "plain", "plain", "stripes", "checks", "dots", "blotches")

_TEMPLATE_JAW = np.array(
    [
        [-1.08, 0.03, -0.88], [-1.07, 0.33, -0.84], [-1.03, 0.63, -0.80], [-0.97, 0.92, -0.72],
        [-0.86, 1.22, -0.60], [-0.71, 1.48, -0.40], [-0.49, 1.69, -0.20], [-0.26, 1.86, -0.04],
        [0.00, 1.92, 0.05],
    ]
)  # fmt: skip
_TEMPLATE_MIDDLE = np.array([[0.0, 0.0, 0.15], [0.0, 0.62, 0.45], [0.0, 1.12, 0.22]])
_TEMPLATE_POINTS5 = np.array(
    [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.62, 0.45], [-0.40, 1.12, 0.08], [0.40, 1.12, 0.08]]
)
"""A typical face in eye distances, x right, y down, z towards the viewer, set by hand: the image-left half of
the jaw (points 0-8); bridge, nose tip and mouth centre; the five points."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Face:
    """The points that place a mask, in image pixels: jaw (17, 2) in iBUG order; bridge, tip, mouth (2,)."""

    jaw: np.ndarray
    bridge: np.ndarray
    tip: np.ndarray
    mouth: np.ndarray

    @property
    def size(self) -> float:
        """Distance from bridge to chin in pixels; unlike the width it hardly changes when the head turns."""
        return float(np.linalg.norm(self.jaw[8] - self.bridge))

    def jaw_at(self, index: float) -> np.ndarray:
        """Return the point (2,) of the jaw at a landmark number, which can be fractional."""
        low = min(int(index), 15)
        return self.jaw[low] + (index - low) * (self.jaw[low + 1] - self.jaw[low])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Canvas:
    """An enlarged canvas of a region of the image: origin (2,) in the image, shape (h, w), scale."""

    origin: np.ndarray
    shape: tuple[int, int]
    scale: int

    def to_fixed(self, points: np.ndarray) -> np.ndarray:
        """Convert image points to this canvas, in OpenCV's fixed point with 4 fraction bits."""
        return np.round(((points - self.origin) * self.scale - 0.5) * 16).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class _Style:
    """The look of one mask, drawn at random before painting: shape, colours (RGB 0..255) and pattern."""

    shape: str
    colour: tuple[float, ...]
    second: tuple[float, ...]
    pattern: str
    frequency: float
    seam: bool
    valve: bool
    seed: int


def paint_mask(
    image: np.ndarray, landmarks68: np.ndarray, rng: np.random.Generator, *, shape: str | None = None
) -> np.ndarray:
    """Paint a face mask on a face whose 68 landmarks are known; return a new image of the same size.

    image: (H, W, 3) uint8 RGB. landmarks68: (68, 2) x y in pixels, iBUG order.
    rng: the source of all random numbers; the same state gives the same image.
    shape: one of MASK_SHAPES; None chooses one at random.
    If the face is outside the image, the copy is unchanged. Raises DataError if the shape is unknown or the
    landmarks are not 68 finite points.
    """
    points = _check_points(landmarks68, 68)
    face = _Face(jaw=points[:17], bridge=points[27], tip=points[30], mouth=points[[51, 57]].mean(axis=0))
    return _paint(image, face, _draw_style(rng, shape), rng)


def paint_mask_by_points5(
    image: np.ndarray, points5: np.ndarray, rng: np.random.Generator, *, shape: str | None = None
) -> np.ndarray:
    """Paint a face mask on a face whose five points (5, 2) are known; see `paint_mask`.

    The jaw is that of a typical face, fitted to the five points, so the edge is less exact.
    """
    face = _face_from_points5(_check_points(points5, 5))
    return _paint(image, face, _draw_style(rng, shape), rng)


def _check_points(points: np.ndarray, count: int) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.shape != (count, 2) or not np.isfinite(points).all():
        raise DataError(
            f"Painting a mask needs {count} finite points (x, y), got an array of shape {points.shape}."
        )
    return points


def _face_from_points5(points5: np.ndarray) -> _Face:
    """Fit an affine camera to the template's five points; depth is damped, as only the nose shows it."""
    ones = np.ones((5, 1))
    system = np.hstack([_TEMPLATE_POINTS5, ones])
    damping = np.diag([0.0, 0.0, 0.15, 0.0])
    camera = np.linalg.solve(system.T @ system + damping, system.T @ points5)
    mirrored = _TEMPLATE_JAW[-2::-1] * [-1, 1, 1]
    shape = np.vstack([_TEMPLATE_JAW, mirrored, _TEMPLATE_MIDDLE])
    placed = np.hstack([shape, np.ones((len(shape), 1))]) @ camera
    return _Face(jaw=placed[:17], bridge=placed[17], tip=placed[18], mouth=placed[19])


def _draw_style(rng: np.random.Generator, shape: str | None) -> _Style:
    if shape is None:
        shape = str(rng.choice(MASK_SHAPES, p=(0.45, 0.25, 0.2, 0.1)))
    if shape not in MASK_SHAPES:
        raise DataError(f"There is no mask shape '{shape}'; choose one of {', '.join(MASK_SHAPES)}.")
    any_colour = rng.uniform(20, 245) * (1 - rng.uniform(0, 0.75) * rng.uniform(0, 1, 3))
    if shape in _FABRICS:
        usual = np.array(_FABRICS[shape][rng.integers(len(_FABRICS[shape]))], np.float64)
        colour = np.clip(usual + rng.normal(0, 8) + rng.normal(0, 3, 3), 15, 250)
    else:
        colour = np.clip(any_colour, 15, 245)
    plain = shape == "respirator" or (shape == "surgical" and rng.random() < 0.9)
    return _Style(
        shape=shape,
        colour=tuple(colour.tolist()),
        second=tuple(rng.uniform(15, 245, 3).tolist()),
        pattern="plain" if plain else str(rng.choice(_PATTERNS)),
        frequency=float(rng.uniform(4, 11)),
        seam=bool(shape == "cloth" and rng.random() < 0.7),
        valve=bool(shape == "respirator" and rng.random() < 0.3),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The cut of a shape. Jaw positions are landmark numbers of the image-left side (0 the ear, 8 the chin).

    upper, lower: where its sides end on the jaw. inset: how far before the ear they end, as a share of the
    half width. sag: how far the upper edge hangs down; slack: how far the rest is off the face; both in face
    sizes. bulge: how round the sheet is shaded.
    """

    upper: float
    lower: float
    inset: float
    sag: float
    slack: float
    bulge: float


_CUTS = {
    "surgical": _Cut(upper=2.0, lower=4.2, inset=0.11, sag=0.05, slack=0.005, bulge=0.9),
    "cloth": _Cut(upper=1.7, lower=4.0, inset=0.08, sag=0.07, slack=0.01, bulge=1.1),
    "respirator": _Cut(upper=2.3, lower=4.6, inset=0.10, sag=0.03, slack=0.03, bulge=1.4),
    "gaiter": _Cut(upper=0.6, lower=5.0, inset=-0.03, sag=0.06, slack=0.02, bulge=0.9),
}


def _place_net(face: _Face, shape: str, rng: np.random.Generator) -> np.ndarray:
    """Return the control points (3, 7, 2) in image pixels; rows are v = 0, 0.5, 1, columns u = -1 .. 1."""
    cut = _CUTS[shape]
    down = (face.jaw[8] - face.bridge) / face.size
    upper, lower = cut.upper + rng.uniform(-0.3, 0.3), cut.lower + rng.uniform(-0.3, 0.3)
    inset = cut.inset + rng.uniform(-0.05, 0.05)
    top = face.bridge + rng.uniform(0.12, 0.42) * (face.tip - face.bridge)
    centre = face.tip + 0.25 * (face.mouth - face.tip)
    if shape == "respirator":  # a cup, off the face, is placed by the nose rather than by the lips
        centre = face.tip + 0.2 * (face.tip - face.bridge)
    chin = face.jaw[8] + down * rng.uniform(0.03, 0.09) * face.size
    rows = np.empty((3, 7, 2))
    for column, u in enumerate(np.linspace(-1, 1, 7)):
        side = abs(u)

        def jaw(index: float, right: bool = u > 0) -> np.ndarray:
            return face.jaw_at(16 - index if right else index)

        sag = down * cut.sag * face.size * 4 * side * (1 - side)
        rows[0, column] = top + side * (1 - inset) * (jaw(upper) - top) + sag
        rows[1, column] = centre + side * (1 - inset) * (jaw((upper + lower) / 2) - centre)
        rows[2, column] = jaw(lower + (8 - lower) * (1 - side) ** 1.1)
        rows[2, column] += inset * side**2 * (centre - rows[2, column]) + (chin - face.jaw[8]) * (1 - side**2)
    rows[1:] += cut.slack * (rows[1:] - rows.mean(axis=(0, 1)))
    if shape == "gaiter":  # it continues down the neck, narrower than the jaw
        across = np.array([down[1], -down[0]])
        sideways = (rows[2] - chin) @ across
        rows[2] = chin + down * 0.4 * face.size + 0.95 * sideways[:, None] * across
    return rows


def _fit_sheet(net: np.ndarray) -> np.ndarray:
    """Return a smooth surface through the control net: (13 rows of v, 25 columns of u, 2)."""
    columns, samples = np.linspace(-1, 1, 7), np.linspace(-1, 1, 25)
    along = np.vander(samples, 5) @ np.linalg.pinv(np.vander(columns, 5))
    v = np.linspace(0, 1, 13)[:, None]
    down = np.hstack([(1 - v) * (1 - 2 * v), 4 * v * (1 - v), v * (2 * v - 1)])
    return np.einsum("vr,rcx,uc->vux", down, net, along)


def _trace_outline(sheet: np.ndarray) -> np.ndarray:
    return np.concatenate([sheet[0], sheet[1:, -1], sheet[-1, -2::-1], sheet[-2:0:-1, 0]])


def _map_pixels(sheet: np.ndarray, canvas: _Canvas) -> np.ndarray:
    """Return u and v of every pixel (h, w, 2) by a cubic in x and y that is fitted to the sheet."""
    middle, spread = sheet.mean(axis=(0, 1)), float(sheet.std())

    def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x2, y2 = x * x, y * y
        return np.stack([x * 0 + 1, x, y, x2, x * y, y2, x2 * x, x2 * y, x * y2, y2 * y], axis=-1)

    u, v = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(0, 1, 13))
    at = (sheet - middle) / spread
    terms = cubic(at[..., 0].ravel(), at[..., 1].ravel())
    weights = np.linalg.lstsq(terms, np.stack([u.ravel(), v.ravel()], axis=1), rcond=None)[0]
    x, y = (
        ((np.arange(length) + 0.5) / canvas.scale + start - centre) / spread
        for length, start, centre in zip(canvas.shape[::-1], canvas.origin, middle, strict=True)
    )
    x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cubic(x, y) @ weights.astype(np.float32)


def _paint(image: np.ndarray, face: _Face, style: _Style, rng: np.random.Generator) -> np.ndarray:
    """Paint the region at a finer scale, shrink colour and cover, and blend them into the image."""
    net = _place_net(face, style.shape, rng)
    sheet = _fit_sheet(net)
    outline = _trace_outline(sheet)
    around = np.concatenate([outline, face.jaw[[0, 16]]])
    margin = 0.12 * face.size
    height, width = image.shape[:2]
    x0, y0 = np.maximum(np.floor(around.min(axis=0) - margin), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(around.max(axis=0) + margin), (width, height)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2 or face.size < 4:
        return image.copy()
    size = (int(x1 - x0), int(y1 - y0))
    scale = int(np.clip(round(220 / max(size)), 1, 4))
    canvas = _Canvas(origin=np.array([x0, y0]), shape=(size[1] * scale, size[0] * scale), scale=scale)

    cover = _fill(outline, canvas)
    uv = _map_pixels(sheet, canvas)
    colour = _colour_fabric(uv, style) * _shade_form(uv, style, rng)[..., None]
    if style.shape != "gaiter":
        straps = _draw_straps(face, net, canvas)
        colour = np.where(cover[..., None] > 0, colour, 58.0 if sum(style.colour) < 240 else 215.0)
        cover = np.maximum(cover, 0.75 * straps)
    colour, cover = (cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in (colour, cover))
    painted = image.copy()
    painted[y0:y1, x0:x1] = _blend(image[y0:y1, x0:x1], colour, cover, face.size, rng)
    return painted


def _fill(outline: np.ndarray, canvas: _Canvas) -> np.ndarray:
    cover = np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(cover, [canvas.to_fixed(outline)], 255, cv2.LINE_AA, 4)
    return cover.astype(np.float32) / 255


def _colour_fabric(uv: np.ndarray, style: _Style) -> np.ndarray:
    """Return the colour of the fabric without light (h, w, 3), float32 0..255."""
    u, v = uv[..., 0], uv[..., 1]
    f = style.frequency
    amount = np.zeros_like(u)
    if style.pattern == "stripes":
        amount[:] = (np.sin(f * 2 * u) > 0) if style.seed % 2 else (np.sin(f * 3 * v) > 0)
    elif style.pattern == "checks":
        amount[:] = ((np.sin(f * 2 * u) > 0).astype(np.float32) + (np.sin(f * 2.4 * v) > 0)) / 2
    elif style.pattern == "dots":
        amount[:] = np.sin(f * 2 * u) * np.sin(f * 2.4 * v) > 0.55
    elif style.pattern == "blotches":
        amount[:] = _make_noise(uv, np.random.default_rng(style.seed), f / 2) > 0.25
    share = amount[..., None]
    colour = np.array(style.colour, np.float32) * (1 - share) + np.array(style.second, np.float32) * share
    if style.valve:
        ring = np.hypot((u - 0.32) * 1.1, v - 0.62)
        colour = np.where((ring < 0.17)[..., None], colour * (0.8 + 0.2 * (ring < 0.13))[..., None], colour)
    return colour


def _make_noise(uv: np.ndarray, rng: np.random.Generator, frequency: float) -> np.ndarray:
    """Return smooth noise (h, w) of about unit size: four sine waves of random directions."""
    total = np.zeros(uv.shape[:2], np.float32)
    for _ in range(4):
        angle, phase, stretch = rng.uniform(0, math.pi), rng.uniform(0, 6.3), rng.uniform(0.6, 1.4)
        along = math.cos(angle) * uv[..., 0] + 1.6 * math.sin(angle) * uv[..., 1]
        total += np.sin(frequency * stretch * along + phase).astype(np.float32)
    return total / 2


def _shade_fold(distance: np.ndarray, width: float, depth: float) -> np.ndarray:
    """Return the shade of a fold at `distance` = 0, a dark groove and a lighter lip, as a factor around 1."""
    groove = np.exp(-((distance / width) ** 2))
    lip = np.exp(-((distance / width - 1.6) ** 2))
    return 1 - depth * groove + 0.35 * depth * lip


def _shade_form(uv: np.ndarray, style: _Style, rng: np.random.Generator) -> np.ndarray:
    """Return the shade of the mask's own form (h, w) as a factor around 1."""
    u, v = uv[..., 0], np.clip(uv[..., 1], -0.2, 1.2)
    bulge = _CUTS[style.shape].bulge
    light_x, light_y = rng.normal(0, 0.25), rng.uniform(-0.55, -0.1)
    slope_x, slope_y = bulge * u, bulge * 1.3 * (v - 0.42)
    facing = (1 + light_x * slope_x + light_y * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    shade = 0.62 + 0.5 * facing
    shade *= 1 + 0.035 * _make_noise(uv, rng, 7.0) + 0.02 * _make_noise(uv, rng, 18.0)
    edge = np.minimum(np.minimum(v, 1 - v), (1 - np.abs(u)) * 0.7)
    hem = rng.uniform(0.035, 0.07)
    if style.shape == "surgical":
        fade = np.clip(1.15 - np.abs(u) ** 2, 0, 1)
        for line in (0.3, 0.5, 0.7):
            bow = line + rng.normal(0, 0.015) + 0.05 * (u**2) * (0.5 - line) * 2
            shade *= 1 + (_shade_fold(v - bow, 0.028, rng.uniform(0.16, 0.3)) - 1) * fade
        shade *= _shade_fold(edge - hem, 0.018, 0.14)
        shade *= 1 + 0.12 * np.exp(-(((v - 0.05) / 0.03) ** 2)) * (np.abs(u) < 0.45)
    elif style.shape == "respirator":
        fold = np.abs(u) if style.seed % 2 else np.abs(v - 0.5 + 0.1 * u**2)
        shade *= _shade_fold(fold, 0.035, 0.22) * _shade_fold(edge - 0.06, 0.02, 0.12)
        shade *= 1 - 0.3 * np.exp(-(((v - 0.11) / 0.035) ** 2)) * (np.abs(u) < 0.3) * (style.seed % 3 > 0)
    else:
        shade *= _shade_fold(edge - hem, 0.018, 0.1 if style.shape == "cloth" else 0.0)
        if style.seam:
            shade *= _shade_fold(u + 0.02, 0.03, 0.25)
        shade *= 1 + 0.05 * _make_noise(np.stack([u, v * 2.2 - 0.8 * np.abs(u)], axis=-1), rng, 12.0)
    shade *= 1 - 0.22 * np.exp(-np.maximum(edge, 0) / 0.05)
    return shade.astype(np.float32)


def _draw_straps(face: _Face, net: np.ndarray, canvas: _Canvas) -> np.ndarray:
    """Return the cover (h, w), 0..1, of bands from the mask's corners to the visible ears."""
    cover = np.zeros(canvas.shape, np.uint8)
    for column, ear, lobe in ((0, face.jaw_at(0), face.jaw_at(1.3)), (6, face.jaw_at(16), face.jaw_at(14.7))):
        outwards = ear - face.tip
        if np.linalg.norm(outwards) < 0.55 * face.size:
            continue  # turned away: the ear is hidden
        for corner, end in (
            (net[0, column], ear + 0.02 * outwards),
            (net[2, column], lobe + 0.02 * outwards),
        ):
            middle = (corner + end) / 2 + [0, 0.02 * face.size]
            t = np.linspace(0, 1, 9)[:, None]
            curve = (1 - t) ** 2 * corner + 2 * t * (1 - t) * middle + t**2 * end
            thick = max(1, round(0.013 * face.size * canvas.scale))
            cv2.polylines(cover, [canvas.to_fixed(curve)], False, 255, thick, cv2.LINE_AA, 4)
    return cover.astype(np.float32) / 255


def _blend(
    region: np.ndarray, colour: np.ndarray, cover: np.ndarray, size: float, rng: np.random.Generator
) -> np.ndarray:
    """Light the mask as the skin that it hides, cast a soft shadow, and blend both into the region."""
    skin = region.astype(np.float32)
    gray = skin @ np.array([0.299, 0.587, 0.114], np.float32)
    inside = cover > 0.5
    if not inside.any():
        return region
    level = float(np.median(gray[inside]))
    weight = cv2.GaussianBlur(cover, (0, 0), 0.22 * size) + 1e-3
    local = cv2.GaussianBlur(gray * cover, (0, 0), 0.22 * size) / weight
    light = np.clip(local / max(level, 1.0), 0.5, 1.4) ** 0.8 * np.clip(level / 150, 0.3, 1.2) ** 0.7
    colour = colour * light[..., None]
    chroma = region[inside].astype(np.int16)
    if np.abs(chroma - chroma[:, :1]).max() <= 6:  # a gray image must stay gray
        colour = np.repeat((colour @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, axis=2)
    grain = rng.normal(0, 2.0, (*cover.shape, 1)).astype(np.float32)
    colour = cv2.GaussianBlur(colour + grain, (0, 0), 0.3 + 0.004 * size)
    drop = np.array([[1, 0, 0], [0, 1, 0.015 * size]], np.float32)
    shadow = cv2.warpAffine(cover, drop, cover.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.02 * size, 0.5))
    ground = skin * (1 - rng.uniform(0.2, 0.45) * shadow[..., None])
    alpha = cover[..., None]
    return np.clip(ground * (1 - alpha) + colour * alpha + 0.5, 0, 255).astype(np.uint8)
