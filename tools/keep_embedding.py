"""Merge a network trained by a new teacher with the one before, so that it keeps what both know.

    python tools/keep_embedding.py runs/x/network.safetensors compact runs/x/kept.safetensors \\
        --data CORPUS --share 0.8 --weights 0.4 --source celeba --source humans ...

All layers but the last one of the embedding become the weighted mean of both networks (arXiv 2203.05482).
Half of the 512 numbers of the embedding become the new network's own embedding in 256 dimensions, the other
half the earlier network's, also in 256: a ridge regression on training faces, from the features before the
last layer to the earlier embeddings. Cosines are then a weighted mean of both networks' cosines.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faceum.data.augment import NO_AUGMENTATION, augment
from faceum.data.face import read_face
from faceum.data.mixture import Batch, collate
from faceum.data.parquet import read_corpus
from faceum.model.checkpoint import load_checkpoint, save_checkpoint
from faceum.model.growth import load_grown
from faceum.model.network import FaceUM
from faceum.weights.registry import resolve_model

BATCH = 64
HELD = 10
"""Every tenth face is left out of the fit, to measure it."""


def main() -> None:
    """Read the command line, fit, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("new", type=Path)
    parser.add_argument("earlier", help="a registered name or a file")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--source", action="append", required=True, help="repeat")
    parser.add_argument("--faces", type=int, default=8000)
    parser.add_argument("--share", type=float, default=0.5, help="weight of the earlier embedding, 0..1")
    parser.add_argument("--weights", type=float, default=0.0, help="weight of the earlier weights, 0..1")
    arguments = parser.parse_args()
    network, metadata = load_checkpoint(arguments.new)
    before, _ = load_checkpoint(resolve_model(arguments.earlier, "safetensors"))
    # If the new network is deeper, its new blocks join the earlier one and add nothing there.
    earlier = copy.deepcopy(network)
    load_grown(earlier, before.state_dict())
    mix_weights(network, earlier, arguments.weights)
    feature_BX, own_BD, old_BD = embed(network, earlier, arguments.data, arguments.source, arguments.faces)
    print(f"{len(own_BD)} faces")
    kept = merge(network, earlier, feature_BX, own_BD, old_BD, arguments.share)
    print(f"mean cosine of the kept embedding to the earlier one, faces not fitted on: {kept:.3f}")
    save_checkpoint(arguments.out, network, metadata, dtype=torch.float32)


@torch.no_grad()
def mix_weights(network: FaceUM, earlier: FaceUM, share: float) -> None:
    """Interpolate all weights but the last layer of the embedding towards the earlier ones."""
    before = earlier.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not name.startswith("heads.recognition.output."):
            value.lerp_(before[name], share)


@torch.inference_mode()
def embed(
    network: FaceUM, earlier: FaceUM, data: Path, sources: list[str], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features before the last layer (B, X), and the embeddings (B, 512) of both networks."""
    features: list[Tensor] = []
    head = network.heads["recognition"]
    hook = head.output.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    own, old = [], []
    for batch in _batches(network, data, sources, count):
        crops = (batch.crop_BCHW.float() / 255).contiguous(memory_format=torch.channels_last)
        for model, answers in ((network, own), (earlier, old)):
            answers.append(model(crops, batch.face_tokens_BN, ("recognition",))["recognition"])
    hook.remove()
    return torch.cat(features), torch.cat(own), torch.cat(old)


def _batches(network: FaceUM, data: Path, sources: list[str], count: int) -> Iterator[Batch]:
    spec, rng = network.config.crop_of("recognition"), np.random.default_rng(0)
    crops = []
    for source in sources:
        samples = list(read_corpus(data, source, "train"))
        for place in rng.permutation(len(samples))[: count // len(sources)]:
            crops.append(augment(read_face(samples[place]), spec, NO_AUGMENTATION, rng))
            if len(crops) == BATCH:
                yield collate(crops)
                crops = []


@torch.no_grad()
def merge(
    network: FaceUM, earlier: FaceUM, feature_BX: Tensor, own_BD: Tensor, old_BD: Tensor, share: float
) -> float:
    """Put both embeddings into the network's last layer; return the mean cosine of the kept one."""
    head, before = network.heads["recognition"].output, earlier.heads["recognition"].output
    fit = torch.arange(len(feature_BX)) % HELD > 0
    # Apply the earlier layer to the new features, and regress what is missing on them.
    start_BD = before(feature_BX)
    mean_X, size = feature_BX[fit].mean(0), feature_BX[fit].std()
    x_BX = ((feature_BX - mean_X) / size).double()
    missing_BD = (old_BD - start_BD).double()
    shift_D = missing_BD[fit].mean(0)
    square_XX = x_BX[fit].T @ x_BX[fit]
    right_XD = x_BX[fit].T @ (missing_BD[fit] - shift_D)
    best, kept = -1.0, start_BD
    layer = (before.weight.double(), before.bias.double())
    for ridge in (0.03, 0.3):
        solved_XX = square_XX + ridge * square_XX.diagonal().mean() * torch.eye(len(square_XX)).double()
        change_XD = torch.linalg.solve(solved_XX, right_XD)
        answer_BD = start_BD + (x_BX @ change_XD + shift_D).float()
        cosine = float(F.cosine_similarity(answer_BD[~fit], old_BD[~fit]).mean())
        print(f"ridge {ridge}: cosine {cosine:.4f}; without {_cosine(start_BD[~fit], old_BD[~fit]):.4f}")
        if cosine > best:
            best, kept = cosine, answer_BD
            weight_DX = before.weight.double() + change_XD.T / size
            layer = weight_DX, before.bias.double() + shift_D - (change_XD.T / size) @ mean_X.double()
    halves = []
    parts = ((1 - share, own_BD, head.weight.double(), head.bias.double()), (share, kept, *layer))
    for weight, answer_BD, weight_DX, bias_D in parts:
        # The directions in which the faces' embeddings lie: 256, for each was folded through a projection.
        _, _, direction_DD = torch.linalg.svd(answer_BD.double(), full_matrices=False)
        basis_HD = direction_DD[: len(head.bias) // 2]
        scale = weight**0.5 / float(answer_BD.norm(dim=1).mean())
        halves.append((scale * basis_HD @ weight_DX, scale * basis_HD @ bias_D))
    head.weight.copy_(torch.cat([one for one, _ in halves]))
    head.bias.copy_(torch.cat([one for _, one in halves]))
    return best


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other).mean())


if __name__ == "__main__":
    main()
