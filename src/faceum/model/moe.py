"""The mixture of experts and its transformer block: rows of tokens and pairs -> one row of tokens per pair.

Letters: S rows of tokens, P pairs of task and image, N tokens, D token dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from faceum.model.experts import Experts, ExpertsConfig
from faceum.model.layers import Attention, DropPath, Mlp, require_known
from faceum.model.reference_router import ReferenceRouter
from faceum.model.router import FaceRouter, RouterConfig, Routing
from faceum.model.vit import BlockConfig


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """The MLP of a MoE block: a shared expert and routed experts.

    shared_hidden_dim: hidden dimension of the shared expert, a dense MLP.
    router: how tokens choose routed experts.
    experts: the routed experts.
    routed: whether there are routed experts; False builds the dense twin.
    """

    shared_hidden_dim: int
    router: RouterConfig = field(default_factory=RouterConfig)
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    routed: bool = True


ROUTERS: dict[str, type[FaceRouter] | type[ReferenceRouter]] = {
    "face": FaceRouter,
    "reference": ReferenceRouter,
}


class MoE(nn.Module):
    """A shared expert plus routed experts. The shared expert runs once per row, for all tasks.

    With the reference router the class token has only the shared expert, and patch tokens only the routed
    ones.
    """

    def __init__(self, config: MoEConfig, *, dim: int, tasks: int, activation: str) -> None:
        super().__init__()
        self.shared = Mlp(dim, config.shared_hidden_dim, activation)
        self.router = build_router(config.router, dim=dim, tasks=tasks) if config.routed else None
        self.experts = (
            Experts(config.experts, num_experts=config.router.num_experts, dim=dim) if config.routed else None
        )

    def forward(
        self, x_SND: Tensor, row_P: Tensor, task_P: Tensor, face_PN: Tensor
    ) -> tuple[Tensor, Routing | None]:
        """Return (P, N, D) and the Routing. row_P: each pair's row. face_PN: True for face tokens."""
        if self.router is None or self.experts is None:
            return self.shared(x_SND).index_select(0, row_P), None
        x_PND = x_SND.index_select(0, row_P)
        routing = self.router(x_PND, task_P, face_PN)
        routed_PND = self.experts(x_PND, routing)
        if isinstance(self.router, ReferenceRouter):
            class_P1D = self.shared(x_SND[:, :1]).index_select(0, row_P)
            return torch.cat([class_P1D, routed_PND[:, 1:]], dim=1), routing
        return self.shared(x_SND).index_select(0, row_P) + routed_PND, routing


def build_router(config: RouterConfig, *, dim: int, tasks: int) -> FaceRouter | ReferenceRouter:
    """Build the router of a config; raises ModelError for an unknown kind."""
    require_known("router", config.kind, ROUTERS)
    return ROUTERS[config.kind](config, dim=dim, tasks=tasks)


class MoEBlock(nn.Module):
    """Pre-norm transformer block with a MoE as its MLP: rows (S, N, D) -> one row per pair (P, N, D).

    Attention runs once per row: per image in the first MoE block, where tasks share rows, then per pair.
    """

    def __init__(self, block: BlockConfig, moe: MoEConfig, *, tasks: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(block.dim, eps=block.norm_eps)
        self.attention = Attention(block.dim, block.num_heads, block.head_dim)
        self.mlp_norm = nn.LayerNorm(block.dim, eps=block.norm_eps)
        self.moe = MoE(moe, dim=block.dim, tasks=tasks, activation=block.activation)
        self.drop_path = DropPath(block.drop_path)

    def forward(
        self, x_SND: Tensor, row_P: Tensor, task_P: Tensor, face_PN: Tensor
    ) -> tuple[Tensor, Routing | None]:
        """Return (P, N, D) and the Routing; see MoE.forward."""
        x_SND = x_SND + self.drop_path(self.attention(self.attention_norm(x_SND)))
        mixed_PND, routing = self.moe(self.mlp_norm(x_SND), row_P, task_P, face_PN)
        return x_SND.index_select(0, row_P) + self.drop_path(mixed_PND), routing
