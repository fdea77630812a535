"""The training loop: begin or resume the run of a RunConfig."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from faceum.data.mixture import Batch, MixtureDataset, PolicyBatches
from faceum.data.sources import Data, has_split, read_sources
from faceum.datasets.registry import read_dataset
from faceum.errors import RecipeError, count_noun
from faceum.model.checkpoint import save_checkpoint
from faceum.model.network import FaceUM
from faceum.tasks import TASKS
from faceum.train.checkpoints import Checkpoints
from faceum.train.config import RunConfig
from faceum.train.distributed import rank, wait_for_all, world
from faceum.train.logger import RunLogger
from faceum.train.provenance import require_same_recipe, write_run
from faceum.train.trainer import Trainer
from faceum.train.validate import HeldOut

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
"""Norms whose statistics are over several faces."""

Validate = Callable[[FaceUM], dict[str, float]]
"""Function from a network to its numbers, with "score", the higher the better."""


def train(config: RunConfig, validate: Validate | None = None) -> FaceUM:
    """Begin the run, or resume from its output folder; return the network that it writes.

    validate: replaces the losses and metrics on the recipe's held-out split.
    The folder gets run.json, skipped.txt, metrics.jsonl, checkpoints/, network.safetensors and, with
    validation, best.safetensors. Raises RecipeError if a resumed run was begun with other settings, except
    those in MAY_CHANGE.
    """
    out = Path(config.out)
    checkpoints = Checkpoints(out / "checkpoints", keep=config.keep_checkpoints)
    if checkpoints.steps():
        require_same_recipe(out, config)
    data = read_data(config)
    trainer = Trainer(config, data.faces, data.people)
    parts = stream(config, trainer.network, data)
    require_faces_for_norms(parts, trainer.network, data)
    messages: list[str] = []
    state = checkpoints.load(trainer, messages.append)
    best = -float("inf")
    if state is not None:
        best = state.get("best", best)
    elif config.fit_projection:
        cosine = trainer.fit_projection(data.faces)
        messages.append(f"The teacher's projection was fitted; its mean cosine is {cosine:.3f}.")
    first = rank() == 0
    record = write_run(out, config, data, step=trainer.step) if first else {}
    if config.validate_every and validate is None:
        validate = build_validation(config, trainer)
    with RunLogger(
        out, steps=config.steps, start=trainer.step, tensorboard=config.tensorboard, quiet=not first
    ) as logger:
        for sentence in [*messages, *data.skipped[:20]]:
            logger.say(sentence)
        for values in _steps(trainer, parts, config):
            step = trainer.step
            logger.advance(step)
            if step % config.log_every == 0:
                logger.write(step, {name: float(value) for name, value in values.items()})
            if validate is not None and config.validate_every and step % config.validate_every == 0:
                numbers = validate(trainer.average_network())
                logger.write(step, numbers, "validation")
                network = trainer.finish_network()
                if numbers["score"] > best and first:
                    save_network(out / "best.safetensors", network, record, step, numbers)
                best = max(best, numbers["score"])
            if step % config.save_every == 0 or step == config.steps:
                checkpoints.save(step, trainer, best=best)
    network = trainer.finish_network()
    if first:
        save_network(out / "network.safetensors", network, record, trainer.step)
    wait_for_all(trainer.device)
    return network


def read_data(config: RunConfig) -> Data:
    """Read the faces of the recipe's sources."""
    return read_sources(
        config.sources,
        config.data,
        read_dataset,
        refuse=config.wrong_labels == "refuse",
        people=config.margin is not None,
        apart_from=config.held_out if config.apart else None,
    )


def build_validation(config: RunConfig, trainer: Trainer) -> Validate | None:
    """Return validation on the held-out split of the sources that have one; None if none has."""
    sources = {
        source: settings
        for source, settings in config.sources.items()
        if config.held_out is not None and has_split(source, settings, config.data, config.held_out)
    }
    if not sources:
        return None
    data = read_sources(
        sources,
        config.data,
        read_dataset,
        split=config.held_out,
        most=config.held_out_faces,
        people=True,
    )
    numbers = HeldOut(config, data, trainer.network, trainer.objective.parsing_weight_C.cpu())
    return lambda network: numbers(network, trainer.objective.distillation.state_dict())


