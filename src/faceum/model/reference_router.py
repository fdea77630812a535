"""The published router, for published checkpoints: tokens of pairs -> experts and their weights.

Letters: P pairs of task and image, N tokens (the class token first), D token dimension, T tasks, R regions,
E experts, K slots for chosen experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceum.model.router import RouterConfig, Routing, count_load

FLOOR = 1e-4
"""Added to every probability; the weights are not normalized after that."""

COUNTED = 0.1
"""A probability above this is counted; the mean count per token sets the number of experts of an image."""

MORE, MOST_FACE, MOST_BACKGROUND = 2, 6, 2
"""The face pass takes `MORE` experts than the mean count, at most `MOST_FACE`; the background pass always
takes `MOST_BACKGROUND`."""


class ReferenceRouter(nn.Module):
    """The published rule, applied to each pair of task and image separately.

    It was published as two passes over all patch tokens, one per region, with the other region's tokens set
    to zero; a token keeps the answer of its own region's pass. The zeroed tokens change only the number
    of experts of the face pass: their probabilities are equal, and of up to ten experts all are counted.
    Here each token is routed once, and the zeroed ones are only counted.

    The weight is p = softmax(W[task, region] x) + 1e-4. The class token is required and takes no routed
    expert, and the patch tokens have no shared one.
    """

    def __init__(self, config: RouterConfig, *, dim: int, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(tasks, 2, config.num_experts, dim))

    def forward(self, x_PND: Tensor, task_P: Tensor, face_PN: Tensor) -> Routing:
        """Route (P, N, D) tokens with (P,) task ids and (P, N) bool, True for face tokens."""
        with torch.autocast(x_PND.device.type, enabled=False):
            logits_PNE = self._logits(x_PND.float(), task_P, face_PN)
        p_PNE = logits_PNE.softmax(-1) + FLOOR
        slots = min(MOST_FACE, self.config.num_experts)
        best_PNE, order_PNE = p_PNE.sort(dim=-1, descending=True, stable=True)
        topk_experts_PNK = order_PNE[..., :slots]

        limit_PN = face_experts(p_PNE, face_PN)[:, None].expand(face_PN.shape)
        limit_PN = limit_PN.masked_fill(~face_PN, MOST_BACKGROUND)
        limit_PN[:, 0] = 0
        active_PNK = torch.arange(slots, device=x_PND.device) < limit_PN[..., None]

        tasks, _, experts, _ = self.weight.shape
        z_P = logits_PNE[:, 1:].logsumexp(-1).square().sum(1)
        return Routing(
            topk_experts_PNK=topk_experts_PNK,
            weights_PNK=best_PNE[..., :slots] * active_PNK,
            active_PNK=active_PNK,
            probability_TE=p_PNE.new_zeros(tasks, experts).index_add(0, task_P, p_PNE[:, 1:].sum(1)),
            z_T=z_P.new_zeros(tasks).index_add(0, task_P, z_P),
            tokens_T=task_P.new_zeros(tasks).index_add(
                0, task_P, torch.full_like(task_P, face_PN.shape[1] - 1)
            ),
            load_TRE=count_load(topk_experts_PNK, active_PNK, task_P, face_PN, tasks, experts),
        )

    def _logits(self, x_PND: Tensor, task_P: Tensor, face_PN: Tensor) -> Tensor:
        """Return each token's logits (P, N, E) from the gate of its task and region."""
        background_PED, face_PED = self.weight.float()[task_P].unbind(1)
        background_PNE = x_PND @ background_PED.transpose(1, 2)
        return torch.where(face_PN[..., None], x_PND @ face_PED.transpose(1, 2), background_PNE)


def face_experts(p_PNE: Tensor, face_PN: Tensor) -> Tensor:
    """Return (P,) int64: the number of experts of a pair's face tokens; halves are rounded to even.

    p_PNE: probabilities. face_PN: True for face tokens; the first one, the class token, does not count.
    """
    experts = p_PNE.shape[-1]
    zeroed = experts if 1 / experts + FLOOR > COUNTED else 0
    count_PN = (p_PNE > COUNTED).sum(-1).masked_fill(~face_PN, zeroed)[:, 1:]
    return (count_PN.double().mean(-1).round().long() + MORE).clamp(max=MOST_FACE)
