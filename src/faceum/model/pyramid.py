"""The published dense heads: patch tokens -> a pyramid of maps -> UPerNet -> pixels or points.

UPerNet is arXiv 1807.10221. For a grid of g patches on a side the pyramid's maps are 4g, 2g, g and g/2 wide.

Letters: B batch, N patch tokens (row-major), D token dimension, C channels, h w height and width, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.model.layers import resize

POOLS = (1, 2, 3, 6)
"""Cells on a side of the pyramid pooling (arXiv 1612.01105)."""


def as_map(x_BND: Tensor) -> Tensor:
    """Reshape row-major tokens of a square grid (B, N, D) to (B, D, h, w)."""
    side = int(x_BND.shape[1] ** 0.5)
    return x_BND.transpose(1, 2).unflatten(2, (side, side))


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU: (B, C, h, w) -> (B, C', h, w)."""

    def __init__(self, before: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h, w)."""
        return torch.relu(self.norm(self.conv(x_BChw)))


class Pyramid(nn.Module):
    """Turns one map into four, each half as wide as the one before: (B, D, g, g) -> 4g, 2g, g, g/2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.twofold = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.fourfold = nn.ModuleList(nn.ConvTranspose2d(dim, dim, 2, stride=2) for _ in range(2))
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x_BDhw: Tensor) -> list[Tensor]:
        """(B, D, g, g) -> four maps, finest first."""
        finest = self.fourfold[1](F.gelu(self.norm(self.fourfold[0](x_BDhw))))
        return [finest, self.twofold(x_BDhw), x_BDhw, F.max_pool2d(x_BDhw, 2)]


