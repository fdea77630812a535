"""Start a deeper network from the weights of a shallower one, with the same answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from faceum.errors import ModelError
from faceum.model.layers import ResidualConv
from faceum.model.network import FaceUM
from faceum.model.vit import Block


@torch.no_grad()
def load_grown(network: FaceUM, state: Mapping[str, Tensor]) -> list[str]:
    """Load the weights of a network with fewer residual or dense blocks; return the names of the new ones.

    New blocks come after the loaded ones of their stage. Their output layers become zero, so that the deeper
    network first answers exactly as the loaded one (arXiv 1511.05641). Raises ModelError if the networks
    differ in anything else.
    """
    expected = network.state_dict()
    new = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (ResidualConv, Block)) and not any(key.startswith(f"{name}.") for key in state)
    }
    unlike = sorted(
        name
        for name in expected.keys() | state.keys()
        if not name.startswith(tuple(f"{block}." for block in new))
        and (name not in expected or name not in state or expected[name].shape != state[name].shape)
    )
    if unlike:
        more = f" and {len(unlike) - 5} more" if len(unlike) > 5 else ""
        raise ModelError(f"These tensors differ in name or shape: {', '.join(unlike[:5])}{more}.")
    network.load_state_dict({**expected, **state})
    for module in new.values():
        if isinstance(module, Block):
            outputs: list[nn.Module] = [module.attention.out_projection, module.mlp.fc2]
        else:
            outputs = [module.second]
        for output in outputs:
            for value in output.parameters():
                nn.init.zeros_(value)
    return sorted(new)
