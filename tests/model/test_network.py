"""The whole network: one trunk pass, answers that do not depend on company, and its size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from faceum.crop import TEMPLATE, box_from_points, crop_matrix, mark_face_tokens
from faceum.errors import ModelError
from faceum.geometry import invert
from faceum.model.configs import COMPACT
from faceum.model.moe import MoEConfig
from faceum.model.network import FaceUM, FaceUMConfig, Output
from faceum.model.router import FaceRouter
from faceum.tasks import TASKS

CLOSE = 1e-5
SHAPES = {
    "recognition": (512,),
    "age": (101,),
    "attributes": (40,),
    "expression": (8,),
    "parsing": (19, 56, 56),
    "landmarks": (68, 2),
}

Lively = Callable[[FaceUMConfig], FaceUM]


@pytest.fixture(scope="module")
def small(small_config: FaceUMConfig, lively: Lively) -> FaceUM:
    return lively(small_config)


def images(count: int, seed: int = 0, size: int = 64, patches: int = 16) -> tuple[Tensor, Tensor]:
    """Random crops and random masks; one mask in four is all background or all face."""
    generator = torch.Generator().manual_seed(seed)
    crop_BCHW = torch.rand(count, 3, size, size, generator=generator)
    share_B1 = torch.tensor([0.0, 1.0, 0.3, 0.7])[torch.randint(4, (count, 1), generator=generator)]
    return crop_BCHW, torch.rand(count, patches, generator=generator) < share_B1


def closeness(router: FaceRouter, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """How near each pair's nearest token is to a tie or to top_p: (P,)."""
    x_PND, task_P, face_PN = inputs
    region_PN = face_PN.long()
    logits_PNE = (router.weight[task_P[:, None], region_PN] @ x_PND[..., None])[..., 0].double()
    p_PNE = logits_PNE.exp() / (1 + logits_PNE.exp().sum(-1, keepdim=True))
    preference, order = (p_PNE + router.bias[region_PN]).sort(-1, descending=True)
    tie_PN = (preference[..., :-1] - preference[..., 1:]).amin(-1)
    held = p_PNE.gather(-1, order).cumsum(-1) / p_PNE.sum(-1, keepdim=True)
    return torch.minimum(tie_PN, (held - router.config.top_p).abs().amin(-1)).amin(-1)


def clear_pairs(network: FaceUM, run: Callable[[], Output]) -> tuple[Output, Tensor]:
    """An answer, and which pairs of task and image (T, B) have no token that is close to another routing."""
    closest: list[Tensor] = []
    hooks = [
        router.register_forward_hook(lambda one, inputs, _: closest.append(closeness(one, inputs)))
        for router in network.modules()
        if isinstance(router, FaceRouter)
    ]
    output = run()
    for hook in hooks:
        hook.remove()
    return output, (torch.stack(closest).amin(0) > CLOSE).view(len(output), -1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 5),
    tasks=st.lists(st.sampled_from(list(TASKS)), min_size=1, unique=True),
)
def test_batch_answers_as_its_images_do_alone(small: FaceUM, seed: int, count: int, tasks: list[str]) -> None:
    crop_BCHW, mask_BN = images(count, seed)
    with torch.inference_mode():
        together, clear_TB = clear_pairs(small, lambda: small(crop_BCHW, mask_BN, tasks))
        for b in range(count):
            alone = small(crop_BCHW[b : b + 1], mask_BN[b : b + 1], tasks)
            for t, task in enumerate(tasks):
                if clear_TB[t, b]:
                    torch.testing.assert_close(together[task][b], alone[task][0], atol=1e-5, rtol=1e-5)


def test_routing_in_that_property_is_not_trivial(small: FaceUM) -> None:
    crop_BCHW, mask_BN = images(8)
    output = small(crop_BCHW, mask_BN)
    for routing in output.routing:
        assert (routing.load_TRE.sum((0, 1)) > 0).all(), "every expert is used"
        assert len(routing.active_PNK.sum(-1).unique()) > 1, "some tokens take one expert, some more"
    other = small(crop_BCHW, ~mask_BN)
    assert (output["age"] - other["age"]).abs().max() > 1e-3, "the face mask matters"


