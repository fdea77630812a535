"""Layer 4. Crops and face masks in, each task's numbers out; by onnxruntime or torch, with one signature.

B crops, S their side in pixels, N patch tokens. Neither library is imported before a runner needs it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from faceum.assets import has_part, looks_like_path, resolve_model, unknown_name
from faceum.crop import CropSpec
from faceum.errors import ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed
from faceum.threads import usable_threads

if TYPE_CHECKING:
    import onnxruntime

LOG = logging.getLogger("faceum")

RUNTIMES = ("auto", "onnxruntime", "torch")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """What a weights file says about its network.

    name: what the network is called. tasks: those it answers. crops: crop policy -> tasks that use it.
    labels: task -> its words, where it has any.
    """

    name: str
    tasks: tuple[str, ...]
    crops: tuple[tuple[CropSpec, tuple[str, ...]], ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def crop_of(self, task: str) -> CropSpec:
        """The crop policy of one of its tasks."""
        return next(spec for spec, tasks in self.crops if task in tasks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file's header."""
        return {
            "name": self.name,
            "tasks": list(self.tasks),
            "crops": [{"spec": spec.to_dict(), "tasks": list(tasks)} for spec, tasks in self.crops],
            "labels": {task: list(words) for task, words in self.labels.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkCard:
        """The inverse of to_dict; further keys are left alone."""
        return cls(
            name=values["name"],
            tasks=tuple(values["tasks"]),
            crops=tuple(
                (CropSpec.from_dict(entry["spec"]), tuple(entry["tasks"])) for entry in values["crops"]
            ),
            labels={task: tuple(words) for task, words in values["labels"].items()},
        )


class Runner(Protocol):
    """A loaded network. Many threads may share one."""

    card: NetworkCard
    runtime: str
    device: str

    def run(
        self, crops_BSSC: np.ndarray, face_mask_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Each asked task's output for the crops.

        crops_BSSC: uint8 RGB, cut by the crop policy that the tasks share. face_mask_BN: bool, row-major.
        tasks: some of the card's; `faceum.decode` says the outputs' shapes.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where a network is to run, and why it was chosen."""

    runtime: str
    device: str
    reason: str


def load_runner(
    model: str | Path, runtime: str = "auto", device: str = "auto", threads: int | None = None
) -> Runner:
    """The network's runner.

    model: a registered name, or the path of an .onnx or .safetensors file. runtime: "onnxruntime", "torch" or
    "auto"; device: "cpu", "cuda" or "auto". threads: None for as many as affinity and cgroup leave us.
    Raises ModelError where any of these is unknown, missing, or cannot be had on this machine.
    """
    engine = choose_engine(model, runtime, device)
    if "auto" in (runtime, device):
        LOG.info("%s runs by %s on %s: %s", model, engine.runtime, engine.device, engine.reason)
    return RUNNERS[engine.runtime](model, engine.device, usable_threads(threads))


def choose_engine(model: str | Path, runtime: str = "auto", device: str = "auto") -> Engine:
    """Where `load_runner` would run the model; see there."""
    if runtime not in RUNTIMES:
        raise ModelError(unknown_name(runtime, "runtime", RUNTIMES))
    if device not in DEVICES:
        raise ModelError(unknown_name(device, "device", DEVICES))
    if runtime == "torch" and not torch_is_installed():
        raise ModelError(f"The torch runtime needs torch: {INSTALL_TORCH}.")
    if device == "cpu":
        return _on_cpu(model, runtime)
    cuda = [
        name for name in RUNTIMES[1:] if runtime in ("auto", name) and _can_run(model, name) and _cuda(name)
    ]
    if cuda:
        # Torch first: its kernels for the experts are made for this, and it needs no second CUDA build.
        chosen = "torch" if "torch" in cuda else cuda[0]
        return Engine(runtime=chosen, device="cuda", reason="a GPU is there")
    if device == "cuda":
        raise ModelError(
            "The device 'cuda' was asked for, but "
            + (
                "no runtime is installed that could use the GPU"
                if gpu_is_present()
                else "there is no NVIDIA GPU"
            )
            + " here; use --device cpu, or install torch or onnxruntime with CUDA on a machine with a GPU."
        )
    return _on_cpu(model, runtime)


def gpu_is_present() -> bool:
    """Whether the system shows an NVIDIA GPU; cheap, without torch."""
    return any(Path(place).exists() for place in ("/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/version"))


class OnnxRunner:
    """A network in onnxruntime."""

    runtime = "onnxruntime"

    def __init__(self, model: str | Path, device: str, threads: int) -> None:
        """See `load_runner`; device is "cpu" or "cuda"."""
        import onnxruntime

        self.device = device
        path = resolve_model(model, "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        providers = ["CUDAExecutionProvider"] if device == "cuda" else []
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=[*providers, "CPUExecutionProvider"]
            )
        except _onnx_errors() as error:
            raise ModelError(
                f"The file {path} is no ONNX network that onnxruntime can load ({error})."
            ) from None
        if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise ModelError("onnxruntime could not use the GPU; use --device cpu, or --runtime torch.")
        self.card = _onnx_card(path, session)
        self._session = session

    def run(
        self, crops_BSSC: np.ndarray, face_mask_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        feeds = {"crop_BCHW": network_input(crops_BSSC), "face_mask_BN": face_mask_BN}
        names = list(tasks)
        return dict(zip(names, self._session.run(names, feeds), strict=True))


class TorchRunner:
    """A network in torch, eager, float32."""

    runtime = "torch"

    def __init__(self, model: str | Path, device: str, threads: int) -> None:
        """See `load_runner`; torch's threads are the whole process's and only ever lowered."""
        import torch

        from faceum.model.checkpoint import load_checkpoint

        self.device = device
        if threads < torch.get_num_threads():
            torch.set_num_threads(threads)
        self._model, metadata = load_checkpoint(resolve_model(model, "safetensors"))
        self._model.eval().to(device)
        config = self._model.config
        labels = {task: tuple(words) for task, words in metadata.get("labels", {}).items()}
        self.card = NetworkCard(name=config.name, tasks=config.tasks, crops=config.crops, labels=labels)

    def run(
        self, crops_BSSC: np.ndarray, face_mask_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        import torch

        with torch.inference_mode():
            crop_BCHW = torch.from_numpy(network_input(crops_BSSC)).to(self.device)
            output = self._model(crop_BCHW, torch.from_numpy(face_mask_BN).to(self.device), tuple(tasks))
            return {task: output[task].float().cpu().numpy() for task in tasks}


RUNNERS: dict[str, type[OnnxRunner] | type[TorchRunner]] = {"onnxruntime": OnnxRunner, "torch": TorchRunner}
"""Runtime -> its runner."""

FORMATS = {"onnxruntime": "onnx", "torch": "safetensors"}
"""Runtime -> the format of the weights it reads."""


def network_input(crops_BSSC: np.ndarray) -> np.ndarray:
    """uint8 RGB crops (B, S, S, 3) -> float32 (B, 3, S, S) in 0..1, as networks take them."""
    return np.ascontiguousarray(crops_BSSC.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def _on_cpu(model: str | Path, runtime: str) -> Engine:
    if runtime != "auto":
        return Engine(runtime=runtime, device="cpu", reason="as asked")
    if looks_like_path(model) and str(model).lower().endswith(".safetensors"):
        # The file that was named is meant, not an export that happens to lie beside it.
        if not torch_is_installed():
            raise ModelError(f"To run {model} needs torch: {INSTALL_TORCH}, or give an .onnx file.")
        return Engine(runtime="torch", device="cpu", reason="the file is for torch")
    if has_part(model, "onnx") or not (torch_is_installed() and has_part(model, "safetensors")):
        return Engine(
            runtime="onnxruntime",
            device="cpu",
            reason="the model has an ONNX file, which a CPU needs no torch for",
        )
    return Engine(runtime="torch", device="cpu", reason="the model has no ONNX file")


def _can_run(model: str | Path, runtime: str) -> bool:
    if runtime == "torch" and not torch_is_installed():
        return False
    return has_part(model, FORMATS[runtime])


def _cuda(runtime: str) -> bool:
    """Whether the runtime can use a GPU here; torch is only imported where there is one."""
    if not gpu_is_present():
        return False
    if runtime == "torch":
        import torch

        return torch.cuda.is_available()
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _onnx_card(path: Path, session: onnxruntime.InferenceSession) -> NetworkCard:
    text = session.get_modelmeta().custom_metadata_map.get("faceum")
    if text is None:
        raise ModelError(
            f"The file {path} is an ONNX network, but not one of faceum: it has no faceum metadata."
        )
    try:
        card = NetworkCard.from_dict(json.loads(text))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"The faceum metadata of {path} cannot be read ({error!r}); export it again."
        ) from None
    missing = set(card.tasks) - {output.name for output in session.get_outputs()}
    if missing:
        raise ModelError(f"The file {path} promises {', '.join(sorted(missing))}, but has no such output.")
    return card


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file it cannot load; its errors share no class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
