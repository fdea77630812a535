"""Samples to and from one .npz file, by which a gallery moves to another store or machine."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from faceum.errors import GalleryError
from faceum.files import whole_file
from faceum.people.records import Sample

FORMAT = "faceum.people/1"
"""The name and version under "format" in the file."""

TEXTS = ("person", "key", "source", "model", "thresholds", "added")
"""The fields of a sample that are text."""


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write the samples: texts, `vector` (n, D) float16, `quality` (n,), and all crops in one array."""
    if path.suffix != ".npz":
        raise GalleryError(f"A gallery is exported to an .npz file, got {path}; give such a name.")
    crops = [sample.crop or b"" for sample in samples]
    texts = {name: np.array([getattr(sample, name) for sample in samples], np.str_) for name in TEXTS}
    with whole_file(path) as temporary:
        np.savez(
            temporary,
            format=np.array(FORMAT),
            vector=np.stack([s.vector for s in samples]) if samples else np.zeros((0, 0), np.float16),
            quality=np.array([np.nan if s.quality is None else s.quality for s in samples], np.float64),
            crop=np.frombuffer(b"".join(crops), np.uint8),
            crop_bytes=np.array([len(crop) for crop in crops], np.int64),
            **texts,  # type: ignore[arg-type]
        )
    path.chmod(0o600)


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a file that `write_samples` wrote; raises GalleryError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != FORMAT:
                raise KeyError("format")
            values = {name: file[name] for name in ("vector", "quality", "crop", "crop_bytes", *TEXTS)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise GalleryError(
            f"{path} is no exported gallery ({error}); give a file of `faceum people export`."
        ) from None
    ends = np.cumsum(values["crop_bytes"])
    for row in range(len(values["key"])):
        quality, size = float(values["quality"][row]), int(values["crop_bytes"][row])
        crop = values["crop"][ends[row] - size : ends[row]].tobytes() if size else None
        yield Sample(
            vector=values["vector"][row],
            quality=None if np.isnan(quality) else quality,
            crop=crop,
            **{name: str(values[name][row]) for name in TEXTS},  # type: ignore[arg-type]
        )
