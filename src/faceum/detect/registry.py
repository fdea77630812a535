"""The detectors by name: a word in, a ready `Detector` out."""

from __future__ import annotations

from faceum.detect.centerface import CenterFace
from faceum.detect.protocol import Detector
from faceum.errors import ModelError, unknown_name

AUTO = "centerface"
"""The detector that "auto" stands for; docs/log.md holds the measurements behind the choice."""

DETECTORS: dict[str, type[CenterFace]] = {
    "centerface": CenterFace,
}


def load_detector(name: str = "auto", *, threads: int | None = None) -> Detector:
    """The named detector; its files are read when it first sees an image.

    threads: threads of one run in onnxruntime; None for as many as affinity and cgroup leave us.
    ModelError for an unknown name.
    """
    chosen = AUTO if name == "auto" else name
    if chosen not in DETECTORS:
        raise ModelError(unknown_name(name, "detector", ["auto", *DETECTORS]))
    return DETECTORS[chosen](threads=threads)
