"""Build the networks that benchmarks compare with: ViT-S/16 at 224 as ONNX, and networks with seeded weights.

The weights are random, because speed does not depend on their values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.model.network import FaceUM, FaceUMConfig


class VitBlock(nn.Module):
    """Pre-norm block of ViT-S: width 384, 6 heads, MLP 1536, GELU."""

    def __init__(self, width: int = 384, heads: int = 6) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        query, key, value = (
            self.into(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.reduce(F.gelu(self.expand(self.norms[1](x))))


class VitSmall(nn.Module):
    """ViT-S/16 at 224 with 1,000 classes (arXiv 2012.12877): 22 million parameters, 9.2 GFLOP."""

    def __init__(self, width: int = 384) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, stride=16)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.blocks = nn.Sequential(*(VitBlock() for _ in range(12)))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 1000)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.positions
        return self.output(self.norm(self.blocks(x))[:, 0])


def vit_small(folder: Path, threads: int) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    """ViT-S/16-224 in onnxruntime with its own defaults, and an image to give it."""
    path = folder / "vit-s16-224.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        image = torch.rand(1, 3, 224, 224)
        torch.onnx.export(
            VitSmall().eval(),
            (image,),
            str(path),
            dynamo=True,
            external_data=False,
            input_names=["image"],
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # Its threads may spin within a run, not beyond: whatever is timed next would share a processor with them.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return session, {"image": np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)}


def seeded(config: FaceUMConfig) -> FaceUM:
    """Return the network with random weights, also where a fresh one has zeros, in evaluation mode."""
    torch.manual_seed(0)
    network = FaceUM(config).eval()
    with torch.no_grad():
        for value in network.parameters():
            if not value.any():
                value.normal_(std=0.02)
    return network
