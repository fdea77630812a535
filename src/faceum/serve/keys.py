"""API keys: made, hashed with scrypt, checked, and limited in their rate.

A key is `faceum_<name>_<secret>`. A key file, or the variable FACEUM_KEYS, holds one line per key: name, hash
and, optionally, requests per minute. Lines that start with # are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from faceum.errors import FaceumError

COST = 2**14
"""Scrypt's n: 16 MB and some 50 ms for each check that is not remembered."""

PER_MINUTE = 600
"""Requests per minute of a key whose line names no number."""

NAME = re.compile(r"[a-z0-9-]{1,32}")
"""Names of keys."""


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """A key as it is stored: its name, the salt and hash of its secret, and its requests per minute."""

    name: str
    salt: bytes
    digest: bytes
    per_minute: int = PER_MINUTE


def new_key(name: str) -> tuple[str, str]:
    """Return a new key and the line for the key file; raises FaceumError if the name is not allowed."""
    if not NAME.fullmatch(name):
        raise FaceumError(f"The name {name!r} is not allowed; use a-z, 0-9 and -, at most 32 of them.")
    key = f"faceum_{name}_{secrets.token_urlsafe(32)}"
    salt = secrets.token_bytes(16)
    return key, f"{name} scrypt${b64encode(salt).decode()}${b64encode(_hash(key, salt)).decode()}"


def read_keys(path: str | None, text: str = "") -> list[KeyRecord]:
    """Return the keys of a file and of a text of the same form; raises FaceumError with the line's number."""
    records = [_parse(line, number, "FACEUM_KEYS") for number, line in _lines(text)]
    if path is not None:
        try:
            content = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FaceumError(f"The key file {path} cannot be read ({error}); check the path.") from None
        records += [_parse(line, number, path) for number, line in _lines(content)]
    names = [record.name for record in records]
    for name in names:
        if names.count(name) > 1:
            raise FaceumError(f"There are two keys named {name!r}; give each key a name of its own.")
    return records


class KeyRing:
    """The keys of a server: tells whose a key is. Threads may share it."""

    def __init__(self, records: Iterable[KeyRecord], *, rate_share: float = 1.0) -> None:
        """rate_share: this process's share of each key's rate, 1 / number of processes."""
        self._records = {record.name: record for record in records}
        self._known: dict[bytes, str] = {}
        self._secret = os.urandom(32)
        self._checking = threading.Semaphore(2)
        self._buckets = {
            name: Bucket(record.per_minute * rate_share) for name, record in self._records.items()
        }

    def __len__(self) -> int:
        return len(self._records)

    def owner(self, key: str) -> str | None:
        """Return the name of a key, or None if the key is wrong.

        The first check of a right key takes as long as scrypt; it is then remembered by a keyed digest.
        """
        if len(key) > 200:
            return None
        digest = hmac.digest(self._secret, key.encode("utf-8", "replace"), "sha256")
        if digest in self._known:
            return self._known[digest]
        parts = key.split("_", 2)
        record = self._records.get(parts[1]) if len(parts) == 3 and parts[0] == "faceum" else None
        if record is None:
            return None
        with self._checking:  # each check takes 16 MB
            found = hmac.compare_digest(_hash(key, record.salt), record.digest)
        if not found:
            return None
        self._known[digest] = record.name
        return record.name

    def is_remembered(self, key: str) -> bool:
        """Return whether `owner` answers at once for this key."""
        return hmac.digest(self._secret, key.encode("utf-8", "replace"), "sha256") in self._known

    def wait(self, name: str) -> float:
        """Count a request of a key; return 0, or the seconds after which the key may send its next one."""
        return self._buckets[name].take()


class Bucket:
    """A token bucket: a rate per minute, of which up to 10 seconds' worth may come at once."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate * 10)
        self._clock = clock
        self._left = self._most
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left >= 1:
                self._left -= 1
                return 0.0
            return (1 - self._left) / self._rate


def _hash(key: str, salt: bytes) -> bytes:
    return hashlib.scrypt(key.encode(), salt=salt, n=COST, r=8, p=1, maxmem=2**26, dklen=32)


def _lines(text: str) -> list[tuple[int, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _parse(line: str, number: int, where: str) -> KeyRecord:
    words = line.split()
    try:
        name, stored = words[0], words[1]
        kind, salt, digest = stored.split("$")
        per_minute = int(words[2]) if len(words) > 2 else PER_MINUTE
        record = KeyRecord(
            name=name,
            salt=b64decode(salt, validate=True),
            digest=b64decode(digest, validate=True),
            per_minute=per_minute,
        )
        fits = NAME.fullmatch(name) and kind == "scrypt" and len(record.digest) == 32 and per_minute > 0
    except (IndexError, ValueError):
        fits = False
    if not fits or len(words) > 3:
        raise FaceumError(
            f"Line {number} of {where} is not a key; expected `name scrypt$salt$hash [requests per minute]`, "
            "as `faceum serve --new-key NAME` prints it."
        )
    return record
