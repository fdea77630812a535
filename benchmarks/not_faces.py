"""Images without faces that a face detector may take for one, drawn by rules from a seed.

Each kind is a function from a random generator to an RGB uint8 image of 256 to 384 pixels a side.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet

from faceum import read_image

Rng = np.random.Generator

SKIN = ((232, 190, 160), (198, 140, 105), (141, 90, 60), (90, 56, 40), (245, 215, 190))


def draw(kind: str, number: int) -> np.ndarray:
    """Return image `number` of a kind, always the same one."""
    rng = np.random.default_rng([list(KINDS).index(kind), number])
    image = KINDS[kind](rng)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0))
    noise = rng.normal(0, rng.uniform(0, 6), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def clouds(rng: Rng, height: int, width: int, fall: float) -> np.ndarray:
    """Return noise (height, width) in 0..1 whose amplitude falls with frequency to the power `fall`."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(height, width))) / frequency**fall
    field = np.fft.ifft2(spectrum).real
    return (field - field.min()) / (np.ptp(field) + 1e-9)


def canvas(rng: Rng) -> np.ndarray:
    """Return a background: two colours mixed by clouds or by a slope."""
    height, width = (int(side) for side in rng.integers(256, 385, 2))
    share = clouds(rng, height, width, rng.uniform(1.0, 2.2))
    if rng.random() < 0.4:
        share = np.broadcast_to(np.linspace(0, 1, height)[:, None], (height, width))
    low, high = rng.uniform(0, 255, (2, 3))
    return low + share[..., None] * (high - low)


def textures(rng: Rng) -> np.ndarray:
    """Clouds, stripes, checks, or cells."""
    image = canvas(rng)
    height, width = image.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    kind = rng.integers(3)
    if kind == 0:
        turn, step = rng.uniform(0, math.pi), rng.uniform(6, 60)
        wave = np.sin((xs * math.cos(turn) + ys * math.sin(turn)) * 2 * math.pi / step)
        wave = wave * (np.sin(ys * 2 * math.pi / rng.uniform(6, 60)) if rng.random() < 0.5 else 1)
        image = image + wave[..., None] * rng.uniform(-90, 90, 3)
    elif kind == 1:
        seeds = rng.uniform(0, 1, (int(rng.integers(12, 40)), 2)) * (height, width)
        nearest = np.linalg.norm(np.stack([ys, xs], -1)[:, :, None] - seeds, axis=3)
        owner, two = nearest.argmin(2), np.partition(nearest, 1, axis=2)[..., :2]
        image = (
            rng.uniform(0, 255, (len(seeds), 3))[owner]
            * np.clip((two[..., 1] - two[..., 0]) / 6, 0.2, 1)[..., None]
        )
    return image


def ball(
    image: np.ndarray, rng: Rng, centre: tuple[float, float], axes: tuple[float, float], colour: np.ndarray
) -> None:
    """Draw a shaded ellipsoid with a highlight into the image."""
    (x0, y0), (x1, y1) = (np.subtract(centre, axes), np.add(centre, axes))
    left, top = max(0, int(x0)), max(0, int(y0))
    part = image[top : max(top, int(y1) + 1), left : max(left, int(x1) + 1)]
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]]
    u, v = (xs + left - centre[0]) / axes[0], (ys + top - centre[1]) / axes[1]
    inside = u * u + v * v < 1
    depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    light = rng.normal(size=3)
    light = np.array([light[0], -abs(light[1]), abs(light[2]) + 0.6])
    light /= np.linalg.norm(light)
    shade = np.clip(u * light[0] + v * light[1] + depth * light[2], 0, 1)
    lit = colour * (0.3 + 0.7 * shade[..., None]) + 160 * shade[..., None] ** 24
    part[inside] = lit[inside]


def blot(
    image: np.ndarray, rng: Rng, place: np.ndarray, axes: np.ndarray, colour: np.ndarray, *, darkest: float
) -> None:
    """Draw a filled ellipse at any angle in a shade of a colour, from `darkest` to 0.9 of it."""
    middle, size = [int(value) for value in place], [int(value) for value in axes]
    angle = rng.uniform(0, 180)
    shade = (colour * rng.uniform(darkest, 0.9)).tolist()
    cv2.ellipse(image, middle, size, angle, 0, 360, shade, -1, cv2.LINE_AA)


def balloons(rng: Rng) -> np.ndarray:
    """Balloons with strings and knots, some with blotches."""
    image = canvas(rng)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(25, 100)
        centre = rng.uniform(0.2, 0.8, 2) * (width, height)
        colour = (
            rng.uniform(30, 255, 3) if rng.random() < 0.6 else np.array(SKIN[rng.integers(len(SKIN))], float)
        )
        ball(image, rng, tuple(centre), (size * rng.uniform(0.7, 1), size), colour)
        bottom = (int(centre[0]), int(centre[1] + size))
        cv2.line(image, bottom, (int(bottom[0] + rng.normal(0, 20)), height), (60, 60, 60), 1, cv2.LINE_AA)
        for _ in range(int(rng.integers(0, 6))):
            place = centre + rng.uniform(-0.6, 0.6, 2) * size
            blot(image, rng, place, rng.uniform(0.04, 0.22, 2) * size + 1, colour, darkest=0.2)
    return image


