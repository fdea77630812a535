"""Building blocks that the networks share.

Letters: B batch, S rows of tokens, N tokens, D token dimension, C channels, h w height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.errors import ModelError, unknown_name


def quick_gelu(x: Tensor) -> Tensor:
    """Compute CLIP's approximation of GELU, x * sigmoid(1.702 x) (arXiv 1606.08415)."""
    if x.requires_grad:
        return x * torch.sigmoid(1.702 * x)
    # One new tensor instead of three: allocating a hidden layer costs more than the arithmetic.
    return (1.702 * x).sigmoid_().mul_(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


def require_known(what: str, name: str, known: Collection[str]) -> None:
    """Raise ModelError if a name in a config is not among the known ones."""
    if name not in known:
        raise ModelError(unknown_name(name, what, known))


def resize(x_BChw: Tensor, side: int) -> Tensor:
    """Resize (B, C, h, w) to (B, C, side, side), bilinear, corners not aligned."""
    return F.interpolate(x_BChw, size=(side, side), mode="bilinear", align_corners=False)


class Mlp(nn.Module):
    """Linear, activation, linear with biases: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden_dim: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_SND: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.activation(self.fc1(x_SND)))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a row: (S, N, D) -> (S, N, D).

    num_heads * head_dim can differ from the token dimension, which saves most in narrow networks.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_projection = nn.Linear(dim, 3 * num_heads * head_dim)
        self.out_projection = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x_SND: Tensor) -> Tensor:
        """(S, N, D) -> (S, N, D)."""
        qkv = self.in_projection(x_SND).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.out_projection(attended.transpose(1, 2).flatten(2))


class DropPath(nn.Module):
    """Drops a row's residual branch with the given probability in training (arXiv 1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch_SND: Tensor) -> Tensor:
        """(S, ...) -> (S, ...); kept rows are scaled so that the expectation does not change."""
        if not self.training or self.probability == 0.0:
            return branch_SND
        keep = 1.0 - self.probability
        shape = (branch_SND.shape[0],) + (1,) * (branch_SND.dim() - 1)
        return branch_SND * branch_SND.new_empty(shape).bernoulli_(keep).div_(keep)


class ResidualConv(nn.Module):
    """Pre-norm residual block of two 3x3 convolutions: (B, C, h, w) -> (B, C, h, w).

    The second convolution starts at zero, so a fresh block is the identity (arXiv 1901.09321).
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels // 16, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = ACTIVATIONS[activation]
        for value in self.second.parameters():
            nn.init.zeros_(value)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x_BChw + self.second(self.activation(self.first(self.norm(x_BChw))))
