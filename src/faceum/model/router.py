"""The face-aware router: tokens of (task, image) pairs -> which experts, with which gates.

Letters: S rows of tokens, P pairs of task and image, N tokens, D width, T tasks, R regions (0 background,
1 face), E experts, K slots for chosen experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faceum.errors import ModelError

BACKGROUND, FACE = 0, 1


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """How tokens choose experts.

    kind: "face" (ours) or "reference" (the published rule; see ReferenceRouter).
    num_experts: how many there are.
    top_p: the chosen experts together hold at least this share of the experts' probability.
    k_min: fewest experts a token takes. k_max_face, k_max_background: most, by the token's region.
    regions: False makes face and background share one gate (the ablation without the split).
    """

    kind: str = "face"
    num_experts: int = 8
    top_p: float = 0.5
    k_min: int = 1
    k_max_face: int = 2
    k_max_background: int = 1
    regions: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.k_min <= min(self.k_max_face, self.k_max_background):
            raise ModelError(
                f"A token takes at least {self.k_min} experts and at most {self.k_max_face} (face) or "
                f"{self.k_max_background} (background); k_min must not be the larger."
            )
        if max(self.k_max_face, self.k_max_background) > self.num_experts:
            raise ModelError(f"There are {self.num_experts} experts; k_max cannot be more.")


@dataclass(frozen=True)
class Routing:
    """What the router decided, and the sums that losses, balance and plots need.

    topk_experts_PNK: chosen expert of each slot, in descending order of preference.
    weights_PNK: its weight; 0 where the slot is not taken.
    active_PNK: True where the slot is taken.
    probability_TE: sum of the experts' probabilities over each task's routed tokens (has a gradient).
    z_T: sum of the squared log of the experts' partition (the null left out: with it, the loss would be
        least where no expert has any weight) over each task's routed tokens (has a gradient).
    tokens_T: number of routed tokens of each task.
    load_TRE: how often each expert was taken, by task and by the region whose gate chose.
    """

    topk_experts_PNK: Tensor
    weights_PNK: Tensor
    active_PNK: Tensor
    probability_TE: Tensor
    z_T: Tensor
    tokens_T: Tensor
    load_TRE: Tensor


def _logits(x_PND: Tensor, weight_TRED: Tensor, task_P: Tensor, region_PN: Tensor) -> Tensor:
    """Each token's logits by its task's and its region's gate, in float32: (P, N, E)."""
    weight_PRED = weight_TRED.float()[task_P]
    both_PNX = torch.bmm(x_PND.float(), weight_PRED.flatten(1, 2).transpose(1, 2))
    background_PNE, face_PNE = both_PNX.chunk(2, dim=-1)
    return torch.where(region_PN[..., None].bool(), face_PNE, background_PNE)


def _sum_by_task(value_P: Tensor, task_P: Tensor, tasks: int) -> Tensor:
    return value_P.new_zeros((tasks, *value_P.shape[1:])).index_add(0, task_P, value_P)


class FaceRouter(nn.Module):
    """Our rule: a token's choice depends on the token, its task and its region alone.

    logits = [W[task, region] x, 0], the 0 standing for the shared expert; p = softmax. Experts are taken in
    descending order of p + bias[region] (ties: the lower index) until their p sum to top_p of all experts' p,
    at least k_min, at most k_max of the region. gate_e = p_e / (sum of the taken p + p_0): bounded, and with
    a gradient even where one expert is taken.

    The bias balances the load without a gradient (arXiv 2408.15664): selection sees it, gates do not.
    """

    bias: Tensor

    def __init__(self, config: RouterConfig, *, dim: int, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(tasks, 2, config.num_experts, dim))
        self.register_buffer("bias", torch.zeros(2, config.num_experts))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x_PND: Tensor, task_P: Tensor, face_PN: Tensor) -> Routing:
        """(P, N, D) tokens, (P,) task ids, (P, N) True on face tokens -> Routing."""
        config = self.config
        region_PN = face_PN.long() if config.regions else torch.full_like(face_PN, FACE, dtype=torch.long)
        with torch.autocast(x_PND.device.type, enabled=False):
            logits_PNE = _logits(x_PND, self.weight, task_P, region_PN)
        experts_PN = logits_PNE.logsumexp(-1)
        log_partition_PN = torch.logaddexp(experts_PN, torch.zeros_like(experts_PN))
        p_PNE = (logits_PNE - log_partition_PN[..., None]).exp()
        null_PN = (-log_partition_PN).exp()

        k_max = max(config.k_max_face, config.k_max_background)
        preference_PNE = p_PNE.detach() + self.bias[region_PN]
        topk_experts_PNK = preference_PNE.sort(dim=-1, descending=True, stable=True).indices[..., :k_max]
        p_PNK = p_PNE.gather(-1, topk_experts_PNK)
        before_PNK = p_PNK.detach().cumsum(-1) - p_PNK.detach()
        wanted_PN1 = config.top_p * p_PNE.detach().sum(-1, keepdim=True)
        slot_K = torch.arange(k_max, device=x_PND.device)
        limit_PN = config.k_max_background + (config.k_max_face - config.k_max_background) * region_PN
        active_PNK = ((before_PNK < wanted_PN1) | (slot_K < config.k_min)) & (slot_K < limit_PN[..., None])

        active_p_PNK = p_PNK * active_PNK
        weights_PNK = active_p_PNK / (active_p_PNK.sum(-1, keepdim=True) + null_PN[..., None])
        return self._choice(topk_experts_PNK, weights_PNK, active_PNK, p_PNE, experts_PN, task_P, region_PN)

    def _choice(
        self,
        topk_experts_PNK: Tensor,
        weights_PNK: Tensor,
        active_PNK: Tensor,
        p_PNE: Tensor,
        experts_PN: Tensor,
        task_P: Tensor,
        region_PN: Tensor,
    ) -> Routing:
        tasks, _, experts, _ = self.weight.shape
        tokens_P = torch.full_like(task_P, region_PN.shape[1])
        return Routing(
            topk_experts_PNK=topk_experts_PNK,
            weights_PNK=weights_PNK,
            active_PNK=active_PNK,
            probability_TE=_sum_by_task(p_PNE.sum(1), task_P, tasks),
            z_T=_sum_by_task(experts_PN.square().sum(1), task_P, tasks),
            tokens_T=_sum_by_task(tokens_P, task_P, tasks),
            load_TRE=count_load(topk_experts_PNK, active_PNK, task_P, region_PN, tasks, experts),
        )


def count_load(
    topk_experts_PNK: Tensor, active_PNK: Tensor, task_P: Tensor, region_PN: Tensor, tasks: int, experts: int
) -> Tensor:
    """How often each expert was taken by each task in each region: (T, R, E) int64."""
    cell_PNK = (task_P[:, None, None] * 2 + region_PN.long()[..., None]) * experts + topk_experts_PNK
    counts = torch.zeros(tasks * 2 * experts, dtype=torch.long, device=cell_PNK.device)
    counts.index_add_(0, cell_PNK.flatten(), active_PNK.flatten().long())
    return counts.view(tasks, 2, experts)
