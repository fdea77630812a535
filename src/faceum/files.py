"""Files as a whole: bytes or a writer in, a complete file or none out; and a file's SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str], ending: str | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, and goes otherwise.

    ending: that of the path to write to, `path`'s own by default, because encoders choose their format by it.
    Where the writer does not, another one keeps what a power cut leaves from being taken for such a file.
    Folders on the way are made. Readers of `path` see the old file or the whole new one, even where the power
    fails in between. OSError where the folder cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = target.suffix if ending is None else ending
    beside = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(4)}{ending}")
    beside.touch()
    rights = beside.stat().st_mode  # some writers make files for their owner alone
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.chmod(rights)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` whole or not at all; see `whole_file`."""
    with whole_file(path) as beside:
        beside.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all; see `whole_file`."""
    write_bytes(path, text.encode("utf-8"))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256 in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
