"""The published network once more, slow and obvious: a dict of tensors by the published names, and functions.

Nothing here comes from the package. Everything takes one image, its face mask and one task at a time, in
two passes over all tokens, as it was published.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

TASKS = ("recognition", "age", "attributes", "expression", "parsing", "landmarks")
GATED = {
    "age": ("age", "age_morph2", 101),
    "attributes": ("biattr", "biattr_celeba", 40),
    "expression": ("affect", "affect_affectnet", 7),
}
DENSE = {"parsing": ("parsing", 19), "landmarks": ("align", 68)}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The network's widths; the defaults are the published ones."""

    dim: int = 768
    num_heads: int = 12
    hidden_dim: int = 3072
    dense_blocks: int = 10
    moe_blocks: int = 2
    num_experts: int = 8
    expert_hidden_dim: int = 1536
    channels: int = 512
    squeezed: int = 32
    grid: int = 32
    first_grid: int = 14


FULL = Sizes()
NARROW = Sizes(
    dim=48, num_heads=3, hidden_dim=96, dense_blocks=2, expert_hidden_dim=40, channels=32, squeezed=2
)


def encoder_shapes(sizes: Sizes, rows: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what FaRL's file and a published checkpoint share, without the MLPs."""
    d = sizes.dim
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (d, 3, 16, 16),
        "class_embedding": (d,),
        "positional_embedding": (rows, d),
        "proj": (d, sizes.channels),
    }
    for norm in ("ln_pre", "ln_post"):
        shapes |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
    for i in range(sizes.dense_blocks + sizes.moe_blocks):
        block = f"transformer.resblocks.{i}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * d, d), f"{block}.attn.in_proj_bias": (3 * d,)}
        shapes |= linear(f"{block}.attn.out_proj", d, d)
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}.{norm}.weight": (d,), f"{block}.{norm}.bias": (d,)}
    return shapes


