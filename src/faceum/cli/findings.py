"""What `faceum doctor` finds: the packages, devices, weights and engine that this machine offers."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np

from faceum.analyzer import FaceAnalyzer
from faceum.engine import choose_engine, gpu_is_present
from faceum.errors import FaceumError
from faceum.extras import EXTRAS, install_command
from faceum.threads import usable_threads
from faceum.weights.registry import asset_path, load_registry

NEEDED = ("numpy", "opencv-python-headless", "onnxruntime", "safetensors", "typer", "rich")
"""Distributions that analyzing images needs."""

OPTIONAL = {
    "torch": ("torch", "training, conversion and the torch runtime"),
    "onnx": ("onnx", "export"),
    "onnxscript": ("onnxscript", "export"),
    "pyarrow": ("pyarrow", "data sets: training and evaluation"),
    "matplotlib": ("matplotlib", "plots in reports"),
    "pillow": ("PIL", "more image formats and colour profiles"),
    "pillow-heif": ("pillow_heif", "HEIC images"),
    "pandas": ("pandas", "results as a DataFrame"),
}
"""Distribution -> its import name, and what it is for."""

ELSEWHERE = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu",),
}
"""Distribution -> others that bring the same module."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    topic: what was examined. state: "ok", "absent" (not needed to analyze images) or "broken". words: what
    was found. cure: the command that would change it, empty if nothing is wrong.
    """

    topic: str
    state: str
    words: str
    cure: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the fields as plain values."""
        return asdict(self)


def examine(model: str = "compact") -> list[Finding]:
    """Examine all that analyzing images with this model needs, and what else could be used."""
    return [
        Finding(topic="faceum", state="ok", words=_version("moe-faceum") or "from a source tree"),
        Finding(topic="python", state="ok", words=f"{platform.python_version()} in {sys.prefix}"),
        Finding(topic="machine", state="ok", words=_machine()),
        Finding(topic="threads", state="ok", words=str(usable_threads())),
        *(_check_needed(name) for name in NEEDED),
        *(_check_optional(name) for name in OPTIONAL),
        _gpu(),
        *_weights(),
        _engine(model),
        _trial(model),
    ]


def is_healthy(findings: list[Finding]) -> bool:
    """Return whether images can be analyzed."""
    return all(finding.state != "broken" for finding in findings)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_needed(name: str) -> Finding:
    for installed in (name, *ELSEWHERE.get(name, ())):
        found = _version(installed)
        if found is not None:
            words = found if installed == name else f"{found} as {installed}"
            return Finding(topic=name, state="ok", words=words)
    cure = install_command(name) if name in EXTRAS else f"pip install {name}"
    return Finding(topic=name, state="broken", words="not installed", cure=cure)


def _check_optional(name: str) -> Finding:
    found, (module, purpose) = _version(name), OPTIONAL[name]
    if found is not None:
        return Finding(topic=name, state="ok", words=f"{found}, for {purpose}")
    words = f"not installed; it is for {purpose}"
    return Finding(topic=name, state="absent", words=words, cure=install_command(module))


INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI",
    "amx_int8": "AMX", "asimd": "NEON", "asimddp": "Arm dot product", "i8mm": "Arm int8 matrices",
}  # fmt: skip
"""Flag in Linux' /proc/cpuinfo -> the set of instructions that it means, of those that networks run on."""

FEATURES = {
    "CPU_AVX2": "AVX2", "CPU_AVX_512F": "AVX-512", "CPU_AVX_512VNNI": "AVX-512 VNNI", "CPU_NEON": "NEON",
    "CPU_NEON_DOTPROD": "Arm dot product",
}  # fmt: skip
"""OpenCV's name of a processor feature -> the set of instructions, for systems without /proc/cpuinfo."""


def _machine() -> str:
    """Name the system and the instructions that decide how fast networks run."""
    return ", ".join([f"{platform.system()} {platform.machine()}", *instructions()])


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the names of the processor's sets of instructions that networks run on, [] if unknown."""
    try:
        flags = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # not Linux
        features = {name: getattr(cv2, name, None) for name in FEATURES}
        return [
            FEATURES[name]
            for name, number in features.items()
            if number is not None and cv2.checkHardwareSupport(number)
        ]
    return [name for flag, name in INSTRUCTIONS.items() if flag in flags]


def _gpu() -> Finding:
    if not gpu_is_present():
        return Finding(topic="gpu", state="absent", words="no NVIDIA GPU; the CPU is used")
    return Finding(topic="gpu", state="ok", words="an NVIDIA GPU is present")


def _weights() -> list[Finding]:
    findings = []
    for asset in load_registry().values():
        for part, file in asset.files.items():
            topic = f"weights {asset.name} ({part})"
            try:
                asset_path(asset.name, part, kind=asset.kind)
            except FaceumError as error:
                findings.append(_describe_broken(topic, error))
            else:
                words = f"{file.file}, {file.bytes / 1e6:.1f} MB, SHA-256 as registered"
                findings.append(Finding(topic=topic, state="ok", words=words))
    return findings


def _engine(model: str) -> Finding:
    try:
        engine = choose_engine(model)
    except FaceumError as error:
        return _describe_broken(f"{model} by", error)
    words = f"{engine.runtime} on {engine.device}: {engine.reason}"
    return Finding(topic=f"{model} by", state="ok", words=words)


def _trial(model: str) -> Finding:
    """Run the detector and the network on a gray image."""
    topic = "trial run"
    gray = np.full((64, 64, 3), 127, np.uint8)
    try:
        analyzer = FaceAnalyzer(model)
        analyzer.analyze(gray)
        analyzer.analyze(gray, cropped=True)
    except FaceumError as error:
        return _describe_broken(topic, error)
    return Finding(topic=topic, state="ok", words=f"answers {', '.join(analyzer.tasks)}")


def _describe_broken(topic: str, error: FaceumError) -> Finding:
    return Finding(topic=topic, state="broken", words=str(error))
