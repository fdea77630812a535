"""The published heads: a task's patch tokens -> the task's answer.

Letters: B batch, N patch tokens (row-major), D width, C channels, h w height and width, O outputs.
The dense heads stand in pyramid.py. Widths follow the token width, as 512 follows 768.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceum.model.pyramid import PyramidPixelsHead, PyramidPointsHead, as_map

NORM_EPS = 2e-5
"""Epsilon of the vector heads' BatchNorms."""


class MeanEmbeddingHead(nn.Module):
    """The mean token through two linear layers with BatchNorms: (B, N, D) -> (B, O), not normalised."""

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
    """Channels weighted by what the whole map holds: (B, C, h, w) -> the same (CBAM, arXiv 1807.06521)."""

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
    """A convolution, a channel gate, the strongest place of each channel, an MLP: (B, N, D) -> (B, O) logits.

    Published as four convolutions, of a quarter of the channels each, on maps that are one and the same.
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


def published_heads(
    kinds: dict[str, tuple[str, int]],
    *,
    dim: int,
    patches: int,
    map_channels: tuple[int, ...],
    activation: str,
) -> nn.ModuleDict:
    """A head for each task: kinds maps a task's name to its kind (see tasks.KINDS) and number of outputs.

    width: of the tokens. The heads are 2/3 of it wide. They take no finer maps, any number of patches, and
    bring their own activations.
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
