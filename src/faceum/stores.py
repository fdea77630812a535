"""Read files from the local disk and from object stores by fsspec; failed reads are tried again."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from faceum.errors import DataError, FaceumError
from faceum.extras import missing

T = TypeVar("T")

ATTEMPTS = 5
"""How often a read is tried."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds: the most that is waited after the first failure, doubled after each further one, and its limit."""

STORE_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"max_attempts": 1}}},
}
"""URL scheme -> options of its fsspec file system: botocore's own attempts would multiply with ours."""

FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError, ValueError)
"""Errors that another attempt would only repeat."""

READ_ERRORS = (OSError, ImportError, ValueError, FaceumError)
"""What a failed read can raise, once `translate_errors` has done its work."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise OSError in place of the errors that are a store's library's own."""
    try:
        yield
    except READ_ERRORS:
        raise
    # Each store's library raises errors of its own, and none lists them all.
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def describe_failure(location: str, error: Exception) -> str:
    """Return one sentence that says why a location cannot be read."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{location} cannot be read: {reason.rstrip('.')}."


def is_url(location: str) -> bool:
    """Return whether a location is a URL, such as s3://bucket/name, and not a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*(::[a-zA-Z0-9+.-]+)*://", location) is not None


def open_store(location: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL or path, and the path within it.

    Raises DataError if fsspec, or the package for the URL's scheme, is not installed.
    """
    try:
        import fsspec
    except ImportError:
        raise FaceumError(missing("Reading from object stores", "fsspec")) from None
    try:
        store, path = fsspec.core.url_to_fs(location, **STORE_OPTIONS.get(location.partition(":")[0], {}))
    except (ImportError, ValueError) as error:
        raise DataError(f"{location} cannot be opened: {str(error).rstrip('.')}.") from None
    return store, path


def read_bytes(location: str) -> bytes:
    """Return the content of a file by path or URL; a failed read begins again from the first byte.

    Raises one of `READ_ERRORS`, after `ATTEMPTS` attempts if another one might help.
    """
    if not is_url(location):
        return Path(location).read_bytes()
    store, path = open_store(location)
    return with_retries(lambda: bytes(store.cat_file(path)))


def read_range(location: str, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file by path or URL, from `offset` on; a failed read begins again.

    Raises one of `READ_ERRORS`, also if the file is shorter.
    """
    if is_url(location):
        store, path = open_store(location)
        data = with_retries(lambda: bytes(store.cat_file(path, start=offset, end=offset + size)))
    else:
        with open(location, "rb") as file:
            file.seek(offset)
            data = file.read(size)
    if len(data) != size:
        raise OSError(f"it ends before byte {offset + size}")
    return data


def open_file(location: str) -> Any:
    """Return a file by path or URL, open for reading bytes; reads within it are not tried again."""
    if not is_url(location):
        return open(location, "rb")
    store, path = open_store(location)
    return with_retries(lambda: store.open(path, "rb"))


def with_retries(call: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return `call()`; if it fails, wait a random time that grows (full jitter) and call again.

    Errors in `FINAL` are raised at once, all others, as OSError, after `ATTEMPTS` attempts.
    """
    for wait in waits():
        try:
            with translate_errors():
                return call()
        except FINAL:
            raise
        except OSError:
            sleep(wait)
    with translate_errors():
        return call()


def waits() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt (AWS, "Exponential Backoff and Jitter")."""
    for attempt in range(ATTEMPTS - 1):
        yield random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))


def files_below(location: str) -> Iterator[str]:
    """Yield every file in a folder and below by path or URL, sorted by name within each folder.

    Hidden files and folders, and linked folders, are left out. Only the names of one folder and of those
    above it are held at a time. Raises one of `READ_ERRORS` if a folder of a store cannot be listed.
    """
    if not is_url(location):
        for place, folders, files in os.walk(location):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith("."):
                    yield os.path.join(place, name)
        return
    store, path = open_store(location)
    yield from _files_of_store(store, path.rstrip("/"))


def _files_of_store(store: Any, folder: str) -> Iterator[str]:
    """Yield the files of `files_below`. fsspec's own walk would leave out each folder that it cannot list."""
    entries = with_retries(lambda: store.ls(folder, detail=True))
    store.invalidate_cache()  # else it keeps every listing
    kinds = {entry["name"].rstrip("/"): entry["type"] for entry in entries}
    names = sorted(name for name in kinds if name != folder and not name.rpartition("/")[2].startswith("."))
    for name in names:
        if kinds[name] != "directory":
            yield str(store.unstrip_protocol(name))
    for name in names:
        if kinds[name] == "directory":
            yield from _files_of_store(store, name)
