"""What the tests of batches share: small images in every kind of source, and jobs on the tiny network."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.image import write_image
from faceum.jobs.batch import BatchConfig, prepare_batch
from faceum.jobs.worker import Job, analyzer_options

pytest.importorskip("pyarrow")


def png(image: np.ndarray) -> bytes:
    """An RGB image as the bytes of a PNG file."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


@pytest.fixture
def face(portrait: np.ndarray) -> np.ndarray:
    """The portrait's head, (160, 160, 3)."""
    return cv2.resize(portrait[20:260, 100:340], (160, 160), interpolation=cv2.INTER_AREA)


@pytest.fixture
def folder(tmp_path: Path, face: np.ndarray) -> Path:
    """Twelve images of 160 pixels in two folders, each a little different; one is broken."""
    for number in range(12):
        image = np.roll(face, 2 * number, axis=1)
        write_image(tmp_path / "images" / f"{number % 2}" / f"{number:02d}.png", image)
    (tmp_path / "images" / "1" / "05.png").write_bytes(b"this is no image")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    return tmp_path / "images"


@pytest.fixture
def tar(tmp_path: Path, face: np.ndarray) -> Path:
    """A WebDataset shard of three images with their labels; the second image is broken."""
    path = tmp_path / "part-0.tar"
    with tarfile.open(path, "w") as file:
        for number in range(3):
            content = b"broken" if number == 1 else png(np.roll(face, number, axis=1))
            for name, data in ((f"a/{number}.png", content), (f"a/{number}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def parquet(tmp_path: Path, face: np.ndarray) -> Path:
    """A Parquet file of seven images as Hugging Face writes them, in row groups of three."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": png(np.roll(face, number, axis=1)), "path": f"{number}.png"} for number in range(7)]
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"label": list(range(7)), "image": cells}), path, row_group_size=3)
    return path


@pytest.fixture
def make_job(tiny_model: Path, tmp_path: Path) -> Callable[..., Job]:
    """A function that plans a batch on the tiny network: make_job(source, out="out", images_per_shard=4)."""

    def make(source: object, out: str = "out", images_per_shard: int = 4, **options: object) -> Job:
        arguments = analyzer_options(tiny_model.with_suffix(".onnx"), device="cpu", threads=1, **options)
        config = BatchConfig(options=arguments, images_per_shard=images_per_shard)
        return prepare_batch(str(source), tmp_path / out, config)

    return make
