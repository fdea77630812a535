"""RunConfig: everything that one training run can be told; a recipe is one of these."""

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
    "precision": ("float32", "bfloat16", "float16"),
}
"""The words that some settings may be."""

MAY_CHANGE = frozenset({
    "data", "out", "workers", "steps", "device", "compile", "recompute", "log_every", "save_every",
    "validate_every", "keep_checkpoints", "held_out", "held_out_faces", "tensorboard",
})  # fmt: skip
"""What a run that goes on may be told otherwise than it was begun with; of a share its path, too."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run.

    network: what is trained; None takes the config of the `initial` weights. initial: weights to start from,
        a registered name or a .safetensors file. learn: "all", or "heads" alone on a frozen encoder.
    data: the corpus folder, for shares without a path. out: the folder where the run is written.
    sources: source -> how it takes part in every batch. wrong_labels: "skip" samples that cannot be right, or
        "refuse" to run. workers: processes that make batches.
    task_weights: alpha_t of the total sum(alpha_t L_t) / sum(alpha_t), 1 where not given. weighting: "fixed",
        or "uncertainty": sum(exp(-s_t) alpha_t L_t + s_t) / 2 with s_t learned (arXiv 1705.07115).
    relation: weight of relation_loss beside the distillation. heat_map: of heat_map_loss beside the points',
        where the landmarks' head has sigmoid heat maps, as the published one has. margin: the loss over
        people, None for none. fold_projection: the written network's embedding is brought to where the teacher's
        projection sees it (Distillation.root), for runs that learn people from a teacher alone.
    balance_weight, z, mutual_information: weights of the router's losses. bias_step: step of the expert biases.
    steps: updates of the weights. accumulate: batches a step. warmup: steps to the peak rate. lr: that of the
        heads and, where encoder_lr is None, of the encoder. weight_decay, grad_clip: see optim. ema: decay of the
        moving average, whose weights are what a run ends in.
    device: "cpu", "cuda", or "auto". precision: "float32", "bfloat16" or "float16" (autocast; the last on a
        GPU only). compile: torch.compile the network. recompute: gradient checkpointing of the dense blocks.
    log_every, save_every, validate_every: steps; 0 never validates. keep_checkpoints: how many are kept.
    held_out: the split that is validated on, None for none; held_out_faces: at most, of each source.
    apart: leave out of the training faces whose very image stands in the held-out split, too.
    tensorboard: write its files, too. seed: of weights, order, augmentation and dropout.
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
    margin: MarginConfig | None = None
    balance_weight: float = 0.01
    z: float = 1e-4
    mutual_information: float = 0.005
    bias_step: float = 1e-3
    steps: int = 20_000
    accumulate: int = 1
    warmup: int = 500
    lr: float = 1.5e-3
    encoder_lr: float | None = None
    weight_decay: float = 0.05
    grad_clip: float = 5.0
    ema: float = 0.9995
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    recompute: bool = False
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
            _require(f"word for {name}", getattr(self, name), options)
        for task in self.task_weights:
            _require("task", task, TASKS)
        for source, share in self.sources.items():
            for task in share.tasks:
                _require(f"task for the source {source}", task, TASKS)
        for name in ("steps", "accumulate", "log_every", "save_every", "keep_checkpoints"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise RecipeError(f"{name} is {value}; at least 1 is wanted.")
        if self.network is None and self.initial is None:
            raise RecipeError(
                "The recipe names no network; give `network`, or `initial` weights to start from."
            )


def _require(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise RecipeError(unknown_name(str(name), what, known))
