"""What is installed, what would be used, and what is missing: nothing in, findings out."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from faceum.analyzer import FaceAnalyzer
from faceum.errors import FaceumError
from faceum.extras import INSTALL_TORCH
from faceum.runner import choose_engine, gpu_is_present
from faceum.threads import usable_threads
from faceum.weights.registry import asset_path, load_registry

NEEDED = ("numpy", "opencv-python-headless", "onnxruntime", "safetensors", "typer", "rich")
"""Distributions that the base install brings."""

OPTIONAL = {
    "torch": ("training, conversion and the torch runtime", INSTALL_TORCH),
    "onnx": ("export", "pip install 'moe-faceum[export]'"),
    "onnxscript": ("export", "pip install 'moe-faceum[export]'"),
    "pyarrow": ("training and scoring on data sets", "pip install 'moe-faceum[train]'"),
    "matplotlib": ("plots in reports", "pip install 'moe-faceum[eval]'"),
}
"""Distribution -> what it is for, and how to get it."""

ELSEWHERE = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu",),
}
"""Distributions that bring the same module under another name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    topic: what. state: "ok", "absent" (not needed for the main job) or "broken". words: what was found.
    cure: what to do, empty where nothing is wrong.
    """

    topic: str
    state: str
    words: str
    cure: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def examine(model: str = "compact") -> list[Finding]:
    """Look at everything that the main job with this model needs, and at what else could be used."""
    return [
        Finding(topic="faceum", state="ok", words=_version("moe-faceum") or "from a source tree"),
        Finding(topic="python", state="ok", words=f"{platform.python_version()} in {sys.prefix}"),
        Finding(topic="machine", state="ok", words=f"{platform.system()} {platform.machine()}"),
        Finding(topic="threads", state="ok", words=str(usable_threads())),
        *(_needed(name) for name in NEEDED),
        *(_optional(name) for name in OPTIONAL),
        _gpu(),
        *_weights(),
        _engine(model),
        _trial(model),
    ]


def is_healthy(findings: list[Finding]) -> bool:
    """Whether the main job works."""
    return all(finding.state != "broken" for finding in findings)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _needed(name: str) -> Finding:
    for installed in (name, *ELSEWHERE.get(name, ())):
        found = _version(installed)
        if found is not None:
            words = found if installed == name else f"{found} as {installed}"
            return Finding(topic=name, state="ok", words=words)
    return Finding(topic=name, state="broken", words="not installed", cure=f"pip install {name}")


def _optional(name: str) -> Finding:
    found, (purpose, cure) = _version(name), OPTIONAL[name]
    if found is not None:
        return Finding(topic=name, state="ok", words=f"{found}, for {purpose}")
    return Finding(topic=name, state="absent", words=f"not installed; it is for {purpose}", cure=cure)


def _gpu() -> Finding:
    if not gpu_is_present():
        return Finding(topic="gpu", state="absent", words="no NVIDIA GPU; the CPU is used")
    return Finding(topic="gpu", state="ok", words="an NVIDIA GPU is there")


def _weights() -> list[Finding]:
    findings = []
    for asset in load_registry().values():
        for part, file in asset.files.items():
            topic = f"weights {asset.name} ({part})"
            try:
                asset_path(asset.name, part, kind=asset.kind)
            except FaceumError as error:
                findings.append(_broken(topic, error))
            else:
                words = f"{file.file}, {file.bytes / 1e6:.1f} MB, SHA-256 as registered"
                findings.append(Finding(topic=topic, state="ok", words=words))
    return findings


def _engine(model: str) -> Finding:
    try:
        engine = choose_engine(model)
    except FaceumError as error:
        return _broken(f"{model} by", error)
    words = f"{engine.runtime} on {engine.device}: {engine.reason}"
    return Finding(topic=f"{model} by", state="ok", words=words)


def _trial(model: str) -> Finding:
    """The main job on a gray image: its detector and its network really run."""
    topic = "trial run"
    gray = np.full((64, 64, 3), 127, np.uint8)
    try:
        analyzer = FaceAnalyzer(model)
        analyzer.analyze(gray)
        analyzer.analyze(gray, cropped=True)
    except FaceumError as error:
        return _broken(topic, error)
    return Finding(topic=topic, state="ok", words=f"answers {', '.join(analyzer.tasks)}")


def _broken(topic: str, error: FaceumError) -> Finding:
    return Finding(topic=topic, state="broken", words=str(error))
