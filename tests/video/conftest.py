"""Small clips, written by PyAV; every test here skips without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes images as a clip: write_clip(images, times=..., name=..., **codec options)."""

    def write(
        images: Iterable[np.ndarray],
        *,
        name: str = "clip.mp4",
        rate: int = 25,
        times: list[float] | None = None,
        pix_fmt: str = "yuv420p",
        codec: str = "mpeg4",
        prepare: Callable[[Any], None] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            for index, image in enumerate(images):
                if index == 0:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                seconds = index / rate if times is None else times[index]
                frame.time_base = stream.codec_context.time_base
                frame.pts = round(seconds / frame.time_base)
                if prepare is not None:
                    prepare(frame)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def gray_images() -> list[np.ndarray]:
    """Ten plain images (48, 64, 3), each brighter than the one before."""
    return [np.full((48, 64, 3), 20 * number + 20, np.uint8) for number in range(10)]


class Scene:
    """Drawn people as textured squares: red, green and blue ones, whose embedding is their colour."""

    SIDE = 48

    def __init__(self, height: int = 180, width: int = 320) -> None:
        generator = np.random.default_rng(3)
        self.ground = generator.integers(100, 130, (height, width, 1)).repeat(3, axis=2).astype(np.uint8)
        grain = generator.integers(0, 90, (12, 12)).astype(np.uint8)
        self.grain = np.kron(grain, np.ones((4, 4), np.uint8))

    def frame(self, *people: tuple[int, float, float] | None) -> np.ndarray:
        """Draw people (colour 0..2, x and y of the upper left corner), the last one in front."""
        image = self.ground.copy()
        for person in people:
            if person is None:
                continue
            colour, x, y = person[0], round(person[1]), round(person[2])
            square = np.stack([self.grain // 2] * 3, axis=-1)
            square[..., colour] = 160 + self.grain
            x0, y0 = max(x, 0), max(y, 0)
            part = square[y0 - y :, x0 - x :][: image.shape[0] - y0, : max(image.shape[1] - x0, 0)]
            image[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
        return image


class FakeAnalyzer:
    """Finds the squares of a `Scene`; counts how often it looks."""

    threads, model_id = 1, "fake@0"

    def __init__(self, score: float = 0.9) -> None:
        self.looks = 0
        self.score = score

    def thresholds(self) -> None:
        from faceum.errors import ModelError

        raise ModelError("no thresholds")

    def detect(self, image: np.ndarray, *, min_score: float, one_thread: bool) -> list[Any]:
        from faceum.detect.base import Detection

        self.looks += 1
        found = []
        for colour in range(3):
            others = [c for c in range(3) if c != colour]
            mask = image[..., colour].astype(int) > image[..., others].max(axis=2).astype(int) + 60
            if mask.sum() < 1000:  # less than half of a square can be seen
                continue
            y, x = np.nonzero(mask)
            box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)
            shares = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
            points = (box[:2] + shares * (box[2:] - box[:2])).astype(np.float32)
            found.append(Detection(box=box, points5=points, score=self.score + 0.01 * colour))
        return found

    def answer(self, image: np.ndarray, faces: list[Any]) -> list[Any]:
        from faceum.results import Age, Expression, Face

        answers = []
        for face in faces:
            colour = round((face.score - self.score) / 0.01)
            embedding = np.zeros(512, np.float32)
            embedding[colour] = 1.0
            answers.append(
                Face(
                    box=face.box,
                    points5=face.points5,
                    score=face.score,
                    embedding=embedding,
                    age=Age(years=20.0 + 10 * colour, std=5.0),
                    expression=Expression(label="neutral", probabilities={"neutral": 0.8, "anger": 0.2}),
                    landmarks=np.resize(face.points5, (68, 2)),
                    model=self.model_id,
                )
            )
        return answers


@pytest.fixture
def scene() -> Scene:
    """A scene to draw people into."""
    return Scene()


@pytest.fixture
def analyzer() -> FakeAnalyzer:
    """An analyzer that finds the people of a scene."""
    return FakeAnalyzer()
