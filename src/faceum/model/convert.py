"""A file of FaRL's or of the published code in, a strict safetensors file of ours out.

Foreign files are read as tensors only, never as code, and every name is accounted for on both sides.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceum.errors import ModelError
from faceum.files import sha256_of
from faceum.model.checkpoint import save_checkpoint
from faceum.model.configs import BASE, REFERENCE
from faceum.model.network import FaceUM, FaceUMConfig
from faceum.model.reference_names import farl_names, reference_names
from faceum.model.vit import resize_positions

PARSING_FROM_REFERENCE = (0, 17, 1, 18, 8, 9, 6, 7, 4, 5, 2, 10, 12, 11, 13, 3, 14, 15, 16)
"""Class id of a published checkpoint's parsing -> ours (CelebAMask-HQ's). Theirs is the order in which FaRL
reads CelebAMask-HQ's masks (github.com/FacePerceiver/FaRL, farl/datasets/celebamask_hq.py)."""

REFERENCE_EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
"""Our words for the answers of a published checkpoint, in its order."""

UNUSED = r"(ln_post\.weight|ln_post\.bias|proj|transformer\.resblocks\.\d+\.mlp\.f_gate\.0\.weight)"
"""Tensors of the encoder that no answer depends on; they are dropped."""

BROKEN = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What torch.load raises for a file that is cut short or no torch file; its errors share no class."""

MOST_NAMED = 40
"""So many names of one kind stand in an error; of more, their number."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A kind of file that can be converted.

    begins: how names begin in this kind of file alone. config: what it becomes. names: a tensor of ours ->
    the file's names for it. unused: pattern of the names that are dropped by rule. complete: whether it holds
    all of the network, or the rest starts fresh.
    """

    begins: str
    config: FaceUMConfig
    names: Callable[[str, FaceUMConfig], tuple[str, ...]]
    unused: str
    complete: bool


KINDS: dict[str, Foreign] = {
    "farl": Foreign(
        begins="visual.",
        config=BASE,
        names=farl_names,
        unused=rf"visual\.{UNUSED}|(?!visual\.).*",
        complete=False,
    ),
    "reference": Foreign(
        begins="backbone_module.",
        config=REFERENCE,
        names=reference_names,
        unused=rf"backbone_module\.visual\.{UNUSED}",
        complete=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of every name.

    used: names of the file whose tensors the network holds. by_rule, by_name: names that were dropped because
    no answer depends on them, and because the caller said so. fresh: names of ours that start anew.
    """

    used: tuple[str, ...]
    by_rule: tuple[str, ...]
    by_name: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Numbers and the dropped names, for the file's header."""
        return {
            "used": len(self.used),
            "dropped_by_rule": len(self.by_rule),
            "dropped_by_name": list(self.by_name),
            "fresh": len(self.fresh),
        }


def convert_file(
    kind: str,
    path: str | Path,
    out: str | Path,
    *,
    drop: Sequence[str] = (),
    half: bool = False,
    seed: int = 0,
    config: FaceUMConfig | None = None,
) -> Account:
    """Read `path`, write `out` whole or not at all, and say what became of every name.

    kind: "farl" or "reference". drop: names that begin so are left aside. half: store in float16. seed: of
    what starts fresh behind FaRL's encoder. config: of a network of other widths than the published ones.
    Raises ModelError where the file is no such file, or a name is missing, unknown or of a wrong shape.
    """
    state = read_foreign(path)
    model, account = convert(kind, state, drop=drop, seed=seed, config=config)
    metadata: dict[str, Any] = {
        "provenance": {
            "converted": kind,
            "file": Path(path).name,
            "sha256": sha256_of(path),
            "tensors": account.to_dict(),
        },
        "licence": "that of the converted file, which does not name one",
        "scores": {},
    }
    if kind == "reference":
        metadata["labels"] = {"expression": list(REFERENCE_EXPRESSIONS)}
        metadata["provenance"]["parsing_classes_from"] = list(PARSING_FROM_REFERENCE)
    save_checkpoint(out, model, metadata, dtype=torch.float16 if half else torch.float32)
    return account


