"""The mixture and its transformer block: rows of tokens and pairs -> one row of tokens a pair.

Letters: S rows of tokens, P pairs of task and image, N tokens, D width.
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
    """A moe_block: the router, the routed experts, and the inner width of the shared expert (a dense MLP).

    routed: False leaves the shared expert alone: the dense twin.
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
    """Shared expert plus routed experts. The shared expert runs once a row, however many tasks ask.

    With the reference router the shared expert is the class token's alone, and patch tokens have only the
    routed ones.
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
        """Tokens, each pair's row among them, its task id and its face tokens -> ((P, N, D), Routing)."""
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
    """The router that a config names; ModelError where there is none of that kind."""
    require_known("router", config.kind, ROUTERS)
    return ROUTERS[config.kind](config, dim=dim, tasks=tasks)


class MoEBlock(nn.Module):
    """Pre-norm transformer block whose MLP is a moe_block: rows (S, N, D) -> one row a pair (P, N, D).

    Attention runs on the rows as they come: once an image where tasks still share them, once a pair after.
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
        """As MoE.forward, with the block's attention and residuals."""
        x_SND = x_SND + self.drop_path(self.attention(self.attention_norm(x_SND)))
        mixed_PND, routing = self.moe(self.mlp_norm(x_SND), row_P, task_P, face_PN)
        return x_SND.index_select(0, row_P) + self.drop_path(mixed_PND), routing