def posts(rng: Rng) -> np.ndarray:
    """Turned posts: knobs and rings above each other, as on stairs."""
    image = canvas(rng)
    height, width = image.shape[:2]
    x, step = rng.uniform(0, 80), rng.uniform(60, 160)
    wood = np.array((rng.uniform(80, 230), rng.uniform(50, 180), rng.uniform(20, 140)))
    while x < width:
        y, radius = rng.uniform(-20, 90), rng.uniform(15, 55)
        while y < height:
            tall = radius * rng.uniform(0.2, 1.5)
            ball(image, rng, (x, y), (radius * rng.uniform(0.4, 1), tall), wood)
            y += tall * rng.uniform(0.8, 1.9)
        x += step
    return image


def backdrops(rng: Rng) -> np.ndarray:
    """Curtains with folds, a light spot, a vignette."""
    image = canvas(rng)
    height, width = image.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    phase = xs / rng.uniform(8, 60) + rng.uniform(0, 1.5) * np.sin(ys / rng.uniform(30, 120))
    image = image * (0.65 + 0.35 * np.sin(phase))[..., None]
    place = rng.uniform(0.3, 0.7, 2) * (width, height)
    glow = np.exp(
        -(((xs - place[0]) / rng.uniform(30, 110)) ** 2 + ((ys - place[1]) / rng.uniform(40, 130)) ** 2)
    )
    return image + glow[..., None] * np.array(SKIN[rng.integers(len(SKIN))]) * rng.uniform(0.2, 0.9)


def blobs(rng: Rng) -> np.ndarray:
    """Heads without faces: ovals in skin colours with hair and dark spots at random places."""
    image = canvas(rng)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        size = rng.uniform(30, 90)
        centre = rng.uniform(0.25, 0.75, 2) * (width, height)
        skin = np.array(SKIN[rng.integers(len(SKIN))], float)
        ball(image, rng, (centre[0], centre[1] - 0.3 * size), (size * 0.95, size * 1.15), skin * 0.3)
        ball(image, rng, tuple(centre), (size * rng.uniform(0.7, 0.85), size), skin)
        for _ in range(int(rng.integers(0, 8))):
            place = centre + rng.uniform(-0.5, 0.5, 2) * size
            blot(image, rng, place, rng.uniform(0.05, 0.25, 2) * size + 1, skin, darkest=0.1)
    return image


