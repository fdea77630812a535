"""Generated clips with known faces: real portraits moved over a drawn background.

Shared by benchmarks/video.py and the tests. A portrait is an image and the box of its face. The portraits of
this repository and of installed packages are in the public domain; others come from a folder at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ASTRONAUT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.png"

RATE = 30.0


@dataclass(frozen=True, eq=False)
class Portrait:
    """A cut-out person.

    image: (h, w, 3) RGB. box: (4,) of the face in it. alpha: (h, w, 1), 1 at the face.
    """

    image: np.ndarray
    box: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a person is: the centre of the face and its side, in pixels; hidden: a pillar is in front."""

    x: float
    y: float
    side: float
    hidden: bool = False


Script = Callable[[int], list[Place | None]]
"""Frame -> the place of each person, the front-most last; None where a person is absent."""


def cut_portrait(image: np.ndarray, box: np.ndarray) -> Portrait:
    """Cut out a head with its surroundings, soft towards the edge."""
    middle, side = (box[:2] + box[2:]) / 2, float(max(box[2:] - box[:2]))
    reach = 1.0 * side
    x0, y0 = np.maximum(np.floor(middle - reach), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(middle + reach), image.shape[1::-1]).astype(int)
    part = image[y0:y1, x0:x1]
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    away = np.hypot((x - middle[0]) / (0.95 * side), (y - middle[1]) / side)
    alpha = np.clip((1.0 - away) / 0.15, 0, 1).astype(np.float32)[..., None]
    return Portrait(image=part, box=np.asarray(box) - [x0, y0, x0, y0], alpha=alpha)


