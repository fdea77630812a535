"""Fixtures of all folders: the portrait, a tiny network in both formats, and a drawn image with 68 points."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]

SLOW_FILES = {
    "cli/test_batch.py", "cli/test_people.py", "cli/test_train.py", "data/test_corpus.py",
    "evaluate/test_corpus.py", "export/test_exporter.py", "export/test_onnx.py", "export/test_subset.py",
    "datasets/test_tar_shards.py", "jobs/test_clusters.py", "jobs/test_local.py", "jobs/test_lost_folders.py",
    "jobs/test_s3.py", "jobs/test_scaling.py",
    "model/test_convert.py", "model/test_published.py", "people/test_stores.py", "test_end_to_end.py",
    "image/test_fuzz.py", "image/test_memory.py", "image/test_variants.py", "test_inference.py",
    "test_processes.py", "test_recipes.py", "tools/test_convert_detectors.py", "tools/test_fuzz.py",
    "tools/test_ship_weights.py", "train/test_changed_settings.py", "train/test_killed.py",
    "train/test_learning.py", "train/test_loop.py", "train/test_ranks.py", "train/test_stages.py",
    "train/test_torchrun.py", "train/test_two_crops.py",
}  # fmt: skip
"""Files whose tests train, export, compare whole networks or read thousands of images."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of SLOW_FILES as slow; `make test-fast` leaves them out."""
    for item in items:
        if item.path.as_posix().split("/tests/")[-1] in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def use_s3_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A function that makes s3:// mean the server at an address, with short waits before a second try."""
    s3fs = pytest.importorskip("s3fs")

    def use(address: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setattr("faceum.stores.FIRST_WAIT", 0.02)
        s3fs.S3FileSystem.clear_instance_cache()

    yield use
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def portrait_path() -> Path:
    """The example portrait: one frontal face of about 95 pixels in 512 x 512."""
    return ROOT / "examples" / "astronaut.png"


@pytest.fixture
def portrait(portrait_path: Path) -> np.ndarray:
    """The example portrait as RGB uint8 (512, 512, 3)."""
    from faceum.image import read_image

    return read_image(portrait_path)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write tiny.safetensors: a network of all six tasks with random weights."""
    torch = pytest.importorskip("torch")
    from faceum.crop import CropSpec
    from faceum.model.checkpoint import save_checkpoint
    from faceum.model.experts import ExpertsConfig
    from faceum.model.moe import MoEConfig
    from faceum.model.network import FaceUM, FaceUMConfig
    from faceum.model.router import RouterConfig
    from faceum.model.vit import BlockConfig, StemConfig
    from faceum.tasks import TASKS

    config = FaceUMConfig(
        name="tiny",
        crops=((CropSpec(policy="similarity", size=64, grid=4), tuple(TASKS)),),
        stem=StemConfig(kind="conv", channels=(16, 16, 16), blocks=(0, 0, 1)),
        block=BlockConfig(dim=32, num_heads=2, head_dim=16, hidden_dim=32, activation="silu"),
        moe=MoEConfig(
            shared_hidden_dim=32,
            router=RouterConfig(num_experts=4),
            experts=ExpertsConfig(hidden_dim=16, activation="silu"),
        ),
        depth=1,
        moe_blocks=1,
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = FaceUM(config)
        with torch.no_grad():
            for value in model.parameters():  # what starts at zero would hide mistakes
                if not value.any():
                    value.normal_(std=0.1)
            # Else all points lie in the middle, like no face's, and the analyzer would not turn by them.
            model.heads["landmarks"].output.weight.normal_(std=6.0)
    save_checkpoint(path, model, {"licence": "test", "provenance": "random", "scores": {}})
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_weights: Path) -> Path:
    """Write tiny.onnx next to tiny.safetensors, for equalities and shapes."""
    pytest.importorskip("onnxscript")
    from faceum.export.onnx import export_onnx
    from faceum.model.checkpoint import load_checkpoint

    model, metadata = load_checkpoint(tiny_weights)
    export_onnx(model, metadata, tiny_weights.with_suffix(".onnx"))
    return tiny_weights


@pytest.fixture
def landmarks68() -> np.ndarray:
    """68 points (68, 2) of a frontal face in a 200 x 200 image, eyes at y 80, chin at y 165."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([100 + 55 * np.cos(angle), 85 + 80 * np.sin(angle)], axis=1)
    brows = [
        [x, 68 - 4 * np.sin((i % 5) / 4 * np.pi)]
        for i, x in enumerate((*range(55, 96, 10), *range(105, 146, 10)))
    ]
    ridge = [[100, y] for y in (80, 90, 100, 110)]
    nostrils = [[x, 117] for x in (90, 95, 100, 105, 110)]
    eyes = [
        [cx + dx, 80 + dy]
        for cx in (75, 125)
        for dx, dy in ((-11, 0), (-4, -4), (4, -4), (11, 0), (4, 4), (-4, 4))
    ]
    lips = [[80, 138], [87, 134], [95, 132], [100, 133], [105, 132], [113, 134], [120, 138]]
    lips += [[113, 144], [106, 147], [100, 148], [94, 147], [87, 144]]
    inner = [[84, 138], [95, 137], [100, 138], [105, 137], [116, 138], [105, 140], [100, 141], [95, 140]]
    points = np.array([*jaw, *brows, *ridge, *nostrils, *eyes, *lips, *inner], np.float32)
    assert points.shape == (68, 2)
    return points


@pytest.fixture
def image() -> np.ndarray:
    """A 200 x 200 RGB image of smooth colours with some noise."""
    y, x = np.mgrid[0:200, 0:200]
    noise = np.random.default_rng(0).integers(0, 12, (200, 200))
    return np.stack([150 + x // 4 + noise, 110 + y // 4 + noise, 90 + noise], axis=-1).astype(np.uint8)


@pytest.fixture
def put(image: np.ndarray) -> Callable[..., Path]:
    """A function that writes an image, different for each path: put(path), or put(path, array)."""

    def write(path: Path, pixels: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            blots = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 60, (10, 10, 3))
            pixels = np.clip(image.astype(int) + np.kron(blots, np.ones((20, 20, 1), int)), 0, 255)
            pixels = pixels.astype(np.uint8)
        assert cv2.imwrite(str(path), pixels)
        return path

    return write
