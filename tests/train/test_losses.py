"""Each loss against values worked by hand, and with a gradient where there is something to learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from faceum.model.heads import EmbeddingHead
from faceum.model.router import FaceRouter, RouterConfig, Routing
from faceum.train.losses import (
    AGE_SIGMA,
    HEAT_SIGMA,
    Distillation,
    age_loss,
    attribute_loss,
    balance_experts,
    dice_loss,
    expression_loss,
    heat_map_loss,
    landmark_loss,
    parsing_loss,
    relation_loss,
    routing_losses,
)


def routing_with(probability_TE: Tensor, z_T: Tensor, tokens_T: Tensor, load_TRE: Tensor) -> Routing:
    """A routing of which only the sums are known."""
    nothing = torch.zeros(0)
    return Routing(nothing, nothing, nothing, probability_TE, z_T, tokens_T, load_TRE)


# Two tasks of three are asked; the second had twice the tokens, which must not give it a double voice.
PROBABILITY_TE = torch.tensor([[3.0, 1.0], [0.0, 0.0], [4.0, 4.0]])
LOAD_TRE = torch.tensor([[[2, 0], [2, 0]], [[0, 0], [0, 0]], [[1, 3], [1, 3]]])
BY_HAND = routing_with(PROBABILITY_TE, torch.tensor([8.0, 0.0, 8.0]), torch.tensor([4, 0, 8]), LOAD_TRE)


def test_routing_losses_by_hand() -> None:
    losses = routing_losses([BY_HAND])
    # Shares of probability: (3/4, 1/4) and (1/2, 1/2), their mean (5/8, 3/8); of slots: (1, 0) and
    # (1/4, 3/4), their mean (5/8, 3/8).
    assert losses["balance"].item() == pytest.approx(2 * (5 / 8 * 5 / 8 + 3 / 8 * 3 / 8))
    assert losses["z"].item() == pytest.approx((8 / 4 + 8 / 8) / 2)
    first = 3 / 4 * math.log((3 / 4) / (5 / 8)) + 1 / 4 * math.log((1 / 4) / (3 / 8))
    second = 1 / 2 * math.log((1 / 2) / (5 / 8)) + 1 / 2 * math.log((1 / 2) / (3 / 8))
    assert losses["mutual_information"].item() == pytest.approx(-(first + second) / 2)


def test_switch_loss_counts_the_overloaded_expert() -> None:
    equal, skewed = torch.tensor([[4.0, 4.0]]), torch.tensor([[6.0, 2.0]])
    sums = torch.tensor([0.0]), torch.tensor([8])

    def balance(probability_TE: Tensor, load: list[int]) -> float:
        routing = routing_with(probability_TE, *sums, torch.tensor([[[0, 0], load]]))
        return routing_losses([routing])["balance"].item()

    assert balance(equal, [4, 4]) == pytest.approx(1)
    assert balance(skewed, [8, 0]) == pytest.approx(2 * 6 / 8)
    assert balance(skewed, [0, 8]) == pytest.approx(2 * 2 / 8)


def test_mutual_information_is_zero_for_like_tasks_and_its_most_for_separate_ones() -> None:
    def information(*rows: list[float]) -> float:
        tasks = len(rows)
        load = torch.ones(tasks, 2, len(rows[0]), dtype=torch.long)
        routing = routing_with(torch.tensor(rows), torch.zeros(tasks), torch.full((tasks,), 5), load)
        return -routing_losses([routing])["mutual_information"].item()

    assert information([3, 1, 1], [6, 2, 2]) == pytest.approx(0, abs=1e-6)
    assert information([5, 0, 0], [0, 5, 0], [0, 0, 5]) == pytest.approx(math.log(3), rel=1e-5)


def test_losses_are_the_mean_of_the_mixtures_and_nothing_without() -> None:
    other = routing_with(PROBABILITY_TE, torch.zeros(3), torch.tensor([4, 0, 8]), LOAD_TRE)
    assert routing_losses([BY_HAND, other])["z"].item() == pytest.approx(0.75)
    assert routing_losses([]) == {}


@pytest.mark.parametrize("name", ["balance", "z", "mutual_information"])
def test_routing_losses_reach_the_gates(name: str) -> None:
    torch.manual_seed(0)
    router = FaceRouter(RouterConfig(num_experts=4), dim=6, tasks=3)
    torch.nn.init.normal_(router.weight)
    x_PND = torch.randn(4, 5, 6)
    routing = router(x_PND, torch.tensor([0, 0, 2, 2]), torch.rand(4, 5) < 0.5)
    routing_losses([routing])[name].backward()
    asked = router.weight.grad[[0, 2]]
    assert (asked.flatten(1).abs().amax(1) > 1e-4).all()
    assert not router.weight.grad[1].any(), "nobody asked task 1"


@pytest.mark.parametrize("name", ["balance", "z", "mutual_information"])
def test_following_the_gradient_lowers_the_loss(name: str) -> None:
    torch.manual_seed(1)
    router = FaceRouter(RouterConfig(num_experts=4), dim=6, tasks=2)
    torch.nn.init.normal_(router.weight, std=0.5)
    x_PND, task_P, face_PN = torch.randn(8, 9, 6) + 1, torch.tensor([0, 1] * 4), torch.rand(8, 9) < 0.5
    optimizer = torch.optim.SGD([router.weight], lr=0.5)
    values = []
    for _ in range(30):
        loss = routing_losses([router(x_PND, task_P, face_PN)])[name]
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < values[0] - 0.01


def test_biases_even_out_the_load_of_a_toy() -> None:
    torch.manual_seed(0)
    router = FaceRouter(RouterConfig(num_experts=4, k_max_face=1), dim=6, tasks=2)
    with torch.no_grad():
        router.weight.normal_(std=0.1)
        router.weight[:, :, 0] += 0.4  # expert 0 is everybody's favourite
    x_PND = torch.randn(40, 9, 6) + 1
    task_P, face_PN = torch.arange(40) % 2, torch.rand(40, 9) < 0.4

    def worst() -> Tensor:
        load_RE = router(x_PND, task_P, face_PN).load_TRE.sum(0).float()
        return (load_RE / load_RE.mean(-1, keepdim=True)).amax(-1)

    before = worst()
    for _ in range(400):
        balance_experts(router.bias, router(x_PND, task_P, face_PN).load_TRE, 2e-3)
    assert (before > 2).all()
    assert (worst() < 1.3).all()
    assert router.weight.grad is None


def test_balance_moves_each_region_by_one_step_and_each_task_counts_the_same() -> None:
    bias_RE = torch.zeros(2, 2)
    # Background: task 0 takes expert 0 only, task 1, with many more tokens, leans to expert 1.
    load_TRE = torch.tensor([[[3, 0], [0, 0]], [[40, 60], [5, 5]]])
    balance_experts(bias_RE, load_TRE, 0.01)
    torch.testing.assert_close(bias_RE, torch.tensor([[-0.01, 0.01], [0.0, 0.0]]))


def test_age_loss_by_hand() -> None:
    logits = torch.full((1, 101), -30.0)
    logits[0, 40] = 30.0  # all mass on 40 years
    years = torch.arange(101, dtype=torch.float64)
    target = torch.exp(-((years - 43.0) ** 2) / (2 * AGE_SIGMA**2))
    target /= target.sum()
    p = torch.sigmoid(logits[0].double())
    p /= p.sum()
    expected = (target * (target.clamp_min(1e-12).log() - p.clamp_min(1e-12).log())).sum() + 3
    assert age_loss(logits, torch.tensor([43.0])).item() == pytest.approx(expected.item(), rel=1e-4)


def test_age_loss_is_zero_at_its_target_and_takes_ages_beyond_the_bins_as_the_last() -> None:
    years = torch.arange(101, dtype=torch.float32)
    target = torch.exp(-((years - 50) ** 2) / (2 * AGE_SIGMA**2)) * 0.9
    logits = torch.logit(target.clamp(1e-30, None).double()).float()[None]
    assert age_loss(logits, torch.tensor([50.0])).item() == pytest.approx(0, abs=1e-3)
    assert age_loss(logits, torch.tensor([116.0])).item() == age_loss(logits, torch.tensor([100.0])).item()


def test_attribute_loss_sums_the_attributes() -> None:
    loss = attribute_loss(
        torch.tensor([[0.0, 0.0, 9.0], [0.0, -9.0, 0.0]]), torch.tensor([[1, 0, 1], [1, 0, 0]])
    )
    assert loss.item() == pytest.approx(2 * math.log(2) + math.log1p(math.exp(-9)), rel=1e-5)


def test_unknown_attributes_cost_nothing() -> None:
    """The first attribute is known of both faces, the second of one, the third of none."""
    logits = torch.tensor([[0.0, 0.0, 5.0], [0.0, 7.0, -5.0]], requires_grad=True)
    loss = attribute_loss(logits, torch.tensor([[1, 0, -1], [1, -1, -1]]))
    assert loss.item() == pytest.approx(2 * math.log(2))
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.5, 0.0], [-0.25, 0.0, 0.0]]))
    assert attribute_loss(logits, torch.full((2, 3), -1)).item() == 0


def test_adjusted_logits_leave_out_how_frequent_a_class_is() -> None:
    """Logits that only hold the frequency become, once adjusted, those of equally likely classes."""
    share = torch.tensor([0.5, 0.25, 0.25])
    votes = torch.tensor([[0, 1, 0]])
    assert expression_loss(torch.zeros(1, 3), votes, share.log()).item() == pytest.approx(math.log(4))
    assert expression_loss(-share.log()[None], votes, share.log()).item() == pytest.approx(math.log(3))


def test_expression_loss_takes_votes_as_shares() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    log_p = F.log_softmax(logits, -1)[0]
    expected = -(0.7 * log_p[0] + 0.3 * log_p[1])
    assert expression_loss(logits, torch.tensor([[7, 3, 0]])).item() == pytest.approx(expected.item())
    one = expression_loss(logits, torch.tensor([[0, 0, 1]]))
    assert one.item() == pytest.approx(-log_p[2].item())


def test_landmark_loss_by_hand() -> None:
    label = torch.tensor([[[0.2, 0.2], [0.6, 0.2]], [[0.5, 0.5], [0.5, 0.5]]])
    points = label + torch.tensor([[[0.03, 0.04], [0.0, 0.0]], [[0.1, 0.0], [0.1, 0.0]]])
    # 0.05 and 0 over 0.4: 0.0625; 0.1 and 0.1 over 0.5: 0.2; the second, a teacher's, counts 0.3.
    loss = landmark_loss(points, label, torch.tensor([0.4, 0.5]), torch.tensor([1.0, 0.3]))
    assert loss.item() == pytest.approx((0.0625 + 0.3 * 0.2) / 1.3, abs=1e-4)


def test_landmark_loss_has_a_finite_gradient_where_the_point_is_met() -> None:
    label = torch.rand(1, 68, 2)
    points = label.clone().requires_grad_()
    landmark_loss(points, label, torch.ones(1), torch.ones(1)).backward()
    assert torch.isfinite(points.grad).all()


def test_after_the_root_cosines_are_those_of_the_projections() -> None:
    distillation = Distillation(outputs=12, teacher=5)
    torch.nn.init.normal_(distillation.projection.weight)
    a, b = torch.randn(7, 12), torch.randn(7, 12)
    seen = [distillation.projection(x) for x in (a, b)]
    rooted = [x @ distillation.root().T for x in (a, b)]
    torch.testing.assert_close(F.cosine_similarity(*rooted), F.cosine_similarity(*seen))
    torch.testing.assert_close(rooted[0].norm(dim=1), seen[0].norm(dim=1))


def test_heat_map_loss_by_hand() -> None:
    # Maps of two cells a side. The first image's point is the middle of the map, half a cell from each
    # cell's centre both ways; the second's is a cell's centre. All logits are zero but one.
    label = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]])
    logits = torch.zeros(2, 1, 2, 2)
    logits[1, 0, 1, 0] = 2.0  # row 1, column 0: where the second point lies
    first = math.log(2)  # whatever the target, at a probability of one half
    second = (3 * math.log(2) + math.log1p(math.exp(-2.0))) / 4
    weight = torch.tensor([1.0, 0.3])
    assert heat_map_loss(logits, label, weight).item() == pytest.approx(
        (first + 0.3 * second) / 1.3, abs=1e-6
    )


def test_gaussian_minimizes_heat_map_loss() -> None:
    label = torch.tensor([[[0.3, 0.7]]])
    logits = torch.full((1, 1, 20, 20), -4.0, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        heat_map_loss(logits, label, torch.ones(1)).backward()
        optimizer.step()
    y, x = np.mgrid[0:20, 0:20] + 0.5
    gaussian = np.exp(-((x - 6) ** 2 + (y - 14) ** 2) / (2 * HEAT_SIGMA**2))
    np.testing.assert_allclose(torch.sigmoid(logits.detach())[0, 0], gaussian, atol=0.02)


def test_dice_by_hand() -> None:
    # Two pixels, two of three classes present; probability 0.5 of the right class, 0.5 of class 2.
    share = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]])
    logits = share.clamp_min(1e-9).log().view(1, 3, 1, 2)
    labels = torch.tensor([[[0, 1]]])
    # Class 0 and 1 each: 2 * 0.5 / (0.5 + 1) = 2/3; class 2 is not in the labels and does not count.
    assert dice_loss(logits, labels).item() == pytest.approx(1 / 3, abs=1e-5)


def test_parsing_loss_brings_the_logits_to_the_labels() -> None:
    logits = torch.randn(2, 4, 3, 3)
    labels = torch.randint(4, (2, 6, 6), dtype=torch.uint8)
    full = F.interpolate(logits, size=(6, 6), mode="bilinear", align_corners=False)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = F.cross_entropy(full, labels.long(), weight=weights) + dice_loss(full, labels.long())
    assert parsing_loss(logits, labels, weights).item() == pytest.approx(expected.item())
    assert parsing_loss(logits, labels, weights) != parsing_loss(logits, labels)


def test_distillation_starts_from_a_projection_that_keeps_lengths() -> None:
    distillation = Distillation(outputs=12, teacher=5)
    weight = distillation.projection.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(5), atol=1e-5, rtol=0)
    assert distillation.projection.bias is None
    embedding = torch.randn(4, 12)
    there = embedding @ weight.T
    assert distillation(embedding, 3 * there).item() == pytest.approx(0, abs=1e-5)
    assert distillation(embedding, -there).item() == pytest.approx(2, abs=1e-5)


def test_fitted_projection_is_the_linear_map_there_is() -> None:
    torch.manual_seed(0)
    distillation = Distillation(outputs=12, teacher=5)
    embedding, map_DV = torch.randn(60, 12), torch.randn(12, 5)
    assert distillation.fit(embedding, 7 * embedding @ map_DV, ridge=1e-9) == pytest.approx(1, abs=1e-2)
    assert distillation.projection.weight.norm().item() == pytest.approx(5**0.5, rel=1e-5)
    noise = torch.randn(60, 5)
    fitted = distillation.fit(embedding, noise)
    torch.nn.init.orthogonal_(distillation.projection.weight)
    before = F.cosine_similarity(distillation.projection(embedding), noise).mean().item()
    assert fitted > before


def test_projection_folded_into_a_head_sees_the_same() -> None:
    torch.manual_seed(0)
    distillation = Distillation(outputs=12, teacher=5)
    torch.nn.init.normal_(distillation.projection.weight)
    head = EmbeddingHead(dim=8, patches=4, outputs=12, narrow=3)
    tokens = torch.randn(6, 4, 8)
    before = distillation.projection(head(tokens, [])).detach()
    distillation.fold_into(head)
    embedding = head(tokens, []).detach()
    torch.testing.assert_close(distillation.projection(embedding).detach(), before, atol=1e-5, rtol=1e-4)
    unit, seen = F.normalize(embedding), F.normalize(before)
    torch.testing.assert_close(unit @ unit.T, seen @ seen.T, atol=1e-5, rtol=0)


def test_relation_loss_by_hand() -> None:
    ours = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    theirs = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert relation_loss(ours, theirs).item() == pytest.approx(2 * 0.6**2 / 4)
    assert relation_loss(theirs, 100 * theirs).item() == pytest.approx(0, abs=1e-10)


def test_every_loss_has_a_gradient_in_its_answer() -> None:
    generator = np.random.default_rng(0)
    votes = torch.from_numpy(generator.integers(1, 9, (3, 8)))
    cases = {
        "age": (torch.randn(3, 101), lambda x: age_loss(x, torch.tensor([3.0, 40, 99]))),
        "attributes": (torch.randn(3, 40), lambda x: attribute_loss(x, torch.rand(3, 40) < 0.5)),
        "expression": (torch.randn(3, 8), lambda x: expression_loss(x, votes)),
        "parsing": (torch.randn(3, 19, 4, 4), lambda x: parsing_loss(x, torch.randint(19, (3, 8, 8)))),
        "landmarks": (
            torch.rand(3, 68, 2),
            lambda x: landmark_loss(x, torch.rand(3, 68, 2), torch.ones(3), torch.ones(3)),
        ),
        "relation": (torch.randn(3, 512), lambda x: relation_loss(x, torch.randn(3, 256))),
        "distillation": (torch.randn(3, 512), lambda x: Distillation()(x, torch.randn(3, 256))),
    }
    for name, (answer, loss) in cases.items():
        answer.requires_grad_()
        loss(answer).backward()
        assert torch.isfinite(answer.grad).all() and (answer.grad.flatten(1).abs().amax(1) > 0).all(), name
