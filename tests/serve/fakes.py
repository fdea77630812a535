"""A small analyzer that answers at once, and the images that it reads."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from faceum.errors import ModelError
from faceum.results import Age, Expression, Face, Parsing, Result
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, TASKS


def make_face(seed: int = 0) -> Face:
    """A face with an answer for every task."""
    random = np.random.default_rng(seed)
    embedding = random.normal(size=512).astype(np.float32)
    probabilities = random.dirichlet(np.ones(len(EXPRESSIONS))).astype(float)
    return Face(
        box=np.array([2, 3, 12, 14], np.float32),
        points5=random.uniform(2, 12, (5, 2)).astype(np.float32),
        score=0.875,
        embedding=embedding / np.linalg.norm(embedding),
        age=Age(years=31.5, std=4.25),
        attributes={
            name: float(value) for name, value in zip(ATTRIBUTES, random.uniform(size=40), strict=True)
        },
        expression=Expression(
            label=EXPRESSIONS[int(probabilities.argmax())],
            probabilities=dict(zip(EXPRESSIONS, probabilities.tolist(), strict=True)),
        ),
        landmarks=random.uniform(2, 12, (68, 2)).astype(np.float32),
        parsing=Parsing(class_map=random.integers(0, 19, (8, 8)).astype(np.uint8), matrix=np.eye(2, 3) * 2),
        model="fake@00000000",
    )


class FakeAnalyzer:
    """Answers like an analyzer: the image's red value at (0, 0) is its number of faces.

    gate: set while it may work. calls: the sizes and options of the batches that it got.
    """

    tasks = tuple(TASKS)
    threads = 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[tuple[int, dict[str, Any]]] = []
        self.options: dict[str, Any] = {}
        self.failure: Exception | None = None

    def with_options(self, **options: Any) -> FakeAnalyzer:
        """The same with other options."""
        other = FakeAnalyzer()
        vars(other).update(vars(self))
        other.options = options
        return other

    def thresholds(self) -> Any:
        """Refuse: random embeddings have no thresholds."""
        raise ModelError("The fake network has no thresholds.")

    def detect(self, image: np.ndarray, **_: Any) -> list[Any]:
        """Find nobody in the frames of a video."""
        return []

    def analyze_many(self, sources: Iterable[bytes], *, keep_images: bool = False) -> Iterator[Result]:
        """Yield a result for each image."""
        sources = list(sources)
        self.calls.append((len(sources), self.options))
        assert self.gate.wait(30)
        for source in sources:
            if self.failure is not None:
                raise self.failure
            try:
                pixels = np.asarray(Image.open(io.BytesIO(source)).convert("RGB"))
            except (OSError, SyntaxError):
                yield Result(error="the image given as bytes ends too early.")
                continue
            faces = [make_face(seed) for seed in range(int(pixels[0, 0, 0]))][: self.options.get("max_faces")]
            kept = pixels if keep_images else None
            yield Result(width=pixels.shape[1], height=pixels.shape[0], faces=faces, image=kept)


def encoded(faces: int = 1, size: tuple[int, int] = (16, 16)) -> bytes:
    """A PNG file in which the fake analyzer sees so many faces."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[0, 0, 0] = faces
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encode_clip(images: Iterable[np.ndarray], rate: int = 25) -> bytes:
    """The bytes of an MP4 file."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.bit_rate, stream.codec_context.time_base = 4_000_000, Fraction(1, rate)
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
