"""Chooses the runtime and device that a network runs on, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from faceum.errors import ModelError, unknown_name
from faceum.extras import INSTALL_TORCH, torch_is_installed
from faceum.onnx_session import is_available
from faceum.weights.registry import SUFFIXES, has_part, looks_like_path

RUNTIMES = ("auto", "onnxruntime", "torch", "torch-compiled")

AUTO_RUNTIMES = ("onnxruntime", "torch")
"""The runtimes that "auto" chooses from: those that start quickly."""

DEVICES = ("auto", "cpu", "cuda", "coreml")

FORMATS = {"onnxruntime": "onnx", "torch": "safetensors", "torch-compiled": "safetensors"}
"""Runtime -> format of the weights that it reads."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The runtime and device that a network runs on, and why they were chosen."""

    runtime: str
    device: str
    reason: str


def choose_engine(model: str | Path, runtime: str = "auto", device: str = "auto") -> Engine:
    """Choose the engine that `load_runner` uses for a model.

    model: a registered name or a weights file. runtime: "onnxruntime", "torch", "torch-compiled" or "auto".
    device: "cpu", "cuda", "coreml" (onnxruntime on Apple devices, the CPU if it is not available) or "auto",
    which takes a GPU if there is one. Raises ModelError if one is unknown or cannot be used here.
    """
    if runtime not in RUNTIMES:
        raise ModelError(unknown_name(runtime, "runtime", RUNTIMES))
    if device not in DEVICES:
        raise ModelError(unknown_name(device, "device", DEVICES))
    if runtime.startswith("torch") and not torch_is_installed():
        raise ModelError(f"The torch runtime needs torch: {INSTALL_TORCH}.")
    if device == "cpu":
        return _choose_on_cpu(model, runtime)
    if device == "coreml":
        return _choose_coreml(model, runtime)
    candidates = [name for name in AUTO_RUNTIMES if _matches(model, name)] if runtime == "auto" else [runtime]
    cuda = [name for name in candidates if _can_run(model, name) and _has_cuda(name)]
    if cuda:
        # torch first: its expert kernels are made for this, and it needs no second CUDA build.
        return Engine(runtime=cuda[-1], device="cuda", reason="there is a GPU")
    if device == "cuda":
        reason = "no installed runtime can use the GPU" if gpu_is_present() else "there is no NVIDIA GPU"
        raise ModelError(
            f"Cannot use the device 'cuda': {reason}; use --device cpu, or install torch or onnxruntime with "
            "CUDA on a machine with a GPU."
        )
    return _choose_on_cpu(model, runtime)


def gpu_is_present() -> bool:
    """Return whether the system shows an NVIDIA GPU; quick, without torch."""
    return any(Path(place).exists() for place in ("/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/version"))


def _choose_on_cpu(model: str | Path, runtime: str) -> Engine:
    if runtime != "auto":
        return Engine(runtime=runtime, device="cpu", reason="as asked")
    if not _matches(model, "onnxruntime") and _matches(model, "torch"):
        if not torch_is_installed():
            raise ModelError(f"Running {model} needs torch: {INSTALL_TORCH}; or give an .onnx file.")
        return Engine(runtime="torch", device="cpu", reason="the file is for torch")
    if has_part(model, "onnx") or not (torch_is_installed() and has_part(model, "safetensors")):
        return Engine(
            runtime="onnxruntime",
            device="cpu",
            reason="the model has an ONNX file, which needs no torch on a CPU",
        )
    return Engine(runtime="torch", device="cpu", reason="the model has no ONNX file")


def _choose_coreml(model: str | Path, runtime: str) -> Engine:
    if runtime not in ("auto", "onnxruntime"):
        raise ModelError(f"The device 'coreml' needs the onnxruntime runtime, got {runtime!r}.")
    if is_available("coreml"):
        return Engine(runtime="onnxruntime", device="coreml", reason="as asked")
    reason = "this onnxruntime has no CoreMLExecutionProvider, which comes with its macOS builds"
    return Engine(runtime="onnxruntime", device="cpu", reason=reason)


def _matches(model: str | Path, runtime: str) -> bool:
    # A path means that file, not one of another format in the same folder.
    return not looks_like_path(model) or str(model).lower().endswith(SUFFIXES[FORMATS[runtime]])


def _can_run(model: str | Path, runtime: str) -> bool:
    if runtime != "onnxruntime" and not torch_is_installed():
        return False
    return has_part(model, FORMATS[runtime])


def _has_cuda(runtime: str) -> bool:
    """Return whether the runtime can use a GPU here; torch is imported only if there is one."""
    if not gpu_is_present():
        return False
    if runtime != "onnxruntime":
        import torch

        return torch.cuda.is_available()
    return is_available("cuda")
