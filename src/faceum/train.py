"""Layer 5. A recipe's RunConfig in; a folder with checkpoints, metrics and the trained network out."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from faceum.data.corpus import LabelledFace, read_corpus
from faceum.data.mixture import Batch, Mixture, Share
from faceum.files import whole_file, write_text
from faceum.losses import (
    Distillation,
    age_loss,
    attribute_loss,
    balance_experts,
    expression_loss,
    landmark_loss,
    parsing_loss,
    relation_loss,
    routing_losses,
)
from faceum.model.network import FaceUM, FaceUMConfig, Output
from faceum.model.router import FaceRouter
from faceum.optim import MovingAverage, build_optimizer, learning_rate
from faceum.tasks import PARSING_CLASSES, TASKS


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run.

    network: what is trained. data: the corpus folder. out: where the run is written.
    shares: source -> how it takes part in every batch. task_weights: alpha_t of the total
    sum(alpha_t L_t) / sum(alpha_t). relation: weight of relation_loss inside the recognition loss.
    switch, z, mutual_information: weights of the router's losses. balance: step of the expert biases.
    steps, warmup, lr, weight_decay, clip: see optim. ema: decay of the moving average.
    precision: "float32" or "bfloat16" (autocast). workers: processes that make batches.
    save_every, log_every: steps between checkpoints, and between rows of metrics.
    seed: of weights, order and augmentation.
    """

    network: FaceUMConfig
    data: str
    out: str
    shares: dict[str, Share]
    task_weights: dict[str, float] = field(default_factory=dict)
    relation: float = 2.0
    switch: float = 0.01
    z: float = 1e-4
    mutual_information: float = 0.005
    balance: float = 1e-3
    steps: int = 20_000
    warmup: int = 500
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    clip: float = 5.0
    ema: float = 0.9995
    precision: str = "float32"
    workers: int = 1
    save_every: int = 1000
    log_every: int = 50
    seed: int = 0


class Trainer:
    """Everything that a run changes, and the step that changes it."""

    def __init__(self, config: RunConfig, faces: dict[str, list[LabelledFace]]) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = FaceUM(config.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.distillation = Distillation()
        self.average = MovingAverage(self.network, config.ema)
        self.optimizer = build_optimizer(
            self.network, self.distillation, lr=config.lr, weight_decay=config.weight_decay
        )
        self.parsing_weight_C = class_weights(faces)
        self.step = 0

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update; returns every loss."""
        config = self.config
        rate = learning_rate(self.step, peak=config.lr, warmup=config.warmup, steps=config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crop_BCHW = batch.crop_BCHW.float().div_(255).contiguous(memory_format=torch.channels_last)
        tasks = tuple(batch.wanted)
        wanted_TB = torch.stack([batch.wanted[task] for task in tasks])
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")
        # The flash kernel's backward pass on a CPU is several times slower than plain matmuls here.
        with autocast, sdpa_kernel(SDPBackend.MATH):
            output = self.network(crop_BCHW, batch.face_mask_BN, tasks, wanted_TB)
        losses = self._losses(output, batch)
        total = self._total(losses)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [*self.network.parameters(), *self.distillation.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        self.optimizer.step()
        # A dense twin has no router, and the published one no bias.
        routers = [module for module in self.network.modules() if isinstance(module, FaceRouter)]
        for router, choice in zip(routers, output.routing, strict=bool(routers)):
            balance_experts(router.bias, choice.load_TRE, config.balance)
        self.average.update(self.network)
        self.step += 1
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        return {**values, "total": float(total.detach()), "gradient_norm": float(norm), "lr": rate}

    def _losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        by_kind: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "embedding": self._recognition_loss,
            "number": age_loss,
            "labels": attribute_loss,
            "classes": expression_loss,
            "pixels": lambda answer, label: parsing_loss(answer, label, self.parsing_weight_C),
            "points": lambda answer, label: landmark_loss(
                answer, label, batch.eye_distance, batch.landmark_weight
            ),
        }
        losses = {task: by_kind[TASKS[task].kind](output[task], batch.labels[task]) for task in output}
        return {**losses, **routing_losses(output.routing)}

    def _recognition_loss(self, embedding_BD: Tensor, teacher_BV: Tensor) -> Tensor:
        relation = relation_loss(embedding_BD, teacher_BV)
        return self.distillation(embedding_BD, teacher_BV) + self.config.relation * relation

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        config = self.config
        tasks = [task for task in TASKS if task in losses]
        weight = {task: config.task_weights.get(task, 1.0) for task in tasks}
        total = sum((weight[task] * losses[task] for task in tasks), torch.zeros(()))
        total = total / sum(weight.values())
        for name in ("switch", "z", "mutual_information"):
            if name in losses:
                total = total + getattr(config, name) * losses[name]
        return total

    def state_dict(self) -> dict[str, object]:
        """All that resuming needs; batches depend on the step alone."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "distillation": self.distillation.state_dict(),
            "average": self.average.state,
            "average_updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """The inverse of state_dict."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.distillation.load_state_dict(state["distillation"])
        self.average.state = state["average"]
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])


