"""Crops and face masks in, each task's numbers out; by onnxruntime or torch, with one signature.

B crops, S their side in pixels, N patch tokens. Neither library is imported before a runner needs it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from faceum.crop import CropSpec, network_input
from faceum import old_names
from faceum.errors import ModelError, unknown_name
from faceum.extras import INSTALL_TORCH, torch_is_installed
from faceum.onnx_session import metadata_of, with_outputs
from faceum.threads import usable_threads
from faceum.weights.registry import SUFFIXES, has_part, looks_like_path, resolve_model

if TYPE_CHECKING:
    import onnxruntime
    from torch import Tensor

    from faceum.model.network import FaceUM, Output

LOG = logging.getLogger("faceum")

RUNTIMES = ("auto", "onnxruntime", "torch", "torch-compiled")
UNASKED = ("onnxruntime", "torch")
"""The runtimes that "auto" chooses from: those that are ready at once."""

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
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Each asked task's output for the crops.

        crops_BSSC: uint8 RGB, cut by the crop policy that the tasks share. face_tokens_BN: bool, row-major.
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
    model: str | Path,
    runtime: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    *,
    tasks: Iterable[str] | None = None,
) -> Runner:
    """The network's runner.

    model: a registered name, or the path of an .onnx or .safetensors file. runtime: "onnxruntime", "torch",
    "torch-compiled" or "auto"; device: "cpu", "cuda" or "auto". threads: None for as many as affinity and
    cgroup leave us.
    tasks: those that will mostly be asked for together, all by default; it then starts sooner for them.
    Raises ModelError where any of these is unknown, missing, or cannot be had on this machine.
    """
    engine = choose_engine(model, runtime, device)
    if "auto" in (runtime, device):
        LOG.info("%s runs by %s on %s: %s", model, engine.runtime, engine.device, engine.reason)
    return RUNNERS[engine.runtime](
        model, engine.device, usable_threads(threads), tasks=None if tasks is None else tuple(tasks)
    )


def choose_engine(model: str | Path, runtime: str = "auto", device: str = "auto") -> Engine:
    """Where `load_runner` would run the model; see there."""
    if runtime not in RUNTIMES:
        raise ModelError(unknown_name(runtime, "runtime", RUNTIMES))
    if device not in DEVICES:
        raise ModelError(unknown_name(device, "device", DEVICES))
    if runtime.startswith("torch") and not torch_is_installed():
        raise ModelError(f"The torch runtime needs torch: {INSTALL_TORCH}.")
    if device == "cpu":
        return _on_cpu(model, runtime)
    offered = [name for name in UNASKED if _is_meant(model, name)] if runtime == "auto" else [runtime]
    cuda = [name for name in offered if _can_run(model, name) and _cuda(name)]
    if cuda:
        # Torch first: its kernels for the experts are made for this, and it needs no second CUDA build.
        chosen = cuda[-1]
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
    """A network in onnxruntime.

    onnxruntime computes all that a file promises, so each set of tasks that is asked for has a network of its
    own, cut out of the file when it is first needed.
    """

    runtime = "onnxruntime"

    def __init__(
        self, model: str | Path, device: str, threads: int, *, tasks: Sequence[str] | None = None
    ) -> None:
        """See `load_runner`; device is "cpu" or "cuda"."""
        self.device = device
        self._path = resolve_model(model, "onnx")
        self._threads = threads
        self._lock = threading.Lock()
        self.card = _onnx_card(self._path)
        first = tuple(task for task in tasks or () if task in self.card.tasks) or self.card.tasks
        self._sessions = {frozenset(first): self._open(first)}

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        return self.run_input(network_input(crops_BSSC), face_tokens_BN, tasks)

    def run_input(
        self, crop_BCHW: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The same for crops that are float32 RGB (B, 3, S, S) in 0..1 already."""
        names, session = list(tasks), self._session(tasks)
        given = {"crop_BCHW": crop_BCHW, "face_tokens_BN": face_tokens_BN}
        feeds = {entry.name: given[old_names.INPUTS.get(entry.name, entry.name)] for entry in session.get_inputs()}
        return dict(zip(names, session.run(names, feeds), strict=True))

    def _session(self, tasks: Sequence[str]) -> onnxruntime.InferenceSession:
        wanted = frozenset(tasks)
        with self._lock:
            if wanted not in self._sessions:
                self._sessions[wanted] = self._open(tasks)
            return self._sessions[wanted]

    def _open(self, tasks: Sequence[str]) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # Threads that spin while they wait starve each other as soon as the processors are shared.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CUDAExecutionProvider"] if self.device == "cuda" else []
        every = set(tasks) >= set(self.card.tasks)
        try:
            session = onnxruntime.InferenceSession(
                str(self._path) if every else with_outputs(self._path.read_bytes(), tasks),
                options,
                providers=[*providers, "CPUExecutionProvider"],
            )
        except _onnx_errors() as error:
            raise ModelError(_no_network(self._path, error)) from None
        missing = set(tasks) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelError(
                f"The file {self._path} promises {', '.join(sorted(missing))}, but has no such output."
            )
        if providers and providers[0] not in session.get_providers():
            raise ModelError("onnxruntime could not use the GPU; use --device cpu, or --runtime torch.")
        return session


