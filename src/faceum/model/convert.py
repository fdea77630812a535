"""Convert FaRL's file, or a checkpoint of the published code, to this package's safetensors format.

Foreign files are read as tensors only, never as code, and every tensor name is accounted for on both sides.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceum.errors import ModelError
from faceum.files import sha256_of
from faceum.model.checkpoint import require_finite, save_checkpoint
from faceum.model.configs import BASE, REFERENCE
from faceum.model.network import FaceUM, FaceUMConfig
from faceum.model.reference_names import farl_names, reference_names
from faceum.model.vit import resize_positions

PARSING_FROM_REFERENCE = (0, 17, 1, 18, 8, 9, 6, 7, 4, 5, 2, 10, 12, 11, 13, 3, 14, 15, 16)
"""Class id of a published checkpoint's parsing -> ours (CelebAMask-HQ's). Theirs is the order in which FaRL
reads CelebAMask-HQ's masks (github.com/FacePerceiver/FaRL, farl/datasets/celebamask_hq.py)."""

REFERENCE_EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
"""This package's names for the expressions of a published checkpoint, in its order."""

UNUSED = r"(ln_post\.weight|ln_post\.bias|proj|transformer\.resblocks\.\d+\.mlp\.f_gate\.0\.weight)"
"""Pattern of the encoder's tensors that no answer depends on."""

PRETRAINING = r"(mask_token|ln_lm\..*|lm_head\..*|lm_transformer\..*)"
"""Pattern of what only FaRL's pretraining by masked images uses, as its training code saves it."""

LOSSES = r"losses_module\..*"
"""Pattern of the losses' tensors, which the published trainer saves with the network's."""