def drawings(rng: Rng) -> np.ndarray:
    """Faces drawn with a pen: a circle, two dots, a line for a mouth; on paper or in one colour."""
    image = np.full((*rng.integers(256, 385, 2), 3), rng.uniform(200, 255), float)
    height, width = image.shape[:2]
    ink = rng.uniform(0, 120, 3).tolist()
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(20, 90)
        centre = rng.uniform(0.25, 0.75, 2) * (width, height)
        thick = int(rng.integers(1, 5))

        def at(x: float, y: float, centre: np.ndarray = centre, size: float = size) -> tuple[int, int]:
            return int(centre[0] + x * size), int(centre[1] + y * size)

        oval = (int(size * rng.uniform(0.75, 1)), int(size))
        if rng.random() < 0.6:
            cv2.ellipse(image, at(0, 0), oval, 0, 0, 360, rng.uniform(120, 255, 3).tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(image, at(0, 0), oval, 0, 0, 360, ink, thick, cv2.LINE_AA)
        spread, high = rng.uniform(0.25, 0.45), rng.uniform(-0.4, -0.1)
        for side in (-1, 1):
            axes = (max(1, int(size * rng.uniform(0.05, 0.15))), max(1, int(size * rng.uniform(0.05, 0.15))))
            cv2.ellipse(
                image,
                at(side * spread, high),
                axes,
                0,
                0,
                360,
                ink,
                -1 if rng.random() < 0.6 else thick,
                cv2.LINE_AA,
            )
        if rng.random() < 0.7:
            cv2.line(image, at(0, -0.1), at(rng.uniform(-0.1, 0.1), 0.2), ink, thick, cv2.LINE_AA)
        bow = (int(size * rng.uniform(0.2, 0.45)), int(size * rng.uniform(0.02, 0.25)))
        cv2.ellipse(image, at(0, rng.uniform(0.35, 0.5)), bow, 0, 0, 180, ink, thick, cv2.LINE_AA)
        if rng.random() < 0.5:
            cv2.ellipse(image, at(0, -0.35), (oval[0], int(size * 0.75)), 0, 180, 360, ink, -1, cv2.LINE_AA)
    return image


def dolls(rng: Rng) -> np.ndarray:
    """Round heads with hair whose eyes, nose and mouth are dots and lines, half of them at wrong places."""
    image = canvas(rng)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        size = rng.uniform(30, 100)
        centre = rng.uniform(0.3, 0.7, 2) * (width, height)
        skin = np.array(SKIN[rng.integers(len(SKIN))], float)
        wide = rng.uniform(0.7, 0.95)
        ball(image, rng, (centre[0], centre[1] - 0.25 * size), (size * wide * 1.15, size * 1.1), skin * 0.3)
        ball(image, rng, tuple(centre), (size * wide, size), skin)
        places = [(-0.35, -0.1), (0.35, -0.1), (0.0, 0.2), (0.0, 0.5)]
        if rng.random() < 0.5:
            places = [tuple(rng.uniform(-0.6, 0.6, 2)) for _ in places]
        for number, (x, y) in enumerate(places):
            spot = [int(value) for value in centre + np.array([x * wide, y]) * size]
            flat = (0.14, 0.07) if number < 2 else (0.06, 0.1) if number == 2 else (0.28, 0.07)
            axes = [max(1, int(share * size * rng.uniform(0.6, 1.4))) for share in flat]
            colour = (skin * rng.uniform(0.05, 0.7) + (rng.uniform(0, 60), 0, 0)).tolist()
            cv2.ellipse(image, spot, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
            if number < 2 and rng.random() < 0.7:
                over = [spot[0], spot[1] - int(0.2 * size)]
                cv2.ellipse(image, over, axes, 0, 180, 360, (skin * 0.3).tolist(), 2, cv2.LINE_AA)
    return image


def things(rng: Rng) -> np.ndarray:
    """Things with two round parts above a wide one: sockets, cars, bags; and lines of writing."""
    image = canvas(rng)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(20, 80)
        x, y = rng.uniform(0.2, 0.8, 2) * (width, height)
        colours = [rng.uniform(0, 255, 3).tolist() for _ in range(3)]
        first, last = (int(x - size), int(y - size)), (int(x + size), int(y + size * rng.uniform(0.5, 1.2)))
        cv2.rectangle(image, first, last, colours[0], -1)
        for side in (-1, 1):
            centre = (int(x + side * size * rng.uniform(0.4, 0.7)), int(y - size * rng.uniform(0.1, 0.5)))
            cv2.circle(image, centre, int(size * rng.uniform(0.1, 0.3)), colours[1], -1, cv2.LINE_AA)
        wide = int(size * rng.uniform(0.3, 0.8))
        cv2.rectangle(
            image, (int(x - wide), int(y + 0.2 * size)), (int(x + wide), int(y + 0.4 * size)), colours[2], -1
        )
        letters = "".join(chr(int(code)) for code in rng.integers(65, 91, 6))
        image = np.clip(image, 0, 255).astype(np.uint8)  # OpenCV writes on bytes only
        style, thick = int(rng.integers(0, 8)), int(rng.integers(1, 6))
        cv2.putText(image, letters, first, style, rng.uniform(0.5, 3), colours[2], thick, cv2.LINE_AA)
    return image


@cache
def landscapes() -> list[np.ndarray]:
    """Return two photos without people that scikit-learn brings: a temple among trees, and a flower."""
    from sklearn.datasets import load_sample_images

    return [np.asarray(image) for image in load_sample_images().images]


def patches(rng: Rng) -> np.ndarray:
    """Parts of photos without people, turned, mirrored, recoloured and rescaled."""
    photo = landscapes()[rng.integers(2)]
    side = int(rng.integers(60, 400))
    top, left = (int(rng.integers(0, size - side)) for size in photo.shape[:2])
    part = cv2.resize(photo[top : top + side, left : left + side], (320, 320), interpolation=cv2.INTER_CUBIC)
    part = np.rot90(part, int(rng.integers(4)))[:, :: rng.choice((-1, 1))]
    return part[..., rng.permutation(3)] * rng.uniform(0.5, 1.2, 3) + rng.uniform(-20, 20, 3)


@cache
def photos() -> list[np.ndarray]:
    """Return face photos of the corpus; what is drawn from them has no face left."""
    path = Path(os.environ["FACEUM_CORPUS"]) / "helen_afw.train.parquet"
    rows = next(pyarrow.parquet.ParquetFile(path).iter_batches(300, columns=["image"])).to_pylist()
    return [read_image(bytes(row["image"])) for row in rows]


def pieces(rng: Rng) -> np.ndarray:
    """A face photo cut into tiles that are laid again in another order, as a puzzle."""
    photo = cv2.resize(photos()[rng.integers(len(photos()))], (300, 300), interpolation=cv2.INTER_CUBIC)
    count = int(rng.integers(6, 10))
    side = 300 // count
    tiles = photo[: side * count, : side * count].reshape(count, side, count, side, 3).swapaxes(1, 2)
    order = rng.permutation(count * count)
    laid = tiles.reshape(-1, side, side, 3)[order].reshape(count, count, side, side, 3)
    return laid.swapaxes(1, 2).reshape(side * count, side * count, 3).astype(float)


KINDS: dict[str, Callable[[Rng], np.ndarray]] = {
    "textures": textures,
    "balloons": balloons,
    "posts": posts,
    "backdrops": backdrops,
    "blobs": blobs,
    "drawings": drawings,
    "dolls": dolls,
    "things": things,
    "patches": patches,
    "pieces": pieces,
}
"""Kind of image -> the function that draws one."""
