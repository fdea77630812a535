"""Layer 2. The routed experts: tokens and a router's choice -> the gated sum of the chosen experts.

Letters: P pairs of task and picture, N tokens, D width, H hidden width, E experts, K slots, M routed rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.model.layers import ACTIVATIONS, require_known
from faceum.model.router import Choice


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """The routed experts, each Linear(D, H), activation, Linear(H, D) without biases.

    hidden: H. activation: a name in layers.ACTIVATIONS.
    """

    hidden: int = 1536
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        require_known("activation", self.activation, ACTIVATIONS)


def grouped_matmul(x_MD: Tensor, weight_EDH: Tensor, count_E: Tensor) -> Tensor:
    """Rows sorted by expert times their expert's matrix: the first count[0] rows by weight[0], and so on.

    (M, D) x (E, D, H) -> (M, H), with M = sum of count_E. On CUDA one grouped kernel where it serves;
    elsewhere a product an expert, which works for every type and stride.
    """
    if _grouped_kernel_serves(x_MD, weight_EDH):
        return F.grouped_mm(x_MD, weight_EDH, offs=count_E.cumsum(0).to(torch.int32))
    groups = x_MD.split(count_E.tolist())
    return torch.cat([group @ weight for group, weight in zip(groups, weight_EDH, strict=True)])


def _grouped_kernel_serves(x_MD: Tensor, weight_EDH: Tensor) -> bool:
    """Whether torch's one kernel for all groups takes these (read off its sources, torch 2.13).

    For float32 and half precision torch loops over the groups itself, and it refuses float64. Rows must start
    at multiples of 16 bytes, in the backward pass too, where either width is the length of a row.
    """
    eights = all(size % 8 == 0 for size in weight_EDH.shape[1:])
    both_bfloat16 = x_MD.dtype == weight_EDH.dtype == torch.bfloat16
    return x_MD.is_cuda and both_bfloat16 and eights and len(x_MD) > 0 and hasattr(F, "grouped_mm")


class Experts(nn.Module):
    """All experts' matrices and the one grouped call through them.

    Their second matrices start at zero, so that a fresh mixture adds nothing to the shared expert.
    """

    def __init__(self, config: ExpertsConfig, *, experts: int, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.expand = nn.Parameter(torch.empty(experts, width, config.hidden))
        self.reduce = nn.Parameter(torch.zeros(experts, config.hidden, width))
        nn.init.normal_(self.expand, std=width**-0.5)

    def forward(self, x_PND: Tensor, choice: Choice) -> Tensor:
        """(P, N, D) tokens -> (P, N, D): sum over the taken slots of gate * expert(token)."""
        pairs, tokens, width = x_PND.shape
        slots = choice.expert_PNK.shape[-1]
        expert_M = choice.expert_PNK.masked_fill(~choice.taken_PNK, len(self.expand)).flatten()
        order_M = expert_M.argsort(stable=True)
        count_E = torch.bincount(expert_M, minlength=len(self.expand) + 1)[:-1]
        order_M = order_M[: int(count_E.sum())]
        token_M = order_M // slots
        x_MD = x_PND.reshape(-1, width).index_select(0, token_M)
        if torch.is_autocast_enabled(x_MD.device.type):
            x_MD = x_MD.to(torch.get_autocast_dtype(x_MD.device.type))
        hidden_MH = self.activation(grouped_matmul(x_MD, self.expand.to(x_MD.dtype), count_E))
        out_MD = grouped_matmul(hidden_MH, self.reduce.to(x_MD.dtype), count_E)
        gated_MD = out_MD * choice.gate_PNK.flatten().index_select(0, order_M)[:, None].to(out_MD.dtype)
        flat = torch.zeros(pairs * tokens, width, dtype=out_MD.dtype, device=out_MD.device)
        return flat.index_add(0, token_M, gated_MD).view(pairs, tokens, width)