def read_foreign(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a torch file's `state_dict`, without `module.` before their names.

    ModelError where the file is missing, broken, holds anything that would have to be run to be read, or
    something else than named tensors.
    """
    if not Path(path).is_file():
        raise ModelError(f"There is no file {path}; give the checkpoint to convert.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch's own words advise to run it
        told = f"reading it would run code, {code[1]}" if code else "it is none, or reading it would run code"
        raise ModelError(
            f"{path} is no torch file of tensors alone: {told}; ask its author for the state_dict, saved by "
            "itself."
        ) from None
    except BROKEN as error:
        raise ModelError(
            f"{path} is broken or no torch file ({_first_line(error)}); fetch it again."
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path} holds no state_dict of named tensors alone; give a checkpoint that does.")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def kind_of(state: Mapping[str, Tensor]) -> str | None:
    """The kind of file, of KINDS, that holds such names; None where it is neither."""
    for kind, foreign in KINDS.items():
        if any(name.startswith(foreign.begins) for name in state):
            return kind
    return None


def convert(
    kind: str,
    state: Mapping[str, Tensor],
    *,
    drop: Sequence[str] = (),
    seed: int = 0,
    config: FaceUMConfig | None = None,
) -> tuple[FaceUM, Account]:
    """The network with a file's tensors, float32 in evaluation mode, and what became of every name.

    See `convert_file`; state: `read_foreign`'s answer.
    """
    foreign, found = KINDS[kind], kind_of(state)
    if found not in (kind, None):
        raise ModelError(f"By its names the file is one for `faceum convert {found}`, not {kind}; use that.")
    config = config or foreign.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FaceUM(config)
    ours = model.state_dict()
    sources = {name: names for name in ours if (names := foreign.names(name, config))}
    account = _accounted(state, sources, foreign, drop, fresh=sorted(set(ours) - set(sources)))
    wrong = []
    for name, names in sources.items():
        parts = [state[one] for one in names]
        if name == "trunk.positions":
            parts = [_on_our_grid(parts[0], ours[name])]
        misfits = _of_wrong_shape(names, parts, _part_shape(name, ours[name].shape, len(names)))
        if not misfits:
            joined = torch.cat(parts) if len(parts) > 1 else parts[0].clone()
            ours[name] = joined.reshape(ours[name].shape).to(ours[name].dtype)
        wrong += misfits
    if wrong:
        raise ModelError(f"The file is no {config.name} network: {_named(wrong)}; give one of its widths.")
    if kind == "reference":
        for name in ("heads.parsing.upernet.output.weight", "heads.parsing.upernet.output.bias"):
            ours[name] = in_our_order(ours[name])
    model.load_state_dict(ours, assign=True)
    return model.eval(), account


def in_our_order(rows: Tensor) -> Tensor:
    """A parsing classifier's rows (19, ...) in FaRL's order of classes -> in ours."""
    ordered = torch.empty_like(rows)
    ordered[list(PARSING_FROM_REFERENCE)] = rows
    return ordered


def _accounted(
    state: Mapping[str, Tensor],
    sources: Mapping[str, tuple[str, ...]],
    foreign: Foreign,
    drop: Sequence[str],
    *,
    fresh: Sequence[str],
) -> Account:
    wanted = {one for names in sources.values() for one in names}
    idle = [prefix for prefix in drop if not any(_begins(name, [prefix]) for name in state)]
    if idle:
        raise ModelError(f"No name of the file begins with {_named(idle)}; leave out that --drop.")
    by_name = {name for name in state if _begins(name, drop)}
    rest = set(state) - wanted - by_name
    by_rule = {name for name in rest if re.fullmatch(foreign.unused, name)}
    missing, unknown = sorted(wanted - set(state) | wanted & by_name), sorted(rest - by_rule)
    if missing or unknown:
        raise ModelError(
            f"The file does not hold what it should: missing {_named(missing)}; unknown {_named(unknown)}. "
            "Give a file of that kind; drop unknown names that are of no use with --drop PREFIX."
        )
    return Account(
        used=tuple(sorted(wanted)),
        by_rule=tuple(sorted(by_rule)),
        by_name=tuple(sorted(by_name)),
        fresh=() if foreign.complete else tuple(fresh),
    )


def _begins(name: str, prefixes: Iterable[str]) -> bool:
    return name.startswith(tuple(prefix.removeprefix("module.") for prefix in prefixes))


def _on_our_grid(positions: Tensor, ours: Tensor) -> Tensor:
    """Position rows for our grid where they are for another; the first row is the class token's."""
    grid, side = round((len(ours) - 1) ** 0.5), round((len(positions) - 1) ** 0.5)
    if positions.dim() != 2 or side * side + 1 != len(positions):
        return positions
    return resize_positions(positions.float(), grid, class_token=True)


def _part_shape(name: str, shape: torch.Size, parts: int) -> tuple[int, ...]:
    if parts == 1:
        return tuple(shape)
    return tuple(shape[2:]) if name.endswith("router.weight") else (shape[0] // parts, *shape[1:])


def _of_wrong_shape(names: Sequence[str], parts: Sequence[Tensor], wanted: tuple[int, ...]) -> list[str]:
    return [
        f"{name} is {tuple(part.shape)}, not {wanted}"
        for name, part in zip(names, parts, strict=True)
        if tuple(part.shape) != wanted
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "nothing") + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
