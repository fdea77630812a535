"""A network whose answers are known beforehand, and faces made for it.

The fake network reads its answer off the crop: age and expression off the colour of its middle, the embedding
off its left half, the parsing off every pixel's red; landmarks are always the same points of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from faceum.crop import TEMPLATE, CropSpec
from faceum.data.face import LabelledFace
from faceum.data.sample import Sample
from faceum.detect.base import Detection
from faceum.evaluate.samples import cut_faces
from faceum.runner import NetworkCard
from faceum.tasks import TASKS

SPEC = CropSpec(policy="similarity", size=32, grid=4, eye_distance=0.25, eye_height=0.43)
POINTS = np.random.default_rng(5).uniform(0.3, 0.7, (68, 2))
"""The fake network's landmarks, as shares of the crop."""
SURE = 50.0
"""A logit that leaves no doubt."""


class FakeRunner:
    """Answers as the module says; `calls` holds the batch sizes it was given."""

    card = NetworkCard(name="fake", tasks=tuple(TASKS), crops=((SPEC, tuple(TASKS)),))
    runtime = "fake"
    device = "cpu"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        assert crops_BSSC.shape[1:] == (32, 32, 3) and crops_BSSC.dtype == np.uint8
        assert face_tokens_BN.shape == (len(crops_BSSC), 16) and face_tokens_BN.dtype == bool
        self.calls.append(len(crops_BSSC))
        return {task: getattr(self, task)(crops_BSSC.astype(np.float32)) for task in tasks}

    def age(self, crops: np.ndarray) -> np.ndarray:
        return one_hot(crops[:, 16, 16, 0].round().astype(int), 101)

    def expression(self, crops: np.ndarray) -> np.ndarray:
        return one_hot(crops[:, 16, 16, 0].round().astype(int), 8)

    def attributes(self, crops: np.ndarray) -> np.ndarray:
        """Every attribute is answered by whether the middle is bright."""
        return np.repeat(np.where(crops[:, 16, 16, :1] > 127, SURE, -SURE), 40, axis=1)

    def recognition(self, crops: np.ndarray) -> np.ndarray:
        """512 numbers of which only the mean colour of the left half differs from zero."""
        return np.pad(crops[:, :, :16].mean(axis=(1, 2)), ((0, 0), (0, 509)))

    def parsing(self, crops: np.ndarray) -> np.ndarray:
        return np.moveaxis(one_hot((crops[..., 0] / 10).round().astype(int), 19), -1, 1)

    def landmarks(self, crops: np.ndarray) -> np.ndarray:
        return np.repeat(POINTS[None], len(crops), axis=0).astype(np.float32)


class FakeDetector:
    """Finds the same detections in every image."""

    name = "fake"

    def __init__(self, *detections: Detection) -> None:
        self.detections = list(detections)

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        return [one for one in self.detections if one.score >= min_score]


def one_hot(ids: np.ndarray, classes: int) -> np.ndarray:
    return np.where(np.arange(classes) == ids[..., None], SURE, -SURE).astype(np.float32)


def face_points(centre: tuple[float, float] = (50, 50), eye_distance: float = 16) -> np.ndarray:
    """Five points of an upright face whose eyes' middle is `centre`."""
    return TEMPLATE * eye_distance + np.array(centre)


def face_box(centre: tuple[float, float] = (50, 50)) -> np.ndarray:
    x, y = centre
    return np.array([x - 18, y - 18, x + 18, y + 28], np.float64)


def row(name: str, colour: int | tuple[int, int, int], **labels: object) -> LabelledFace:
    """A 100 x 100 image of one colour with a face in its middle."""
    image = np.empty((100, 100, 3), np.uint8)
    image[:] = colour
    return LabelledFace(
        id=name, source="toy", image=image, box=face_box(), points5=face_points(), labels=labels
    )


def sample(name: str, colour: int | tuple[int, int, int], **labels: object) -> Sample:
    """The same image as a data set's reader gives it."""
    made = row(name, colour)
    image = cv2.imencode(".png", made.image[..., ::-1])[1].tobytes()
    return Sample(id=name, source="toy", image=image, box=made.box, points5=made.points5, **labels)


def cut(runner, rows, task, detector=None, *, tight=True):
    """Cut the faces of rows as the protocol of a task does."""
    return cut_faces(rows, runner, detector, task=task, tight=tight)


def detection(
    centre: tuple[float, float] = (50, 50), eye_distance: float = 16, score: float = 0.9
) -> Detection:
    return Detection(
        box=face_box(centre).astype(np.float32),
        points5=face_points(centre, eye_distance).astype(np.float32),
        score=score,
    )


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """What the tests build their faces of."""
    return SimpleNamespace(
        SPEC=SPEC,
        POINTS=POINTS,
        Detector=FakeDetector,
        row=row,
        sample=sample,
        detection=detection,
        cut=cut,
        face_box=face_box,
        face_points=face_points,
        landmarks68=landmarks68,
        write_table=write_table,
    )


@pytest.fixture
def corpus(tmp_path: Path, toy: SimpleNamespace) -> Path:
    """A folder with a set `toy` of four people in eight images: ages, attributes, and pairs to verify."""
    rows, colours = [], {"red": (200, 9, 9), "blue": (9, 9, 200), "green": (9, 200, 9), "pink": (200, 9, 200)}
    for index, (name, colour) in enumerate(colours.items()):
        for number in "12":
            image = toy.row(name, colour).image
            rows.append(
                {
                    "id": name + number,
                    "source": "toy",
                    "image": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
                    "box": face_box().tolist(),
                    "points5": face_points().ravel().tolist(),
                    "detector_score": 0.9,
                    "age": 20 * index + 9,
                    "gender": index % 2,
                    "attributes": [index < 2] * 40,
                }
            )
    names = list(colours)
    pairs = [{"fold": i % 2, "a": f"{one}1", "b": f"{one}2", "same": True} for i, one in enumerate(names)]
    pairs += [
        {"fold": i % 2, "a": f"{one}1", "b": f"{names[i - 1]}2", "same": False} for i, one in enumerate(names)
    ]
    write_table(tmp_path / "toy.val.parquet", rows)
    write_table(tmp_path / "toy-pairs.val.parquet", pairs)
    return tmp_path


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), path)


def landmarks68() -> np.ndarray:
    """68 points that hang together well enough to carry a mask: a round jaw, the rest near the centre."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([50 + 20 * np.cos(angle), 50 + 36 * np.sin(angle)], axis=1)
    points = np.tile(np.array([50.0, 60.0]), (68, 1))
    points[:17], points[27] = jaw, (50, 50)
    points[36:42], points[42:48], points[30], points[48], points[54] = face_points()
    return points