BROKEN = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What torch.load raises for a truncated file or another format; its errors share no class."""

FIRST_NAMED = 40
"""Number of names of one kind that an error lists."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A kind of file that can be converted.

    begins: prefix of tensor names that only this kind of file has.
    config: the config of the converted network.
    names: function from a tensor of ours and a config to the file's names for it.
    unused: pattern of the names that are dropped by rule.
    complete: whether the file holds the whole network; if not, the other tensors are initialized.
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
        unused=rf"visual\.({UNUSED}|{PRETRAINING})|(?!visual\.).*",
        complete=False,
    ),
    "reference": Foreign(
        begins="backbone_module.",
        config=REFERENCE,
        names=reference_names,
        unused=rf"backbone_module\.visual\.{UNUSED}|{LOSSES}",
        complete=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Account:
    """What happened to every tensor name.

    used: names of the file whose tensors the network holds.
    by_rule: names that were dropped because no answer depends on them.
    by_name: names that were dropped because the caller asked for it.
    fresh: names of ours that are not in the file and were initialized.
    """

    used: tuple[str, ...]
    by_rule: tuple[str, ...]
    by_name: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the dropped names, for the file's header."""
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
    """Convert the file `path`, write `out` as a whole or not at all, and return what happened to every name.

    kind: "farl" or "reference".
    drop: prefixes of names to ignore.
    half: store in float16.
    seed: of the initialization of what FaRL's encoder does not have.
    config: of a network with other dimensions than the published ones.
    Raises ModelError if the file is of another kind, or if a name is missing, unknown or of a wrong shape.
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
    """Return the tensors of a torch file's `state_dict`, without the prefix `module.` of their names.

    Raises ModelError if the file is missing or broken, if reading it would run code, or if it holds anything
    but named, dense tensors that fill their storage.
    """
    if not Path(path).is_file():
        raise ModelError(f"The file {path} does not exist; give the checkpoint to convert.")
    _require_plain_size(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about the pickle protocol of a broken file
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch's own text advises to run it
        reason = f"reading it would run code, {code[1]}" if code else "or reading it would run code"
        raise ModelError(
            f"{path} is not a torch file of tensors only: {reason}; ask its author for a file of the "
            "state_dict alone."
        ) from None
    except BROKEN as error:
        raise ModelError(
            f"{path} is broken or not a torch file ({_first_line(error)}); download it again."
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(_is_named_tensor(*item) for item in state.items()):
        raise ModelError(f"{path} does not hold a state_dict of named, dense tensors; give a file that does.")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _require_plain_size(path: Path) -> None:
    """Raise ModelError if the file is a compressed ZIP archive; torch writes uncompressed ones."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, *BROKEN):
        return  # torch.load says what is wrong
    if size > path.stat().st_size:
        raise ModelError(f"{path} is compressed or broken: it claims {size} bytes; save it with torch.save.")


def _is_named_tensor(name: object, value: object) -> bool:
    """Return whether a state dict's entry is a string and a dense tensor not larger than its storage."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def kind_of(state: Mapping[str, Tensor]) -> str | None:
    """Return the kind of file, a key of KINDS, that has such names; None if no kind has."""
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
    """Return the network with a file's tensors, and what happened to every name.

    The network is float32 and in evaluation mode. state: from `read_foreign`. See `convert_file`.
    """
    foreign, found = KINDS[kind], kind_of(state)
    if found not in (kind, None):
        raise ModelError(
            f"The tensor names are those of a {found} file, not {kind}; use `faceum convert {found}`."
        )
    config = config or foreign.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FaceUM(config)
    ours = model.state_dict()
    sources = {name: names for name in ours if (names := foreign.names(name, config))}
    account = _account(state, sources, foreign, drop, fresh=sorted(set(ours) - set(sources)))
    wrong = []
    for name, names in sources.items():
        parts = [state[one] for one in names]
        if name == "trunk.positions":
            parts = [_resize_to_grid(parts[0], ours[name])]
        misfits = _list_wrong_shapes(names, parts, _part_shape(name, ours[name].shape, len(names)))
        if not misfits:
            joined = torch.cat(parts) if len(parts) > 1 else parts[0].clone()
            ours[name] = joined.reshape(ours[name].shape).to(ours[name].dtype)
        wrong += misfits
    if wrong:
        raise ModelError(f"The tensors do not fit the {config.name} network: {_list(wrong)}.")
    if kind == "reference":
        for name in ("heads.parsing.upernet.output.weight", "heads.parsing.upernet.output.bias"):
            ours[name] = reorder_classes(ours[name])
    require_finite("the file", ours)
    model.load_state_dict(ours, assign=True)
    return model.eval(), account


def reorder_classes(rows: Tensor) -> Tensor:
    """Reorder a parsing classifier's rows (19, ...) from FaRL's order of classes to ours."""
    ordered = torch.empty_like(rows)
    ordered[list(PARSING_FROM_REFERENCE)] = rows
    return ordered


def _account(
    state: Mapping[str, Tensor],
    sources: Mapping[str, tuple[str, ...]],
    foreign: Foreign,
    drop: Sequence[str],
    *,
    fresh: Sequence[str],
) -> Account:
    expected = {one for names in sources.values() for one in names}
    idle = [prefix for prefix in drop if not any(_has_prefix(name, [prefix]) for name in state)]
    if idle:
        raise ModelError(f"No tensor name begins with {_list(idle)}; leave out that --drop.")
    by_name = {name for name in state if _has_prefix(name, drop)}
    rest = set(state) - expected - by_name
    by_rule = {name for name in rest if re.fullmatch(foreign.unused, name)}
    missing, unknown = sorted(expected - set(state) | expected & by_name), sorted(rest - by_rule)
    if missing or unknown:
        raise ModelError(
            f"The tensors are not those of this kind of file: missing {_list(missing)}; unknown "
            f"{_list(unknown)}. Ignore unknown ones with --drop PREFIX if no answer depends on them."
        )
    return Account(
        used=tuple(sorted(expected)),
        by_rule=tuple(sorted(by_rule)),
        by_name=tuple(sorted(by_name)),
        fresh=() if foreign.complete else tuple(fresh),
    )


def _has_prefix(name: str, prefixes: Iterable[str]) -> bool:
    return name.startswith(tuple(prefix.removeprefix("module.") for prefix in prefixes))


def _resize_to_grid(positions: Tensor, ours: Tensor) -> Tensor:
    """Resize position rows to our grid; the first row is the class token's."""
    grid, side = round((len(ours) - 1) ** 0.5), round((len(positions) - 1) ** 0.5)
    if positions.dim() != 2 or positions.shape[1] != ours.shape[1] or side * side + 1 != len(positions):
        return positions
    return resize_positions(positions.float(), grid, class_token=True)


def _part_shape(name: str, shape: torch.Size, parts: int) -> tuple[int, ...]:
    if parts == 1:
        return tuple(shape)
    return tuple(shape[2:]) if name.endswith("router.weight") else (shape[0] // parts, *shape[1:])


def _list_wrong_shapes(names: Sequence[str], parts: Sequence[Tensor], expected: tuple[int, ...]) -> list[str]:
    return [
        f"{name} is {tuple(part.shape)}, not {expected}"
        for name, part in zip(names, parts, strict=True)
        if tuple(part.shape) != expected
    ]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - FIRST_NAMED} more" if len(names) > FIRST_NAMED else ""
    return (", ".join(names[:FIRST_NAMED]) or "none") + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