def test_order_and_number_of_tasks_do_not_matter(small: FaceUM) -> None:
    crop_BCHW, mask_BN = images(3)
    with torch.inference_mode():
        everything = small(crop_BCHW, mask_BN)
        assert list(everything) == list(TASKS)
        for tasks in [("landmarks",), ("expression", "recognition"), tuple(reversed(TASKS))]:
            some = small(crop_BCHW, mask_BN, tasks)
            assert tuple(some) == tasks
            for task in tasks:
                torch.testing.assert_close(some[task], everything[task], atol=1e-5, rtol=1e-5)


def test_images_with_a_label_get_the_rows_of_the_full_answer(small: FaceUM) -> None:
    crop_BCHW, mask_BN = images(5)
    tasks = ("parsing", "age", "landmarks")
    has_label_TB = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    with torch.inference_mode():
        full, some = small(crop_BCHW, mask_BN, tasks), small(crop_BCHW, mask_BN, tasks, has_label_TB)
    for task, has_label_B in zip(tasks, has_label_TB, strict=True):
        assert some.images[task].tolist() == has_label_B.nonzero().flatten().tolist()
        torch.testing.assert_close(some[task], full[task][has_label_B], atol=1e-5, rtol=1e-5)
    tokens = [routing.tokens_T.tolist() for routing in some.routing]
    assert tokens == [[0, 16 * 5, 0, 0, 16 * 2, 16 * 1]] * 2


@pytest.mark.parametrize("tasks", [("age",), ("parsing", "landmarks"), tuple(TASKS)])
def test_one_trunk_pass_and_one_shared_attention_for_any_tasks(small: FaceUM, tasks: tuple[str, ...]) -> None:
    calls: dict[str, list[int]] = {"trunk": [], "first": [], "shared": [], "second": []}
    first, second = small.moe_blocks
    watched = {
        "trunk": small.trunk,
        "first": first.attention,
        "shared": first.moe.shared,
        "second": second.attention,
    }
    hooks = [
        module.register_forward_hook(lambda _, inputs, __, name=name: calls[name].append(len(inputs[0])))
        for name, module in watched.items()
    ]
    small(*images(3), tasks)
    for hook in hooks:
        hook.remove()
    assert calls == {"trunk": [3], "first": [3], "shared": [3], "second": [3 * len(tasks)]}


@pytest.mark.parametrize("seed", range(3))
def test_fresh_network_equals_its_dense_twin(seed: int) -> None:
    torch.manual_seed(seed)
    network = FaceUM(COMPACT).eval()
    dense: MoEConfig = dataclasses.replace(COMPACT.moe, routed=False)
    twin = FaceUM(dataclasses.replace(COMPACT, moe=dense)).eval()
    weights = network.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    crop_BCHW, mask_BN = images(2, seed, size=112, patches=49)
    with torch.inference_mode():
        answer, plain = network(crop_BCHW, mask_BN), twin(crop_BCHW, mask_BN)
    assert len(answer.routing) == 2 and plain.routing == ()
    for task in TASKS:
        torch.testing.assert_close(answer[task], plain[task], atol=1e-5, rtol=0)


def test_compact_answers_in_the_promised_shapes(lively: Lively) -> None:
    network = lively(COMPACT)
    for count in (0, 2):
        output = network(*images(count, size=112, patches=49))
        assert {task: tuple(answer.shape[1:]) for task, answer in output.items()} == SHAPES
        assert all(len(answer) == count for answer in output.values())
    assert (output["landmarks"] >= 0).all() and (output["landmarks"] <= 1).all()


def mean_face_mask() -> Tensor:
    """The face tokens of an upright mean face, (1, N)."""
    spec, _ = COMPACT.crops[0]
    points5 = TEMPLATE * 100 + 300
    box = box_from_points(points5)
    matrix = crop_matrix(spec, box, points5, (600, 600))
    return torch.from_numpy(mark_face_tokens(spec, box, matrix, invert(matrix)))[None]


