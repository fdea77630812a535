"""Layer 3. A network in, its optimiser, learning-rate schedule and moving average out."""

from __future__ import annotations

import math

import torch
from torch import nn


def build_optimizer(*modules: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; norms, biases, positions, gates and other vectors are not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            plain = parameter.dim() < 2 or name.endswith(("positions", "router.weight"))
            (free if plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))


def learning_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    """Linear warm-up to the peak, then a cosine to zero at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))


class MovingAverage:
    """Exponential moving average of a network's weights; buffers are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the network; the first steps count more."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(network.named_parameters())
        for name, value in network.state_dict().items():
            if name in parameters:
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)
