"""Check that a server can start with its settings, before it takes the port."""

from __future__ import annotations

import ipaddress
import os
import socket

from faceum.errors import FaceumError, count_noun
from faceum.serve.keys import read_keys
from faceum.serve.settings import KEYS_VARIABLE, Settings, check_settings


def check_start(settings: Settings) -> str:
    """Return one sentence about the server that would run; raises FaceumError if it must not.

    Reads the keys, looks up the files of the networks, opens an existing gallery, and takes the address for a
    moment on a free port; does not load the network.
    """
    from faceum.detect.base import load_detector
    from faceum.engine import FORMATS, choose_engine
    from faceum.weights.registry import resolve_model

    records = read_keys(settings.keys_file, os.environ.get(KEYS_VARIABLE, ""))
    check_settings(settings, has_keys=bool(records))
    engine = choose_engine(settings.model, settings.runtime, settings.device)
    resolve_model(settings.model, FORMATS[engine.runtime])
    load_detector(settings.detector)
    if settings.recognizer is not None:
        from faceum.recognizer import Recognizer

        Recognizer(settings.recognizer, threads=1)
    if settings.gallery is not None:
        from faceum.people.gallery import is_missing, open_store

        if not is_missing(settings.gallery):
            open_store(settings.gallery).close()
    _check_address(settings.host)
    keys = f"with {count_noun(len(records), 'API key')}" if records else "without API keys"
    processes = count_noun(settings.workers, "process", "processes")
    people = "no gallery" if settings.gallery is None else "a gallery"
    return (
        f"{settings.model} by {engine.runtime} on {engine.device}, {processes}, {keys}, "
        f"{people}: http://{_format_host(settings.host)}:{settings.port}/"
    )


def _check_address(host: str) -> None:
    """Raise FaceumError if this machine cannot listen on an IP address; names are left to the start."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    try:
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as one:
            one.bind((host, 0))
    except OSError as error:
        raise FaceumError(
            f"The server cannot listen on {host} ({error.strerror or error}); give an address of this "
            "machine, such as 127.0.0.1."
        ) from None


def _format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
