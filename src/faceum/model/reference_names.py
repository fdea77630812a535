"""Names of our tensors in FaRL's file and in a checkpoint of the published code.

FaRL's file holds the encoder, and a published checkpoint the whole network. Both name the encoder as CLIP
does.
"""

from __future__ import annotations

import re

from faceum.model.network import FaceUMConfig
from faceum.tasks import TASKS

Names = tuple[tuple[str, str], ...]
"""(pattern of a whole name of ours, name of theirs), as re.fullmatch and Match.expand take them."""

BLOCK = r"block\.(\d+)\."
THEIR_BLOCK = r"transformer.resblocks.\1."

ENCODER: Names = (
    (r"trunk\.stem\.patch\.weight", "conv1.weight"),
    (r"trunk\.class_token", "class_embedding"),
    (r"trunk\.positions", "positional_embedding"),
    (r"trunk\.norm\.(\w+)", r"ln_pre.\1"),
    (BLOCK + r"attention_norm\.(\w+)", THEIR_BLOCK + r"ln_1.\2"),
    (BLOCK + r"attention\.in_projection\.(\w+)", THEIR_BLOCK + r"attn.in_proj_\2"),
    (BLOCK + r"attention\.out_projection\.(\w+)", THEIR_BLOCK + r"attn.out_proj.\2"),
    (BLOCK + r"mlp_norm\.(\w+)", THEIR_BLOCK + r"ln_2.\2"),
    (BLOCK + r"mlp\.fc1\.(\w+)", THEIR_BLOCK + r"mlp.c_fc.\2"),
    (BLOCK + r"mlp\.fc2\.(\w+)", THEIR_BLOCK + r"mlp.c_proj.\2"),
)
"""Tensors of both kinds of file; `block` numbers the dense blocks and then the MoE blocks."""

FARL_MOE: Names = (
    (BLOCK + r"moe\.shared\.fc1\.(\w+)", THEIR_BLOCK + r"mlp.c_fc.\2"),
    (BLOCK + r"moe\.shared\.fc2\.(\w+)", THEIR_BLOCK + r"mlp.c_proj.\2"),
)
"""The dense MLPs of the last blocks become the shared experts."""

REFERENCE_MOE: Names = (
    (BLOCK + r"moe\.shared\.fc1\.(\w+)", THEIR_BLOCK + r"mlp.shared_mlp.c_fc.\2"),
    (BLOCK + r"moe\.shared\.fc2\.(\w+)", THEIR_BLOCK + r"mlp.shared_mlp.c_proj.\2"),
    (BLOCK + r"moe\.experts\.fc1", THEIR_BLOCK + "mlp.experts.w"),
    (BLOCK + r"moe\.experts\.fc2", THEIR_BLOCK + "mlp.output_experts.w"),
)

ROUTER = re.compile(BLOCK + r"moe\.router\.weight")
CONV = re.compile(r"heads\.(age|attributes|expression)\.conv\.weight")

THEIR_TASKS = {
    "recognition": "recog",
    "age": "age",
    "attributes": "biattr",
    "expression": "affect",
    "parsing": "parsing",
    "landmarks": "align",
}
"""Our name of a task -> theirs, in the names of the heads."""

THEIR_OUTPUTS = {"age": "age_morph2", "attributes": "biattr_celeba", "expression": "affect_affectnet"}
"""Task -> their name of its last layer, after its training data."""

HEADS: Names = (
    # recognition
    (r"hidden\.(\w+)", r"head.0.\1"),
    (r"hidden_norm\.(\w+)", r"head.1.\1"),
    (r"output_norm\.(\w+)", r"head.3.\1"),
    # age, attributes, expression
    (r"norm\.(\w+)", r"norm.\1"),
    (r"gate\.squeeze\.(\w+)", r"channel_attention.mlp.1.\1"),
    (r"gate\.expand\.(\w+)", r"channel_attention.mlp.3.\1"),
    (r"first\.(\w+)", r"feature.0.\1"),
    (r"second\.(\w+)", r"feature.3.\1"),
    # parsing, landmarks
    (r"pyramid\.fourfold\.0\.(\w+)", r"fpns.0.0.\1"),
    (r"pyramid\.norm\.(\w+)", r"fpns.0.1.\1"),
    (r"pyramid\.fourfold\.1\.(\w+)", r"fpns.0.3.\1"),
    (r"pyramid\.twofold\.(\w+)", r"fpns.1.\1"),
    (r"upernet\.output\.(\w+)", r"head.conv_seg.\1"),
    (r"upernet\.pooled\.(\d)\.(conv|norm)\.(\w+)", r"head.psp_modules.\1.1.\2.\3"),
    (r"upernet\.bottleneck\.(conv|norm)\.(\w+)", r"head.bottleneck.\1.\2"),
    (r"upernet\.laterals\.(\d)\.(conv|norm)\.(\w+)", r"head.lateral_convs.\1.\2.\3"),
    (r"upernet\.smooth\.(\d)\.(conv|norm)\.(\w+)", r"head.fpn_convs.\1.\2.\3"),
    (r"upernet\.fusion\.(conv|norm)\.(\w+)", r"head.fpn_bottleneck.\1.\2"),
)
"""The part after the task in the name of a head's tensor; their `.bn.` is our `.norm.`."""


def farl_names(name: str, config: FaceUMConfig) -> tuple[str, ...]:
    """Return the name of our tensor in FaRL's file; empty if FaRL does not have it."""
    found = _expand(_number_blocks(name, config), ENCODER + FARL_MOE)
    return (f"visual.{found}",) if found else ()


def reference_names(name: str, config: FaceUMConfig) -> tuple[str, ...]:
    """Return the names of our tensor in a published checkpoint; empty if it does not have it.

    Several of theirs are concatenated in the first dimension of ours: the four convolutions of an image-level
    head, and the gates, by task, the background's before the face's.
    """
    name = _number_blocks(name, config)
    router, conv = ROUTER.fullmatch(name), CONV.fullmatch(name)
    if router:
        mlp = f"backbone_module.visual.transformer.resblocks.{router[1]}.mlp"
        return tuple(
            f"{mlp}.{gate}.{task}.0.weight" for task in range(len(TASKS)) for gate in ("f_gate_2", "f_gate_1")
        )
    if conv:
        return tuple(f"heads_module.heads.{THEIR_TASKS[conv[1]]}.conv.{i}.weight" for i in range(4))
    if name.startswith("heads."):
        return _head_names(name)
    found = _expand(name, ENCODER + REFERENCE_MOE)
    return (f"backbone_module.visual.{found}",) if found else ()


def _head_names(name: str) -> tuple[str, ...]:
    _, task, rest = name.split(".", 2)
    if rest.startswith("output."):
        layer = f"fcs.{THEIR_OUTPUTS[task]}" if task in THEIR_OUTPUTS else "head.2"
        found: str | None = rest.replace("output", layer, 1)
    else:
        found = _expand(rest, HEADS)
    if found is None:
        return ()
    return (f"heads_module.heads.{THEIR_TASKS[task]}.{found.replace('.norm.', '.bn.')}",)


def _number_blocks(name: str, config: FaceUMConfig) -> str:
    """Rename trunk.blocks.3.x to block.3.x, and moe_blocks.1.x, after ten dense blocks, to block.11.x."""
    moe_block = re.match(r"moe_blocks\.(\d+)\.", name)
    if moe_block:
        return f"block.{config.depth + int(moe_block[1])}.{name[moe_block.end() :]}"
    return name.replace("trunk.blocks.", "block.", 1)


def _expand(name: str, names: Names) -> str | None:
    for pattern, theirs in names:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(theirs)
    return None
