"""Training: every loss falls on drawn faces, and a run that was cut ends where it would have ended."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from tests.train.running import read_state, same

from faceum.crop import CropSpec, box_from_points, points5_from_landmarks
from faceum.data.augment import NO_AUGMENTATION
from faceum.data.face import LabelledFace, read_face
from faceum.data.mixture import MixtureDataset, SourceConfig
from faceum.data.parquet import read_corpus
from faceum.errors import FaceumError, OutputError, RecipeError
from faceum.model.checkpoint import load_checkpoint
from faceum.model.experts import ExpertsConfig
from faceum.model.moe import MoEConfig
from faceum.model.network import FaceUMConfig
from faceum.model.router import RouterConfig
from faceum.model.vit import BlockConfig, StemConfig
from faceum.tasks import PARSING_CLASSES, TASKS
from faceum.train import RunConfig, Trainer, train
from faceum.train import checkpoints as checkpoints_module
from faceum.train.checkpoints import Checkpoints
from faceum.train.trainer import class_weights, expression_shares, read_taught_batches

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NETWORK = FaceUMConfig(
    name="tiny",
    crops=((CropSpec(policy="similarity", size=64, grid=4), tuple(TASKS)),),
    stem=StemConfig(kind="conv", channels=(16, 16, 32), blocks=(0, 0, 1)),
    block=BlockConfig(dim=48, num_heads=2, head_dim=16, hidden_dim=64, activation="silu"),
    moe=MoEConfig(
        shared_hidden_dim=48,
        router=RouterConfig(num_experts=4),
        experts=ExpertsConfig(hidden_dim=24, activation="silu"),
    ),
    depth=1,
)


def drawn_landmarks(x: float, y: float, size: float) -> np.ndarray:
    """68 points of a plain face, eyes `size` pixels apart around (x, y)."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([1.1 * np.cos(angle), 0.2 + 1.5 * np.sin(angle)], axis=-1)
    brows = np.stack([[*np.linspace(-0.8, -0.2, 5), *np.linspace(0.2, 0.8, 5)], [-0.3] * 10], axis=-1)
    nose = np.array([[0, 0], [0, 0.2], [0, 0.4], [0, 0.61], *([n / 10, 0.7] for n in range(-2, 3))])
    ring = np.linspace(-np.pi, np.pi, 7)[:6]
    eyes = [np.stack([cx + 0.2 * np.cos(ring), 0.08 * np.sin(ring)], axis=-1) for cx in (-0.5, 0.5)]
    lips = [
        np.stack([w * np.cos(t), 1.03 + h * np.sin(t)], axis=-1)
        for w, h, t in (
            (0.44, 0.15, np.linspace(-np.pi, np.pi, 13)[:12]),
            (0.35, 0.05, np.linspace(-np.pi, np.pi, 9)[:8]),
        )
    ]
    return size * np.concatenate([jaw, brows, nose, *eyes, *lips]) + [x, y]


