"""A deeper network starts with the answers of the one whose weights it loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from faceum.errors import ModelError
from faceum.model.growth import load_grown
from faceum.model.network import FaceUM, FaceUMConfig

Lively = Callable[[FaceUMConfig], FaceUM]


def deeper(config: FaceUMConfig) -> FaceUMConfig:
    return replace(config, stem=replace(config.stem, blocks=(1, 1, 3)), depth=config.depth + 1)


def test_a_grown_network_answers_alike_and_learns(small_config: FaceUMConfig, lively: Lively) -> None:
    shallow = lively(small_config)
    # Every weight of the deep network differs from zero and from the shallow one's until it is loaded.
    deep = lively(deeper(small_config))
    new = load_grown(deep, shallow.state_dict())
    stages = ("stages.0.0", "stages.2.1", "stages.2.2")
    assert new == ["trunk.blocks.1", *(f"trunk.stem.{name}" for name in stages)]
    crops, face = torch.rand(3, 3, 64, 64), torch.ones(3, 16, dtype=torch.bool)
    expected, found = shallow(crops, face), deep(crops, face)
    for task, answer in expected.items():
        assert torch.equal(found[task], answer), task
    sum(answer.float().square().mean() for answer in found.values()).backward()  # type: ignore[union-attr]
    modules = dict(deep.named_modules())
    for name in new:
        assert any(value.grad is not None and value.grad.any() for value in modules[name].parameters()), name


def test_other_differences_are_refused(small_config: FaceUMConfig) -> None:
    state = FaceUM(deeper(small_config)).state_dict()
    with pytest.raises(ModelError, match=r"trunk\.blocks\.1\."):
        load_grown(FaceUM(small_config), state)
    wider = replace(small_config, stem=replace(small_config.stem, channels=(16, 16, 32)))
    with pytest.raises(ModelError, match="trunk"):
        load_grown(FaceUM(wider), FaceUM(small_config).state_dict())