def stream(config: RunConfig, network: FaceUM, data: Data) -> PolicyBatches:
    """Return this rank's part of each batch of the run, with an entry per crop policy that has a task."""
    datasets = []
    for spec, tasks in network.config.crops:
        answered = [task for task in tasks if task in network.config.tasks]
        if any(set(settings.tasks) & set(answered) for settings in config.sources.values()):
            datasets.append(
                MixtureDataset(
                    data.faces,
                    config.sources,
                    spec=spec,
                    seed=config.seed,
                    batches=config.steps * config.accumulate,
                    tasks=answered,
                    ranks=(rank(), world()),
                )
            )
    return PolicyBatches(datasets)


def require_faces_for_norms(parts: PolicyBatches, network: FaceUM, data: Data) -> None:
    """Raise RecipeError if a rank gets too few faces of a batch for a head with BatchNorms.

    A rank needs two faces of a task, or one if ranks share the statistics (see share_norms).
    """
    for dataset in parts.datasets:
        for task in network.config.tasks:
            norms = [module for module in network.heads[task].modules() if isinstance(module, NORMS)]
            counts = faces_of_ranks(dataset, task, data)
            least = 1 if any(isinstance(norm, nn.SyncBatchNorm) for norm in norms) else 2
            if norms and max(counts) > 0 and min(counts) < least:
                raise RecipeError(
                    f"The BatchNorms of the head of {task} need {count_noun(least, 'face')} in every "
                    f"process; of {sum(counts):.4g} in a batch, one process gets {min(counts):.4g}. Raise "
                    "the batch_size of one of its sources, or start fewer processes."
                )


def faces_of_ranks(dataset: MixtureDataset, task: str, data: Data) -> list[float]:
    """Return each rank's number of faces with a task's label in a batch.

    A source in which only some faces have the label counts with its average.
    """
    counts, seen = [0.0] * dataset.ranks[1], 0
    for source, settings in dataset.sources.items():
        known = data.fingerprint.get(source, {})
        labelled = max(known.get(label, 0) for label in TASKS[task].label_columns) / known.get("faces", 1)
        for _ in range(settings.batch_size if dataset.tasks[source] else 0):
            counts[seen % len(counts)] += labelled if task in dataset.tasks[source] else 0
            seen += 1
    return counts


def batches(dataset: Dataset[Any], order: Iterable[int], workers: int, *, pin: bool = False) -> Iterator[Any]:
    """Return the dataset's batches in the given order, from worker processes; pin: use pinned memory."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(order),
        num_workers=workers,
        # A prefetched batch needs about 20 open files, and processes are often limited to 1,024.
        prefetch_factor=max(2, 16 // workers) if workers else None,
        pin_memory=pin,
        # The loader draws a seed when it starts, which must not change torch's default generator.
        generator=torch.Generator(),
    )
    # A forked worker inherits OpenCV's thread pool without its threads, and would wait for them forever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    stream = iter(loader)
    cv2.setNumThreads(threads)
    return stream


def _steps(trainer: Trainer, stream: PolicyBatches, config: RunConfig) -> Iterator[dict[str, Tensor | float]]:
    """Take the remaining steps; yield each one's losses, and the images per second of all ranks."""
    numbers = range(trainer.step * config.accumulate, config.steps * config.accumulate)
    gathered: list[tuple[Batch, ...]] = []
    began, images = time.time(), 0
    for parts in batches(stream, numbers, config.workers, pin=trainer.device.type == "cuda"):
        gathered.append(parts)
        images += world() * sum(len(part.crop_BCHW) for part in parts)
        if len(gathered) == config.accumulate:
            values = trainer.train_step(gathered)
            gathered = []
            yield {**values, "images_per_second": round(images / (time.time() - began), 2)}


def save_network(
    path: Path, network: FaceUM, record: dict[str, Any], step: int, numbers: dict[str, float] | None = None
) -> None:
    """Write the network of a run's step as a checkpoint in full precision."""
    header = {
        "provenance": {**{k: v for k, v in record.items() if k != "earlier"}, "step": step},
        "scores": {"validation": numbers} if numbers else {},
        "licence": "that of the data it learned from; see run.json",
    }
    save_checkpoint(path, network, header, dtype=torch.float32)
