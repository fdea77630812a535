"""The drawing of an inspection: tokens carry their experts' colours, and every choice changes it."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.crop import Crop
from faceum.model.routing_stats import NOT_TAKEN, Inspection, Route
from faceum.render.experts import WIDTH, draw_tokens, render_experts
from faceum.render.layout import MARGIN
from faceum.render.lettering import PlotterLetters
from faceum.render.palette import EXPERT_COLOURS, expert_colour


def inspection(
    tasks: int = 2, moe_blocks: int = 1, experts: int = 4, grid: int = 4, slots: int = 2
) -> Inspection:
    rng = np.random.default_rng(0)
    mask = np.zeros((grid, grid), bool)
    mask[1:, 1:3] = True  # reaches the rim
    crop = Crop(
        image=np.full((64, 64, 3), 120, np.uint8),
        matrix=np.eye(2, 3),
        inverse=np.eye(2, 3),
        face_tokens_N=mask.ravel(),
    )
    names = ("recognition", "age", "attributes", "expression", "parsing", "landmarks")[:tasks]
    routes = tuple(
        Route(
            task=task,
            moe_block=moe_block,
            topk_experts_NK=np.stack([rng.permutation(experts)[:slots] for _ in range(grid**2)]),
            weights_NK=np.full((grid**2, slots), 0.4, np.float32),
        )
        for moe_block in range(1, moe_blocks + 1)
        for task in names
    )
    return Inspection(
        network="toy",
        num_experts=experts,
        moe_blocks=moe_blocks,
        crops=dict.fromkeys(names, crop),
        routes=routes,
    )


def test_colours_of_experts_differ_clearly() -> None:
    colours = np.array(EXPERT_COLOURS, float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert apart[np.triu_indices(len(colours), 1)].min() > 60


@pytest.mark.parametrize(
    ("tasks", "moe_blocks", "experts", "grid"),
    [(1, 1, 2, 3), (1, 2, 8, 7), (6, 2, 8, 7), (6, 3, 16, 7), (2, 2, 8, 32)],
)
def test_any_number_of_tasks_mixtures_and_experts_fits(
    tasks: int, moe_blocks: int, experts: int, grid: int
) -> None:
    drawn = render_experts(inspection(tasks, moe_blocks, experts, grid), "x" * 300)
    assert drawn.dtype == np.uint8 and drawn.shape[1] == WIDTH + 2 * MARGIN
    assert drawn.std() > 5


def test_token_shows_first_and_second_expert() -> None:
    given = inspection()
    route = given.route("age", 1)
    route.topk_experts_NK[:] = (1, NOT_TAKEN)
    route.topk_experts_NK[5], route.topk_experts_NK[6] = (2, 3), NOT_TAKEN
    side, step = 200, 50
    tile = draw_tokens(given, "age", 1, side, PlotterLetters()).astype(int)
    gray = tile[25 + step, 25 + 2 * step]  # token 6 took no expert
    assert np.ptp(gray) == 0
    for token, expert in ((0, 1), (5, 2)):
        y, x = token // 4 * step + 25, token % 4 * step + 25
        towards = tile[y, x] - gray
        expected = np.array(expert_colour(expert)) - gray
        assert towards @ expected > 0.99 * np.linalg.norm(towards) * np.linalg.norm(expected)
    dotted = tile[step + round(0.77 * step), step + round(0.77 * step)]
    assert tuple(dotted) == expert_colour(3)


def test_heavier_gate_tints_deeper() -> None:
    given = inspection(slots=1)
    gates = given.route("age", 1).weights_NK
    gates[0], given.route("age", 1).topk_experts_NK[:] = 0.9, 1
    tile = draw_tokens(given, "age", 1, 200, PlotterLetters()).astype(int)
    assert np.ptp(tile[25, 25]) > np.ptp(tile[25, 75])


def test_every_choice_is_seen() -> None:
    before = render_experts(inspection())
    changed = inspection()
    changed.route("age", 1).topk_experts_NK[3] = (
        [1, 2] if changed.route("age", 1).topk_experts_NK[3][0] != 1 else [2, 1]
    )
    assert (render_experts(changed) != before).any()