class UPerNet(nn.Module):
    """Pyramid pooling on the coarsest map, top-down addition, all maps fused at the finest one's size.

    Four maps (B, D, ...), finest first -> (B, O, 4g, 4g).
    """

    def __init__(self, *, dim: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(ConvUnit(dim, channels, 1) for _ in POOLS)
        self.bottleneck = ConvUnit(dim + len(POOLS) * channels, channels, 3)
        self.laterals = nn.ModuleList(ConvUnit(dim, channels, 1) for _ in range(3))
        self.smooth = nn.ModuleList(ConvUnit(channels, channels, 3) for _ in range(3))
        self.fusion = ConvUnit(4 * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.output = nn.Conv2d(channels, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps, finest first -> (B, O, 4g, 4g)."""
        coarsest = self._with_context(maps[3])
        summed = [lateral(x) for lateral, x in zip(self.laterals, maps[:3], strict=True)] + [coarsest]
        for finer in (2, 1, 0):
            summed[finer] = summed[finer] + resize(summed[finer + 1], summed[finer].shape[-1])
        smoothed = [smooth(x) for smooth, x in zip(self.smooth, summed[:3], strict=True)] + [coarsest]
        fused = torch.relu(self.fusion.norm(fuse(smoothed, self.fusion.conv.weight)))
        return self.output(self.dropout(fused))

    def _with_context(self, x_BDhw: Tensor) -> Tensor:
        side = x_BDhw.shape[-1]
        pooled = [
            resize(unit(F.adaptive_avg_pool2d(x_BDhw, cells)), side)
            for cells, unit in zip(POOLS, self.pooled, strict=True)
        ]
        return self.bottleneck(torch.cat([x_BDhw, *pooled], dim=1))


def fuse(maps: list[Tensor], weight_OCkk: Tensor) -> Tensor:
    """Concatenate all maps at the size of the first one, and apply a 3x3 convolution.

    maps: (B, C, h, h) each, finest first. weight_OCkk: (O, C * len(maps), 3, 3). Returns (B, O, s, s), with s
    the first map's side. Uses `fuse_plainly` on a GPU, where it is faster, and `fuse_mixed` elsewhere.
    """
    return fuse_plainly(maps, weight_OCkk) if maps[0].is_cuda else fuse_mixed(maps, weight_OCkk)


def fuse_plainly(maps: list[Tensor], weight_OCkk: Tensor) -> Tensor:
    """Compute `fuse` as it is defined."""
    side = maps[0].shape[-1]
    enlarged = [resize(x_BChw, side) for x_BChw in maps[1:]]
    return F.conv2d(torch.cat([maps[0], *enlarged], dim=1), weight_OCkk, padding=1)


def fuse_mixed(maps: list[Tensor], weight_OCkk: Tensor) -> Tensor:
    """Compute `fuse` with a third of the multiplications.

    Upsampling and mixing channels commute, so that a coarse map's channels are mixed at its size, for each
    of the kernel's nine offsets. Upsampling, the kernel's shifts and the sum over its offsets are then one
    matrix along the columns and one along the rows.
    """
    finest, side = maps[0], maps[0].shape[-1]
    weights = weight_OCkk.split([x.shape[1] for x in maps], dim=1)
    fused = F.conv2d(finest, weights[0], padding=1)
    for x_BChw, weight_OC33 in zip(maps[1:], weights[1:], strict=True):
        batch, _, small, _ = x_BChw.shape
        outputs = len(weight_OC33)
        enlarge_3sh = make_shifted_enlargements(small, side, x_BChw.device).to(x_BChw.dtype)
        by_place = weight_OC33.permute(3, 0, 2, 1).flatten(0, 2)  # column, output, row of the kernel
        mixed = F.conv2d(x_BChw, by_place[..., None, None]).reshape(batch, 3 * outputs, 3 * small, small)
        tall = enlarge_3sh.transpose(0, 1).flatten(1) @ mixed
        tall = tall.view(batch, 3, outputs, side, small).permute(0, 2, 3, 1, 4).flatten(3)
        fused = fused + tall @ enlarge_3sh.transpose(1, 2).flatten(0, 1)
    return fused


def make_shifted_enlargements(before: int, after: int, device: torch.device) -> Tensor:
    """Return (3, after, before): the matrices that upsample a line bilinearly, for a kernel's three offsets.

    Offset k of the kernel sees the upsampled line shifted by k - 1, and zeros beyond its ends.
    """
    one_hot = torch.eye(before, device=device)[None]
    enlarge = F.interpolate(one_hot, size=after, mode="linear", align_corners=False)[0].T
    padded = F.pad(enlarge, (0, 0, 1, 1))
    return torch.stack([padded[place : place + after] for place in range(3)])


class PyramidPixelsHead(nn.Module):
    """Class logits per pixel at a quarter of the crop's resolution: (B, N, D) -> (B, O, 4g, 4g)."""

    def __init__(self, *, dim: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(dim)
        self.upernet = UPerNet(dim=dim, channels=channels, outputs=outputs)

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O, 4g, 4g)."""
        x_BDhw = as_map(x_BND)
        if self.training or torch.compiler.is_exporting():
            return self.upernet(self.pyramid(x_BDhw))
        # One image at a time needs less memory, and each is enough work for every core.
        return torch.cat([self.upernet(self.pyramid(x_1Dhw)) for x_1Dhw in x_BDhw.split(1)])


class PyramidPointsHead(PyramidPixelsHead):
    """The mean position under each point's sigmoid heat map: (B, N, D) -> (B, O, 2) in 0..1, x then y."""

    def forward(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, N, D) -> (B, O, 2)."""
        return self.points(self.heat(x_BND, maps))

    def heat(self, x_BND: Tensor, maps: list[Tensor]) -> Tensor:
        """Return the heat maps' logits (B, O, 4g, 4g) of tokens (B, N, D); they have their own loss."""
        return super().forward(x_BND, maps)

    def points(self, logits_BOhw: Tensor) -> Tensor:
        """Return the points (B, O, 2) of the heat maps' logits."""
        heat_BOhw = torch.sigmoid(logits_BOhw.float())
        side = heat_BOhw.shape[-1]
        place_h = torch.arange(side, device=heat_BOhw.device, dtype=torch.float32)
        total_BO = heat_BOhw.sum((2, 3)).clamp_min(1e-6)
        x_BO = (heat_BOhw.sum(2) * place_h).sum(-1) / total_BO
        y_BO = (heat_BOhw.sum(3) * place_h).sum(-1) / total_BO
        return (torch.stack([x_BO, y_BO], dim=-1) + 0.5) / side
