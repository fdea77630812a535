"""The published heads: a task's patch tokens -> the task's answer. The dense heads are in pyramid.py.

Letters: B batch, N patch tokens (row-major), D token dimension, C channels, h w height and width, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceum.model.pyramid import PyramidPixelsHead, PyramidPointsHead, as_map

NORM_EPS = 2e-5
"""Epsilon of the vector heads' BatchNorms."""


class MeanEmbeddingHead(nn.Module):
    """The mean token through two linear layers with BatchNorms: (B, N, D) -> (B, O), not normalized."""

    def __init__(self, *, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, dim, bias=False)
        self.hidden_norm = nn.BatchNorm1d(dim, eps=NORM_EPS)
        self.output = nn.Linear(dim, outputs, bias=False)
        self.output_norm = nn.BatchNorm1d(outputs, eps=NORM_EPS)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O)."""
        mean_BD = self.norm(x_BND).mean(1)
        return self.output_norm(self.output(self.hidden_norm(self.hidden(mean_BD))))


class ChannelGate(nn.Module):
    """Weights channels by the whole map's mean and maximum (CBAM, arXiv 1807.06521)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16)
        self.expand = nn.Linear(channels // 16, channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        weight_BC = self._mlp(x_BChw.mean((2, 3))) + self._mlp(x_BChw.amax((2, 3)))
        return x_BChw * torch.sigmoid(weight_BC)[..., None, None]

    def _mlp(self, x_BC: Tensor) -> Tensor:
        return self.expand(torch.relu(self.squeeze(x_BC)))


class GatedHead(nn.Module):
    """A convolution, a channel gate, the maximum of each channel, an MLP: (B, N, D) -> (B, O) logits.

    It was published as four convolutions with a quarter of the channels each, all on the same map.
    """

    def __init__(self, *, dim: int, channels: int, outputs: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, channels, 3, padding=1, bias=False)
        self.gate = ChannelGate(channels)
        self.norm = nn.BatchNorm1d(channels, eps=NORM_EPS)
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O)."""
        x_BChw = self.gate(self.conv(as_map(x_BND)))
        x_BC = self.norm(torch.relu(x_BChw).amax((2, 3)))
        for layer in (self.first, self.second):
            x_BC = self.dropout(torch.relu(layer(x_BC)))
        return self.output(x_BC)


def build_published_heads(
    kinds: dict[str, tuple[str, int]],
    *,
    dim: int,
    patches: int,
    map_channels: tuple[int, ...],
    activation: str,
) -> nn.ModuleDict:
    """Build a head per task.

    kinds: name of a task -> its kind (see tasks.KINDS) and number of outputs.
    dim: token dimension; the heads have 2/3 of it as channels.
    patches, map_channels, activation: not used; these heads take any grid and no finer maps.
    """
    channels = dim * 2 // 3
    build = {
        "embedding": lambda n: MeanEmbeddingHead(dim=dim, outputs=n),
        "number": lambda n: GatedHead(dim=dim, channels=channels, outputs=n),
        "labels": lambda n: GatedHead(dim=dim, channels=channels, outputs=n),
        "classes": lambda n: GatedHead(dim=dim, channels=channels, outputs=n),
        "pixels": lambda n: PyramidPixelsHead(dim=dim, channels=channels, outputs=n),
        "points": lambda n: PyramidPointsHead(dim=dim, channels=channels, outputs=n),
    }
    return nn.ModuleDict({task: build[kind](outputs) for task, (kind, outputs) in kinds.items()})
