"""The face-aware router against a plain loop over tokens that follows the rule word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceum.errors import ModelError
from faceum.model.router import BACKGROUND, FACE, FaceRouter, RouterConfig

TASKS, WIDTH = 3, 5
CLOSE = 1e-5
"""Tokens this near to a tie or to top_p may fall to either side by rounding and are left out."""


def choose(
    p_E: list[float], bias_E: list[float], config: RouterConfig, k_max: int
) -> tuple[list[int], float]:
    """The experts that one token takes, by the rule in plain Python, and how far another routing is."""
    preference = [p + b for p, b in zip(p_E, bias_E, strict=True)]
    order = sorted(range(len(p_E)), key=lambda e: (-preference[e], e))
    margin = min(abs(preference[a] - preference[b]) for a, b in zip(order, order[1:], strict=False))
    taken: list[int] = []
    while len(taken) < k_max:
        held = sum(p_E[e] for e in taken)
        if taken:
            margin = min(margin, abs(held - config.top_p * sum(p_E)))
        if len(taken) >= config.k_min and held >= config.top_p * sum(p_E):
            break
        taken.append(order[len(taken)])
    return taken, margin


def probabilities(x_D: np.ndarray, weight_ED: np.ndarray) -> tuple[list[float], float, float]:
    """The experts' p, the null's p and the log of the experts' own partition, of one token."""
    powers = [math.exp(logit) for logit in weight_ED @ x_D]
    total = sum(powers) + 1.0
    return [power / total for power in powers], 1 / total, math.log(sum(powers))


def routed(config: RouterConfig, seed: int, pairs: int = 4, tokens: int = 7):
    """A router with random gates and biases, its input and its routing."""
    generator = torch.Generator().manual_seed(seed)
    router = FaceRouter(config, dim=WIDTH, tasks=TASKS)
    with torch.no_grad():
        router.weight.normal_(generator=generator)
        router.bias.normal_(std=0.1, generator=generator)
    x_PND = torch.randn(pairs, tokens, WIDTH, generator=generator)
    task_P = torch.randint(TASKS, (pairs,), generator=generator)
    face_PN = torch.rand(pairs, tokens, generator=generator) < 0.5
    return router, x_PND, task_P, face_PN, router(x_PND, task_P, face_PN)


configs = st.builds(
    RouterConfig,
    num_experts=st.integers(3, 6),
    top_p=st.floats(0.05, 1.0),
    k_min=st.integers(0, 1),
    k_max_face=st.integers(1, 3),
    k_max_background=st.integers(1, 3),
    regions=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(config=configs, seed=st.integers(0, 10_000))
def test_every_token_chooses_by_the_rule(config: RouterConfig, seed: int) -> None:
    router, x_PND, task_P, face_PN, routing = routed(config, seed)
    weight, bias = router.weight.detach().double().numpy(), router.bias.double().tolist()
    for p in range(len(x_PND)):
        for n in range(x_PND.shape[1]):
            region = FACE if face_PN[p, n] or not config.regions else BACKGROUND
            k_max = config.k_max_face if region == FACE else config.k_max_background
            p_E, null, _ = probabilities(x_PND[p, n].double().numpy(), weight[task_P[p], region])
            expected, margin = choose(p_E, bias[region], config, k_max)
            if margin < CLOSE:
                continue
            count = len(expected)
            assert routing.active_PNK[p, n].tolist() == [
                k < count for k in range(routing.active_PNK.shape[-1])
            ]
            assert routing.topk_experts_PNK[p, n, :count].tolist() == expected
            held = sum(p_E[e] for e in expected)
            gates = routing.weights_PNK[p, n].detach()
            shares = [p_E[e] / (held + null) for e in expected]
            assert gates[:count].tolist() == pytest.approx(shares, abs=1e-5)
            assert not gates[count:].any()
            assert gates.sum() < 1


def test_oracle_meets_both_limits_and_both_regions() -> None:
    counts = {region: set() for region in (BACKGROUND, FACE)}
    for seed in range(20):
        config = RouterConfig(num_experts=6, k_max_face=3, k_max_background=2)
        _, _, _, face_PN, routing = routed(config, seed)
        for region in counts:
            counts[region] |= set(routing.active_PNK.sum(-1)[face_PN == bool(region)].tolist())
    assert counts == {BACKGROUND: {1, 2}, FACE: {1, 2, 3}}


def test_ties_go_to_the_lower_index_and_the_null_keeps_its_share() -> None:
    router = FaceRouter(RouterConfig(num_experts=8), dim=WIDTH, tasks=1)
    torch.nn.init.zeros_(router.weight)
    routing = router(torch.randn(1, 2, WIDTH), torch.tensor([0]), torch.tensor([[True, False]]))
    # Nine equal shares, the null's among them: two experts of three shares, then one of two.
    assert routing.topk_experts_PNK[0].tolist() == [[0, 1], [0, 1]]
    assert routing.active_PNK[0].tolist() == [[True, True], [True, False]]
    assert routing.weights_PNK[0].detach().flatten().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2, 0])


