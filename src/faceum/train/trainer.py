"""Trainer: the state of a run, and one training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from faceum.data.augment import NO_AUGMENTATION, augment
from faceum.data.face import LabelledFace
from faceum.data.mixture import Batch, collate, with_tasks
from faceum.errors import ModelError, RecipeError
from faceum.model.checkpoint import load_checkpoint
from faceum.model.growth import load_grown
from faceum.model.heads import EmbeddingHead
from faceum.model.network import FaceUM
from faceum.model.router import FaceRouter
from faceum.tasks import EXPRESSIONS, PARSING_CLASSES, TASKS
from faceum.train.config import RunConfig
from faceum.train.distributed import (
    average_gradients,
    local_rank,
    rank,
    rows_of_ranks,
    same_on_every_rank,
    shard_modules,
    sum_over_ranks,
    whole_tensor,
    world,
)
from faceum.train.losses import balance_experts
from faceum.train.objective import Objective
from faceum.train.optim import (
    MovingAverage,
    build_centre_optimizer,
    build_optimizer,
    clip_gradients,
    learning_rate,
    optimizer_tensors,
    share_overflow,
)
from faceum.train.partial_fc import PartialFC, share_of_rank
from faceum.weights.registry import resolve_model

COUNTED_LABELS = 1000
"""Number of parsing labels per source that are counted for the class weights."""

COUNTED_VOTES = 8000
"""Number of faces per source that are counted for the frequency of expressions."""

FITTED = 64
"""Faces per batch when the projection is fitted."""


class Trainer:
    """The network, its moving average, the losses' parameters, the optimizers, and the step number.

    A step depends only on this state, the batch, and (seed, step, rank).
    """

    def __init__(
        self, config: RunConfig, faces: Mapping[str, Sequence[LabelledFace]], people: int = 0
    ) -> None:
        """faces: for the frequencies of parsing classes and expressions. people: number of identities of the
        margin loss.
        """
        torch.manual_seed(config.seed)
        self.config = config
        self.device = choose_device(config)
        self.network = build_network(config).to(self.device)
        share_norms(self.network, self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.trunk.recompute = config.recompute
        shares = expression_shares(faces) if config.logit_adjustment else None
        self.objective = Objective(config, class_weights(faces), shares).to(self.device)
        self.partial_fc: PartialFC | None = None
        if config.margin is not None and people:
            self.partial_fc = PartialFC(config.margin, num_identities=people, seed=config.seed).to(
                self.device
            )
        same_on_every_rank([*self.network.state_dict().values(), *self.objective.state_dict().values()])
        if config.shard == "blocks":
            blocks = [*self.network.trunk.blocks, *self.network.moe_blocks]
            shard_modules(self.network, blocks, self.device)
        rates: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        self.optimizer = build_optimizer(
            self.network, self.objective, encoder_lr=config.encoder_lr, kind=config.optimizer, **rates
        )
        self.partial_fc_optimizer = (
            build_centre_optimizer(self.partial_fc, **rates) if self.partial_fc else None
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.average = MovingAverage(self.network, config.ema)
        self.forward = torch.compile(self.network) if config.compile else self.network
        self.step = 0

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizer of what all ranks share, and that of the class centres if there are any."""
        return [self.optimizer, *([self.partial_fc_optimizer] if self.partial_fc_optimizer else [])]

    def fit_projection(self, faces: Mapping[str, Sequence[LabelledFace]]) -> float:
        """Fit the teacher's projection to what the network knows already; return the mean cosine after it.

        If the run folds the projection into the embedding at its end, this also folds it now, so that the
        embedding has the teacher's geometry from the first step on. Raises RecipeError if no face has a
        teacher's embedding.
        """
        config, network = self.config, self.average_network()
        embeddings, teachers = [], []
        for batch in read_taught_batches(config, network, faces):
            here = batch.to(self.device)
            with torch.no_grad():
                output = network(here.crop_BCHW.float() / 255, here.face_tokens_BN, ("recognition",))
            embeddings.append(output["recognition"])
            teachers.append(here.labels["recognition"])
        if not embeddings:
            raise RecipeError(
                "No face has a teacher's embedding to fit the projection to; leave out fit_projection."
            )
        distillation = self.objective.distillation
        cosine = distillation.fit(torch.cat(embeddings), torch.cat(teachers))
        if config.fold_projection:
            distillation.fold_into(embedding_head(self.network))
        same_on_every_rank([*self.network.state_dict().values(), *self.objective.state_dict().values()])
        self.average = MovingAverage(self.network, config.ema)
        return cosine

    def train_step(self, batches: Sequence[tuple[Batch, ...]]) -> dict[str, Tensor | float]:
        """Update the weights from one or more accumulated batches, and return every loss.

        A batch has one part per crop policy. Values stay on the run's device, so that a step does not wait
        for the GPU.
        """
        config = self.config
        torch.manual_seed((config.seed * 1_000_003 + self.step) * 4099 + rank())
        self._set_modes()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(
                    self.step, peak=group["peak"], warmup=config.warmup, steps=config.steps
                )
        routers = [module for module in self.network.modules() if isinstance(module, FaceRouter)]
        loads = [torch.zeros((), dtype=torch.long, device=self.device)] * len(routers)
        values: dict[str, Tensor] = {}
        for parts in batches:
            loads = self._add_gradients(parts, 1 / len(batches), values, loads)
        norm = self._update()
        if config.learn == "all":
            for router, load_TRE in zip(routers, loads, strict=True):
                balance_experts(router.bias, load_TRE, config.bias_step)
        self.average.update(self.network)
        rate = self.optimizer.param_groups[-1]["lr"]
        self.step += 1
        return {**values, "gradient_norm": norm, "lr": rate}

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Sequence[Any]]:
        """Return every loss of one part, with its gradient, and the routing of each MoE block."""
        batch = batch.to(self.device)
        crop_BCHW = batch.crop_BCHW.float().div_(255).contiguous(memory_format=torch.channels_last)
        tasks = tuple(batch.has_label)
        has_label_TB = torch.stack([batch.has_label[task] for task in tasks])
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.config.precision)
        autocast = torch.autocast(self.device.type, half, enabled=half is not None)
        with autocast:
            output = self.forward(crop_BCHW, batch.face_tokens_BN, tasks, has_label_TB)
        return self.objective(output, batch, self.partial_fc, self.step), output.routing

    def _add_gradients(
        self,
        parts: tuple[Batch, ...],
        weight: float,
        values: dict[str, Tensor],
        loads: list[Tensor],
    ) -> list[Tensor]:
        """Run the backward passes of one batch; add its losses to `values` and return the increased loads."""
        part_tasks = [tasks_of_all_ranks(part, self.device) for part in parts]
        tasks = [task for names in part_tasks for task in names]
        for part, names in zip(parts, part_tasks, strict=True):
            if not names:
                continue
            # On a CPU the flash kernel's backward pass is several times slower than plain matrix products.
            with sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext():
                losses, routing = self.losses(with_tasks(part, names))
                total = self.objective.total(losses, tasks, len(parts))
                self.scaler.scale(total * weight).backward()
            for name, loss in {**losses, "total": total}.items():
                values[name] = values.get(name, 0.0) + weight * loss.detach()
            if routing:
                loads = [load + chosen.load_TRE for load, chosen in zip(loads, routing, strict=False)]
        return loads

    def _update(self) -> Tensor:
        """Average, clip and apply the gradients; return their norm before the clipping."""
        shared = [one for module in (self.network, self.objective) for one in module.parameters()]
        average_gradients(shared)
        if self.partial_fc is not None:
            self.partial_fc.correct_gradients()
        moved = [one for one in self.optimizers if any(p.grad is not None for p in _parameters(one))]
        if self.scaler.is_enabled():
            share_overflow(moved)
        for optimizer in moved:
            self.scaler.unscale_(optimizer)
        sharded = [one for one in shared if isinstance(one, DTensor)]
        whole = [one for one in shared if not isinstance(one, DTensor)]
        centres = list(self.partial_fc.parameters()) if self.partial_fc is not None else []
        norm = clip_gradients(whole, [*sharded, *centres], self.config.grad_clip)
        for optimizer in moved:
            self.scaler.step(optimizer)
        self.scaler.update()
        return norm

    def _set_modes(self) -> None:
        self.network.train()
        if self.config.learn == "heads":
            self.network.trunk.eval()
            self.network.moe_blocks.eval()

    def average_network(self) -> FaceUM:
        """Return a whole copy of the network with the averaged weights, in evaluation mode.

        All ranks must call it.
        """
        network = FaceUM(self.network.config).to(self.device)
        network.load_state_dict({name: whole_tensor(value) for name, value in self.average.state.items()})
        return network.eval()

    def finish_network(self) -> FaceUM:
        """Return the network that the run writes: averaged, with the projection folded in if requested.

        All ranks must call it.
        """
        network = self.average_network()
        if self.config.fold_projection:
            embedding_head(network).transform(self.objective.distillation.root())
        return network

    def tensors(self) -> dict[str, Tensor]:
        """Return the live tensors of the state to resume from; batches and dropout depend on the step.

        What each rank has a part of is a DTensor.
        """
        modules = {"network": self.network, "objective": self.objective}
        names = {
            one: f"{part}.{name}"
            for part, module in modules.items()
            for name, one in module.named_parameters()
        }
        tensors = {
            f"{part}.{name}": value.detach()
            for part, module in modules.items()
            for name, value in module.state_dict().items()
        }
        tensors |= {f"average.{name}": value for name, value in self.average.state.items()}
        moments = optimizer_tensors(self.optimizer, names)
        tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
        if self.partial_fc is not None and self.partial_fc_optimizer is not None:
            weight = self.partial_fc.weight
            rows = {"weight": weight.detach(), **optimizer_tensors(self.partial_fc_optimizer, {weight: ""})}
            for name, value in rows.items():
                shared = rows_of_ranks(value, self.partial_fc.num_identities) if value.dim() else value
                tensors[f"partial_fc.{name.lstrip('.')}"] = shared
        return tensors

    def numbers(self) -> dict[str, Any]:
        """Return the state that is not in tensors, ready for JSON."""
        numbers = {"average_updates": self.average.updates, "scaler": self.scaler.state_dict()}
        if self.partial_fc is not None and self.partial_fc.sparse:
            assert self.partial_fc_optimizer is not None
            numbers["partial_fc_step"] = self.partial_fc_optimizer.state[self.partial_fc.weight]["step"]
        return numbers

    def load_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Take over a state's step and what `numbers` returned; the tensors are loaded already."""
        self.step = numbers["step"]
        self.average.updates = numbers["average_updates"]
        self.scaler.load_state_dict(numbers["scaler"])
        if self.partial_fc is not None and self.partial_fc.sparse:
            assert self.partial_fc_optimizer is not None
            self.partial_fc_optimizer.state[self.partial_fc.weight]["step"] = numbers["partial_fc_step"]

    def load_single_file(self, state: Mapping[str, Any]) -> None:
        """Load a whole state of an older version, from any number of ranks.

        Raises RecipeError if this run shards its blocks.
        """
        if any(isinstance(one, DTensor) for one in self.network.parameters()):
            raise RecipeError(
                "The checkpoint is of an older version, which shard=blocks cannot resume; resume with "
                "shard=none until the next checkpoint is written."
            )
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.average.state = {name: value.to(self.device) for name, value in state["average"].items()}
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.partial_fc is not None and self.partial_fc_optimizer is not None:
            first, end = share_of_rank(self.partial_fc.num_identities)
            saved = {name: value.to(self.device) for name, value in state["partial_fc"].items()}
            with torch.no_grad():
                self.partial_fc.weight.copy_(saved["weight"][first:end])
            moments = {name: saved[name][first:end].clone() for name in ("exp_avg", "exp_avg_sq")}
            step = int(saved["step"]) if self.partial_fc.sparse else saved["step"].cpu().clone()
            self.partial_fc_optimizer.state[self.partial_fc.weight] = {"step": step, **moments}