def mlp_shapes(prefix: str, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    return linear(f"{prefix}.c_fc", sizes.dim, sizes.hidden_dim) | linear(
        f"{prefix}.c_proj", sizes.hidden_dim, sizes.dim
    )


def linear(prefix: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (after, before), f"{prefix}.bias": (after,)}


def batch_norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{name}": (channels,) for name in names} | {f"{prefix}.num_batches_tracked": ()}


def farl_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """FaRL's file: the encoder under `visual.`, and some of the text side."""
    shapes = encoder_shapes(sizes, sizes.first_grid**2 + 1)
    for i in range(sizes.dense_blocks + sizes.moe_blocks):
        shapes |= mlp_shapes(f"transformer.resblocks.{i}.mlp", sizes)
    text = {"logit_scale": (), "token_embedding.weight": (9, 4), "transformer.resblocks.0.ln_1.weight": (4,)}
    return {f"visual.{name}": shape for name, shape in shapes.items()} | text


def reference_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """A published checkpoint, without `module.`."""
    d, e, h = sizes.dim, sizes.num_experts, sizes.expert_hidden_dim
    encoder = encoder_shapes(sizes, sizes.grid**2 + 1)
    for i in range(sizes.dense_blocks):
        encoder |= mlp_shapes(f"transformer.resblocks.{i}.mlp", sizes)
    for i in range(sizes.dense_blocks, sizes.dense_blocks + sizes.moe_blocks):
        mlp = f"transformer.resblocks.{i}.mlp"
        encoder |= mlp_shapes(f"{mlp}.shared_mlp", sizes)
        encoder |= {f"{mlp}.experts.w": (e, d, h), f"{mlp}.output_experts.w": (e, h, d)}
        encoder |= {f"{mlp}.f_gate.0.weight": (e, d)}
        for t in range(6):
            encoder |= {f"{mlp}.f_gate_1.{t}.0.weight": (e, d), f"{mlp}.f_gate_2.{t}.0.weight": (e, d)}
    heads = head_shapes(sizes)
    return {f"backbone_module.visual.{name}": shape for name, shape in encoder.items()} | {
        f"heads_module.heads.{name}": shape for name, shape in heads.items()
    }


def head_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    d, c = sizes.dim, sizes.channels
    shapes: dict[str, tuple[int, ...]] = {"recog.norm.weight": (d,), "recog.norm.bias": (d,)}
    shapes |= {"recog.head.0.weight": (d, d), "recog.head.2.weight": (512, d)}
    shapes |= batch_norm("recog.head.1", d) | batch_norm("recog.head.3", 512)
    for name, last, outputs in GATED.values():
        shapes |= {f"{name}.conv.{i}.weight": (c // 4, d, 3, 3) for i in range(4)}
        shapes |= linear(f"{name}.channel_attention.mlp.1", c, sizes.squeezed)
        shapes |= linear(f"{name}.channel_attention.mlp.3", sizes.squeezed, c)
        shapes |= batch_norm(f"{name}.norm", c)
        shapes |= linear(f"{name}.feature.0", c, c) | linear(f"{name}.feature.3", c, c)
        shapes |= linear(f"{name}.fcs.{last}", c, outputs)
    for name, outputs in DENSE.values():
        for transposed in ("fpns.0.0", "fpns.0.3", "fpns.1"):
            shapes |= {f"{name}.{transposed}.weight": (d, d, 2, 2), f"{name}.{transposed}.bias": (d,)}
        shapes |= batch_norm(f"{name}.fpns.0.1", d)
        shapes |= {
            f"{name}.head.conv_seg.weight": (outputs, c, 1, 1),
            f"{name}.head.conv_seg.bias": (outputs,),
        }
        units = {f"psp_modules.{i}.1": (c, d, 1, 1) for i in range(4)}
        units |= {"bottleneck": (c, d + 4 * c, 3, 3), "fpn_bottleneck": (c, 4 * c, 3, 3)}
        units |= {f"lateral_convs.{i}": (c, d, 1, 1) for i in range(3)}
        units |= {f"fpn_convs.{i}": (c, c, 3, 3) for i in range(3)}
        for unit, shape in units.items():
            shapes |= {f"{name}.head.{unit}.conv.weight": shape} | batch_norm(f"{name}.head.{unit}.bn", c)
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    """Seeded values with which signals keep their size from layer to layer and gates tell tokens apart."""
    source = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=source) if shape else torch.tensor(7.0)
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif name.endswith("running_var"):
            value = 0.5 + value.abs()
        elif len(shape) == 1:
            scale = name.endswith("weight")
            value = 0.1 * value + (1.0 if scale else 0.0)
        elif "f_gate" in name:
            value = 2.5 * value / shape[-1] ** 0.5
        elif "experts.w" in name:
            value = value * (2.0 / shape[1]) ** 0.5
        elif len(shape) > 1 and "embedding" not in name:
            value = value / float(torch.tensor(shape[1:]).prod()) ** 0.5
        state[name] = value
    return state


# The network. x is (tokens, width); images are normalized (3, S, S).


def answers(state: State, sizes: Sizes, image: Tensor, face: Tensor, tasks: tuple[str, ...]) -> State:
    """Each task's answer for one normalized image, without batch dimension.

    Up to the moe_blocks the encoder does not look at the task, so that part is worked out once.
    """
    visual = part(state, "backbone_module.visual.")
    x = before_moe_blocks(visual, sizes, image)
    return {
        task: head(state, through_moe_blocks(visual, sizes, x, face, TASKS.index(task)), task)
        for task in tasks
    }


def through_moe_blocks(visual: State, sizes: Sizes, x: Tensor, face: Tensor, task: int) -> Tensor:
    """The last block's patch map (D, g, g)."""
    for i in range(sizes.dense_blocks, sizes.dense_blocks + sizes.moe_blocks):
        block = part(visual, f"transformer.resblocks.{i}.")
        x = x + attention(block, sizes, norm(block, "ln_1", x))
        y = norm(block, "ln_2", x)
        x = x + moe_block(part(block, "mlp."), y, face, task)
    side = int((len(x) - 1) ** 0.5)
    return x[1:].T.reshape(-1, side, side)


def before_moe_blocks(visual: State, sizes: Sizes, image: Tensor) -> Tensor:
    patches = F.conv2d(image[None], visual["conv1.weight"], stride=16)[0]
    side = patches.shape[-1]
    positions = visual["positional_embedding"]
    if side != sizes.grid:
        square = positions[1:].T.reshape(1, -1, sizes.grid, sizes.grid)
        square = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
        positions = torch.cat([positions[:1], square[0].flatten(1).T])
    x = torch.cat([visual["class_embedding"][None], patches.flatten(1).T]) + positions
    x = norm(visual, "ln_pre", x)
    for i in range(sizes.dense_blocks):
        x = dense_block(part(visual, f"transformer.resblocks.{i}."), sizes, x)
    return x


def dense_block(block: State, sizes: Sizes, x: Tensor) -> Tensor:
    x = x + attention(block, sizes, norm(block, "ln_1", x))
    return x + mlp(part(block, "mlp."), norm(block, "ln_2", x))


def attention(block: State, sizes: Sizes, x: Tensor) -> Tensor:
    query, key, value = (x @ block["attn.in_proj_weight"].T + block["attn.in_proj_bias"]).chunk(3, dim=1)
    size = sizes.dim // sizes.num_heads
    answers = []
    for h in range(sizes.num_heads):
        own = slice(h * size, (h + 1) * size)
        weight = (query[:, own] @ key[:, own].T / size**0.5).softmax(1)
        answers.append(weight @ value[:, own])
    return torch.cat(answers, 1) @ block["attn.out_proj.weight"].T + block["attn.out_proj.bias"]


def mlp(block: State, x: Tensor) -> Tensor:
    hidden = x @ block["c_fc.weight"].T + block["c_fc.bias"]
    hidden = hidden * torch.sigmoid(1.702 * hidden)
    return hidden @ block["c_proj.weight"].T + block["c_proj.bias"]


def moe_block(block: State, x: Tensor, face: Tensor, task: int) -> Tensor:
    """Class token through the dense MLP; patch tokens through a face and a background pass."""
    first = mlp(part(block, "shared_mlp."), x[:1])
    patches = x[1:]
    in_face = one_pass(block, patches * face[:, None], block[f"f_gate_1.{task}.0.weight"], is_face=True)
    outside = one_pass(block, patches * ~face[:, None], block[f"f_gate_2.{task}.0.weight"], is_face=False)
    return torch.cat([first, torch.where(face[:, None], in_face, outside)])


def one_pass(block: State, x: Tensor, gate: Tensor, *, is_face: bool) -> Tensor:
    p = (x @ gate.T).softmax(1) + 1e-4
    k = 2
    if is_face:
        mean = sum((row > 0.1).sum().item() for row in p) / len(p)
        k = min(round(mean) + 2, 6)  # Python rounds halves to the even number
    out = torch.zeros_like(x)
    best, chosen = p.topk(k, dim=1)
    for e in range(len(gate)):
        token, slot = (chosen == e).nonzero().unbind(1)
        hidden = torch.relu(x[token] @ block["experts.w"][e])
        out[token] += best[token, slot][:, None] * (hidden @ block["output_experts.w"][e])
    return out


def head(state: State, features: Tensor, task: str) -> Tensor:
    """(512,), (101,), (40,) or (7,) numbers, (19, 4g, 4g) logits or (68, 2) points."""
    if task == "recognition":
        return recognition(part(state, "heads_module.heads.recog."), features)
    if task in GATED:
        name, last, _ = GATED[task]
        return gated(part(state, f"heads_module.heads.{name}."), features, last)
    heat = upernet(part(state, f"heads_module.heads.{DENSE[task][0]}."), features)
    return points(torch.sigmoid(heat)) if task == "landmarks" else heat


def recognition(block: State, features: Tensor) -> Tensor:
    x = norm(block, "norm", features.flatten(1).T).mean(0)
    x = bn(block, "head.1", (block["head.0.weight"] @ x)[None], 2e-5)[0]
    return bn(block, "head.3", (block["head.2.weight"] @ x)[None], 2e-5)[0]


def gated(block: State, features: Tensor, last: str) -> Tensor:
    maps = [F.conv2d(features[None], block[f"conv.{i}.weight"], padding=1)[0] for i in range(4)]
    x = torch.cat(maps)
    gate = torch.zeros(len(x))
    for pooled in (x.mean((1, 2)), x.amax((1, 2))):
        squeezed = torch.relu(lin(block, "channel_attention.mlp.1", pooled))
        gate = gate + lin(block, "channel_attention.mlp.3", squeezed)
    x = torch.relu(x * torch.sigmoid(gate)[:, None, None]).amax((1, 2))
    x = bn(block, "norm", x[None], 2e-5)[0]
    x = torch.relu(lin(block, "feature.0", x))
    x = torch.relu(lin(block, "feature.3", x))
    return lin(block, f"fcs.{last}", x)


def upernet(block: State, features: Tensor) -> Tensor:
    x = features[None]
    finest = F.gelu(bn(block, "fpns.0.1", transposed(block, "fpns.0.0", x), 1e-5))
    maps = [transposed(block, "fpns.0.3", finest), transposed(block, "fpns.1", x), x, F.max_pool2d(x, 2)]

    pyramid = [maps[3]]
    for i, cells in enumerate((1, 2, 3, 6)):
        pooled = unit(block, f"head.psp_modules.{i}.1", F.adaptive_avg_pool2d(maps[3], cells))
        pyramid.append(like(pooled, maps[3]))
    laterals = [unit(block, f"head.lateral_convs.{i}", maps[i]) for i in range(3)]
    laterals.append(unit(block, "head.bottleneck", torch.cat(pyramid, 1)))
    for i in (3, 2, 1):
        laterals[i - 1] = laterals[i - 1] + like(laterals[i], laterals[i - 1])
    outs = [unit(block, f"head.fpn_convs.{i}", laterals[i]) for i in range(3)] + [laterals[3]]
    joined = torch.cat([like(out, outs[0]) for out in outs], 1)
    fused = unit(block, "head.fpn_bottleneck", joined)
    return F.conv2d(fused, block["head.conv_seg.weight"], block["head.conv_seg.bias"])[0]


def points(heat: Tensor) -> Tensor:
    """(68, h, w) -> (68, 2), x then y, 0..1."""
    side = heat.shape[-1]
    place = torch.arange(side, dtype=heat.dtype)
    total = heat.sum((1, 2)).clamp(min=1e-6)
    x = (heat * place[None, None, :]).sum((1, 2)) / total
    y = (heat * place[None, :, None]).sum((1, 2)) / total
    return (torch.stack([x, y], 1) + 0.5) / side


def part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def norm(block: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], block[f"{name}.weight"], block[f"{name}.bias"], 1e-5)


def bn(block: State, name: str, x: Tensor, eps: float) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, var = (block[f"{name}.running_{what}"].view(shape) for what in ("mean", "var"))
    weight, bias = (block[f"{name}.{what}"].view(shape) for what in ("weight", "bias"))
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def lin(block: State, name: str, x: Tensor) -> Tensor:
    return block[f"{name}.weight"] @ x + block[f"{name}.bias"]


def transposed(block: State, name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, block[f"{name}.weight"], block[f"{name}.bias"], stride=2)


def unit(block: State, name: str, x: Tensor) -> Tensor:
    weight = block[f"{name}.conv.weight"]
    return torch.relu(bn(block, f"{name}.bn", F.conv2d(x, weight, padding=weight.shape[-1] // 2), 1e-5))


def like(x: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)
