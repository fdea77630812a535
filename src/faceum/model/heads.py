"""The heads of the compact network: a task's patch tokens and the stem's maps -> the task's answer.

Letters: B batch, N patch tokens (row-major), D token dimension, C channels, h w height and
width, O outputs, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceum.model.layers import ACTIVATIONS, resize


class EmbeddingHead(nn.Module):
    """Projects every patch to fewer channels, concatenates all patches, and applies one linear layer.

    (B, N, D) -> (B, 512), not normalized.
    """

    maps_used: tuple[int, ...] = ()

    def __init__(self, *, dim: int, patches: int, outputs: int, narrow: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.narrow = nn.Linear(dim, narrow)
        self.output = nn.Linear(patches * narrow, outputs)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O)."""
        return self.output(self.narrow(self.norm(x_BND)).flatten(1))

    @torch.no_grad()
    def transform(self, matrix_OO: Tensor) -> None:
        """Multiply the embedding by matrix_OO from now on, by folding the matrix into the last layer."""
        self.output.weight.copy_(matrix_OO @ self.output.weight)
        self.output.bias.copy_(matrix_OO @ self.output.bias)


class QueryHead(nn.Module):
    """Learned queries pool the patches by attention, then a small MLP: (B, N, D) -> (B, O) logits."""

    maps_used: tuple[int, ...] = ()

    def __init__(
        self, *, dim: int, outputs: int, activation: str, queries: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, queries)
        self.hidden = nn.Linear(queries * dim, dim)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, outputs)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O)."""
        x_BND = self.norm(x_BND)
        weight_BQN = self.query(x_BND).transpose(1, 2).softmax(-1)
        pooled_BX = torch.bmm(weight_BQN.to(x_BND.dtype), x_BND).flatten(1)
        return self.output(self.dropout(self.activation(self.hidden(pooled_BX))))


class Fusion(nn.Module):
    """Projects task tokens and two of the stem's maps to one size, adds them, and applies convolutions.

    (B, N, D), maps of strides 8 and 4 -> (B, C, S/4, S/4).
    """

    def __init__(
        self, *, dim: int, map_channels: tuple[int, ...], channels: int, convs: int, activation: str
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.from_tokens = nn.Linear(dim, channels)
        self.from_coarse = nn.Conv2d(map_channels[2], channels, 1)
        self.from_fine = nn.Conv2d(map_channels[1], channels, 1)
        self.mixes = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))
        self.mix_norm = nn.GroupNorm(channels // 8, channels)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) and the stem's maps, finest first -> (B, C, S/4, S/4)."""
        side = int(x_BND.shape[1] ** 0.5)
        tokens_BChw = self.from_tokens(self.norm(x_BND)).transpose(1, 2).unflatten(2, (side, side))
        coarse_BChw = self.from_coarse(maps[2])
        coarse_BChw = coarse_BChw + resize(tokens_BChw, coarse_BChw.shape[-1])
        x_BChw = self.from_fine(maps[1])
        x_BChw = self.mix_norm(x_BChw + resize(coarse_BChw, x_BChw.shape[-1]))
        for mix in self.mixes:
            x_BChw = self.activation(mix(x_BChw))
        return x_BChw


class PixelsHead(nn.Module):
    """Class logits per pixel at half the crop's resolution: (B, N, D), maps -> (B, O, S/2, S/2)."""

    maps_used = (0, 1, 2)

    def __init__(self, *, dim: int, map_channels: tuple[int, ...], outputs: int, activation: str) -> None:
        super().__init__()
        self.fusion = Fusion(dim=dim, map_channels=map_channels, channels=48, convs=1, activation=activation)
        self.to_finest = nn.Conv2d(48, 24, 1)
        self.from_finest = nn.Conv2d(map_channels[0], 24, 1)
        self.mix = nn.Conv2d(24, 24, 3, padding=1)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Conv2d(24, outputs, 1)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) and the stem's maps, finest first -> (B, O, S/2, S/2)."""
        x_BChw = self.from_finest(maps[0])
        x_BChw = x_BChw + resize(self.to_finest(self.fusion(x_BND, maps)), x_BChw.shape[-1])
        return self.output(self.activation(self.mix(self.activation(x_BChw))))


class PointsHead(nn.Module):
    """The mean position under each point's softmax heat map: (B, N, D), maps -> (B, O, 2) in 0..1, x then y.

    Integral regression (arXiv 1711.08229) on maps at a quarter of the crop's resolution.
    """

    maps_used = (1, 2)

    def __init__(self, *, dim: int, map_channels: tuple[int, ...], outputs: int, activation: str) -> None:
        super().__init__()
        self.fusion = Fusion(dim=dim, map_channels=map_channels, channels=32, convs=2, activation=activation)
        self.output = nn.Conv2d(32, outputs, 1)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) and the stem's maps, finest first -> (B, O, 2)."""
        heat_BOhw = self.output(self.fusion(x_BND, maps)).float()
        side = heat_BOhw.shape[-1]
        p_BOhw = heat_BOhw.flatten(2).softmax(-1).unflatten(2, (side, side))
        centre_h = (torch.arange(side, device=heat_BOhw.device, dtype=torch.float32) + 0.5) / side
        x_BO = (p_BOhw.sum(2) * centre_h).sum(-1)
        y_BO = (p_BOhw.sum(3) * centre_h).sum(-1)
        return torch.stack([x_BO, y_BO], dim=-1)


def build_compact_heads(
    kinds: dict[str, tuple[str, int]],
    *,
    dim: int,
    patches: int,
    map_channels: tuple[int, ...],
    activation: str,
) -> nn.ModuleDict:
    """Build a head per task.

    kinds: name of a task -> its kind (see tasks.KINDS) and number of outputs.
    dim: token dimension.
    patches: number of patch tokens.
    map_channels: channels of the stem's maps, finest first.
    """
    build = {
        "embedding": lambda n: EmbeddingHead(dim=dim, patches=patches, outputs=n),
        "number": lambda n: QueryHead(dim=dim, outputs=n, activation=activation),
        "labels": lambda n: QueryHead(dim=dim, outputs=n, activation=activation),
        "classes": lambda n: QueryHead(dim=dim, outputs=n, activation=activation),
        "pixels": lambda n: PixelsHead(dim=dim, map_channels=map_channels, outputs=n, activation=activation),
        "points": lambda n: PointsHead(dim=dim, map_channels=map_channels, outputs=n, activation=activation),
    }
    return nn.ModuleDict({task: build[kind](outputs) for task, (kind, outputs) in kinds.items()})
