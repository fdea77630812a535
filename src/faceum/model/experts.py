"""The routed experts: tokens and their routing -> the weighted sum of the chosen experts.

Letters: P pairs of task and image, N tokens, D token dimension, H hidden dimension, E experts, K slots,
M routed rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceum.errors import ModelError
from faceum.model.layers import ACTIVATIONS, require_known
from faceum.model.router import Routing

ROWS = 64
"""Matrix products in half precision on a CPU have a multiple of this number of rows."""


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """The routed experts, each Linear(D, H), activation, Linear(H, D) without biases.

    hidden_dim: H.
    activation: a name in layers.ACTIVATIONS.
    """

    hidden_dim: int = 1536
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        require_known("activation", self.activation, ACTIVATIONS)
        if self.hidden_dim < 1:
            raise ModelError(f"experts.hidden_dim is {self.hidden_dim}; it must be positive.")


def multiply_grouped(x_MD: Tensor, weight_EDH: Tensor, end_E: Tensor) -> Tensor:
    """Multiply rows, sorted by expert, by their expert's matrix: rows before end[0] by weight[0], etc.

    (M, D) x (E, D, H) -> (M, H), with M = end[-1]. end_E: int32. Uses one grouped kernel on CUDA
    if it supports the inputs; it accepts a larger M, and leaves the rows from end[-1] on uninitialized.
    Otherwise it is one
    product per expert, for every dtype and stride.
    """
    if _supports_grouped_kernel(x_MD, weight_EDH):
        return F.grouped_mm(x_MD, weight_EDH, offs=end_E)
    ends = end_E[:-1].tolist()
    groups = x_MD.tensor_split(ends)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        pairs = zip(groups, weight_EDH, strict=True)
        return torch.cat([_matmul(group, weight) for group, weight in pairs])
    out_MH = x_MD.new_empty(len(x_MD), weight_EDH.shape[-1])
    for group, weight, place in zip(groups, weight_EDH, out_MH.tensor_split(ends), strict=True):
        torch.mm(group, weight, out=place)
    return out_MH


def _matmul(x_MD: Tensor, weight_DH: Tensor) -> Tensor:
    """Return the product; in half precision on a CPU, rows are padded to a multiple of ROWS.

    oneDNN compiles a kernel for every new size, forward and backward, which takes up to a hundred times as
    long as the product, and the number of routed rows changes with every call.
    """
    if x_MD.device.type != "cpu" or x_MD.dtype not in (torch.bfloat16, torch.float16):
        return x_MD @ weight_DH
    return (F.pad(x_MD, (0, 0, 0, -len(x_MD) % ROWS)) @ weight_DH)[: len(x_MD)]


def _supports_grouped_kernel(x_MD: Tensor, weight_EDH: Tensor) -> bool:
    """Return whether torch's grouped kernel supports these inputs (from its source, torch 2.13).

    For float32 and float16 torch loops over the groups itself, and it refuses float64. Rows must start at
    multiples of 16 bytes, also in the backward pass, where either dimension is the length of a row.
    """
    eights = all(size % 8 == 0 for size in weight_EDH.shape[1:])
    both_bfloat16 = x_MD.dtype == weight_EDH.dtype == torch.bfloat16
    return x_MD.is_cuda and both_bfloat16 and eights and len(x_MD) > 0 and hasattr(F, "grouped_mm")


class Experts(nn.Module):
    """The matrices of all routed experts.

    The second matrices start at zero, so that new experts add nothing to the shared expert.
    """

    def __init__(self, config: ExpertsConfig, *, num_experts: int, dim: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = nn.Parameter(torch.empty(num_experts, dim, config.hidden_dim))
        self.fc2 = nn.Parameter(torch.zeros(num_experts, config.hidden_dim, dim))
        nn.init.normal_(self.fc1, std=dim**-0.5)

    def forward(self, x_PND: Tensor, routing: Routing) -> Tensor:
        """(P, N, D) -> (P, N, D): the sum over active slots of weight * expert(token)."""
        x, kind = x_PND.flatten(0, 1), x_PND.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if not torch.is_grad_enabled():  # otherwise gradients are summed in the input's precision
            x = x.to(dtype)
        fc1_EDH, fc2_EHD = self.fc1.to(dtype), self.fc2.to(dtype)
        order_M, end_E = self._sort_by_expert(routing)
        # Reading the number of active slots waits for the GPU; without gradients it is not needed.
        if torch.is_grad_enabled() or not _supports_grouped_kernel(x, fc1_EDH):
            order_M = order_M[: int(end_E[-1])]
        token_M = order_M // routing.topk_experts_PNK.shape[-1]
        x_MD = x.index_select(0, token_M).to(dtype)
        hidden_MH = self.activation(multiply_grouped(x_MD, fc1_EDH, end_E))
        out_MD = multiply_grouped(hidden_MH, fc2_EHD, end_E)
        return self._add_to_tokens(out_MD, routing, order_M, token_M).view_as(x_PND)

    def _sort_by_expert(self, routing: Routing) -> tuple[Tensor, Tensor]:
        """Return the slots (M,) sorted by expert, inactive ones last, and each expert's end (E,) int32."""
        expert_M = routing.topk_experts_PNK.masked_fill(~routing.active_PNK, len(self.fc1)).flatten()
        sorted_M, order_M = expert_M.sort(stable=True)
        number_E = torch.arange(len(self.fc1), device=sorted_M.device)
        return order_M, torch.searchsorted(sorted_M, number_E, right=True, out_int32=True)

    def _add_to_tokens(self, out_MD: Tensor, routing: Routing, order_M: Tensor, token_M: Tensor) -> Tensor:
        """Weight the rows and add them to their tokens: (P * N, D)."""
        weighted_MD = out_MD * routing.weights_PNK.flatten().index_select(0, order_M)[:, None].to(
            out_MD.dtype
        )
        if not torch.is_grad_enabled() and len(order_M) == routing.active_PNK.numel():
            active_M = routing.active_PNK.flatten().index_select(0, order_M)
            weighted_MD = weighted_MD.masked_fill(~active_M[:, None], 0)
        tokens = routing.active_PNK.shape[:2].numel()
        flat = torch.zeros(tokens, out_MD.shape[1], dtype=out_MD.dtype, device=out_MD.device)
        return flat.index_add(0, token_M, weighted_MD)
