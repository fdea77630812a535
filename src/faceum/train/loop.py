"""A recipe's RunConfig in; the loop that begins or resumes its run; the averaged network out."""

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
from faceum.data.sources import Data, read_sources
from faceum.datasets.registry import read_dataset
from faceum.errors import RecipeError
from faceum.model.checkpoint import save_checkpoint
from faceum.model.network import FaceUM
from faceum.tasks import TASKS
from faceum.train.checkpoints import Checkpoints
from faceum.train.config import RunConfig
from faceum.train.distributed import rank, wait_for_all, world
from faceum.train.logger import Journal
from faceum.train.provenance import require_same_recipe, write_run
from faceum.train.trainer import Trainer
from faceum.train.validate import HeldOut

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
"""The norms that look at several faces at once."""

Validate = Callable[[FaceUM], dict[str, float]]
"""A network in, numbers out; "score" among them, the higher the better."""


def train(config: RunConfig, validate: Validate | None = None) -> FaceUM:
    """Begin the run, or go on where its folder says it stopped; returns the network that it writes.

    validate: in place of the losses and metrics on the recipe's held-out split. The folder then holds
    run.json, skipped.txt, metrics.jsonl, checkpoints/, network.safetensors and, where there is validation,
    best.safetensors. RecipeError where a run that goes on was begun with other settings, but for MAY_CHANGE.
    """
    out = Path(config.out)
    checkpoints = Checkpoints(out / "checkpoints", keep=config.keep_checkpoints)
    if checkpoints.steps():
        require_same_recipe(out, config)
    data = read_data(config)
    trainer = Trainer(config, data.faces, data.people)
    parts = stream(config, trainer.network, data)
    require_faces_for_norms(parts, trainer.network, data)
    told: list[str] = []
    state = checkpoints.load(told.append)
    best = -float("inf")
    if state is not None:
        best = state.pop("best", best)
        trainer.load_state_dict(state)
    first = rank() == 0
    record = write_run(out, config, data, step=trainer.step) if first else {}
    if config.validate_every and validate is None:
        validate = held_out(config, trainer)
    with Journal(
        out, steps=config.steps, start=trainer.step, tensorboard=config.tensorboard, quiet=not first
    ) as journal:
        for sentence in [*told, *data.skipped[:20]]:
            journal.say(sentence)
        for values in _steps(trainer, parts, config):
            step = trainer.step
            journal.advance(step)
            if step % config.log_every == 0:
                journal.write(step, {name: float(value) for name, value in values.items()})
            if validate is not None and config.validate_every and step % config.validate_every == 0:
                numbers = validate(trainer.averaged())
                journal.write(step, numbers, "validation")
                if numbers["score"] > best and first:
                    save_network(out / "best.safetensors", trainer, record, numbers)
                best = max(best, numbers["score"])
            if step % config.save_every == 0 or step == config.steps:
                state = {**trainer.state_dict(), "best": best}
                if first:
                    checkpoints.save(state)
    if first:
        save_network(out / "network.safetensors", trainer, record)
    wait_for_all(trainer.device)
    return trainer.finished()


def read_data(config: RunConfig) -> Data:
    """The faces that the recipe's shares name."""
    return read_sources(
        config.sources,
        config.data,
        read_dataset,
        refuse=config.wrong_labels == "refuse",
        people=config.margin is not None,
        apart_from=config.held_out if config.apart else None,
    )


def held_out(config: RunConfig, trainer: Trainer) -> Validate | None:
    """Validation on the recipe's held-out split; None where it has none."""
    if config.held_out is None:
        return None
    data = read_sources(
        config.sources,
        config.data,
        read_dataset,
        split=config.held_out,
        most=config.held_out_faces,
        people=True,
    )
    numbers = HeldOut(config, data, trainer.network, trainer.objective.parsing_weight_C.cpu())
    return lambda network: numbers(network, trainer.objective.distillation.state_dict())


def stream(config: RunConfig, network: FaceUM, data: Data) -> PolicyBatches:
    """The run's batches by number, this rank's share of each; a part a crop policy that has a task."""
    mixtures = []
    for spec, tasks in network.config.crops:
        asked = [task for task in tasks if task in network.config.tasks]
        if any(set(share.tasks) & set(asked) for share in config.sources.values()):
            mixtures.append(
                MixtureDataset(
                    data.faces,
                    config.sources,
                    spec=spec,
                    seed=config.seed,
                    batches=config.steps * config.accumulate,
                    tasks=asked,
                    ranks=(rank(), world()),
                )
            )
    return PolicyBatches(mixtures)


def require_faces_for_norms(parts: PolicyBatches, network: FaceUM, data: Data) -> None:
    """RecipeError where a batch gives some rank too few faces for a head that has BatchNorms.

    Each rank needs two of a task, or one where ranks share the statistics (see share_norms).
    """
    for mixture in parts.datasets:
        for task in network.config.tasks:
            norms = [module for module in network.heads[task].modules() if isinstance(module, NORMS)]
            counts = faces_of_ranks(mixture, task, data)
            least = 1 if any(isinstance(norm, nn.SyncBatchNorm) for norm in norms) else 2
            if norms and max(counts) > 0 and min(counts) < least:
                raise RecipeError(
                    f"A batch has {sum(counts):.4g} faces for {task}, so that one of {len(counts)} processes "
                    f"gets {min(counts):.4g}, and the BatchNorms of that head need {least} in each; raise "
                    "the count of a share that teaches it, or start fewer processes."
                )


def faces_of_ranks(mixture: MixtureDataset, task: str, data: Data) -> list[float]:
    """How many faces of a batch each rank gets a task's label with.

    A source where only some faces have it counts with what its batches have on average.
    """
    counts, seen = [0.0] * mixture.ranks[1], 0
    for source, share in mixture.sources.items():
        known = data.fingerprint.get(source, {})
        labelled = max(known.get(label, 0) for label in TASKS[task].label_columns) / known.get("faces", 1)
        for _ in range(share.batch_size if mixture.tasks[source] else 0):
            counts[seen % len(counts)] += labelled if task in mixture.tasks[source] else 0
            seen += 1
    return counts


def batches(dataset: Dataset[Any], order: Iterable[int], workers: int, *, pin: bool = False) -> Iterator[Any]:
    """The dataset's batches in the given order, made by worker processes; pin: for a GPU to fetch."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(order),
        num_workers=workers,
        # A batch in flight costs some twenty open files, of which a process may often have 1,024.
        prefetch_factor=max(2, 16 // workers) if workers else None,
        pin_memory=pin,
        # The loader draws a seed when it starts; not from torch's own generator, which is others' to use.
        generator=torch.Generator(),
    )
    # A forked worker inherits OpenCV's pool without its threads and would wait for them for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    stream = iter(loader)
    cv2.setNumThreads(threads)
    return stream


def _steps(trainer: Trainer, stream: PolicyBatches, config: RunConfig) -> Iterator[dict[str, Tensor | float]]:
    """Take the steps that are left; each one's losses, and how many images a second all ranks take."""
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
    path: Path, trainer: Trainer, record: dict[str, Any], numbers: dict[str, float] | None = None
) -> None:
    """The averaged network as a file that everything else of the package takes, in full precision."""
    header = {
        "provenance": {**{k: v for k, v in record.items() if k != "earlier"}, "step": trainer.step},
        "scores": {"validation": numbers} if numbers else {},
        "licence": "that of the data it learned from; see run.json",
    }
    save_checkpoint(path, trainer.finished(), header, dtype=torch.float32)
