"""The margin loss over identities, with class centres distributed over ranks.

Partial FC (arXiv 2203.15565): each rank holds the centres of its part of the identities, and uses those of
the batch and a random sample of the others. With one rank and a sample rate of 1 this is CosFace (arXiv
1801.09414) or ArcFace (arXiv 1801.07698). With a lower one the gradient is sparse: it has the sampled rows.

Letters: B images of all ranks, D embedding, C identities of this rank, L those of them that are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.errors import ModelError
from faceum.train.distributed import gather_rows, max_over_ranks, rank, sum_over_ranks, world

BLOCK = 4096
"""Rows of centres that are drawn at once."""


@dataclass(frozen=True, kw_only=True)
class MarginConfig:
    """The recognition loss over identities.

    kind: "cosface" or "arcface".
    scale: s.
    margin: m, of the cosine or of the angle in radians.
    sample: part of a rank's identities that each step uses; those in the batch are always used. Below 1, only
        the used centres and their moments are updated, without weight decay, and no gradient of all is held.
    """

    kind: str = "cosface"
    scale: float = 64.0
    margin: float = 0.4
    sample: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in MARGINS:
            raise ModelError(f"There is no margin {self.kind!r}; use one of {', '.join(MARGINS)}.")
        if not 0 < self.sample <= 1:
            raise ModelError(f"margin.sample is {self.sample}; it must be above 0 and at most 1.")


def _cosface(cosine: Tensor, margin: float) -> Tensor:
    return cosine - margin


def _arcface(cosine: Tensor, margin: float) -> Tensor:
    sine = (1 - cosine.square()).clamp_min(1e-7).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    # Beyond pi - m the angle cannot grow by m; the loss is linear there, as in the authors' code.
    return torch.where(cosine > math.cos(math.pi - margin), moved, cosine - margin * math.sin(margin))


MARGINS = {"cosface": _cosface, "arcface": _arcface}


class PartialFC(nn.Module):
    """This rank's class centres, and the loss of all ranks' embeddings with all ranks' centres."""

    def __init__(
        self, config: MarginConfig, *, num_identities: int, outputs: int = 512, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.num_identities, self.seed = config, num_identities, seed
        start, end = share_of_rank(num_identities)
        self.first = start
        self.weight = nn.Parameter(_draw_rows(num_identities, outputs, seed, (start, end)))

    def forward(self, embedding_BD: Tensor, person_B: Tensor, step: int = 0) -> Tensor:
        """Return the mean loss over all ranks' images.

        person_B: identities, 0..num_identities - 1. step: with the seed, it selects the sample.
        """
        embedding_BD = F.normalize(gather_rows(embedding_BD.float()))
        person_B = gather_rows(person_B)
        if not len(person_B):
            return (embedding_BD.sum() + self._take_rows(person_B).sum()) * 0
        here_B = (person_B >= self.first) & (person_B < self.first + len(self.weight))
        row_L = self._select_rows(person_B[here_B] - self.first, step)
        cosine_BL = embedding_BD @ F.normalize(self._take_rows(row_L)).T
        own_BL = here_B[:, None] & (row_L[None, :] == (person_B - self.first)[:, None])
        moved_BL = MARGINS[self.config.kind](cosine_BL, self.config.margin)
        logits_BL = self.config.scale * torch.where(own_BL, moved_BL, cosine_BL)
        own_logit_B = sum_over_ranks((logits_BL * own_BL).sum(1))
        # Softmax over all ranks' identities: common maximum, then common sum; a rank can have no identity.
        floor_B1 = logits_BL.new_full((len(logits_BL), 1), -math.inf)
        top_B = max_over_ranks(torch.cat([logits_BL.detach(), floor_B1], 1).amax(1))
        sum_B = sum_over_ranks((logits_BL - top_B[:, None]).exp().sum(1))
        return (sum_B.log() + top_B - own_logit_B).mean()

    @property
    def sparse(self) -> bool:
        """Whether the gradient is a sparse tensor of the sampled rows."""
        return self.config.sample < 1

    def _take_rows(self, row_L: Tensor) -> Tensor:
        return F.embedding(row_L, self.weight, sparse=self.sparse)

    def _select_rows(self, own_P: Tensor, step: int) -> Tensor:
        """Select rows of this rank's centres: the batch's identities and a sample of the others."""
        if self.config.sample >= 1:
            return torch.arange(len(self.weight), device=own_P.device)
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + step * 4099 + rank())
        chance_C = torch.rand(len(self.weight), generator=generator).to(own_P.device)
        chance_C[own_P] = 2.0
        count = max(round(self.config.sample * len(self.weight)), len(own_P.unique()))
        return chance_C.topk(count).indices.sort().values

    @torch.no_grad()
    def correct_gradients(self) -> None:
        """Divide the gradient by the number of ranks, since every rank's loss has added its own.

        A sparse one then has each row once, also after several accumulated batches.
        """
        gradient = self.weight.grad
        if gradient is not None:
            self.weight.grad = (gradient.coalesce() if gradient.is_sparse else gradient) / world()


def _draw_rows(num_identities: int, outputs: int, seed: int, share: tuple[int, int]) -> Tensor:
    """Return the rows of a rank's share of `torch.randn(num_identities, outputs) * 0.01`.

    They do not depend on the number of ranks, and at most one further block of the whole is held.
    torch draws 16 values at a time, so that blocks of `BLOCK` rows continue one sequence.
    """
    generator = torch.Generator().manual_seed(seed)
    start, end = share
    rows_CD = torch.empty(end - start, outputs)
    first = 0
    while first < num_identities:
        # A short rest would be drawn in another way, so it joins the last block.
        last = first + BLOCK if num_identities - first >= 2 * BLOCK else num_identities
        block = torch.randn(last - first, outputs, generator=generator) * 0.01
        low, high = max(first, start), min(last, end)
        if low < high:
            rows_CD[low - start : high - start] = block[low - first : high - first]
        first = last
    return rows_CD


def share_of_rank(num_identities: int) -> tuple[int, int]:
    """Return the first identity whose centre this rank holds, and one past the last, as torch.chunk does."""
    size = -(-num_identities // world())
    return min(rank() * size, num_identities), min((rank() + 1) * size, num_identities)