def embedding_head(network: FaceUM) -> EmbeddingHead:
    """Return the recognition head that a projection can be folded into; RecipeError if there is none."""
    head = network.heads["recognition"] if "recognition" in network.config.tasks else None
    if not isinstance(head, EmbeddingHead):
        raise RecipeError(
            "fold_projection=true needs a recognition head that ends in a linear layer, which "
            f"{network.config.name} does not have; leave fold_projection out."
        )
    return head


def read_taught_batches(
    config: RunConfig, network: FaceUM, faces: Mapping[str, Sequence[LabelledFace]]
) -> Iterator[Batch]:
    """Yield unchanged faces with a teacher's embedding, at most `config.fit_projection`, drawn from all."""
    sources = [source for source, settings in config.sources.items() if "recognition" in settings.tasks]
    places = [(source, place) for source in sources for place in range(len(faces[source]))]
    spec = network.config.crop_of("recognition")
    rng = np.random.default_rng(config.seed)
    crops = []
    for number in rng.permutation(len(places)):
        source, place = places[number]
        face = faces[source][place]
        if "embedding" in face.labels:
            crops.append(augment(face, spec, NO_AUGMENTATION, rng))
        if len(crops) == config.fit_projection:
            break
    for start in range(0, len(crops), FITTED):
        yield collate(crops[start : start + FITTED])


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def choose_device(config: RunConfig) -> torch.device:
    """Return the recipe's device; raises RecipeError if it is not available."""
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise RecipeError("The recipe has device=cuda, and torch finds no GPU; use device=cpu.")
    if config.device == "cpu" or not cuda:
        if config.precision == "float16":
            raise RecipeError("float16 trains on a GPU only; use precision=float32 or precision=bfloat16.")
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if local_rank() >= there:
        raise RecipeError(
            f"This is process {local_rank() + 1} of its machine, which has {there} GPUs; start at most "
            f"{there} there, or use device=cpu."
        )
    if world() > 1:
        torch.cuda.set_device(local_rank())
    return torch.device("cuda", torch.cuda.current_device())


