"""The face-aware router: tokens of pairs of task and image -> experts and their weights.

Letters: P pairs of task and image, N tokens, D token dimension, T tasks, R regions (0 background, 1 face),
E experts, K slots for chosen experts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from faceum.errors import ModelError

BACKGROUND, FACE = 0, 1


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """How tokens choose experts.

    kind: "face" for FaceRouter, or "reference" for the published rule (ReferenceRouter), which uses only
        num_experts of the other fields.
    num_experts: number of routed experts.
    top_p: a token takes experts until they hold this part of the experts' probability.
    k_min: least number of experts per token.
    k_max_face: largest number of experts per face token.
    k_max_background: largest number of experts per background token.
    regions: whether face and background tokens have a gate each; False for the ablation with one gate.
    """

    kind: str = "face"
    num_experts: int = 8
    top_p: float = 0.5
    k_min: int = 1
    k_max_face: int = 2
    k_max_background: int = 1
    regions: bool = True

    def __post_init__(self) -> None:
        if self.kind == "reference":
            self._require_defaults()
            return
        if not 0 <= self.k_min <= min(self.k_max_face, self.k_max_background):
            raise ModelError(
                f"k_min is {self.k_min}; it must be between 0 and the smaller of k_max_face and "
                f"k_max_background, which are {self.k_max_face} and {self.k_max_background}."
            )
        if max(self.k_max_face, self.k_max_background) > self.num_experts:
            raise ModelError(f"k_max cannot be larger than num_experts, which is {self.num_experts}.")

    def _require_defaults(self) -> None:
        """Raise ModelError for a field that the reference router would ignore."""
        if self.num_experts < 1:
            raise ModelError(f"num_experts is {self.num_experts}; it must be positive.")
        for field in fields(self):
            if field.name not in ("kind", "num_experts") and getattr(self, field.name) != field.default:
                raise ModelError(
                    f'router.{field.name} has no effect with kind="reference"; leave it out or use "face".'
                )


@dataclass(frozen=True)
class Routing:
    """The router's choice, and the sums that losses, balance and plots need.

    topk_experts_PNK: the expert in each slot, in descending order of preference.
    weights_PNK: weight of each slot's expert; 0 if the slot is not active.
    active_PNK: whether each slot is used.
    probability_TE: sum of the experts' probabilities over each task's routed tokens (has a gradient).
    z_T: sum over each task's routed tokens of the squared log of the experts' partition (has a gradient). The
        null is left out; with it, the loss would be smallest if no expert had any weight.
    tokens_T: number of routed tokens of each task.
    load_TRE: how often each expert was chosen, by task and by the region whose gate chose.
    """

    topk_experts_PNK: Tensor
    weights_PNK: Tensor
    active_PNK: Tensor
    probability_TE: Tensor
    z_T: Tensor
    tokens_T: Tensor
    load_TRE: Tensor


def _logits(x_PND: Tensor, weight_TRED: Tensor, task_P: Tensor, region_PN: Tensor) -> Tensor:
    """Return each token's logits (P, N, E), in float32, from the gate of its task and region."""
    weight_PRED = weight_TRED.float()[task_P]
    both_PNX = torch.bmm(x_PND.float(), weight_PRED.flatten(1, 2).transpose(1, 2))
    background_PNE, face_PNE = both_PNX.chunk(2, dim=-1)
    return torch.where(region_PN[..., None].bool(), face_PNE, background_PNE)


def _sum_by_task(value_P: Tensor, task_P: Tensor, tasks: int) -> Tensor:
    return value_P.new_zeros((tasks, *value_P.shape[1:])).index_add(0, task_P, value_P)


class FaceRouter(nn.Module):
    """Routes each token by the token itself, its task and its region.

    logits = [W[task, region] x, 0], where the 0 is the shared expert's (the null); p = softmax(logits).
    Experts are chosen in descending order of p + bias[region] (ties: the lower index) until their p sum to
    top_p of all experts' p, at least k_min and at most k_max of the region. The weight of expert e is
    p_e / (sum of the chosen p + p_null): bounded, and with a gradient even if one expert is chosen.

    The bias balances the load without a gradient (arXiv 2408.15664): it changes the choice, not the weights.
    """

    bias: Tensor

    def __init__(self, config: RouterConfig, *, dim: int, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(tasks, 2, config.num_experts, dim))
        self.register_buffer("bias", torch.zeros(2, config.num_experts))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x_PND: Tensor, task_P: Tensor, face_PN: Tensor) -> Routing:
        """Route (P, N, D) tokens with (P,) task ids and (P, N) bool, True for face tokens."""
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
        target_PN1 = config.top_p * p_PNE.detach().sum(-1, keepdim=True)
        slot_K = torch.arange(k_max, device=x_PND.device)
        limit_PN = config.k_max_background + (config.k_max_face - config.k_max_background) * region_PN
        active_PNK = ((before_PNK < target_PN1) | (slot_K < config.k_min)) & (slot_K < limit_PN[..., None])

        active_p_PNK = p_PNK * active_PNK
        weights_PNK = active_p_PNK / (active_p_PNK.sum(-1, keepdim=True) + null_PN[..., None])
        return self._build_routing(
            topk_experts_PNK, weights_PNK, active_PNK, p_PNE, experts_PN, task_P, region_PN
        )

    def _build_routing(
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
    """Return how often each task chose each expert in each region: (T, R, E) int64."""
    cell_PNK = (task_P[:, None, None] * 2 + region_PN.long()[..., None]) * experts + topk_experts_PNK
    counts = torch.zeros(tasks * 2 * experts, dtype=torch.long, device=cell_PNK.device)
    counts.index_add_(0, cell_PNK.flatten(), active_PNK.flatten().long())
    return counts.view(tasks, 2, experts)
