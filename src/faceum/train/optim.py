"""Optimizer, learning-rate schedule, gradient clipping and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from faceum.train.distributed import local_part, max_over_ranks, sum_over_ranks
from faceum.train.muon import Muon, is_matrix
from faceum.train.partial_fc import PartialFC

BETAS = (0.9, 0.98)
"""Of AdamW and SparseAdam."""

ENCODER = ("trunk.", "moe_blocks.")
"""Prefixes of the names of a network's encoder parameters."""


def parameter_groups(
    *modules: nn.Module,
    lr: float,
    encoder_lr: float | None = None,
    weight_decay: float,
    matrices: bool = False,
) -> list[dict]:
    """Return the groups of the trainable parameters: "params", "lr", "peak", "weight_decay" and "matrices".

    Norms, biases, positions, gates and other vectors are not decayed. "matrices" says whether they are the
    encoder's matrices, which Muon treats by itself. Sharded parameters have groups of their own, because
    torch's fused loops do not mix them with others.
    lr: peak learning rate. encoder_lr: that of the trunk and the MoE blocks; None for lr. matrices: whether
    to give the encoder's matrices groups of their own.
    """
    groups: dict[tuple[float, float, bool, bool], list[nn.Parameter]] = {}
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                plain = parameter.dim() < 2 or name.endswith(("positions", "router.weight"))
                encoder = name.startswith(ENCODER)
                key = (
                    encoder_lr if encoder and encoder_lr is not None else lr,
                    0.0 if plain else weight_decay,
                    isinstance(parameter, DTensor),
                    matrices and encoder and not plain and is_matrix(parameter),
                )
                groups.setdefault(key, []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1], *item[0][2:]))
    return [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay, "matrices": matrix}
        for (peak, decay, _, matrix), parameters in ordered
    ]


def build_optimizer(
    *modules: nn.Module,
    lr: float,
    encoder_lr: float | None = None,
    weight_decay: float,
    kind: str = "adamw",
) -> torch.optim.AdamW:
    """Return AdamW, or Muon if `kind` is "muon", over `parameter_groups`."""
    groups = parameter_groups(
        *modules, lr=lr, encoder_lr=encoder_lr, weight_decay=weight_decay, matrices=kind == "muon"
    )
    return (Muon if kind == "muon" else torch.optim.AdamW)(groups, lr=lr, betas=BETAS)


def build_centre_optimizer(partial_fc: PartialFC, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over the class centres, or SparseAdam, which touches the sampled rows only.

    SparseAdam has no weight decay; the loss does not depend on the length of a centre.
    """
    if not partial_fc.sparse:
        return build_optimizer(partial_fc, lr=lr, weight_decay=weight_decay)
    groups = parameter_groups(partial_fc, lr=lr, weight_decay=0.0)
    return torch.optim.SparseAdam(groups, lr=lr, betas=BETAS)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> dict[str, Tensor]:
    """Return the live moments of an optimizer by parameter name, and the step counts but for SparseAdam's.

    Parameters without any update get the zeros that their first update would give them.
    """
    sparse = isinstance(optimizer, torch.optim.SparseAdam)
    tensors = {}
    members = [
        (one, group.get("matrices", False)) for group in optimizer.param_groups for one in group["params"]
    ]
    for parameter, matrix in members:
        state = optimizer.state[parameter]
        if not state and matrix:
            state["momentum"] = torch.zeros_like(parameter, requires_grad=False)
        elif not state:
            state["step"] = 0 if sparse else torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
            state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{names[parameter]}.{key}"] = value
    return tensors


def _values(gradient: Tensor) -> Tensor:
    """Return this rank's values of a gradient, for changes in place; a sparse one must have each row once."""
    gradient = local_part(gradient)
    return gradient.values() if gradient.is_sparse else gradient


def learning_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    """Return the rate of a linear warm-up to the peak, then a cosine to zero at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))


@torch.no_grad()
def clip_gradients(shared: Sequence[nn.Parameter], sharded: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their total norm is at most `limit`; return the norm before.

    shared: parameters that every rank has. sharded: parameters of which each rank has a part.
    """
    parts = [[_values(one.grad) for one in group if one.grad is not None] for group in (shared, sharded)]
    norm = torch.nn.utils.get_total_norm(parts[0])
    if parts[1]:
        others = sum_over_ranks(torch.nn.utils.get_total_norm(parts[1]).square())
        norm = (norm.square() + others).sqrt()
    scale = (limit / (norm + 1e-6)).clamp_max(1.0)
    torch._foreach_mul_([*parts[0], *parts[1]], scale)
    return norm


@torch.no_grad()
def share_overflow(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Set a gradient of each optimizer to infinity on every rank if a gradient of any rank is not finite.

    GradScaler checks each optimizer of each rank separately. If only one rank's class centres overflowed, it
    would skip that update on that rank only, and the ranks' scales would differ.
    """
    gradients = [
        [
            _values(one.grad)
            for group in optimizer.param_groups
            for one in group["params"]
            if one.grad is not None
        ]
        for optimizer in optimizers
    ]
    norm = torch.nn.utils.get_total_norm([gradient for some in gradients for gradient in some])
    lost = max_over_ranks((~norm.isfinite()).float())
    for gradient in (next(filter(torch.numel, some), None) for some in gradients):
        if gradient is not None:
            gradient.masked_fill_(lost.bool(), math.inf)


class MovingAverage:
    """Exponential moving average of a network's weights; buffers are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network; the first steps have a larger weight."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        learned = {name for name, _ in network.named_parameters()}
        now = network.state_dict()
        torch._foreach_lerp_(
            [local_part(self.state[name]) for name in now if name in learned],
            [local_part(value) for name, value in now.items() if name in learned],
            1 - keep,
        )
        for name in now.keys() - learned:
            self.state[name].copy_(now[name])