def test_k_min_holds_where_top_p_would_take_fewer() -> None:
    config = RouterConfig(num_experts=3, top_p=0.1, k_min=2, k_max_face=3, k_max_background=2)
    router = FaceRouter(config, dim=1, tasks=1)
    with torch.no_grad():
        router.weight.copy_(torch.tensor([3.0, 1.0, 0.0])[None, None, :, None])
    routing = router(torch.ones(1, 2, 1), torch.tensor([0]), torch.tensor([[True, False]]))
    assert routing.active_PNK.sum(-1).tolist() == [[2, 2]]


def test_biases_move_the_selection_but_not_the_gates() -> None:
    config = RouterConfig(num_experts=3, k_max_face=1, k_max_background=1)
    router = FaceRouter(config, dim=1, tasks=1)
    with torch.no_grad():
        router.weight.copy_(torch.tensor([1.0, 0.5, 0.0])[None, None, :, None])
    face = torch.tensor([[True, False]])
    before = router(torch.ones(1, 2, 1), torch.tensor([0]), face)
    router.bias[FACE, 2] = 0.9
    after = router(torch.ones(1, 2, 1), torch.tensor([0]), face)
    assert before.topk_experts_PNK.flatten().tolist() == [0, 0]
    assert after.topk_experts_PNK.flatten().tolist() == [2, 0], "only the face token sees the face's bias"
    # p of expert 2 is e^0 over the sum, the null's the same: the bias is not in the gate.
    assert after.weights_PNK[0, 0, 0].item() == pytest.approx(0.5)
    assert torch.equal(before.probability_TE, after.probability_TE)


def test_biases_are_saved_and_not_trained() -> None:
    router = FaceRouter(RouterConfig(), dim=WIDTH, tasks=TASKS)
    assert router.state_dict()["bias"].shape == (2, 8)
    assert "bias" not in dict(router.named_parameters())


def test_lone_expert_still_gives_its_gate_a_gradient() -> None:
    config = RouterConfig(num_experts=4, k_max_face=1, k_max_background=1)
    router, _, _, _, routing = routed(config, seed=1)
    routing.weights_PNK.sum().backward()
    assert router.weight.grad.abs().max() > 1e-3


def test_token_is_seen_alone() -> None:
    config = RouterConfig(num_experts=6)
    router, x_PND, task_P, face_PN, routing = routed(config, seed=3)
    for p in range(len(x_PND)):
        for n in range(x_PND.shape[1]):
            alone = router(x_PND[p : p + 1, n : n + 1], task_P[p : p + 1], face_PN[p : p + 1, n : n + 1])
            assert torch.equal(alone.topk_experts_PNK[0, 0], routing.topk_experts_PNK[p, n])
            torch.testing.assert_close(alone.weights_PNK[0, 0], routing.weights_PNK[p, n])


@pytest.mark.parametrize("regions", [True, False])
def test_sums_are_those_of_a_loop(regions: bool) -> None:
    config = RouterConfig(num_experts=4, regions=regions)
    router, x_PND, task_P, face_PN, routing = routed(config, seed=5)
    weight = router.weight.detach().double().numpy()
    probability, z, load = np.zeros((TASKS, 4)), np.zeros(TASKS), np.zeros((TASKS, 2, 4))
    for p in range(len(x_PND)):
        for n in range(x_PND.shape[1]):
            task, region = int(task_P[p]), int(face_PN[p, n]) if regions else FACE
            p_E, _, partition = probabilities(x_PND[p, n].double().numpy(), weight[task, region])
            probability[task] += p_E
            z[task] += partition**2
            for expert, taken in zip(routing.topk_experts_PNK[p, n], routing.active_PNK[p, n], strict=True):
                load[task, region, expert] += bool(taken)
    np.testing.assert_allclose(routing.probability_TE.detach(), probability, atol=1e-4)
    np.testing.assert_allclose(routing.z_T.detach(), z, rtol=1e-4)
    np.testing.assert_array_equal(routing.load_TRE, load)
    assert routing.tokens_T.tolist() == [7 * int((task_P == task).sum()) for task in range(TASKS)]


def test_z_loss_draws_silent_experts_back() -> None:
    router = FaceRouter(RouterConfig(num_experts=4), dim=WIDTH, tasks=1)
    x_PND, task_P = torch.ones(1, 1, WIDTH), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        router.weight.fill_(-2.0)  # logits of -10: the shared expert has nearly everything
    for face in (False, True):
        router.zero_grad()
        router(x_PND, task_P, torch.tensor([[face]])).z_T.sum().backward()
        assert router.weight.grad is not None
        assert (router.weight.grad[0, int(face)] < 0).all(), "a step down raises every logit"


def test_routing_is_not_rounded_by_autocast() -> None:
    router, x_PND, task_P, face_PN, routing = routed(RouterConfig(num_experts=6), seed=7)
    with torch.autocast("cpu", torch.bfloat16):
        again = router(x_PND, task_P, face_PN)
    assert torch.equal(again.topk_experts_PNK, routing.topk_experts_PNK)
    assert torch.equal(again.weights_PNK, routing.weights_PNK)


@pytest.mark.parametrize(
    "wrong", [{"k_min": 2}, {"num_experts": 1}, {"k_max_face": 9}, {"k_min": -1}, {"k_max_background": 0}]
)
def test_limits_that_cannot_be_met_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError):
        RouterConfig(**wrong)