def known_portraits(analyzer: Any) -> list[Portrait]:
    """Return the portraits that are in the public domain and installed: the astronaut, and Grace Hopper."""
    from faceum.image import read_image

    paths = [ASTRONAUT]
    try:
        from matplotlib import get_data_path

        paths.append(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    except ModuleNotFoundError:
        pass
    images = [read_image(path) for path in paths if path.exists()]
    return [cut_portrait(image, np.asarray(analyzer.detect(image)[0].box, np.float64)) for image in images]


def background(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth coloured background (H, W, 3) without faces."""
    noise = np.random.default_rng(seed).integers(50, 200, (9, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def draw(
    ground: np.ndarray, portraits: list[Portrait], places: list[Place | None]
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Return the frame and the visible box of each person's face; None where less than half is seen."""
    frame = ground.copy()
    boxes: list[np.ndarray | None] = [None] * len(places)
    for index, (portrait, place) in enumerate(zip(portraits, places, strict=True)):
        if place is None:
            continue
        size = float(max(portrait.box[2:] - portrait.box[:2]))
        scale = place.side / size
        middle = (portrait.box[:2] + portrait.box[2:]) / 2
        matrix = np.array([[scale, 0, place.x - scale * middle[0]], [0, scale, place.y - scale * middle[1]]])
        _paste(frame, portrait, matrix)
        box = portrait.box * scale + np.tile(matrix[:, 2], 2)
        boxes[index] = None if place.hidden or _share_inside(box, ground.shape) < 0.6 else box
        for behind in range(index):  # who is in front hides who is behind
            other = boxes[behind]
            if other is not None and _covered(other, box) > 0.4:
                boxes[behind] = None
    for place in places:
        if place is not None and place.hidden:
            half = 0.9 * place.side
            x0, x1 = int(max(place.x - half, 0)), int(max(place.x + half, 0))
            frame[:, x0:x1] = (70, 90, 80)  # a pillar
    return frame, boxes


def _paste(frame: np.ndarray, portrait: Portrait, matrix: np.ndarray) -> None:
    height, width = frame.shape[:2]
    corners = matrix[:, :2] @ np.array([[0, portrait.image.shape[1]], [0, portrait.image.shape[0]]], float)
    x0, y0 = np.clip(np.floor((corners + matrix[:, 2:]).min(axis=1)), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil((corners + matrix[:, 2:]).max(axis=1)), 0, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    local = matrix.copy()
    local[:, 2] += local[:, :2].sum(axis=1) * 0.5 - 0.5 - (x0, y0)
    size = (int(x1 - x0), int(y1 - y0))
    image = cv2.warpAffine(portrait.image, local, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(portrait.alpha, local, size)[..., None]
    part = frame[y0:y1, x0:x1]
    part[:] = np.round(part + (image.astype(np.float32) - part) * alpha).astype(np.uint8)


def _share_inside(box: np.ndarray, shape: tuple[int, ...]) -> float:
    low, high = np.maximum(box[:2], 0), np.minimum(box[2:], shape[1::-1])
    return float(np.maximum(high - low, 0).prod() / (box[2:] - box[:2]).prod())


def _covered(behind: np.ndarray, front: np.ndarray) -> float:
    """Return the share of a face that a head in front of it covers."""
    middle, half = (front[:2] + front[2:]) / 2, (front[2:] - front[:2]) / 2 * 1.5
    low = np.maximum(behind[:2], middle - half)
    high = np.minimum(behind[2:], middle + half)
    return float(np.maximum(high - low, 0).prod() / (behind[2:] - behind[:2]).prod())


def scripts(height: int, width: int, frames: int) -> dict[str, Script]:
    """Return the motions by name, for two people each."""
    side, y = 0.25 * height, 0.5 * height

    def crossing(i: int) -> list[Place | None]:
        t = i / (frames - 1)
        return [
            Place(width * (0.12 + 0.76 * t), y * (1 + 0.05 * np.sin(9 * t)), side),
            Place(width * (0.88 - 0.76 * t), y * 1.04, side * 1.1),
        ]

    def occluded(i: int) -> list[Place | None]:
        t = i / RATE
        middle = frames / RATE / 2
        hidden = abs(t - middle) < 0.5
        return [
            Place(width * (0.25 + 0.05 * np.sin(t)), y, side, hidden),
            Place(width * 0.7, y * (1 + 0.1 * np.sin(2 * t)), side),
        ]

    def leaving(i: int) -> list[Place | None]:
        t = i / (frames - 1)
        x = 0.35 - 0.7 * float(np.clip((0.5 - abs(t - 0.5)) / 0.35, 0, 1))
        away = x < -0.2
        return [None if away else Place(width * x, y, side), Place(width * 0.75, y, side)]

    def zoom(i: int) -> list[Place | None]:
        t = i / (frames - 1)
        return [
            Place(width * 0.3, y, side * (0.5 + 1.1 * t)),
            Place(width * 0.75, y, side * (1.3 - 0.7 * t)),
        ]

    def cut(i: int) -> list[Place | None]:
        second = i >= frames // 2
        places: list[Place | None] = [Place(width * 0.3, y, side), Place(width * 0.7, y, side)]
        if second:
            places = [Place(width * 0.7, y * 0.9, side * 1.2), Place(width * 0.28, y * 1.1, side * 0.9)]
        return places

    return {"crossing": crossing, "occluded": occluded, "leaving": leaving, "zoom": zoom, "cut": cut}


def render(
    name: str, portraits: list[Portrait], *, height: int = 360, width: int = 640, frames: int = 150
) -> Iterator[tuple[np.ndarray, list[np.ndarray | None]]]:
    """Yield the frames (H, W, 3) of a named clip with the box of each person's visible face."""
    script = scripts(height, width, frames)[name]
    grounds = [background(height, width, seed) for seed in (0, 1)]
    grounds[1] = 255 - grounds[1]
    noise = np.random.default_rng(5)
    for index in range(frames):
        ground = grounds[1 if name == "cut" and index >= frames // 2 else 0]
        frame, boxes = draw(ground, portraits, script(index))
        grain = noise.normal(0, 2.5, frame.shape[:2])[..., None]
        yield np.clip(frame + grain, 0, 255).astype(np.uint8), boxes