def share_norms(network: nn.Module, device: torch.device) -> None:
    """Make BatchNorms use all ranks' faces on GPUs, without new names; torch has no such norm for a CPU."""
    if world() > 1 and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)


def build_network(config: RunConfig) -> FaceUM:
    """Build the network that a run starts from, initialized or with the `initial` weights."""
    if config.initial is None:
        assert config.network is not None, "RunConfig requires network or initial"
        network = FaceUM(config.network)
    else:
        initial, _ = load_checkpoint(resolve_model(config.initial, "safetensors"))
        network = FaceUM(config.network or initial.config)
        try:
            load_grown(network, initial.state_dict())
        except ModelError as error:
            raise RecipeError(
                f"The weights {config.initial} do not fit the recipe's network. {error} Leave out `network` "
                "to take theirs, or change nothing in it but to add residual and dense blocks."
            ) from error
    if config.learn == "heads":
        network.trunk.requires_grad_(False)
        network.moe_blocks.requires_grad_(False)
    return network


def tasks_of_all_ranks(batch: Batch, device: torch.device) -> list[str]:
    """Return the tasks that some rank has a label for, in order; device: that of the run."""
    if world() == 1:
        return list(batch.has_label)
    have = sum_over_ranks(torch.tensor([float(task in batch.has_label) for task in TASKS], device=device))
    return [task for task, ranks in zip(TASKS, have.tolist(), strict=True) if ranks]


