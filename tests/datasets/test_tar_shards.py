"""Tar shards as a source of training: samples, errors, and runs from a disk and from an S3 server."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceum.config import load_recipe
from faceum.data.mixture import SourceConfig
from faceum.data.pack import PackConfig, pack
from faceum.data.sample import Sample
from faceum.data.synthetic import draw_face
from faceum.datasets.registry import read_dataset
from faceum.datasets.tar_shards import read_tar_shards
from faceum.errors import DataError

RECIPE = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"


def labels_of(sample: Sample) -> dict[str, Any]:
    """The fields of a face's JSON."""
    names = ("box", "points5", "age", "attributes", "expression_votes", "landmarks68", "identity")
    values = {name: getattr(sample, name) for name in names}
    return {k: np.asarray(v).ravel().tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def drawn() -> list[Sample]:
    return [draw_face(f"tar-{number}") for number in range(12)]


@pytest.fixture
def shards(tmp_path: Path, drawn: list[Sample]) -> Path:
    """A folder of three shards: two to train on, with long names in them, and one of another split."""
    for shard in range(3):
        files: dict[str, bytes] = {}
        for number in range(4 * shard, 4 * shard + 4):
            face, key = drawn[number], f"{'deep/' * 30 if number % 2 else ''}{number:03d}"
            files[f"{key}.png"] = png(face.read()[..., ::-1])
            files[f"{key}.json"] = json.dumps({**labels_of(face), "caption": "ignored"}).encode()
            files[f"{key}.parsing.png"] = png(face.parsing())
        name = f"train-{shard:06d}.tar" if shard < 2 else "val-000000.tar"
        write_tar(tmp_path / "shards" / name, {**files, "README.txt": b"passed over"})
    return tmp_path / "shards"


def test_samples_are_those_that_were_written(shards: Path, drawn: list[Sample]) -> None:
    found = list(read_dataset("tar", shards, "train"))
    assert [sample.id.rpartition("/")[2] for sample in found] == [f"{number:03d}" for number in range(8)]
    for expected, sample in zip(drawn, found, strict=False):
        assert sample.problem is None
        np.testing.assert_array_equal(sample.read(), expected.read())
        np.testing.assert_array_equal(sample.parsing(), expected.parsing())
        assert json.dumps(labels_of(sample)) == json.dumps(labels_of(expected))
    assert str(found[0].image) == f"{shards / 'train-000000.tar'}#000.png"
    assert len(list(read_tar_shards(shards, "val"))) == 4
    assert len(list(read_tar_shards(shards, "all"))) == 12
    assert len(list(read_tar_shards(shards / "val-000000.tar"))) == 4


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "not an object"),
        (b'{"age": "old"}', 'age that is "old"'),
        (b'{"box": [1, 2, null, 4]}', "box"),
        (b'{"attributes": [true]}', "1 attribute;"),
        (b'{"age": 900}', "ages lie between"),
        (None, "no a.json"),
    ],
)
def test_wrong_labels_are_the_problem_of_their_sample(
    tmp_path: Path, labels: bytes | None, said: str
) -> None:
    from faceum.data.sample import check_sample

    files = {"a.png": png(np.zeros((8, 8, 3), np.uint8)), **({} if labels is None else {"a.json": labels})}
    (sample,) = read_tar_shards(write_tar(tmp_path / "train.tar", files))
    with pytest.raises(DataError, match=said):
        check_sample(sample)


def test_every_key_is_packed_or_skipped(tmp_path: Path, drawn: list[Sample]) -> None:
    files: dict[str, bytes] = {"notes.txt": b"no face"}
    for number, face in enumerate(drawn[:4]):
        files[f"{number}.png"] = png(face.read()[..., ::-1])
        files[f"{number}.json"] = json.dumps(labels_of(face)).encode()
    files["1.png"], files["2.json"] = b"broken", b"{"
    files |= {"labels only.json": b"{}", "parsing only.parsing.png": png(drawn[0].parsing())}
    shard = write_tar(tmp_path / "train-0.tar", files)
    report = pack(read_tar_shards(shard), tmp_path / "x.parquet", config=PackConfig(margin=None))
    assert (report.written, len(report.skipped)) == (2, 4)
    assert "labels only has no image" in " ".join(report.skipped)


def test_unreadable_shards_give_sentences(tmp_path: Path) -> None:
    image = png(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"looked for train\*\.tar"):
        list(read_tar_shards(tmp_path))
    path = write_tar(tmp_path / "train.tar", {"a.png": image, "a.json": b"{}"})
    (sample,) = read_tar_shards(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"train\.tar"):
        list(read_tar_shards(path))
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(DataError, match=r"train\.tar#a\.png cannot be read: it ends before"):
        sample.read()
    path.unlink()
    with pytest.raises(DataError, match=r"train\.tar#a\.png cannot be read"):
        sample.read()
    with pytest.raises(DataError, match="second file of its kind"):
        list(read_tar_shards(write_tar(tmp_path / "b.tar", {"a.png": image, "a.jpg": image})))


@pytest.fixture
def bucket(shards: Path, use_s3_at: Callable[[str], None]) -> Iterator[str]:
    """The folder of shards in a bucket of an S3 server on loopback."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    use_s3_at("http://{}:{}".format(*server.get_host_and_port()))
    store = s3fs.S3FileSystem()
    store.mkdir("training")
    for path in shards.iterdir():
        store.put_file(str(path), f"training/shards/{path.name}")
    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://training/shards"
    server.stop()


def test_run_from_a_bucket_is_the_run_from_a_disk(shards: Path, bucket: str, tmp_path: Path) -> None:
    """Cut after its first checkpoint, with a worker process, from the bucket; whole, and from the disk."""
    torch = pytest.importorskip("torch")
    from faceum.train import Trainer, train

    torch.set_num_threads(1)
    source = SourceConfig(reader="tar", path=str(shards), batch_size=6, lazy=True)
    whole = dataclasses.replace(
        load_recipe(RECIPE),
        out=str(tmp_path / "whole"),
        sources={"tar": source},
        steps=4,
        warmup=1,
        workers=0,
        save_every=2,
        log_every=1,
        validate_every=0,
    )
    expected = train(whole).state_dict()
    remote = dataclasses.replace(source, path=bucket)
    cut = dataclasses.replace(whole, out=str(tmp_path / "cut"), sources={"tar": remote}, workers=1)
    step = Trainer.train_step

    def cut_at_three(self: Trainer, batches: Any) -> Any:
        if self.step == 3:
            raise InterruptedError
        return step(self, batches)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train_step", cut_at_three)
        with pytest.raises(InterruptedError):
            train(cut)
    resumed = train(cut).state_dict()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name
