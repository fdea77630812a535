"""One loss per kind of task, and the routers' losses.

Every loss is that of all ranks' images together: sums and counts are added over ranks before the division.

Letters: B images with the label, T tasks, R regions, E experts, Y age bins, C classes, O points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.model.heads import EmbeddingHead
from faceum.model.router import Routing
from faceum.train.distributed import gather_rows, mean_over_ranks, sum_over_ranks

AGE_SIGMA = 2.0

HEAT_SIGMA = 1.5
"""Standard deviation of a point's target heat map, in cells."""


class Distillation(nn.Module):
    """1 - cosine between a teacher's embedding and a linear projection of the network's.

    The projection is dropped after training. Its rows start orthonormal, so that cosines between
    embeddings start as cosines between projections.
    """

    def __init__(self, outputs: int = 512, teacher: int = 256) -> None:
        super().__init__()
        self.projection = nn.Linear(outputs, teacher, bias=False)
        nn.init.orthogonal_(self.projection.weight)

    def forward(self, embedding_BD: Tensor, teacher_BV: Tensor) -> Tensor:
        """Map (B, 512) and (B, 256), of any length, to a scalar in 0..2."""
        projected_BV = self.projection(embedding_BD.float())
        return mean_over_ranks(1 - F.cosine_similarity(projected_BV, teacher_BV.float()))

    @torch.no_grad()
    def fit(self, embedding_BD: Tensor, teacher_BV: Tensor, ridge: float = 1e-3) -> float:
        """Set the projection by least squares from embeddings to a teacher's, both of length 1.

        ridge: penalty, as a fraction of the mean squared singular value. Returns the mean cosine after the
        fit.
        """
        ours = F.normalize(embedding_BD.double())
        theirs = F.normalize(teacher_BV.double())
        square_DD = ours.T @ ours
        one_DD = torch.eye(len(square_DD), dtype=torch.float64, device=square_DD.device)
        penalty_DD = ridge * square_DD.diagonal().mean() * one_DD
        weight_VD = torch.linalg.solve(square_DD + penalty_DD, ours.T @ theirs).T
        # Only the direction of a projection counts; its norm becomes that of orthonormal rows.
        self.projection.weight.copy_(weight_VD * len(weight_VD) ** 0.5 / weight_VD.norm())
        return float(F.cosine_similarity(self.projection(embedding_BD.float()), teacher_BV.float()).mean())

    @torch.no_grad()
    def fold_into(self, head: EmbeddingHead) -> None:
        """Multiply a head's embedding by `root`; the projection keeps only its rotation."""
        left_VV, _, direction_VD = torch.linalg.svd(self.projection.weight.double(), full_matrices=False)
        head.transform(self.root())
        self.projection.weight.copy_(left_VV @ direction_VD)

    @torch.no_grad()
    def root(self) -> Tensor:
        """Return the symmetric matrix (512, 512) that gives embeddings the cosines of their projections.

        M = (P'P)^(1/2) has a'M'Mb = (Pa)'(Pb) for all a, b.
        """
        _, size_V, direction_VD = torch.linalg.svd(self.projection.weight.double(), full_matrices=False)
        return ((direction_VD.T * size_V) @ direction_VD).float()


def relation_loss(embedding_BD: Tensor, teacher_BV: Tensor) -> Tensor:
    """Return the mean squared difference of all pairs' cosines, embedding and teacher (arXiv 1904.05068).

    It trains the embedding itself, which is what users compare, and not only its projection.
    """
    ours = F.normalize(gather_rows(embedding_BD.float()))
    theirs = F.normalize(gather_rows(teacher_BV.float()))
    return (ours @ ours.T - theirs @ theirs.T).square().sum() / max(len(ours) ** 2, 1)


def age_loss(logits_BY: Tensor, years_B: Tensor) -> Tensor:
    """Return DLDL-v2 (arXiv 1807.10421): KL to a Gaussian of sigma 2 plus the L1 error of the expectation.

    p = sigmoid(logits) / its sum over 0..100, as in `faceum.decode`.
    """
    p_BY = torch.sigmoid(logits_BY.float())
    p_BY = p_BY / p_BY.sum(-1, keepdim=True).clamp_min(1e-6)
    bin_Y = torch.arange(p_BY.shape[-1], device=p_BY.device, dtype=torch.float32)
    years_B1 = years_B.float().clamp(0, len(bin_Y) - 1)[:, None]
    target_BY = torch.softmax(-0.5 * ((bin_Y - years_B1) / AGE_SIGMA).square(), -1)
    divergence = (target_BY * (target_BY.clamp_min(1e-12).log() - p_BY.clamp_min(1e-12).log())).sum(-1)
    return mean_over_ranks(divergence + ((p_BY * bin_Y).sum(-1) - years_B1[:, 0]).abs())


def attribute_loss(logits_BA: Tensor, label_BA: Tensor) -> Tensor:
    """Return the binary cross-entropy: the sum over attributes of the mean over the images that know each.

    label_BA: 1 yes, 0 no, -1 unknown; an unknown label adds neither loss nor gradient.
    """
    label_BA = label_BA.float()
    known_BA = (label_BA >= 0).float()
    each_BA = F.binary_cross_entropy_with_logits(logits_BA.float(), label_BA.clamp_min(0), reduction="none")
    sum_A, count_A = sum_over_ranks((each_BA * known_BA).sum(0)), sum_over_ranks(known_BA.sum(0))
    return (sum_A / count_A.clamp_min(1)).sum()