class TorchRunner:
    """A network in torch: float32 on a CPU; bfloat16 with channels last on a GPU."""

    runtime = "torch"

    def __init__(
        self, model: str | Path, device: str, threads: int, *, tasks: Sequence[str] | None = None
    ) -> None:
        """See `load_runner`; torch's threads are the whole process's and only ever lowered."""
        import torch

        from faceum.model.checkpoint import load_checkpoint
        from faceum.model.network import round_weights

        self.device = device
        if threads < torch.get_num_threads():
            torch.set_num_threads(threads)
        network, metadata = load_checkpoint(resolve_model(model, "safetensors"))
        network.eval().to(device)
        if device == "cuda":
            round_weights(network, torch.bfloat16)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        config = network.config
        labels = {task: tuple(words) for task, words in metadata.get("labels", {}).items()}
        self.card = NetworkCard(name=config.name, tasks=config.tasks, crops=config.crops, labels=labels)
        self._network = self._made_quick(network)

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        import torch

        on_gpu = self.device == "cuda"
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=on_gpu):
            if on_gpu:
                # Bytes travel and become numbers on the GPU; (B, S, S, 3) is channels last.
                crop_BCHW = self._on_gpu(crops_BSSC).permute(0, 3, 1, 2).float() / 255
                mask_BN = self._on_gpu(face_tokens_BN)
            else:
                crop_BCHW = torch.from_numpy(network_input(crops_BSSC))
                mask_BN = torch.from_numpy(face_tokens_BN)
            output = self._network(crop_BCHW, mask_BN, tuple(tasks))
            return {task: output[task].float().cpu().numpy() for task in tasks}

    def _made_quick(self, network: FaceUM) -> Callable[..., Output]:
        return network

    def _on_gpu(self, array: np.ndarray) -> Tensor:
        """The array on the GPU, by way of pinned memory, so that nobody waits for its journey."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().to(self.device, non_blocking=True)


class CompiledTorchRunner(TorchRunner):
    """The same, compiled by torch: the first calls take minutes, and it needs a C++ compiler."""

    runtime = "torch-compiled"
    backend = "inductor"
    """What torch compiles with, a name of `torch._dynamo`'s."""

    def _made_quick(self, network: FaceUM) -> Callable[..., Output]:
        import torch

        compiled: Callable[..., Output] = torch.compile(network, dynamic=True, backend=self.backend)
        return compiled


RUNNERS: dict[str, type[OnnxRunner] | type[TorchRunner]] = {
    "onnxruntime": OnnxRunner,
    "torch": TorchRunner,
    "torch-compiled": CompiledTorchRunner,
}
"""Runtime -> its runner."""

FORMATS = {"onnxruntime": "onnx", "torch": "safetensors", "torch-compiled": "safetensors"}
"""Runtime -> the format of the weights it reads."""


def _on_cpu(model: str | Path, runtime: str) -> Engine:
    if runtime != "auto":
        return Engine(runtime=runtime, device="cpu", reason="as asked")
    if not _is_meant(model, "onnxruntime") and _is_meant(model, "torch"):
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


def _is_meant(model: str | Path, runtime: str) -> bool:
    # The file that was named is meant, not one of another format that happens to lie beside it.
    return not looks_like_path(model) or str(model).lower().endswith(SUFFIXES[FORMATS[runtime]])


def _can_run(model: str | Path, runtime: str) -> bool:
    if runtime != "onnxruntime" and not torch_is_installed():
        return False
    return has_part(model, FORMATS[runtime])


def _cuda(runtime: str) -> bool:
    """Whether the runtime can use a GPU here; torch is only imported where there is one."""
    if not gpu_is_present():
        return False
    if runtime != "onnxruntime":
        import torch

        return torch.cuda.is_available()
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _onnx_card(path: Path) -> NetworkCard:
    try:
        text = metadata_of(path.read_bytes()).get("faceum")
    except ValueError as error:
        raise ModelError(_no_network(path, error)) from None
    if text is None:
        raise ModelError(
            f"The file {path} is an ONNX network, but not one of faceum: it has no faceum metadata."
        )
    try:
        return NetworkCard.from_dict(json.loads(text))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"The faceum metadata of {path} cannot be read ({error!r}); export it again."
        ) from None


def _no_network(path: Path, error: Exception) -> str:
    return f"The file {path} is no ONNX network that onnxruntime can load ({error})."


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
        ValueError,  # from cutting it
    )
