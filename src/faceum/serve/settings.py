"""The settings of a server, and the checks that they pass before it starts."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from faceum.errors import FaceumError, count_noun

VARIABLE = "FACEUM_SERVE"
"""The environment variable that hands the settings to worker processes, as JSON."""

KEYS_VARIABLE = "FACEUM_KEYS"
"""The environment variable that holds API keys, in the lines of a key file."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server runs with.

    host, port: the address to listen on; port 0 takes a free one. model, recognizer, detector, runtime,
        device, threads: see `FaceAnalyzer`.
    workers: processes, each with its own network. gallery: its file or address; None for no gallery.
    keys_file: a file of API keys. allow_anonymous: serve without keys on an address that others can reach.
    allowed_hosts: further names by which clients may reach the server.
    max_bytes: of a request's body. max_pixels: of an image. max_images: of a request. max_faces: of an image;
        the largest are kept. max_buffered: bytes of all bodies held at once.
    queue: images that may wait. batch: images that the network gets together. deadline: seconds that an image
        may wait. upload_time: seconds in which a request has to arrive.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = "compact"
    recognizer: str | None = None
    detector: str = "auto"
    runtime: str = "auto"
    device: str = "auto"
    threads: int | None = None
    workers: int = 1
    gallery: str | None = None
    keys_file: str | None = None
    allow_anonymous: bool = False
    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = 10 * 2**20
    max_pixels: int = 40_000_000
    max_images: int = 16
    max_faces: int = 100
    max_buffered: int = 256 * 2**20
    queue: int = 64
    batch: int = 16
    deadline: float = 20.0
    upload_time: float = 15.0

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote; raises FaceumError if the text is something else."""
        try:
            values = json.loads(text)
            values["allowed_hosts"] = tuple(values.get("allowed_hosts", ()))
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise FaceumError(f"{VARIABLE} does not hold the settings of a server ({error}).") from None

    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        return is_loopback(self.host)


POSITIVE = (
    "workers", "max_bytes", "max_pixels", "max_images", "max_faces", "max_buffered", "queue", "batch",
    "deadline", "upload_time",
)  # fmt: skip
"""Settings that must be above 0."""


def check_settings(settings: Settings, *, has_keys: bool) -> None:
    """Raise FaceumError with one sentence if a server must not start with these settings.

    has_keys: whether there is at least one API key.
    """
    known = {field.name for field in fields(settings)}
    for name in POSITIVE:
        if name in known and getattr(settings, name) <= 0:
            raise FaceumError(f"{name} is {getattr(settings, name)}; expected more than 0.")
    if not 0 <= settings.port <= 65535:
        raise FaceumError(f"The port is {settings.port}; expected 0 to 65535.")
    if settings.queue < settings.max_images:
        raise FaceumError(
            f"A request may hold {count_noun(settings.max_images, 'image')}, but only {settings.queue} may "
            "wait; make the queue at least as long."
        )
    if not settings.is_loopback() and not has_keys and not settings.allow_anonymous:
        raise FaceumError(
            f"{settings.host} can be reached by others and there is no API key; make one with "
            "`faceum serve --new-key NAME`, or insist with --allow-anonymous."
        )
    if settings.gallery and "://" not in settings.gallery:
        folder = Path(settings.gallery).expanduser().parent
        if not folder.is_dir():
            raise FaceumError(f"The gallery's folder {folder} does not exist; make it first.")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_known_host(header: str, settings: Settings) -> bool:
    """Return whether a Host header names this server.

    Names of other sites that resolve to this machine are refused, so that a page elsewhere cannot reach a
    server on loopback. An IP address cannot be forged like this and is accepted unless the server listens on
    loopback only.
    """
    name = _host_name(header)
    if name in {"localhost", settings.host.lower(), *(one.lower() for one in settings.allowed_hosts)}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return not settings.is_loopback() and name == socket.gethostname().lower()
    return address.is_loopback or not settings.is_loopback()


def _host_name(header: str) -> str:
    """Return the name in a Host header, without the port and the brackets of an IPv6 address."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def settings_from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in the environment, the defaults if there are none."""
    text = environment.get(VARIABLE)
    return Settings() if text is None else Settings.from_json(text)