def expression_loss(logits_BC: Tensor, votes_BC: Tensor, shift_C: Tensor | None = None) -> Tensor:
    """Return the cross-entropy with the distribution of votes (arXiv 1608.01041).

    shift_C: added to the logits in training only (arXiv 2007.07314). A fraction of the log frequency of each
        class makes the network answer rare classes more often.
    """
    target_BC = votes_BC.float() / votes_BC.float().sum(-1, keepdim=True)
    logits_BC = logits_BC.float() if shift_C is None else logits_BC.float() + shift_C
    return mean_over_ranks(F.cross_entropy(logits_BC, target_BC, reduction="none"))


def parsing_loss(logits_BChw: Tensor, class_Bhw: Tensor, weight_C: Tensor | None = None) -> Tensor:
    """Return per-pixel cross-entropy plus Dice, with logits resized to the labels."""
    class_Bhw = class_Bhw.long()
    logits = F.interpolate(
        logits_BChw.float(), size=class_Bhw.shape[-2:], mode="bilinear", align_corners=False
    )
    if weight_C is None:
        weight_C = logits.new_ones(logits.shape[1])
    entropy = F.cross_entropy(logits, class_Bhw, weight=weight_C, reduction="sum")
    entropy = sum_over_ranks(entropy) / sum_over_ranks(weight_C[class_Bhw].sum()).clamp_min(1e-6)
    return entropy + dice_loss(logits, class_Bhw)


def dice_loss(logits_BChw: Tensor, class_Bhw: Tensor) -> Tensor:
    """Return 1 - Dice, mean over the classes in the batch's labels (arXiv 1606.04797)."""
    p_BChw = logits_BChw.softmax(1)
    truth = F.one_hot(class_Bhw, p_BChw.shape[1]).permute(0, 3, 1, 2).float()
    sums_XC = torch.stack([(p_BChw * truth).sum((0, 2, 3)), p_BChw.sum((0, 2, 3)), truth.sum((0, 2, 3))])
    common_C, p_C, truth_C = sum_over_ranks(sums_XC)
    each_C = 1 - 2 * common_C / (p_C + truth_C).clamp_min(1e-6)
    return (each_C * (truth_C > 0)).sum() / (truth_C > 0).sum().clamp_min(1)


def landmark_loss(points_BO2: Tensor, label_BO2: Tensor, eye_distance_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return the mean distance in eye distances, as in the NME, weighted by image."""
    error_BO = (points_BO2.float() - label_BO2).square().sum(-1).clamp_min(1e-10).sqrt()
    error_B = error_BO.mean(-1) / eye_distance_B
    return sum_over_ranks((error_B * weight_B).sum()) / sum_over_ranks(weight_B.sum()).clamp_min(1e-6)


def heat_map_loss(logits_BOhw: Tensor, label_BO2: Tensor, weight_B: Tensor) -> Tensor:
    """Return the binary cross-entropy of heat maps with a Gaussian around each point, mean over cells.

    label_BO2: x, y in 0..1 of the crop. weight_B: weight of each image. For a point outside the crop the map
    has the tail of the Gaussian.
    """
    height, width = logits_BOhw.shape[-2:]

    def falloff(place_BO: Tensor, cells: int) -> Tensor:
        centre = torch.arange(cells, device=place_BO.device) + 0.5
        return torch.exp(-0.5 * ((centre - place_BO[..., None] * cells) / HEAT_SIGMA).square())

    x_BOw, y_BOh = falloff(label_BO2[..., 0], width), falloff(label_BO2[..., 1], height)
    target_BOhw = y_BOh[..., :, None] * x_BOw[..., None, :]
    each = F.binary_cross_entropy_with_logits(logits_BOhw.float(), target_BOhw, reduction="none")
    total = sum_over_ranks((each.mean((1, 2, 3)) * weight_B).sum())
    return total / sum_over_ranks(weight_B.sum()).clamp_min(1e-6)


def routing_losses(routing: Sequence[Routing]) -> dict[str, Tensor]:
    """Return the routing losses, each the mean over MoE blocks; empty without routing.

    balance: experts * sum_e f_e P_e, with f the part of active slots and P of probability (arXiv 2101.03961),
        over all tasks, each weighted equally.
    z: mean squared log of the experts' partition (arXiv 2202.08906).
    mutual_information: minus I(task; expert), in nats (arXiv 2212.08066), tasks weighted equally.
    """
    if not routing:
        return {}
    each = [_routing_loss(one) for one in routing]
    return {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}


def _routing_loss(routing: Routing) -> dict[str, Tensor]:
    tokens_T = sum_over_ranks(routing.tokens_T)
    asked = tokens_T > 0
    tokens = tokens_T[asked].float()
    probability_TE = sum_over_ranks(routing.probability_TE)[asked]
    share_TE = probability_TE / probability_TE.sum(-1, keepdim=True)
    load_TE = sum_over_ranks(routing.load_TRE).sum(1)[asked].float()
    load_E = (load_TE / load_TE.sum(-1, keepdim=True)).mean(0)
    share_E = share_TE.mean(0)
    joint_TE = share_TE / len(share_TE)
    ratio = (share_TE.clamp_min(1e-9) / share_E.clamp_min(1e-9)).log()
    return {
        "balance": len(share_E) * (load_E * share_E).sum(),
        "z": (sum_over_ranks(routing.z_T)[asked] / tokens).mean(),
        "mutual_information": -(joint_TE * ratio).sum(),
    }


@torch.no_grad()
def balance_experts(bias_RE: Tensor, load_TRE: Tensor, step: float = 1e-3) -> None:
    """Move each region's selection bias towards equal load, in place (arXiv 2408.15664), without a gradient.

    Every task has the same weight, for any number of images.
    """
    load = sum_over_ranks(load_TRE).float()
    share_RE = (load / load.sum(-1, keepdim=True).clamp_min(1)).sum(0)
    bias_RE += step * torch.sign(share_RE.mean(-1, keepdim=True) - share_RE)
