"""Check that a server can start with its settings, before it takes the port."""

from __future__ import annotations

import os

from faceum.serve.keys import read_keys
from faceum.serve.settings import KEYS_VARIABLE, Settings, check_settings


def check_start(settings: Settings) -> str:
    """Return one sentence about the server that would run; raises FaceumError if it must not.

    The keys are read, and the model's and the detector's files are looked up; the network is not loaded.
    """
    from faceum.detect.base import load_detector
    from faceum.engine import FORMATS, choose_engine
    from faceum.weights.registry import resolve_model

    records = read_keys(settings.keys_file, os.environ.get(KEYS_VARIABLE, ""))
    check_settings(settings, has_keys=bool(records))
    engine = choose_engine(settings.model, settings.runtime, settings.device)
    resolve_model(settings.model, FORMATS[engine.runtime])
    load_detector(settings.detector)
    keys = {0: "without API keys", 1: "with 1 API key"}.get(len(records), f"with {len(records)} API keys")
    people = "no gallery" if settings.gallery is None else "a gallery"
    return (
        f"{settings.model} by {engine.runtime} on {engine.device}, {settings.workers} process(es), {keys}, "
        f"{people}: http://{_format_host(settings.host)}:{settings.port}/"
    )


def _format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
