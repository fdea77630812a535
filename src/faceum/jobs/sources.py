"""What a batch's source holds: images, tar shards in WebDataset's layout, and row groups of Parquet files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from faceum.errors import DataError
from faceum.image.header import is_image_name
from faceum.jobs.columns import import_pyarrow
from faceum.stores import (
    READ_ERRORS,
    describe_failure,
    files_below,
    is_url,
    open_file,
    open_store,
    with_retries,
)

STDIN = "-"
"""The source that means a list of paths on standard input."""

LIST_SUFFIXES = (".txt", ".list")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIX = ".parquet"

BLOCK = 1 << 24
"""Bytes of a list that are read at once."""

BATCH = 4096
"""Files of a folder that are handed on at once."""

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "bytes")
PATH_COLUMNS = ("path", "file", "file_name", "filename", "url", "image_path", "source", "key")
"""The columns of a Parquet file that are looked for, in this order, where none is given."""


@dataclass(frozen=True)
class Container:
    """A file that holds many images: a tar shard, or one row group of a Parquet file.

    location: path or URL. part: the row group; None for a tar. images: how many, None if that is not known.
    """

    location: bytes
    part: int | None = None
    images: int | None = None


def list_source(source: str, column: str | None = None, leave_out: Path | None = None) -> Iterator[Any]:
    """Yield what a source holds, in order: lists of locations (bytes) of single images, and `Container`s.

    source: a folder, a glob, a list of paths (.txt or .list, or "-" for standard input), an image, a tar
    shard or a Parquet file; by path or, through fsspec, by URL. A folder means the images and tar shards in
    it and below, by their suffix; Parquet files must be named, by themselves or by a glob. In a list each
    line is an image, a tar shard or a Parquet file.
    column: of Parquet files, with images or paths; looked for if None. leave_out: a folder to pass over.
    Raises DataError if there is no such source.
    """
    lower = source.lower()
    if source == STDIN:
        for block in read_lines(sys.stdin.buffer):
            yield from _expand(_absolute(block), column)
    elif lower.endswith(LIST_SUFFIXES):
        with _open_text(source) as file:
            for block in read_lines(file):
                yield from _expand(_absolute(block), column)
    elif is_glob(source):
        yield from _expand_files(_matching(source), column)
    elif lower.endswith((*TAR_SUFFIXES, PARQUET_SUFFIX)) or is_image_name(source):
        yield from _expand([os.fsencode(source)], column)
    else:
        _check_folder(source)
        skipped = None if leave_out is None else os.path.join(os.path.abspath(leave_out), "")
        inside = (one for one in _list_files(source) if skipped is None or not one.startswith(skipped))
        suffixes = TAR_SUFFIXES
        yield from _expand_files(
            (one for one in inside if is_image_name(one) or one.lower().endswith(suffixes)), column
        )


def is_glob(source: str) -> bool:
    """Return whether a source is a pattern: it holds * ? or [ and no file of that very name is there."""
    return re.search(r"[*?[]", source) is not None and (is_url(source) or not os.path.exists(source))


def read_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines of a list of paths, many at a time; null characters separate them if there are any."""
    rest, separator = file.read(BLOCK).removeprefix(b"\xef\xbb\xbf"), b"\n"
    if b"\0" in rest:
        separator = b"\0"
    while block := file.read(BLOCK):
        *lines, rest = (rest + block).split(separator)
        yield _strip_lines(lines)
    yield _strip_lines(rest.split(separator))


def image_column(schema: Any, column: str | None, name: str) -> str:
    """Return the column of a Parquet file that holds images or paths; DataError if there is none."""
    names = schema.names
    if column is not None:
        if column not in names:
            raise DataError(f"{name} has no column {column!r}; it has {', '.join(names)}.")
        return column
    found = next((one for one in (*IMAGE_COLUMNS, *PATH_COLUMNS) if one in names), None)
    if found is None:
        raise DataError(
            f"{name} has no column of images or paths that is known; it has {', '.join(names)}: name one by "
            "--column."
        )
    return found


def holds_images(schema: Any, column: str) -> bool:
    """Return whether a column holds images, as bytes or as Hugging Face's {bytes, path}, and not paths."""
    types = import_pyarrow().types
    kind = schema.field(column).type
    if types.is_struct(kind):
        kind = next(
            (kind.field(i).type for i in range(kind.num_fields) if kind.field(i).name == "bytes"), kind
        )
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _absolute(lines: list[bytes]) -> list[bytes]:
    """Return paths from the root, so that every process finds them, in whichever folder it runs."""
    base = os.path.join(os.fsencode(os.getcwd()), b"")
    return [one if one.startswith(b"/") or b"://" in one else base + one for one in lines]


def _strip_lines(lines: list[bytes]) -> list[bytes]:
    return [line for line in (one.rstrip(b"\r") for one in lines) if line.strip()]


def _expand_files(files: Iterable[str], column: str | None) -> Iterator[Any]:
    some: list[bytes] = []
    for file in files:
        some.append(os.fsencode(file))
        if len(some) == BATCH:
            yield from _expand(some, column)
            some = []
    yield from _expand(some, column)


def _expand(locations: list[bytes], column: str | None) -> Iterator[Any]:
    """Yield runs of single images as they are, tar shards and Parquet files as their containers."""
    suffixes = tuple(suffix.encode() for suffix in (*TAR_SUFFIXES, PARQUET_SUFFIX))
    first = 0
    for place, location in enumerate(locations):
        if location.endswith(suffixes):
            if place > first:
                yield locations[first:place]
            first = place + 1
            if location.endswith(suffixes[-1:]):
                yield from _open_parquet(os.fsdecode(location), column)
            else:
                yield Container(location)
    if first < len(locations):
        yield locations[first:]


def _open_parquet(location: str, column: str | None) -> Iterator[Any]:
    """Yield the row groups of a file of images, or the paths in a file of paths."""
    import_pyarrow()
    import pyarrow
    import pyarrow.parquet as pq

    def read_footer() -> tuple[Any, Any]:
        with open_file(location) as opened, pq.ParquetFile(opened) as file:
            return file.metadata, file.schema_arrow

    try:
        metadata, schema = with_retries(read_footer) if is_url(location) else read_footer()
        chosen = image_column(schema, column, location)
        if holds_images(schema, chosen):
            for group in range(metadata.num_row_groups):
                yield Container(os.fsencode(location), group, metadata.row_group(group).num_rows)
            return
        base = location.rpartition("/")[0]
        with open_file(location) as opened, pq.ParquetFile(opened, metadata=metadata) as file:
            for batch in file.iter_batches(65536, columns=[chosen]):
                paths = [one for one in batch.column(0).to_pylist() if one]
                if not all(isinstance(one, str) for one in paths[:1]):
                    kind = schema.field(chosen).type
                    raise DataError(f"{location}: column {chosen!r} holds {kind}, expected images or paths.")
                yield [os.fsencode(_resolve(base, one)) for one in paths]
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{location} cannot be read as Parquet ({error}); check the file.") from None


def _resolve(base: str, path: str) -> str:
    """Return a path that a file names; a relative one starts at the file's folder."""
    return path if not base or is_url(path) or os.path.isabs(path) else f"{base}/{path}"


def _matching(pattern: str) -> Iterator[str]:
    """Yield the files that match a glob, in the order of `files_below`."""
    from fsspec.utils import glob_translate

    root = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    root = root or ("/" if pattern.startswith("/") else ".")
    full = pattern if is_url(pattern) else os.path.normpath(pattern)
    matches = re.compile(glob_translate(full)).match
    _check_folder(root)
    found = False
    for file in _list_files(root):
        if matches(file if is_url(file) else os.path.normpath(file)):
            found = True
            yield file
    if not found:
        raise DataError(f"No file matches {pattern}; check the pattern.")


def _check_folder(source: str) -> None:
    """Raise DataError if a folder is not there, with the reason."""
    if not is_url(source):
        if not os.path.isdir(source):
            what = "is neither an image nor a folder" if os.path.exists(source) else "does not exist"
            raise DataError(f"{source} {what}; give a folder, a glob, a list, tar shards or Parquet files.")
        return
    store, path = open_store(source)
    try:
        # Not isdir or exists: with some stores they are also False where the store only failed.
        with_retries(lambda: store.info(path))
    except FileNotFoundError:
        raise DataError(f"{source} does not exist, or it is empty; check the URL.") from None
    except READ_ERRORS as error:
        raise DataError(_describe_listing(source, error)) from None


def _list_files(folder: str) -> Iterator[str]:
    """Yield the files in a folder and below; raises DataError if a store does not list them."""
    try:
        yield from files_below(folder)
    except READ_ERRORS as error:
        raise DataError(_describe_listing(folder, error)) from None


def _describe_listing(source: str, error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{source} cannot be listed ({type(cause).__name__}: {cause})."


def _open_text(source: str) -> Any:
    try:
        return open_file(source)
    except READ_ERRORS as error:
        raise DataError(describe_failure(source, error)) from None