def expression_shares(faces: Mapping[str, Sequence[LabelledFace]]) -> Tensor | None:
    """Return each expression's share of the votes, at least 0.001; None if no face has votes."""
    total_C = np.zeros(len(EXPRESSIONS))
    for source in faces.values():
        if not len(source) or "expression_votes" not in source[0].labels:
            continue  # indexing may decode an image, so the labels of the first face stand for the source
        for place in range(0, len(source), max(len(source) // COUNTED_VOTES, 1)):
            votes_C = source[place].labels.get("expression_votes", np.zeros(len(EXPRESSIONS)))
            total_C += votes_C / max(votes_C.sum(), 1)
    return torch.from_numpy((total_C / total_C.sum()).clip(1e-3)).float() if total_C.any() else None


def class_weights(faces: Mapping[str, Sequence[LabelledFace]]) -> Tensor:
    """Return each parsing class's weight: sqrt(median frequency / its own), clipped to 0.5..4."""
    counts = np.zeros(len(PARSING_CLASSES))
    for source in faces.values():
        for place in range(0, len(source), max(len(source) // COUNTED_LABELS, 1)):
            mask = source[place].labels.get("parsing")
            if mask is not None:
                counts += np.bincount(mask.ravel(), minlength=len(counts))
    if not counts.any():
        return torch.ones(len(counts))
    return torch.from_numpy(np.sqrt(np.median(counts) / counts.clip(1)).clip(0.5, 4)).float()
