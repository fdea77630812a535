"""The losses of a batch, and their weighted total, which training minimizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from faceum.data.mixture import Batch
from faceum.model.network import Output
from faceum.tasks import TASKS
from faceum.train.config import RunConfig
from faceum.train.losses import (
    Distillation,
    age_loss,
    attribute_loss,
    expression_loss,
    heat_map_loss,
    landmark_loss,
    parsing_loss,
    relation_loss,
    routing_losses,
)
from faceum.train.partial_fc import PartialFC

ROUTING = {"balance": "balance_weight", "z": "z", "mutual_information": "mutual_information"}
"""Each routing loss -> the setting that weights it."""


class Objective(nn.Module):
    """The losses and their learned parameters: the teacher's projection, and each task's uncertainty."""

    parsing_weight_C: Tensor
    expression_shift_C: Tensor

    def __init__(
        self, config: RunConfig, parsing_weight_C: Tensor, expression_share_C: Tensor | None = None
    ) -> None:
        """expression_share_C: frequency of each expression, for the logit adjustment; None without one."""
        super().__init__()
        self.config = config
        self.distillation = Distillation()
        self.log_variance_T = nn.Parameter(
            torch.zeros(len(TASKS)), requires_grad=config.weighting == "uncertainty"
        )
        self.register_buffer("parsing_weight_C", parsing_weight_C)
        shift_C = torch.zeros(1)
        if expression_share_C is not None and config.logit_adjustment:
            shift_C = config.logit_adjustment * expression_share_C.log()
        self.register_buffer("expression_shift_C", shift_C, persistent=False)

    def forward(
        self, output: Output, batch: Batch, partial_fc: PartialFC | None = None, step: int = 0
    ) -> dict[str, Tensor]:
        """Return the loss of each task, over all ranks, and the routing losses."""
        by_kind: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "embedding": lambda answer, label: self._recognition(
                answer, label, batch.identity, partial_fc, step
            ),
            "number": age_loss,
            "labels": attribute_loss,
            "classes": lambda answer, label: expression_loss(answer, label, self.expression_shift_C),
            "pixels": lambda answer, label: parsing_loss(answer, label, self.parsing_weight_C),
            "points": lambda answer, label: landmark_loss(
                answer, label, batch.eye_distance, batch.landmark_weight
            ),
        }
        losses = {task: by_kind[TASKS[task].kind](output[task], batch.labels[task]) for task in output}
        for task, logits_BOhw in output.heat.items():
            heat = heat_map_loss(logits_BOhw, batch.labels[task], batch.landmark_weight)
            losses[task] = losses[task] + self.config.heat_map * heat
        return {**losses, **routing_losses(output.routing)}

    def total(self, losses: Mapping[str, Tensor], tasks: Collection[str], parts: int = 1) -> Tensor:
        """Return what these losses add to the total loss.

        tasks: all tasks that the batch has labels for, also those of its other parts. parts: number of parts;
        the routing losses are the mean over them.
        """
        config = self.config
        alpha = {task: config.task_weights.get(task, 1.0) for task in tasks}
        terms = []
        for place, task in enumerate(TASKS):
            if task in losses and config.weighting == "uncertainty":
                s = self.log_variance_T[place]
                terms.append(0.5 * (torch.exp(-s) * alpha[task] * losses[task] + s))
            elif task in losses:
                terms.append(alpha[task] * losses[task] / sum(alpha.values()))
        terms += [
            getattr(config, weight) * losses[name] / parts
            for name, weight in ROUTING.items()
            if name in losses
        ]
        return torch.stack(terms).sum()

    def _recognition(
        self,
        embedding_BD: Tensor,
        teacher_BV: Tensor,
        identity_B: Tensor,
        partial_fc: PartialFC | None,
        step: int,
    ) -> Tensor:
        """Return the distillation losses of faces with a teacher, plus the margin loss of known identities.

        teacher_BV: zeros for a face without a teacher.
        """
        taught_B = teacher_BV.any(-1)
        loss = self.distillation(embedding_BD[taught_B], teacher_BV[taught_B])
        loss = loss + self.config.relation * relation_loss(embedding_BD[taught_B], teacher_BV[taught_B])
        if partial_fc is not None:
            known_B = identity_B >= 0
            loss = loss + partial_fc(embedding_BD[known_B], identity_B[known_B], step)
        return loss