def drawn_row(number: int) -> dict[str, Any]:
    """A face whose colour, place and size tell its labels."""
    rng = np.random.default_rng(number)
    landmarks = drawn_landmarks(*(60 + rng.uniform(-6, 6, 2)), 30 + rng.uniform(-5, 5))
    mask = np.zeros((130, 120), np.uint8)
    cv2.fillPoly(mask, [np.round(landmarks[:17]).astype(np.int32)], 1)
    for which, name in (((36, 42), "l_eye"), ((42, 48), "r_eye"), ((48, 60), "mouth")):
        cv2.fillPoly(mask, [np.round(landmarks[slice(*which)]).astype(np.int32)], PARSING_CLASSES.index(name))
    palette = rng.integers(30, 226, (19, 3))
    image = palette[mask] + rng.integers(-8, 9, (130, 120, 3))
    points5 = points5_from_landmarks(landmarks)
    return {
        "id": f"drawn/{number}",
        "source": "drawn",
        "image": cv2.imencode(".png", image.astype(np.uint8))[1].tobytes(),
        "box": box_from_points(points5).tolist(),
        "points5": points5.ravel().tolist(),
        "detector_score": 1.0,
        "age": float(5 + 11 * number),
        "attributes": (rng.random(40) < 0.5).tolist(),
        "expression_votes": np.eye(8, dtype=int)[number % 8].tolist(),
        "mask": cv2.imencode(".png", mask)[1].tobytes(),
        "landmarks68": landmarks.ravel().tolist(),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn faces with every label, and a teacher's vectors for them."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [drawn_row(number) for number in range(8)]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "drawn.train.parquet")
    taught = np.random.default_rng(0).integers(-100, 100, (8, 256)).astype(np.int8)
    table = [
        {"id": row["id"], "embedding": vector.tobytes()} for row, vector in zip(rows, taught, strict=True)
    ]
    parquet.write_table(pa.Table.from_pylist(table), folder / "teacher-embedding.drawn.train.parquet")
    return folder


@pytest.fixture
def run(corpus: Path, tmp_path: Path) -> RunConfig:
    """A short run with augmentation and dropout, so that all randomness takes part."""
    return RunConfig(
        network=NETWORK,
        data=str(corpus),
        out=str(tmp_path / "run"),
        sources={"drawn": SourceConfig(batch_size=6)},
        steps=6,
        warmup=2,
        workers=0,
        save_every=2,
        held_out=None,
    )


def faces_of(run: RunConfig) -> dict[str, list[LabelledFace]]:
    return {source: list(map(read_face, read_corpus(run.data, source, "train"))) for source in run.sources}


def test_every_loss_falls_on_a_handful_of_faces(run: RunConfig) -> None:
    still = dataclasses.replace(run, steps=40, warmup=5, lr=5e-3)
    shares = {"drawn": SourceConfig(batch_size=8, augment=NO_AUGMENTATION)}
    faces = faces_of(run)
    batch = MixtureDataset(faces, shares, spec=NETWORK.crops[0][0], seed=0, batches=1)[0]
    trainer = Trainer(still, faces)
    history = [trainer.train_step([(batch,)]) for _ in range(still.steps)]
    assert set(TASKS) | {"balance", "z", "mutual_information", "total"} <= set(history[0])
    for name in (*TASKS, "total"):
        first, last = float(history[0][name]), np.mean([float(losses[name]) for losses in history[-5:]])
        assert last < 0.6 * first, f"{name}: {first:.3f} to {last:.3f}"
    for router in (mixture.moe.router for mixture in trainer.network.moe_blocks):
        assert router.bias.abs().max() > 5e-3, "the balance has moved the biases"


class Held:
    """A state of one tensor and one number."""

    def __init__(self, value: float = 0.0) -> None:
        self.value, self.number = torch.full((3,), value), value

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def numbers(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_numbers(self, numbers: Mapping[str, Any]) -> None:
        self.number = numbers["number"]

    def load_single_file(self, state: Mapping[str, Any]) -> None:
        self.number = state["step"]


def assert_loaded(checkpoints: Checkpoints, step: int, say: Callable[[str], None] = print) -> None:
    held = Held()
    assert checkpoints.load(held, say)["step"] == step
    assert held.number == step and held.value.tolist() == [step] * 3


class Cut(Exception):
    """Somebody pulls the plug."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_uninterrupted_run(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    run = dataclasses.replace(run, optimizer=optimizer)
    whole = dataclasses.replace(run, out=str(tmp_path / "whole"))
    answer = train(whole)

    step = Trainer.train_step

    def cut_at_five(self: Trainer, batch: Any) -> dict[str, float]:
        if self.step == 5:
            raise Cut
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", cut_at_five)
        with pytest.raises(Cut):
            train(run)
    assert list(Checkpoints(Path(run.out) / "checkpoints").steps()) == [2, 4]
    torch.manual_seed(99)  # another process would stand anywhere
    resumed = train(run)

    states = [read_state(Path(one.out)) for one in (whole, run)]
    assert states[0]["step"] == 6
    for part in states[0]:
        assert same(states[0][part], states[1][part]), part
    assert same(answer.state_dict(), resumed.state_dict())


def test_finished_run_returns_averaged_weights(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    network = train(run)
    state = read_state(Path(run.out))
    average, last = (
        {name: state[f"{part}.{name}"] for name in network.state_dict()} for part in ("average", "network")
    )
    assert not network.training
    assert same(dict(network.state_dict()), average)
    assert not same(average, last)
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("there is nothing left to train"))
    assert same(train(run).state_dict(), network.state_dict())


def test_folded_embedding_is_what_the_projection_sees(run: RunConfig) -> None:
    plain = train(dataclasses.replace(run, out=run.out + "-plain"))
    folded = train(dataclasses.replace(run, fold_projection=True))
    projection = read_state(Path(run.out))["objective.distillation.projection.weight"]
    crops, mask = torch.rand(6, 3, 64, 64), torch.ones(6, 16, dtype=torch.bool)
    with torch.inference_mode():
        seen, embedding = (network(crops, mask)["recognition"] for network in (plain, folded))
        others = folded(crops, mask)["age"] - plain(crops, mask)["age"]
    expected = torch.nn.functional.normalize(seen @ projection.T)
    unit = torch.nn.functional.normalize(embedding)
    torch.testing.assert_close(unit @ unit.T, expected @ expected.T, atol=1e-5, rtol=0)
    assert not others.any()
    stored, _ = load_checkpoint(Path(run.out) / "network.safetensors")
    assert stored.state_dict()["heads.recognition.output.bias"].equal(
        folded.state_dict()["heads.recognition.output.bias"]
    )


def test_projection_is_fitted_to_what_the_network_knows(run: RunConfig) -> None:
    faces = faces_of(run)
    for fold in (False, True):
        trainer = Trainer(dataclasses.replace(run, fit_projection=8, fold_projection=fold), faces)
        before = trainer.average_network()
        cosine = trainer.fit_projection(faces)
        assert cosine > 0.9, "eight faces are fewer than the numbers of an embedding"
        batch = next(read_taught_batches(trainer.config, before, faces))
        crops = batch.crop_BCHW.float() / 255
        with torch.inference_mode():
            embedding = trainer.average_network()(crops, batch.face_tokens_BN, ("recognition",))[
                "recognition"
            ]
            seen = trainer.objective.distillation(embedding, batch.labels["recognition"])
        assert float(seen) == pytest.approx(1 - cosine, abs=1e-3)
        assert same(trainer.average_network().state_dict(), before.state_dict()) is not fold


def test_run_without_teachers_cannot_fit_a_projection(run: RunConfig) -> None:
    trainer = Trainer(dataclasses.replace(run, fit_projection=8), faces_of(run))
    with pytest.raises(RecipeError, match="leave out fit_projection"):
        trainer.fit_projection({"drawn": []})


def test_expressions_are_counted_as_often_as_they_are_voted_for(run: RunConfig) -> None:
    torch.testing.assert_close(expression_shares(faces_of(run)), torch.full((8,), 1 / 8))
    assert expression_shares({"none": []}) is None


def test_metrics_are_logged_once_a_step_even_after_a_cut(run: RunConfig) -> None:
    short = dataclasses.replace(
        run, steps=4, save_every=4, log_every=2, sources={"drawn": SourceConfig(batch_size=2)}
    )
    log = Path(run.out) / "metrics.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 2, "age": 1.0}\n{"step": 4, "age": 1.0}\n{"step": 6, "a')
    train(short)  # no checkpoint: what was logged before belongs to steps that are lost
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert all(set(TASKS) < set(row) and row["images_per_second"] > 0 for row in rows)
    train(short)
    assert len(log.read_text().splitlines()) == 2


def test_cut_while_saving_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, Held(1))

    def cut(folder: Path, tensors: object) -> None:
        (folder / "half.safetensors").write_bytes(b"half")
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_module, "_write_shards", cut)
        with pytest.raises(Cut):
            checkpoints.save(2, Held(2))
    assert_loaded(checkpoints, 1)
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / ".step-00000002.part").mkdir()
    (tmp_path / ".step-00000002.part" / "left.safetensors").write_bytes(b"from a killed process")
    checkpoints.save(2, Held(2))
    assert_loaded(checkpoints, 2)


def test_only_the_last_checkpoints_are_kept_and_a_broken_one_is_passed_over(tmp_path: Path) -> None:
    checkpoints, reported = Checkpoints(tmp_path, keep=2), []
    assert checkpoints.load(Held()) is None
    paths = [checkpoints.save(step, Held(step)) for step in (5, 90, 100)]
    assert list(checkpoints.steps().values()) == paths[1:]
    assert sorted(tmp_path.iterdir()) == paths[1:]
    (file,) = paths[2].glob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert_loaded(checkpoints, 90, reported.append)
    assert str(paths[2]) in reported[0]
    file.write_bytes(content[::-1])  # of the right size
    assert_loaded(checkpoints, 90)
    file.unlink()
    assert_loaded(checkpoints, 90)
    (paths[1] / "state.json").write_text("{}")
    with pytest.raises(FaceumError, match="start over"):
        checkpoints.load(Held())


def test_full_disk_while_saving_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)

    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save", full)
    with pytest.raises(OutputError, match="step-00000001 cannot be written: the disk is full"):
        checkpoints.save(1, Held(1))
    assert not list(tmp_path.iterdir())


def test_state_of_one_file_of_an_older_version_is_resumed(run: RunConfig, tmp_path: Path) -> None:
    """Its optimizer's state is by position, and empty for what has had no gradient."""
    faces = faces_of(run)
    mixture = MixtureDataset(faces, run.sources, spec=NETWORK.crops[0][0], seed=0, batches=4)
    old, new = Trainer(run, faces), Trainer(run, faces)
    for number in range(2):
        old.train_step([(mixture[number],)])
    state = {
        "step": old.step,
        "network": old.network.state_dict(),
        "objective": old.objective.state_dict(),
        "average": old.average.state,
        "average_updates": old.average.updates,
        "optimizer": old.optimizer.state_dict(),
        "scaler": old.scaler.state_dict(),
        "best": 0.5,
    }
    torch.save(state, tmp_path / "step-00000002.pt")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(new)["best"] == 0.5
    for number in range(2, 4):
        one, other = (trainer.train_step([(mixture[number],)]) for trainer in (old, new))
        assert same(one, other)
    checkpoints.save(4, new)
    assert [path.name for path in checkpoints.steps().values()] == ["step-00000002.pt", "step-00000004"]
    assert same(old.tensors(), new.tensors())


def test_dense_twin_is_trained_by_the_same_loop(run: RunConfig) -> None:
    dense = dataclasses.replace(NETWORK, moe=dataclasses.replace(NETWORK.moe, routed=False))
    trainer = Trainer(dataclasses.replace(run, network=dense), faces_of(run))
    mixture = MixtureDataset(faces_of(run), run.sources, spec=NETWORK.crops[0][0], seed=0, batches=1)
    losses = trainer.train_step([(mixture[0],)])
    assert "switch" not in losses and set(TASKS) < set(losses)


def test_half_precision_steps_are_finite(run: RunConfig) -> None:
    trainer = Trainer(dataclasses.replace(run, precision="bfloat16"), faces_of(run))
    mixture = MixtureDataset(faces_of(run), run.sources, spec=NETWORK.crops[0][0], seed=0, batches=3)
    for number in range(3):
        assert all(np.isfinite(list(trainer.train_step([(mixture[number],)]).values())))
    assert all(value.dtype == torch.float32 for value in trainer.network.parameters())


def test_compiled_network_takes_the_same_step(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is traced as on any backend; "eager" runs it without a compiler."""
    still = dataclasses.replace(NETWORK, block=dataclasses.replace(NETWORK.block, drop_path=0.0))
    run = dataclasses.replace(run, network=still)
    faces = faces_of(run)
    mixture = MixtureDataset(faces, run.sources, spec=NETWORK.crops[0][0], seed=0, batches=2)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain, compiled = Trainer(run, faces), Trainer(dataclasses.replace(run, compile=True), faces)
    assert compiled.forward is not compiled.network
    for trainer in (plain, compiled):
        for module in trainer.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    for number in range(2):
        one, other = (trainer.train_step([(mixture[number],)]) for trainer in (plain, compiled))
        for name in one:
            assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-4, abs=1e-6), name


def test_total_loss(run: RunConfig) -> None:
    config = dataclasses.replace(
        run, task_weights={"age": 3.0}, balance_weight=0.5, z=0.0, mutual_information=0.25
    )
    trainer = Trainer(config, faces_of(run))
    losses = {
        "age": torch.tensor(2.0),
        "landmarks": torch.tensor(6.0),
        "balance": torch.tensor(1.0),
        "z": torch.tensor(100.0),
        "mutual_information": torch.tensor(-0.4),
    }
    assert trainer.objective.total(losses, ("age", "landmarks")).item() == pytest.approx(
        (3 * 2 + 6) / 4 + 0.5 - 0.1
    )


def test_rare_classes_weigh_more_within_limits() -> None:
    mask = np.zeros((10, 100), np.uint8)
    for name in range(1, 18):
        mask[0, 5 * (name - 1) : 5 * name] = name  # five pixels each; class 18 has none
    face = LabelledFace(
        id="1",
        source="made_up",
        image=np.zeros((10, 100, 3), np.uint8),
        box=np.array([0, 0, 9, 9], np.float32),
        points5=None,
        labels={"parsing": mask},
    )
    weights = class_weights({"made_up": [face, face]}).tolist()
    assert weights[0] == 0.5
    assert weights[1:18] == pytest.approx([1.0] * 17)
    assert weights[18] == pytest.approx(10**0.5)
    assert class_weights({"made_up": []}).tolist() == [1.0] * 19


def test_run_keeps_where_it_came_from(run: RunConfig) -> None:
    train(dataclasses.replace(run, steps=2))
    record = json.loads((Path(run.out) / "run.json").read_text())
    reported = record["recipe"]
    assert record["data"]["drawn"]["faces"] == 8 and len(record["data"]["drawn"]["sha256"]) == 64
    assert record["environment"]["packages"]["torch"] == torch.__version__
    assert reported["network"]["name"] == "tiny" and reported["sources"]["drawn"]["batch_size"] == 6