def class_weights(faces: dict[str, list[LabelledFace]]) -> Tensor:
    """Weight of each parsing class: the square root of median frequency over its own, within 0.5..4."""
    counts = np.zeros(len(PARSING_CLASSES))
    for face in (face for source in faces.values() for face in source if "parsing" in face.labels):
        counts += np.bincount(face.labels["parsing"].ravel(), minlength=len(counts))
    if not counts.any():
        return torch.ones(len(counts))
    return torch.from_numpy(np.sqrt(np.median(counts) / counts.clip(1)).clip(0.5, 4)).float()


def train(config: RunConfig) -> FaceUM:
    """Run or resume; returns the network with the averaged weights."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    faces = read_corpus(config.data, tuple(config.shares), "train")
    trainer = Trainer(config, faces)
    latest = out / "latest.pt"
    if latest.exists():
        trainer.load_state_dict(torch.load(latest, weights_only=True))
    spec = config.network.crops[0][0]
    mixture = Mixture(faces, config.shares, spec=spec, seed=config.seed, batches=config.steps)
    _forget_later_rows(out / "metrics.jsonl", trainer.step)
    with open(out / "metrics.jsonl", "a", encoding="utf-8") as log:
        started, first = time.time(), trainer.step
        for batch in batches(mixture, range(trainer.step, config.steps), config.workers):
            losses = trainer.train_step(batch)
            if trainer.step % config.log_every == 0:
                per_second = (trainer.step - first) * len(batch.crop_BCHW) / (time.time() - started)
                row = {"step": trainer.step, "seconds": round(time.time() - started, 1), **losses}
                log.write(json.dumps({**row, "pictures_per_second": per_second}) + "\n")
                log.flush()
            if trainer.step % config.save_every == 0 or trainer.step == config.steps:
                save_state(latest, trainer.state_dict())
    trainer.network.load_state_dict(trainer.average.state)
    return trainer.network.eval()


def _forget_later_rows(log: Path, step: int) -> None:
    """Leave out what a cut run logged after its last checkpoint; the resumed run logs it again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        write_text(log, "".join(line for line in whole if json.loads(line)["step"] <= step))


def batches(mixture: Mixture, order: Iterable[int], workers: int) -> Iterator[Batch]:
    """The mixture's batches in the given order, made by worker processes."""
    loader = DataLoader(
        mixture,
        batch_size=None,
        sampler=list(order),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        # The loader draws a seed when it starts; from torch's own generator that would shift the dropout
        # of a resumed run against the uninterrupted one.
        generator=torch.Generator(),
    )
    # A forked worker inherits OpenCV's pool without its threads and would wait for them for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    stream = iter(loader)
    cv2.setNumThreads(threads)
    return stream


def save_state(path: Path, state: dict[str, object]) -> None:
    """torch.save that leaves the old file whole where it is cut short."""
    with whole_file(path) as beside:
        torch.save(state, beside)


def describe(config: RunConfig) -> dict[str, object]:
    """The run as plain values, for its folder and the weights' header."""
    return dataclasses.asdict(config)
