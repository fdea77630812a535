"""RunConfig: the settings of one training run. A recipe defines one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from faceum.data.mixture import SourceConfig
from faceum.errors import RecipeError, unknown_name
from faceum.model.network import FaceUMConfig
from faceum.tasks import TASKS
from faceum.train.partial_fc import MarginConfig

CHOICES: dict[str, tuple[str, ...]] = {
    "learn": ("all", "heads"),
    "wrong_labels": ("skip", "refuse"),
    "weighting": ("fixed", "uncertainty"),
    "device": ("auto", "cpu", "cuda"),
    "shard": ("none", "blocks"),
    "precision": ("float32", "bfloat16", "float16"),
    "optimizer": ("adamw", "muon"),
}
"""Allowed values of some settings."""

MAY_CHANGE = frozenset({
    "data", "out", "workers", "steps", "device", "compile", "recompute", "shard", "log_every",
    "save_every", "validate_every", "keep_checkpoints", "held_out", "held_out_faces", "tensorboard",
})  # fmt: skip
"""Settings that a resumed run can change, besides the path of each source."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of one training run.

    network: config of the network to train; None uses that of the `initial` weights. With both, it may have
        more residual and dense blocks than the weights (see growth.load_grown).
    initial: weights to start from, a registered name or a .safetensors file; None initializes the network.
    learn: "all", or "heads" to train the heads on a frozen encoder.
    data: the corpus folder, for sources without a path.
    out: the folder that the run writes.
    sources: name -> how this source takes part in every batch.
    wrong_labels: "skip" samples that cannot be right, or "refuse" to run.
    workers: number of processes that make batches.
    task_weights: alpha_t of the total loss sum(alpha_t L_t) / sum(alpha_t); 1 if not given.
    weighting: "fixed", or "uncertainty" for sum(exp(-s_t) alpha_t L_t + s_t) / 2 with learned s_t (arXiv
        1705.07115).
    relation: weight of relation_loss, which is added to the distillation loss.
    heat_map: weight of heat_map_loss, which is added to the landmark loss if the head has sigmoid heat maps.
    fold_projection: whether the written network's embedding is multiplied by Distillation.root, for runs that
        learn identities from a teacher only.
    fit_projection: number of training faces on which the teacher's projection is fitted by least squares
        before the first step, for `initial` weights that know identities already; 0 starts at random.
    logit_adjustment: how much of the log frequency of the classes is added to the expression logits in
        training, so that rare ones are answered more often (arXiv 2007.07314).
    margin: the loss over identities; None trains without it.
    balance_weight: weight of the load-balance loss of the routers.
    z: weight of the z loss of the routers.
    mutual_information: weight of the mutual-information loss of the routers.
    bias_step: step of the experts' selection biases.
    steps: number of updates of the weights.
    accumulate: number of batches per update.
    warmup: number of steps until the peak learning rate.
    optimizer: "adamw", or "muon" for orthogonal updates of the encoder's matrices (see train.muon).
    lr: peak learning rate of the heads, and of the encoder if encoder_lr is None.
    encoder_lr: peak learning rate of the trunk and the MoE blocks.
    weight_decay: weight decay of the matrices; see optim.parameter_groups.
    grad_clip: largest norm of the gradients.
    ema: decay of the moving average of the weights, which is the network that the run writes.
    device: "cpu", "cuda" or "auto".
    precision: "float32", or autocast to "bfloat16" or, on a GPU, "float16".
    compile: whether to torch.compile the network.
    recompute: whether to use gradient checkpointing in the dense blocks.
    shard: "blocks" divides weights, gradients and moments of the transformer blocks over the processes of
        torchrun (FSDP2); "none" keeps all of them in each process.
    log_every: steps between rows of the log.
    save_every: steps between checkpoints.
    validate_every: steps between validations; 0 never validates.
    keep_checkpoints: number of checkpoints to keep.
    held_out: the split to validate on; None for none.
    held_out_faces: largest number of validation faces per source.
    apart: whether to leave out training faces whose image is also in the held-out split.
    tensorboard: whether to write TensorBoard files too.
    seed: of weights, order, augmentation and dropout.
    """

    network: FaceUMConfig | None = None
    initial: str | None = None
    learn: str = "all"
    data: str = ""
    out: str
    sources: dict[str, SourceConfig]
    wrong_labels: str = "skip"
    workers: int = 1
    task_weights: dict[str, float] = field(default_factory=dict)
    weighting: str = "fixed"
    relation: float = 2.0
    heat_map: float = 1.0
    fold_projection: bool = False
    fit_projection: int = 0
    logit_adjustment: float = 0.0
    margin: MarginConfig | None = None
    balance_weight: float = 0.01
    z: float = 1e-4
    mutual_information: float = 0.005
    bias_step: float = 1e-3
    steps: int = 20_000
    accumulate: int = 1
    warmup: int = 500
    optimizer: str = "adamw"
    lr: float = 1.5e-3
    encoder_lr: float | None = None
    weight_decay: float = 0.05
    grad_clip: float = 5.0
    ema: float = 0.9995
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    recompute: bool = False
    shard: str = "none"
    log_every: int = 50
    save_every: int = 1000
    validate_every: int = 0
    keep_checkpoints: int = 2
    held_out: str | None = "val"
    held_out_faces: int = 256
    apart: bool = False
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, options in CHOICES.items():
            _require(f"value of {name}", getattr(self, name), options)
        for task in self.task_weights:
            _require("task", task, TASKS)
        for source, settings in self.sources.items():
            for task in settings.tasks:
                _require(f"task for the source {source}", task, TASKS)
        for name in ("steps", "accumulate", "log_every", "save_every", "keep_checkpoints"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise RecipeError(f"{name} is {value}; it must be at least 1.")
        if self.shard != "none" and self.compile:
            raise RecipeError("shard=blocks does not work with compile=true; leave out one of them.")
        if self.shard != "none" and self.optimizer == "muon":
            raise RecipeError("optimizer=muon needs whole matrices; use shard=none or optimizer=adamw.")
        if self.network is None and self.initial is None:
            raise RecipeError("The recipe has no network; set `network`, or `initial` weights to start from.")


def _require(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise RecipeError(unknown_name(str(name), what, known))
