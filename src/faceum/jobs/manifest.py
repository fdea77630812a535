"""The manifest of a batch: what is analyzed by which model with which settings, in one small JSON file."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.errors import DataError
from faceum.files import write_text
from faceum.jobs.columns import import_pyarrow

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer

SCHEMA = "faceum.batch/1"
"""Name and version of the manifest's form."""

NAME = "manifest.json"

IMAGES_PER_SHARD = 1000
"""What a shard holds by default, and what the death of a worker costs at most."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What all shards of a batch have in common.

    source: what is analyzed, as given; files and folders by their absolute path. shards: their number.
    images: how many the plan lists; tar shards are not opened for it and count as 0. images_per_shard: what
    a shard of single images holds. dim: numbers of an embedding. settings: all that can change an answer,
    the model's id first. software: versions at the time of planning.
    """

    source: str
    shards: int
    images: int
    images_per_shard: int
    dim: int
    settings: dict[str, Any]
    software: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the manifest into the batch's folder, whole or not at all."""
        values = {"schema": SCHEMA, **asdict(self)}
        write_text(folder / NAME, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a batch's folder, None if it has none; DataError if it cannot be used."""
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        schema = values.pop("schema", None)
    except (FileNotFoundError, NotADirectoryError):  # writing the plan reports a file in the folder's way
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as a manifest ({error}); restore it.") from None
    if schema != SCHEMA:
        raise DataError(f"{path} has the schema {schema!r}, expected {SCHEMA!r}; use another folder.")
    try:
        return Manifest(**values)
    except TypeError as error:
        raise DataError(f"{path} does not have the fields of {SCHEMA!r} ({error}); restore it.") from None


def require_manifest(folder: Path) -> Manifest:
    """Return the manifest of a batch's folder; DataError if there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} holds no {NAME}; give the folder that `faceum batch --out` wrote.")
    return manifest


def check_same(found: Manifest, source: str, settings: dict[str, Any], folder: Path) -> None:
    """Raise DataError that names the first difference to a batch that has been begun.

    source, settings: of this run. "-" as the source matches every list from standard input.
    """
    if source != found.source:
        raise DataError(
            f"{folder} holds results of {found.source}, not of {source}; choose another folder for them."
        )
    for name in dict.fromkeys([*found.settings, *settings]):
        before, now = found.settings.get(name), settings.get(name)
        if before != now:
            raise DataError(
                f"{folder} was begun with {name} = {_describe(before)}, but this run has {_describe(now)}; "
                "results of both must not be mixed: use the same, or another folder."
            )


def answer_settings(
    analyzer: FaceAnalyzer, options: dict[str, Any], *, cropped: bool, parsing: bool
) -> dict[str, Any]:
    """Return all that can change an answer, as plain values. options: the analyzer's arguments."""
    model = analyzer.model_id
    if options.get("recognizer") is not None:
        model = f"{model} for recognition, {Path(options['model']).name} for the rest"
    detector = options.get("detector", "auto")
    return {
        "model": model,
        "tasks": list(analyzer.tasks),
        "detector": Path(detector).name,
        "min_score": options.get("min_score"),
        "max_faces": options.get("max_faces"),
        "max_pixels": options.get("max_pixels"),
        "cropped": cropped,
        "parsing": parsing,
    }


def embedding_dim(analyzer: FaceAnalyzer) -> int:
    """Return how many numbers an embedding of the analyzer has; 512 where it does not recognize."""
    if "recognition" not in analyzer.tasks:
        return 512
    (face,) = analyzer.analyze(np.zeros((112, 112, 3), np.uint8), cropped=True).faces or ()
    return len(np.asarray(face.embedding))


def software_versions() -> dict[str, str]:
    """Return the versions that the manifest and every result file record."""
    try:
        own = importlib.metadata.version("moe-faceum")
    except importlib.metadata.PackageNotFoundError:  # a source tree that was never installed
        own = "unknown"
    versions = {"faceum": own, "python": platform.python_version()}
    return {**versions, "pyarrow": import_pyarrow().__version__, "numpy": np.__version__}


def _describe(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