def test_compact_is_small() -> None:
    network = FaceUM(COMPACT).eval()
    assert sum(value.numel() for value in network.parameters()) <= 7.5e6
    crop_BCHW, _ = images(1, size=112, patches=49)
    flops = {}
    for name, mask_BN in (("mean face", mean_face_mask()), ("all face", torch.ones(1, 49, dtype=torch.bool))):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(crop_BCHW, mask_BN)
        flops[name] = counter.get_total_flops()
    # Fresh gates are flat, so every face token takes the two experts that it may take at most.
    assert flops["mean face"] <= 0.6e9
    assert flops["all face"] <= 0.63e9


def test_every_parameter_learns(small_config: FaceUMConfig, lively: Lively) -> None:
    network = lively(small_config)
    output = network(*images(6))
    sum(answer.square().mean() for answer in output.values()).backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None]
    assert not silent
    still = [name for name, value in network.named_parameters() if not value.grad.any()]
    assert not still


def test_normalisation_is_inside(small: FaceUM) -> None:
    assert {"mean", "std"} <= set(small.state_dict())
    seen = []
    hook = small.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    small(torch.full((1, 3, 64, 64), 0.7), torch.ones(1, 16, dtype=torch.bool))
    hook.remove()
    config = small.config
    expected = [(0.7 - mean) / std for mean, std in zip(config.mean, config.std, strict=True)]
    np.testing.assert_allclose(seen[0][0, :, 5, 5], expected, rtol=1e-5)


def test_fewer_tasks_can_be_cut_out(small_config: FaceUMConfig, small: FaceUM) -> None:
    spec, _ = small_config.crops[0]
    alone = FaceUM(
        dataclasses.replace(small_config, tasks=("parsing",), crops=((spec, ("parsing",)),))
    ).eval()
    weights, row = small.state_dict(), list(TASKS).index("parsing")
    alone.load_state_dict(
        {
            name: weights[name] if weights[name].shape == value.shape else weights[name][[row]]  # its gates
            for name, value in alone.state_dict().items()
        }
    )
    crop_BCHW, mask_BN = images(2)
    torch.testing.assert_close(
        alone(crop_BCHW, mask_BN)["parsing"], small(crop_BCHW, mask_BN)["parsing"], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("size", "patches", "dtype", "tasks", "said"),
    [
        (112, 16, torch.bool, ("age",), "64"),
        (64, 49, torch.bool, ("age",), "face tokens"),
        (64, 16, torch.uint8, ("age",), "bool"),
        (64, 16, torch.bool, ("weight",), "recognition"),
        (64, 16, torch.bool, (), "one or more of recognition"),
        (64, 16, torch.bool, "age", "one or more of recognition"),
        (112, 49, torch.bool, None, "64"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    small: FaceUM, size: int, patches: int, dtype: torch.dtype, tasks: tuple[str, ...] | str | None, said: str
) -> None:
    crop_BCHW, mask_BN = torch.rand(2, 3, size, size), torch.ones(2, patches, dtype=dtype)
    with pytest.raises(ModelError, match=said):
        small(crop_BCHW, mask_BN, tasks)


@pytest.mark.parametrize(
    "wrong", [{"heads": "none"}, {"tasks": ("age", "weight")}, {"crops": ()}], ids=lambda one: next(iter(one))
)
def test_configs_that_cannot_be_built_are_refused(small_config: FaceUMConfig, wrong: dict) -> None:
    with pytest.raises(ModelError):
        dataclasses.replace(small_config, **wrong)


def test_stems_and_activations_are_refused_with_the_known_ones(small_config: FaceUMConfig) -> None:
    with pytest.raises(ModelError, match="conv, patch"):
        dataclasses.replace(small_config.stem, kind="fourier")
    with pytest.raises(ModelError, match="silu"):
        dataclasses.replace(small_config.block, activation="swish")
    with pytest.raises(ModelError, match="three stages"):
        FaceUM(dataclasses.replace(small_config, stem=dataclasses.replace(small_config.stem, blocks=(1,))))
