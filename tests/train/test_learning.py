"""Networks learn: all tasks in a short smoke run, one head alone, and 32 real images by heart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faceum.config import load_recipe
from faceum.data.augment import NO_AUGMENTATION
from faceum.data.face import LabelledFace, read_face
from faceum.data.mixture import Batch, MixtureDataset, SourceConfig
from faceum.data.parquet import read_corpus
from faceum.data.sources import Data, read_sources
from faceum.datasets.registry import read_dataset
from faceum.errors import RecipeError
from faceum.model.checkpoint import save_checkpoint
from faceum.model.network import FaceUM
from faceum.tasks import TASKS
from faceum.train import RunConfig, Trainer, train
from faceum.train.trainer import build_network
from faceum.train.validate import METRICS, HeldOut

RECIPES = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes"


class Enough(Exception):
    """The network has been looked at; the rest of the run would only take time."""


def every_face(run: RunConfig, faces: Sequence[LabelledFace]) -> Batch:
    """All these faces as one batch, cut as validation cuts them."""
    assert run.network is not None
    alone = {"all": SourceConfig(batch_size=len(faces), augment=NO_AUGMENTATION)}
    return MixtureDataset({"all": faces}, alone, spec=run.network.crops[0][0], seed=0, batches=1)[0]


def blind_scores(learned: Batch, held: Batch) -> dict[str, float]:
    """The metrics on held-out faces of who knows the training faces and looks at no image.

    Always the median age, each attribute's frequent answer, the most frequent expression, each pixel's most
    frequent class, and the mean shape.
    """
    known = {task: label.numpy() for task, label in learned.labels.items()}
    answers = {
        "age": np.median(known["age"]),
        "attributes": known["attributes"].mean(0),
        "expression": known["expression"].sum(0),
        "parsing": np.stack([(known["parsing"] == one).sum(0) for one in range(19)]).argmax(0),
        "landmarks": known["landmarks"].mean(0),
    }
    scores = {}
    for task, answer in answers.items():
        true = held.labels[task].numpy()
        scores |= METRICS[task](np.broadcast_to(answer, (len(true), *answer.shape)), true)
    return scores


def test_smoke_learns_every_task(tmp_path: Path) -> None:
    words = ["validate_every=400", "log_every=1", "workers=0", f"out={tmp_path}"]
    run = load_recipe(RECIPES / "smoke.py", words)
    held = read_sources(run.sources, "", read_dataset, split="val", most=128, people=True)
    scores: dict[str, float] = {}

    def look(network: FaceUM) -> dict[str, float]:
        scores.update(HeldOut(run, held, network, torch.ones(19))(network))
        raise Enough

    with pytest.raises(Enough):
        train(run, look)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for task in TASKS:
        first, last = (np.mean([row[task] for row in some]) for some in (rows[:10], rows[-20:]))
        assert last < 0.85 * first, f"{task}: {first:.3f} to {last:.3f}"
    known = read_sources(run.sources, "", read_dataset, split="train", most=500)
    blind = blind_scores(*(every_face(run, data.faces["drawn"]) for data in (known, held)))
    assert scores["age_mae"] < 0.85 * blind["age_mae"]
    assert scores["attributes_accuracy"] > blind["attributes_accuracy"] + 0.02
    assert scores["expression_accuracy"] > 2 * blind["expression_accuracy"]
    assert scores["parsing_f1"] > blind["parsing_f1"] + 0.1
    assert scores["landmarks_nme"] < 0.9 * blind["landmarks_nme"]
    assert scores["verification_auc"] > 0.8


def test_heads_alone_leave_the_encoder_and_other_heads_alone(
    drawn_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    train(drawn_run(steps=2))
    weights = str(tmp_path / "run" / "network.safetensors")
    source = SourceConfig(reader="generated", path="12", batch_size=4, tasks=("expression",))
    tuned = train(
        drawn_run(
            out=str(tmp_path / "tuned"), network=None, initial=weights, learn="heads",
            sources={"mine": source}, margin=None, steps=3,
        )
    )  # fmt: skip
    begun = build_network(drawn_run(initial=weights)).state_dict()
    moved = {name for name, value in tuned.state_dict().items() if not torch.equal(value, begun[name])}
    assert moved and all(name.startswith("heads.expression.") for name in moved)


def test_initial_weights_may_only_grow(drawn_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    small = drawn_run().network
    weights = str(tmp_path / "small.safetensors")
    save_checkpoint(Path(weights), FaceUM(small), {}, dtype=torch.float32)
    deeper = replace(small, depth=small.depth + 1)
    assert build_network(drawn_run(initial=weights, network=deeper)).config == deeper
    shallower = replace(small, depth=small.depth - 1)
    with pytest.raises(RecipeError, match=r"trunk\.blocks\.0"):
        build_network(drawn_run(initial=weights, network=shallower))


def test_recomputing_and_accumulating_change_nothing_but_memory(drawn_run: Callable[..., RunConfig]) -> None:
    network = load_recipe(RECIPES / "smoke.py").network
    network = replace(network, block=replace(network.block, drop_path=0.3))
    data = read_sources(drawn_run().sources, "", read_dataset, people=True)
    spec = network.crops[0][0]
    batch = MixtureDataset(data.faces, drawn_run().sources, spec=spec, seed=0, batches=1)[0]
    values = []
    for settings in ({}, {"recompute": True}):
        trainer = Trainer(drawn_run(network=network, **settings), data.faces, data.people)
        values.append(numbers(trainer.train_step([(batch,)])))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    still = replace(network, block=replace(network.block, drop_path=0.0))
    once, twice = (Trainer(drawn_run(network=still), data.faces, data.people) for _ in range(2))
    for trainer in (once, twice):
        for module in trainer.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    one, two = once.train_step([(batch,)]), twice.train_step([(batch,), (batch,)])
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-4, abs=1e-6)


def numbers(values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def test_uncertain_tasks_learn_how_much_they_count(drawn_run: Callable[..., RunConfig]) -> None:
    run = drawn_run(weighting="uncertainty", lr=1e-2, warmup=0)
    data = read_sources(run.sources, "", read_dataset, people=True)
    trainer = Trainer(run, data.faces, data.people)
    batch = MixtureDataset(data.faces, run.sources, spec=run.network.crops[0][0], seed=0, batches=1)[0]
    losses = trainer.train_step([(batch,)])
    s = trainer.objective.log_variance_T.detach()
    for place, task in enumerate(TASKS):
        # d/ds of (exp(-s) alpha L + s) / 2 at 0 is (1 - alpha L) / 2: large losses push s up.
        assert (s[place] > 0) == (run.task_weights[task] * losses[task] > 1), task


@pytest.mark.skipif("FACEUM_CORPUS" not in os.environ, reason="needs the corpus: set FACEUM_CORPUS")
def test_32_real_images_are_memorized() -> None:
    counts = {"celeba": 8, "utkface": 6, "ferplus": 6, "celebamask": 6, "helen_afw": 6}
    folder = os.environ["FACEUM_CORPUS"]
    faces = {}
    for source, count in counts.items():
        known = list(map(read_face, read_corpus(folder, source, "val")))
        faces[source] = [face for face in known if not tied(face)][:count]
    sources = {
        source: SourceConfig(batch_size=count, augment=NO_AUGMENTATION) for source, count in counts.items()
    }
    weights = [
        f"task_weights.{word}" for word in ("age=2.0", "attributes=0.4", "recognition=10.0", "parsing=3.0")
    ]
    words = ["steps=350", "precision=float32", "warmup=10", "lr=3e-3", "grad_clip=5.0", "ema=0.9", *weights]
    run = load_recipe(RECIPES / "compact.py", words)
    run = replace(run, sources=sources)
    trainer = Trainer(run, faces)
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    spec = trainer.network.config.crops[0][0]
    batch = MixtureDataset(faces, sources, spec=spec, seed=0, batches=1)[0]
    history = [trainer.train_step([(batch,)]) for _ in range(run.steps)]
    numbers = HeldOut(run, Data(faces=faces), trainer.network, torch.ones(19))
    scores = numbers(trainer.average_network(), trainer.objective.distillation.state_dict())
    last = history[-1]
    assert last["recognition"] < 0.1, last
    assert scores["landmarks_nme"] < 0.045, scores
    assert scores["parsing_f1"] > 0.75, scores
    # Below 1 year or near 8, by the CPU's rounding; ages that were not learned are off by more than 15.
    assert scores["age_mae"] < 12.0, scores
    assert scores["attributes_accuracy"] > 0.99, scores
    assert scores["expression_accuracy"] == 1.0, scores


def tied(face: LabelledFace) -> bool:
    """Whether two expressions share the most votes."""
    votes = np.sort(face.labels.get("expression_votes", np.array([0, 1])))
    return bool(votes[-1] == votes[-2])
