"""Put measured thresholds into the shipped weights: both files' headers and the registry entry.

    python tools/ship_thresholds.py results/eval/compact/report.json --name compact

The report comes from `faceum eval` on a set of pairs, with the protocols verification and masked, and quality
where that is to be measured. Scores, tables and recipes in the headers stay as they are, and so do all
tensors; `tools/ship_weights.py` writes everything from a new network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceum.errors import FaceumError
from faceum.files import whole_file
from faceum.weights.registry import WEIGHTS, describe_file, find_asset, write_entry
from faceum.weights.thresholds import Thresholds

KEY = "faceum"
"""The entry of a file's header that holds our metadata as JSON."""


def ship_thresholds(name: str, thresholds: Mapping[str, Any], folder: Path = WEIGHTS) -> None:
    """Write the thresholds into the headers of NAME.safetensors and NAME.onnx and into the registry."""
    plain = Thresholds.from_dict(thresholds).to_dict()
    asset = find_asset(name, "model", folder=folder)
    for part, write in (("safetensors", _write_safetensors), ("onnx", _write_onnx)):
        if part in asset.files:
            write(folder / asset.files[part].file, plain)
    files = {part: describe_file(folder / file.file) for part, file in asset.files.items()}
    write_entry(replace(asset, files=files, thresholds=plain), folder=folder)


def _write_safetensors(path: Path, thresholds: Mapping[str, Any]) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    metadata[KEY] = json.dumps({**json.loads(metadata[KEY]), "thresholds": thresholds})
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def _write_onnx(path: Path, thresholds: Mapping[str, Any]) -> None:
    import onnx

    model = onnx.load(path)
    (entry,) = (one for one in model.metadata_props if one.key == KEY)
    entry.value = json.dumps({**json.loads(entry.value), "thresholds": thresholds})
    with whole_file(path) as temporary:
        onnx.save(model, temporary)


def main() -> None:
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, help="report.json of faceum eval")
    parser.add_argument("--name", required=True, help="the registered weights")
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    measured = json.loads(given.report.read_text(encoding="utf-8")).get("thresholds")
    if not measured:
        raise SystemExit(f"{given.report} holds no thresholds; evaluate a set of pairs.")
    try:
        ship_thresholds(given.name, measured, given.folder)
    except FaceumError as error:
        raise SystemExit(str(error)) from None
    masked = "with" if measured.get("masked") else "without"
    print(f"{given.name}: thresholds from {measured['set']}, {masked} masked faces")


if __name__ == "__main__":
    main()
