"""Read damaged copies of valid files and report every exception that is not the package's own.

    python tools/fuzz.py                       10,000 mutants of every format
    python tools/fuzz.py weights --count 300   one format
    python tools/fuzz.py --list

A format is an entry of FORMATS: a function that writes valid files to a folder and returns them, one that
reads a file, and the exceptions that reading may raise. Mutants depend on the seed and their number only, so
that a failure can be repeated with --only.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from faceum.errors import FaceumError

HOSTILE: tuple[Any, ...] = (
    0, -1, 1, 2**31, 10**9, 10**18, -(10**9), 0.5, 1e308, float("nan"), float("inf"), "", "age", "x" * 5000,
    None, True, [], {}, [[]], {"": {}}, [10**9] * 3, "\x00", "\ud800",
)  # fmt: skip
"""Values that a mutant puts into JSON."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format to damage.

    make: function from an empty folder to valid files in it.
    read: function that reads one file, completely.
    mutate: function from a random generator and a valid file's bytes to damaged bytes.
    """

    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    mutate: Callable[[random.Random, bytes], bytes]


@dataclass(kw_only=True)
class Summary:
    """What became of the mutants of one format.

    accepted: read without an error. refused: raised an error of the package.
    foreign: number of a mutant -> the other exception that it raised. slowest: seconds of the slowest one.
    """

    accepted: int = 0
    refused: int = 0
    foreign: dict[int, str] = field(default_factory=dict)
    slowest: float = 0.0

    def __str__(self) -> str:
        kinds = Counter(text.split(":")[0] for text in self.foreign.values())
        return (
            f"{self.accepted} accepted, {self.refused} refused, {len(self.foreign)} foreign exceptions "
            f"{dict(kinds)}, slowest {self.slowest:.2f} s"
        )


def run(name: str, *, count: int, seed: int = 0, only: int | None = None) -> Summary:
    """Read `count` mutants of a format and return what happened."""
    summary = Summary()
    with tempfile.TemporaryDirectory() as folder:
        seeds = FORMATS[name].make(Path(folder))
        for number in range(count) if only is None else [only]:
            rng = random.Random(f"{name} {seed} {number}")
            source = rng.choice(list(seeds))
            mutant = source.with_name(f"mutant{source.suffix}")
            mutant.write_bytes(FORMATS[name].mutate(rng, source.read_bytes()))
            started = time.perf_counter()
            try:
                FORMATS[name].read(mutant)
                summary.accepted += 1
            except FaceumError:
                summary.refused += 1
            except Exception as error:  # noqa: BLE001  any other exception is what this tool looks for
                summary.foreign[number] = f"{type(error).__name__}: {error}"[:300]
            summary.slowest = max(summary.slowest, time.perf_counter() - started)
    return summary


def damage(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes truncated, or with some of them changed, removed, repeated or inserted."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = (
            rng.randrange(len(changed) + 1)
            if rng.random() < 0.5
            else rng.randrange(min(len(changed), 400) + 1)
        )
        size = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            changed[place : place + size] = rng.randbytes(size)
        elif kind == 2:
            del changed[place : place + size]
        elif kind == 3:
            changed[place:place] = changed[place : place + size]
        else:
            changed[place : place + size] = rng.choice((b"\xff", b"\x00", b"9")) * size
    return bytes(changed)


def damage_json(rng: random.Random, value: Any) -> Any:
    """Return a copy of plain JSON values with one to three of them replaced, removed or nested deeply."""
    damaged = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        hostile = copy.deepcopy(rng.choice(HOSTILE))  # else the next round could put a list into itself
        places = list(_places(damaged))
        if not places:
            return hostile
        parent, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("extra", "", "__class__", "0"))] = hostile
        else:
            parent[key] = hostile
    return damaged


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value inside."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, part in list(entries):
        yield value, key
        yield from _places(part)


def damage_json_file(rng: random.Random, data: bytes) -> bytes:
    """Damage a JSON file as bytes, as values, or replace it by something extreme."""
    kind = rng.randrange(6)
    if kind == 0:
        return damage(rng, data)
    if kind == 1:
        return rng.choice((b"", b"[" * 100_000, b"\xff\xfe{}", b"1" * 5000, b"null", b"[]", b"{}"))
    return json.dumps(damage_json(rng, json.loads(data))).encode()


# Weights: safetensors files with a config in their header.


def make_weights(folder: Path) -> list[Path]:
    """Write a small network of every kind of stem, heads and router."""
    from dataclasses import replace

    from faceum.crop import CropSpec
    from faceum.model.checkpoint import save_checkpoint
    from faceum.model.configs import COMPACT, REFERENCE
    from faceum.model.experts import ExpertsConfig
    from faceum.model.network import FaceUM

    block = replace(COMPACT.block, dim=48, num_heads=2, head_dim=8, hidden_dim=16)
    small = {
        "block": block,
        "depth": 1,
        "moe_blocks": 1,
        "crops": ((CropSpec(policy="similarity", size=32, grid=2), COMPACT.tasks),),
    }
    moe = {"shared_hidden_dim": 8, "experts": ExpertsConfig(hidden_dim=4)}
    stem = replace(COMPACT.stem, channels=(16, 16, 16), blocks=(0, 0, 1))
    configs = (
        replace(COMPACT, **small, moe=replace(COMPACT.moe, **moe), stem=stem),
        replace(REFERENCE, **small, moe=replace(REFERENCE.moe, **moe)),
    )
    paths = []
    for config in configs:
        paths.append(folder / f"{config.name}.safetensors")
        save_checkpoint(paths[-1], FaceUM(config), {"licence": "none", "provenance": {}, "scores": {}})
    return paths


def damage_weights(rng: random.Random, data: bytes) -> bytes:
    """Damage a safetensors file: its bytes, its header, or the config in its header."""
    if rng.random() < 0.3:
        return damage(rng, data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if rng.random() < 0.2:
        header = damage_json(rng, header)
    else:
        text = header["__metadata__"]["faceum"]
        values = damage_json_file(rng, text.encode()) if rng.random() < 0.1 else None
        if values is None:
            inside = json.loads(text)
            inside["config"] = damage_json(rng, inside["config"])
            values = json.dumps(inside).encode()
        header["__metadata__"]["faceum"] = values.decode("utf-8", "replace")
    encoded = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(8, "little") + encoded + data[8 + size :]


def read_weights(path: Path) -> object:
    """Load a network."""
    from faceum.model.checkpoint import load_checkpoint

    return load_checkpoint(path)


# State dicts: torch files to convert.


def make_state_dicts(folder: Path) -> list[Path]:
    """Write torch files: named tensors, nested, with integer keys, and in the old format."""
    import torch

    state = {f"visual.blocks.{index}.weight": torch.ones(3, 2) for index in range(4)}
    contents = (state, {"state_dict": state}, {1: torch.ones(2)}, {"x": torch.ones(1).expand(10**9)})
    paths = []
    for number, content in enumerate(contents):
        for is_zip in (True, False):
            paths.append(folder / f"{number}-{is_zip}.pth")
            torch.save(content, paths[-1], _use_new_zipfile_serialization=is_zip)
    return paths


def read_state_dict(path: Path) -> object:
    """Read the tensors of a torch file."""
    from faceum.model.convert import read_foreign

    return read_foreign(path)


# Run records: run.json of a training run.


def make_runs(folder: Path) -> list[Path]:
    """Write the record of a run."""
    from faceum.config import load_recipe, to_plain

    path = folder / "run.json"
    record = {"recipe": to_plain(load_recipe("smoke")), "data": {"drawn": {"faces": 3}}, "earlier": []}
    path.write_text(json.dumps(record), encoding="utf-8")
    return [path]


def read_run(path: Path) -> object:
    """Compare the record with the recipe, as resuming does."""
    from faceum.config import load_recipe
    from faceum.train.provenance import require_same_recipe

    path.replace(path.with_name("run.json.mutant"))
    folder = path.parent / "begun"
    folder.mkdir(exist_ok=True)
    path.with_name("run.json.mutant").replace(folder / "run.json")
    return require_same_recipe(folder, load_recipe("smoke"))


def image_formats() -> dict[str, Format]:
    """Return "image JPEG" and so on -> format; the valid images are those of tests/image/test_fuzz.py."""
    from faceum import read_image

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "image"))
    from test_fuzz import SEEDS

    def make(name: str, folder: Path) -> Sequence[Path]:
        path = folder / "image"
        path.write_bytes(SEEDS[name]())
        return [path]

    read = partial(read_image, max_pixels=1_000_000)
    return {f"image {name}": Format(make=partial(make, name), read=read, mutate=damage) for name in SEEDS}


FORMATS: dict[str, Format] = {
    "weights": Format(make=make_weights, read=read_weights, mutate=damage_weights),
    "state_dict": Format(make=make_state_dicts, read=read_state_dict, mutate=damage),
    "run": Format(make=make_runs, read=read_run, mutate=damage_json_file),
}
"""Name -> format. To add one, write its functions above and an entry here."""


def data_formats() -> dict[str, Format]:
    """Return the formats of data sets, which need pyarrow."""
    import fuzz_data

    from faceum.datasets.insightface_bin import read_bin

    return {
        "packed": Format(make=fuzz_data.make_packed, read=fuzz_data.read_packed_file, mutate=damage),
        "bin": Format(make=fuzz_data.make_bins, read=read_bin, mutate=damage),
        "recordio": Format(make=fuzz_data.make_records, read=fuzz_data.read_records, mutate=damage),
    }


def main() -> int:
    """Fuzz the formats of the command line and print a summary; return 1 for a foreign exception."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="all by default")
    parser.add_argument("--count", type=int, default=10_000, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read this mutant only")
    parser.add_argument("--list", action="store_true", help="print the formats")
    arguments = parser.parse_args()
    FORMATS.update(image_formats())
    FORMATS.update(data_formats())
    if arguments.list:
        print("\n".join(FORMATS))
        return 0
    failed = False
    for name in arguments.formats or FORMATS:
        summary = run(name, count=arguments.count, seed=arguments.seed, only=arguments.only)
        print(f"{name}: {summary}")
        for number, text in list(summary.foreign.items())[:10]:
            print(f"  mutant {number}: {text}")
        failed |= bool(summary.foreign)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
