"""Read labelled faces from tar shards in WebDataset's layout, on a disk or in an object store.

A face is the files of one key, the name up to the first dot behind the last slash: an image (`key.jpg`), its
labels (`key.json`) and perhaps its parsing (`key.parsing.png`). The fields of the JSON are the columns of a
packed Parquet file, see `faceum.data.pack`; others are ignored.

The shards are read once, from end to end, for the labels and the place of each image. Images and parsings
stay where they are: each is read by its place when it is needed, in any order.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from faceum import old_names
from faceum.data.columns import COLUMNS, value_problem
from faceum.data.parquet import decode_parsing, sample_of_row
from faceum.data.sample import Sample
from faceum.errors import DataError
from faceum.image.header import is_image_name
from faceum.stores import (
    READ_ERRORS,
    describe_failure,
    files_below,
    is_url,
    open_file,
    read_range,
    with_retries,
)

LABELS, PARSING = "json", "parsing.png"
"""Endings of a key's labels and of its parsing."""

NO_FIELDS = {"image", "parsing"}
"""Columns that are files of their own here."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file inside a tar shard: the shard's path or URL, the file's name, first byte and size."""

    location: str
    name: str
    offset: int
    size: int

    @property
    def path(self) -> Path:
        """The shard."""
        return Path(self.location)

    def __str__(self) -> str:
        return f"{self.location}#{self.name}"

    def read(self) -> bytes:
        """Read the file's bytes; raises DataError naming it if they cannot be read."""
        try:
            return read_range(self.location, self.offset, self.size)
        except READ_ERRORS as error:
            raise DataError(describe_failure(str(self), error)) from None


@dataclass
class _Key:
    """The files of a key."""

    image: TarMember | None = None
    parsing: TarMember | None = None
    labels: bytes | None = None


def read_tar_shards(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of a tar shard, or of all shards in a folder whose names begin with the split.

    root: path or URL. split: "all" for every shard. Shards and faces keep their order by name and place.
    Raises DataError if there is no shard, or one cannot be read.
    """
    for location in list_shards(str(root), split):
        for key, files in _index_shard(location).items():
            if files.image is not None or files.labels is not None or files.parsing is not None:
                yield _make_sample(location, key, files)


def list_shards(root: str, split: str) -> list[str]:
    """Return the paths or URLs of the shards; raises DataError if there is none."""
    if root.endswith(".tar"):
        return [root]
    beginning = "" if split == "all" else split
    try:
        found = [path for path in files_below(root) if path.endswith(".tar")]
    except READ_ERRORS as error:
        raise DataError(describe_failure(root, error)) from None
    shards = sorted(path for path in found if os.path.basename(path).startswith(beginning))
    if not shards:
        raise DataError(f"No tar shards were found: looked for {beginning}*.tar in {root} and below.")
    return shards


def _index_shard(location: str) -> dict[str, _Key]:
    """Return the files of each key of a shard; a read that fails begins again."""
    try:
        return with_retries(lambda: _read_members(location)) if is_url(location) else _read_members(location)
    except tarfile.TarError as error:
        raise DataError(f"{location} is not a whole tar file without compression ({error}).") from None
    except READ_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(describe_failure(location, error)) from None


def _read_members(location: str) -> dict[str, _Key]:
    keys: dict[str, _Key] = {}
    # A stream is read from end to end; on a disk, images are skipped.
    mode = "r|" if is_url(location) else "r:"
    with open_file(location) as opened, tarfile.open(fileobj=opened, mode=mode) as tar:  # type: ignore[call-overload]
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            first, _, ending = name.partition(".")
            if not member.isfile() or not first:
                continue
            files = keys.setdefault(f"{folder}/{first}" if folder else first, _Key())
            place = TarMember(location, member.name, member.offset_data, member.size)
            if ending == LABELS:
                content = tar.extractfile(member)
                files.labels = _once(place, files.labels, content.read() if content is not None else b"")
            elif ending == PARSING:
                files.parsing = _once(place, files.parsing, place)
            elif is_image_name(name):
                files.image = _once(place, files.image, place)
    return keys


def _once(place: TarMember, before: Any, value: Any) -> Any:
    if before is not None:
        raise DataError(f"{place} is a second file of its kind for one key; give each face its own key.")
    return value


def _make_sample(location: str, key: str, files: _Key) -> Sample:
    """Return the sample of a key; labels that cannot be right are its problem."""
    labels, problem = _read_labels(key, files.labels)
    image = files.image
    if image is None:  # reported, so that no row vanishes
        image, problem = TarMember(location, key, 0, 0), f"{key} has no image in {location}"
    row: dict[str, Any] = {"id": key, "source": "tar", **labels}
    sample = sample_of_row(row, Path(location), 0)
    parsing = None if files.parsing is None else _Parsing(files.parsing)
    return replace(sample, image=image, parsing=parsing, file=None, problem=problem or sample.problem)


@dataclass(frozen=True)
class _Parsing:
    """Reads and decodes a parsing when it is called."""

    member: TarMember

    def __call__(self) -> np.ndarray:
        return decode_parsing(self.member.read(), str(self.member))


def _read_labels(key: str, content: bytes | None) -> tuple[dict[str, Any], str | None]:
    """Return the known fields of a key's JSON, and what is wrong with it."""
    if content is None:
        return {}, f"there is no {key}.json with its labels"
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        return {}, f"{key}.json is not JSON"
    if not isinstance(read, dict):
        return {}, f"{key}.json is not an object with a field for each label"
    fields = old_names.rename_columns(read)
    known = {name: fields[name] for name in fields.keys() & (COLUMNS.keys() - NO_FIELDS)}
    for name, value in known.items():
        wrong = value_problem(name, value)
        if wrong:
            return {}, f"{key}.json {wrong}"
    return {name: value for name, value in known.items() if value is not None}, None
