"""Write files whole or not at all, and compute a file's SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faceum.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

_UNFINISHED = re.compile(r"\..*-[0-9a-f]{8}\.part(\.[^.]+)?", re.DOTALL)
_SWEPT: set[str] = set()
_REASONS = {
    errno.ENAMETOOLONG: "its name is too long, choose a shorter one",
    errno.EISDIR: "a folder of that name is in the way",
    errno.ENOTDIR: "a file is in the way of its folder",
    errno.EEXIST: "a file is in the way of its folder",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "there is no right to write there",
    errno.EPERM: "there is no right to write there",
    errno.EROFS: "the file system is read-only",
}


@contextmanager
def whole_file(path: str | os.PathLike[str], ending: str | None = None) -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` if the block ends well and is removed if it does not.

    ending: that of the path to write to, `path`'s own by default, because encoders choose their format by it.
    Where the writer does not, ".part" keeps what a power cut leaves from being taken for such a file.
    Missing folders are made. Readers of `path` see the old file or the whole new one, even if the power
    fails in between. What a killed process left unfinished in the folder is removed by the next write there.
    Raises OutputError if the file cannot be written.
    """
    target = Path(path)
    with raise_output_errors(target, within=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        part = ".part" if ending == ".part" else ".part" + (target.suffix if ending is None else ending)
        temporary = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(4)}{part}")
        lock = _create(temporary)
    try:
        rights = temporary.stat().st_mode  # some writers make files for their owner alone
        with raise_output_errors(target, within=True):
            yield temporary
        with raise_output_errors(target, within=False):
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(rights)
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` whole or not at all; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all; see `whole_file`."""
    write_bytes(path, text.encode("utf-8"))


def check_folder(folder: Path) -> None:
    """Make an output folder and write a file into it for a trial; raises OutputError if that fails.

    For commands whose work takes long before they write.
    """
    trial = folder / ".faceum-trial"
    reason = "it is a file"
    try:
        if folder.is_dir() or not folder.exists():
            with whole_file(trial) as unfinished:
                unfinished.write_bytes(b"")
            trial.unlink()
            return
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        cause = error.__cause__ if isinstance(error, OutputError) else error
        reason = _reason(cause) if isinstance(cause, OSError) else str(cause)
    raise OutputError(f"{folder} cannot be used as the output folder: {reason}; give another name.")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the file's SHA-256 in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def raise_output_errors(target: Path, *, within: bool) -> Iterator[None]:
    """Turn an OSError into an OutputError; within the caller's block only those that speak of the disk."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or (within and error.errno not in (errno.ENOSPC, errno.EDQUOT)):
            raise
        raise OutputError(f"{target} cannot be written: {_reason(error)}.") from error
    except ValueError as error:  # a null character in the path
        if within or isinstance(error, OutputError):
            raise
        raise OutputError(f"{target} cannot be written: {error}.") from error


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _create(path: Path) -> int | None:
    """Create an empty file and lock it for as long as its process lives; return the lock's descriptor."""
    path.touch()
    if fcntl is None:
        return None
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks, where nothing is swept either
        os.close(lock)
        return None
    path.touch()  # a sweep between creating and locking may have removed it
    return lock


def _sweep(folder: Path) -> None:
    """Remove, once for each folder and process, the unfinished files of processes that were killed."""
    key = os.path.abspath(folder)
    if fcntl is None or key in _SWEPT:
        return
    _SWEPT.add(key)
    for entry in os.scandir(folder):
        if not _UNFINISHED.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):  # another process may have been quicker
            lock = os.open(entry.path, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                os.unlink(entry.path)
            finally:
                os.close(lock)
