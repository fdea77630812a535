"""The trunk: images -> tokens and the stem's finer maps, through the dense blocks of a ViT.

Letters: B batch, S rows of tokens, N tokens (the class token included), D token dimension, h w height and
width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from faceum.errors import ModelError
from faceum.model.layers import ACTIVATIONS, Attention, DropPath, Mlp, ResidualConv, require_known

STRIDE = 16
"""Pixels of the crop per token, along each side, of every stem."""


@dataclass(frozen=True, kw_only=True)
class StemConfig:
    """How pixels become tokens.

    kind: "conv" for strided convolutions with residual blocks, "patch" for one 16x16 convolution.
    channels: channels of each stride-2 stage before the tokens ("conv" only). Its maps go to the dense heads.
    blocks: number of residual blocks after each stage ("conv" only).
    """

    kind: str = "conv"
    channels: tuple[int, ...] = (32, 48, 96)
    blocks: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        require_known("stem", self.kind, STEMS)
        if min((*self.blocks, 0)) < 0 or min((*self.channels, 1)) < 1:
            raise ModelError(f"A stem cannot have channels {self.channels} and blocks {self.blocks}.")


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """A transformer block.

    dim: token dimension.
    num_heads: number of attention heads.
    head_dim: dimension of each attention head.
    hidden_dim: inner dimension of the MLP.
    activation: a name in layers.ACTIVATIONS.
    norm_eps: epsilon of the LayerNorms.
    drop_path: probability of dropping a residual branch in training.
    """

    dim: int
    num_heads: int
    head_dim: int
    hidden_dim: int
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        require_known("activation", self.activation, ACTIVATIONS)
        for name in ("dim", "num_heads", "head_dim", "hidden_dim", "norm_eps"):
            if getattr(self, name) <= 0:
                raise ModelError(f"block.{name} is {getattr(self, name)}; it must be positive.")
        if not 0 <= self.drop_path < 1:
            raise ModelError(f"block.drop_path is {self.drop_path}; it must be in 0..1, below 1.")


class PatchStem(nn.Module):
    """One 16x16 convolution without bias: (B, 3, S, S) -> (B, D, S/16, S/16) and no finer map."""

    def __init__(self, config: StemConfig, dim: int, activation: str) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, STRIDE, stride=STRIDE, bias=False)
        self.map_channels: tuple[int, ...] = ()

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalized pixels -> (token map, [])."""
        return self.patch(x_B3SS), []


class ConvStem(nn.Module):
    """Stride-2 convolutions with residual blocks; returns its maps, finest first, for the dense heads."""

    def __init__(self, config: StemConfig, dim: int, activation: str) -> None:
        super().__init__()
        if len(config.channels) != 3 or len(config.blocks) != 3:
            raise ModelError(
                f"A conv stem has three stages before the tokens, got {config.channels} with {config.blocks}."
            )
        self.map_channels = config.channels
        self.activation = ACTIVATIONS[activation]
        self.downs = nn.ModuleList()
        self.stages = nn.ModuleList()
        before = 3
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            self.downs.append(nn.Conv2d(before, channels, 3, stride=2, padding=1))
            self.stages.append(nn.Sequential(*(ResidualConv(channels, activation) for _ in range(blocks))))
            before = channels
        self.tokens = nn.Conv2d(before, dim, 3, stride=2, padding=1)

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalized pixels -> (token map (B, D, S/16, S/16), maps at strides 2, 4 and 8)."""
        maps = []
        for down, stage in zip(self.downs, self.stages, strict=True):
            x_B3SS = stage(self.activation(down(x_B3SS)))
            maps.append(x_B3SS)
        return self.tokens(x_B3SS), maps


STEMS: dict[str, type[ConvStem] | type[PatchStem]] = {"conv": ConvStem, "patch": PatchStem}


class Block(nn.Module):
    """Pre-norm transformer block with a dense MLP: (S, N, D) -> (S, N, D)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, config.head_dim)
        self.mlp_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = Mlp(config.dim, config.hidden_dim, config.activation)
        self.drop_path = DropPath(config.drop_path)

    def forward(self, x_SND: Tensor) -> Tensor:
        """(S, N, D) -> (S, N, D)."""
        x_SND = x_SND + self.drop_path(self.attention(self.attention_norm(x_SND)))
        return x_SND + self.drop_path(self.mlp(self.mlp_norm(x_SND)))


def resize_positions(positions_ND: Tensor, grid: int, class_token: bool) -> Tensor:
    """Resize the position rows of a square grid to grid x grid (bicubic, corners not aligned)."""
    first = positions_ND[:1] if class_token else positions_ND[:0]
    patches = positions_ND[1:] if class_token else positions_ND
    side = int(patches.shape[0] ** 0.5)
    if side == grid:
        return positions_ND
    map_1Dhw = patches.T.reshape(1, -1, side, side)
    resized = F.interpolate(map_1Dhw.float(), size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, resized.flatten(2)[0].T.to(first.dtype)])


class Trunk(nn.Module):
    """Stem, positions and dense blocks, which all tasks share.

    (B, 3, S, S) normalized pixels -> (tokens (B, N, D), the stem's maps, finest first).
    recompute: whether blocks use gradient checkpointing in training.
    """

    stem: ConvStem | PatchStem

    def __init__(
        self, stem: StemConfig, block: BlockConfig, *, depth: int, grid: int, class_token: bool
    ) -> None:
        super().__init__()
        self.stem = STEMS[stem.kind](stem, block.dim, block.activation)
        self.class_token = nn.Parameter(torch.zeros(block.dim)) if class_token else None
        self.positions = nn.Parameter(torch.empty(grid * grid + class_token, block.dim))
        self.norm = nn.LayerNorm(block.dim, eps=block.norm_eps)
        self.blocks = nn.ModuleList(Block(block) for _ in range(depth))
        self.recompute = False
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalized pixels -> (tokens (B, N, D), maps)."""
        map_BDhw, maps = self.stem(x_B3SS)
        x_BND = map_BDhw.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x_BND = torch.cat([self.class_token.to(x_BND.dtype).expand(x_BND.shape[0], 1, -1), x_BND], dim=1)
        positions_ND = resize_positions(self.positions, map_BDhw.shape[-1], self.class_token is not None)
        x_BND = self.norm(x_BND + positions_ND)
        for block in self.blocks:
            if self.recompute and self.training:
                x_BND = checkpoint(block, x_BND, use_reentrant=False)
            else:
                x_BND = block(x_BND)
        return x_BND, maps
