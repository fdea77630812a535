"""Muon: the encoder's matrices are updated by orthogonal steps, everything else by AdamW.

Letters: B matrices of one parameter, R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, chosen for speed: singular values end between about 0.7 and 1.2."""

ITERATIONS = 5

SCALE = 0.2
"""Root mean square of an update at rate 1, as of AdamW: both can share a rate (arXiv 2502.16982)."""

LEAST_SIDE = 16
"""Rows and columns from which on a parameter counts as a matrix; depthwise convolutions do not."""


class Muon(torch.optim.AdamW):
    """AdamW, but groups with "matrices": True take orthogonal steps (Muon, K. Jordan and others, 2024).

    The gradient's momentum (Nesterov, 0.95) is replaced by the nearest matrix whose singular values are all
    about 1. A convolution counts as one matrix (outputs, inputs x height x width); a parameter of three
    dimensions as a matrix for each expert. Weight decay is that of AdamW.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update all parameters that have a gradient; closure is for torch's signature and not supported."""
        if closure is not None:
            raise ValueError("Muon does not take a closure; call backward() before step().")
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["matrices"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group["matrices"] else ():
                if parameter.grad is not None:
                    self._turn(parameter, group["lr"], group["weight_decay"])

    def _turn(self, parameter: nn.Parameter, lr: float, weight_decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, requires_grad=False)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update_BRC = as_matrices(gradient.lerp(momentum, MOMENTUM))
        size = SCALE * max(update_BRC.shape[-2:]) ** 0.5
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(orthogonalize(update_BRC).reshape(parameter.shape), alpha=-lr * size)


def as_matrices(parameter: Tensor) -> Tensor:
    """Return a parameter as (R, C), or as (B, R, C) if it has three dimensions."""
    return parameter if parameter.dim() in (2, 3) else parameter.flatten(1)


def is_matrix(parameter: Tensor) -> bool:
    """Return whether a parameter has rows and columns enough for orthogonal steps."""
    return parameter.dim() > 1 and min(as_matrices(parameter).shape[-2:]) >= LEAST_SIDE


def orthogonalize(matrix_BRC: Tensor) -> Tensor:
    """Return U V' of each matrix U S V', approximately and in bfloat16's precision: (..., R, C), float32."""
    a, b, c = COEFFICIENTS
    x_BRC = matrix_BRC.bfloat16()
    tall = x_BRC.shape[-2] > x_BRC.shape[-1]
    if tall:
        x_BRC = x_BRC.mT
    x_BRC = x_BRC / x_BRC.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        square_BRR = x_BRC @ x_BRC.mT
        x_BRC = a * x_BRC + (b * square_BRR + c * square_BRR @ square_BRR) @ x_BRC
    return (x_BRC.mT if tall else x_BRC).to(matrix_BRC.dtype)
