"""Layer 2. The mixture and its transformer block: rows of tokens and pairs -> one row of tokens a pair.

Letters: S rows of tokens, P pairs of task and picture, N tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from faceum.model.experts import Experts, ExpertsConfig
from faceum.model.layers import Attention, DropPath, Mlp, require_known
from faceum.model.router import Choice, FaceRouter, RouterConfig
from faceum.model.router_reference import ReferenceRouter
from faceum.model.vit import BlockConfig


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """A mixture: the router, the routed experts, and the inner width of the shared expert (a dense MLP).

    routed: False leaves the shared expert alone: the dense twin.
    """

    shared_hidden: int
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

    def __init__(self, config: MoEConfig, *, width: int, tasks: int, activation: str) -> None:
        super().__init__()
        self.shared = Mlp(width, config.shared_hidden, activation)
        self.router = build_router(config.router, width=width, tasks=tasks) if config.routed else None
        self.experts = (
            Experts(config.experts, experts=config.router.experts, width=width) if config.routed else None
        )

    def forward(
        self, x_SND: Tensor, row_P: Tensor, task_P: Tensor, face_PN: Tensor
    ) -> tuple[Tensor, Choice | None]:
        """Tokens, each pair's row among them, its task id and its face tokens -> ((P, N, D), Choice)."""
        if self.router is None or self.experts is None:
            return self.shared(x_SND).index_select(0, row_P), None
        x_PND = x_SND.index_select(0, row_P)
        choice = self.router(x_PND, task_P, face_PN)
        routed_PND = self.experts(x_PND, choice)
        if isinstance(self.router, ReferenceRouter):
            class_P1D = self.shared(x_SND[:, :1]).index_select(0, row_P)
            return torch.cat([class_P1D, routed_PND[:, 1:]], dim=1), choice
        return self.shared(x_SND).index_select(0, row_P) + routed_PND, choice


def build_router(config: RouterConfig, *, width: int, tasks: int) -> FaceRouter | ReferenceRouter:
    """The router that a config names; ModelError where there is none of that kind."""
    require_known("router", config.kind, ROUTERS)
    return ROUTERS[config.kind](config, width=width, tasks=tasks)


class MoEBlock(nn.Module):
    """Pre-norm transformer block whose MLP is a mixture: rows (S, N, D) -> one row a pair (P, N, D).

    Attention runs on the rows as they come: once a picture where tasks still share them, once a pair after.
    """

    def __init__(self, block: BlockConfig, moe: MoEConfig, *, tasks: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(block.width, eps=block.norm_eps)
        self.attention = Attention(block.width, block.heads, block.head_dim)
        self.mlp_norm = nn.LayerNorm(block.width, eps=block.norm_eps)
        self.moe = MoE(moe, width=block.width, tasks=tasks, activation=block.activation)
        self.drop_path = DropPath(block.drop_path)

    def forward(
        self, x_SND: Tensor, row_P: Tensor, task_P: Tensor, face_PN: Tensor
    ) -> tuple[Tensor, Choice | None]:
        """As MoE.forward, with the block's attention and residuals."""
        x_SND = x_SND + self.drop_path(self.attention(self.attention_norm(x_SND)))
        mixed_PND, choice = self.moe(self.mlp_norm(x_SND), row_P, task_P, face_PN)
        return x_SND.index_select(0, row_P) + self.drop_path(mixed_PND), choice
