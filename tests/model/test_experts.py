"""The grouped call through the experts against a plain loop over tokens: values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from faceum.errors import ModelError
from faceum.model.experts import ROWS, Experts, ExpertsConfig, multiply_grouped
from faceum.model.router import Routing

WIDTH, HIDDEN = 6, 5


def made_routing(topk_experts_PNK: Tensor, active_PNK: Tensor, weights_PNK: Tensor) -> Routing:
    """A routing whose sums nobody reads."""
    nothing = torch.zeros(0)
    return Routing(topk_experts_PNK, weights_PNK, active_PNK, nothing, nothing, nothing, nothing)


def random_routing(seed: int, *, experts: int, pairs: int = 3, tokens: int = 5, slots: int = 3) -> Routing:
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(pairs, tokens, experts, generator=generator).argsort(-1)[..., :slots]
    taken = torch.arange(slots) < torch.randint(slots + 1, (pairs, tokens, 1), generator=generator)
    gate = torch.rand(pairs, tokens, slots, generator=generator, dtype=torch.float64) * taken
    return made_routing(order, taken, gate.requires_grad_())


def filled(experts: int, seed: int = 0) -> Experts:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = Experts(ExpertsConfig(hidden_dim=HIDDEN), num_experts=experts, dim=WIDTH).double()
        torch.nn.init.normal_(layer.fc2)
    return layer


def one_by_one(layer: Experts, x_PND: Tensor, routing: Routing) -> Tensor:
    """What the experts answer, token by token and slot by slot."""
    rows = []
    for p in range(x_PND.shape[0]):
        for n in range(x_PND.shape[1]):
            total = torch.zeros(WIDTH, dtype=x_PND.dtype)
            for k in range(routing.topk_experts_PNK.shape[-1]):
                if routing.active_PNK[p, n, k]:
                    expert = routing.topk_experts_PNK[p, n, k]
                    hidden = x_PND[p, n] @ layer.fc1[expert]
                    hidden = hidden * torch.sigmoid(1.702 * hidden)
                    total = total + routing.weights_PNK[p, n, k] * (hidden @ layer.fc2[expert])
            rows.append(total)
    return torch.stack(rows).view_as(x_PND)


@pytest.mark.parametrize("rows", [(0, 1, 63), (64, 65, 130)])
def test_half_precision_products_and_gradients_equal_those_in_float32(rows: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x_MD = torch.randn(sum(rows), WIDTH, generator=generator).bfloat16()
    weight_EDH = torch.randn(3, WIDTH, HIDDEN, generator=generator).bfloat16()
    towards_MH = torch.randn(sum(rows), HIDDEN, generator=generator).bfloat16()
    answers = []
    for dtype in (torch.bfloat16, torch.float32):
        x, weight = (one.detach().to(dtype).requires_grad_() for one in (x_MD, weight_EDH))
        out = multiply_grouped(x, weight, torch.tensor(rows).cumsum(0))
        (out * towards_MH.to(dtype)).sum().backward()
        answers.append((out.detach(), x.grad, weight.grad))
    for half, full in zip(*answers, strict=True):
        torch.testing.assert_close(half.float(), full, rtol=0.01, atol=0.01 * float(full.abs().max()))


def test_half_precision_meets_few_sizes_on_a_cpu() -> None:
    seen: set[int] = set()

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function is torch.ops.aten.mm.default:
                seen.update(size for one in args for size in one.shape)
            return function(*args, **(kwargs or {}))

    weight_EDH = torch.randn(1, WIDTH, HIDDEN).bfloat16().requires_grad_()
    with Sizes():
        for rows in range(1, 2 * ROWS + 1):
            x_MD = torch.randn(rows, WIDTH).bfloat16().requires_grad_()
            multiply_grouped(x_MD, weight_EDH, torch.tensor([rows])).sum().backward()
    assert seen == {WIDTH, HIDDEN, ROWS, 2 * ROWS}


@pytest.mark.parametrize("experts", [3, 7, 40])
def test_grouped_call_equals_the_loop_in_values_and_gradients(experts: int) -> None:
    layer, routing = filled(experts), random_routing(experts, experts=experts)
    x_PND = torch.randn(3, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x_PND.requires_grad_()
    towards = torch.randn(3, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = (layer.fc1, layer.fc2, x_PND, routing.weights_PNK)

    grouped, looped = layer(x_PND, routing), one_by_one(layer, x_PND, routing)
    torch.testing.assert_close(grouped, looped)
    for ours, theirs in zip(
        torch.autograd.grad((grouped * towards).sum(), expected),
        torch.autograd.grad((looped * towards).sum(), expected),
        strict=True,
    ):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(ours, theirs)


def test_experts_that_nobody_chose_get_no_gradient() -> None:
    layer = filled(4)
    chosen = torch.full((1, 3, 1), 2)
    routing = made_routing(chosen, torch.ones_like(chosen, dtype=torch.bool), torch.ones(1, 3, 1).double())
    layer(torch.randn(1, 3, WIDTH).double(), routing).sum().backward()
    assert layer.fc2.grad.flatten(1).abs().sum(-1).nonzero().flatten().tolist() == [2]


def test_tokens_without_an_expert_get_nothing() -> None:
    layer = filled(4)
    chosen = torch.zeros(2, 3, 2, dtype=torch.long)
    routing = made_routing(chosen, chosen.bool(), torch.zeros(2, 3, 2).double())
    x_PND = torch.randn(2, 3, WIDTH).double().requires_grad_()
    answer = layer(x_PND, routing)
    assert answer.shape == x_PND.shape and not answer.any()
    answer.sum().backward()  # nothing to learn, but nothing to break either


def test_fresh_experts_add_nothing_and_yet_learn() -> None:
    layer = Experts(ExpertsConfig(hidden_dim=HIDDEN), num_experts=4, dim=WIDTH)
    answer = layer(torch.randn(3, 5, WIDTH), random_routing(0, experts=4))
    assert not answer.any()
    answer.sum().backward()
    assert layer.fc2.grad.abs().max() > 0


@pytest.mark.parametrize("learning", [True, False])
def test_grouped_rows_meet_their_own_matrix(learning: bool) -> None:
    count_E = torch.tensor([2, 0, 3, 1])
    x_MD, weight_EDH = torch.randn(6, WIDTH), torch.randn(4, WIDTH, HIDDEN)
    expert_M = torch.repeat_interleave(torch.arange(4), count_E)
    expected = torch.stack([row @ weight_EDH[expert] for row, expert in zip(x_MD, expert_M, strict=True)])
    end_E = count_E.cumsum(0).int()
    nobody_E = torch.zeros(4, dtype=torch.int32)
    with torch.set_grad_enabled(learning):
        torch.testing.assert_close(multiply_grouped(x_MD, weight_EDH, end_E), expected)
        assert multiply_grouped(x_MD[:0], weight_EDH, nobody_E).shape == (0, HIDDEN)


def test_autocast_computes_in_its_type() -> None:
    layer, routing = filled(4).float(), random_routing(3, experts=4)
    x_PND = torch.randn(3, 5, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(x_PND, routing)
    assert rough.dtype == torch.bfloat16
    exact = layer(x_PND, routing)
    torch.testing.assert_close(rough.float(), exact, atol=0.03 * float(exact.detach().abs().max()), rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the grouped kernel is a GPU's")
@pytest.mark.parametrize(("width", "hidden"), [(16, 24), (20, 12)])
def test_gpu_answers_as_the_loop_does(width: int, hidden: int) -> None:
    count_E = torch.tensor([5, 0, 9, 3], device="cuda")
    x_MD = torch.randn(17, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight_EDH = torch.randn(4, width, hidden, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    grouped = F.silu(multiply_grouped(x_MD, weight_EDH, count_E.cumsum(0).int()))
    groups = zip(x_MD.split(count_E.tolist()), weight_EDH, strict=True)
    looped = F.silu(torch.cat([group @ weight for group, weight in groups]))
    torch.testing.assert_close(grouped, looped, atol=0.1, rtol=0.02)
    for ours, theirs in zip(
        torch.autograd.grad(grouped.square().sum(), (x_MD, weight_EDH)),
        torch.autograd.grad(looped.square().sum(), (x_MD, weight_EDH)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=0.5, rtol=0.05)


def test_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="swish.*silu"):
        ExpertsConfig(activation="swish")
