"""Runs a network on crops by onnxruntime or torch, with one signature.

B crops, S their side in pixels, N patch tokens. torch is not imported before a runner needs it.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from faceum import old_names
from faceum.crop import CropSpec, network_input
from faceum.engine import choose_engine
from faceum.errors import ModelError
from faceum.onnx_session import SESSION_ERRORS, metadata_of, open_session, runs_on, with_outputs
from faceum.threads import usable_threads
from faceum.weights.registry import model_id, resolve_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import Tensor

    from faceum.model.network import FaceUM, Output

LOG = logging.getLogger("faceum")


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """What a weights file says about its network.

    name: name of the network. tasks: the tasks it answers. crops: crop policy -> tasks that use it.
    labels: task -> its labels, for tasks that have any. calibration: task -> the correction that decoding
    applies, for tasks where one was measured; see `faceum.decode.decode_answers`.
    """

    name: str
    tasks: tuple[str, ...]
    crops: tuple[tuple[CropSpec, tuple[str, ...]], ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)

    def crop_of(self, task: str) -> CropSpec:
        """Return the crop policy of a task."""
        return next(spec for spec, tasks in self.crops if task in tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file's header."""
        return {
            "name": self.name,
            "tasks": list(self.tasks),
            "crops": [{"spec": spec.to_dict(), "tasks": list(tasks)} for spec, tasks in self.crops],
            "labels": {task: list(words) for task, words in self.labels.items()},
            "calibration": dict(self.calibration),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkCard:
        """Build a card from `to_dict`'s values; further keys are ignored."""
        return cls(
            name=values["name"],
            tasks=tuple(values["tasks"]),
            crops=tuple(
                (CropSpec.from_dict(entry["spec"]), tuple(entry["tasks"])) for entry in values["crops"]
            ),
            labels={task: tuple(words) for task, words in values["labels"].items()},
            calibration=read_calibration(values),
        )


def read_calibration(header: Mapping[str, Any]) -> dict[str, float]:
    """Return the calibration of a weights file's header; raises ModelError if it is not one."""
    calibration = header.get("calibration", {})
    right = isinstance(calibration, Mapping) and all(
        isinstance(one, (int, float)) and 0 < one < float("inf") for one in calibration.values()
    )
    if not right:
        raise ModelError(f"calibration is {calibration!r}; expected task -> a number above 0.")
    return dict(calibration)


class Runner(Protocol):
    """A loaded network. Many threads may share one."""

    card: NetworkCard
    runtime: str
    device: str

    @property
    def model_id(self) -> str:
        """The weights as name@sha256[:8]; the same for every format and runtime of registered weights."""
        ...

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return the output of each task for the crops; `faceum.decode` lists the shapes.

        crops_BSSC: uint8 RGB, cut by the crop policy that the tasks share. face_tokens_BN: bool, row-major.
        tasks: some of the card's.
        """
        ...


def load_runner(
    model: str | Path,
    runtime: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    *,
    tasks: Iterable[str] | None = None,
) -> Runner:
    """Load a network and return its runner.

    model: a registered name, or the path of an .onnx or .safetensors file. runtime, device: see
    `choose_engine`. threads: None for all that affinity and cgroup allow. tasks: those that will mostly be
    asked for together, all by default; the network then starts faster for them.
    Raises ModelError if any of these is unknown, missing, or unavailable on this machine.
    """
    engine = choose_engine(model, runtime, device)
    if device == "coreml" and engine.device != device:
        LOG.warning("%s runs by %s on %s: %s", model, engine.runtime, engine.device, engine.reason)
    elif "auto" in (runtime, device):
        LOG.info("%s runs by %s on %s: %s", model, engine.runtime, engine.device, engine.reason)
    return RUNNERS[engine.runtime](
        model, engine.device, usable_threads(threads), tasks=None if tasks is None else tuple(tasks)
    )


class OnnxRunner:
    """A network in onnxruntime.

    onnxruntime computes all outputs of a file, so each set of tasks that is asked for has a session of its
    own, cut out of the file when it is first needed.
    """

    runtime = "onnxruntime"

    def __init__(
        self, model: str | Path, device: str, threads: int, *, tasks: Sequence[str] | None = None
    ) -> None:
        """See `load_runner`; device is "cpu", "cuda" or "coreml"."""
        self.device = device
        self._path = resolve_model(model, "onnx")
        self._threads = threads
        self._lock = threading.Lock()
        self.card, self._weights_sha256 = _onnx_card(self._path)
        first = tuple(task for task in tasks or () if task in self.card.tasks) or self.card.tasks
        self._sessions = {self._key(first): self._open(first)}

    @functools.cached_property
    def model_id(self) -> str:
        """See `Runner.model_id`."""
        return model_id(self._path, self.card.name, weights_sha256=self._weights_sha256)

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        return self.run_input(network_input(crops_BSSC), face_tokens_BN, tasks)

    def run_input(
        self, crop_BCHW: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Do the same as `run` for float32 RGB crops (B, 3, S, S) in 0..1."""
        names, session = list(tasks), self._session(tasks)
        arrays = {"crop_BCHW": crop_BCHW, "face_tokens_BN": face_tokens_BN}
        inputs = [entry.name for entry in session.get_inputs()]
        feeds = {name: arrays[old_names.INPUTS.get(name, name)] for name in inputs}
        return dict(zip(names, session.run(names, feeds), strict=True))

    def _key(self, tasks: Sequence[str]) -> tuple[int, frozenset[str]]:
        # A forked process has its parent's sessions, but not their threads: it needs its own.
        return os.getpid(), frozenset(tasks)

    def _session(self, tasks: Sequence[str]) -> InferenceSession:
        key = self._key(tasks)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._open(tasks)
            return self._sessions[key]

    def _open(self, tasks: Sequence[str]) -> InferenceSession:
        whole = set(tasks) >= set(self.card.tasks)
        try:
            model = self._path if whole else with_outputs(self._path.read_bytes(), tasks)
            session = open_session(model, threads=self._threads, device=self.device)
        except SESSION_ERRORS as error:
            raise ModelError(_describe_failure(self._path, error)) from None
        missing = set(tasks) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelError(
                f"The file {self._path} says that it answers {', '.join(sorted(missing))}, but has no such "
                "output."
            )
        if not runs_on(session, self.device):
            if self.device == "cuda":
                raise ModelError("onnxruntime cannot use the GPU; use --device cpu or --runtime torch.")
            LOG.warning("%s runs on the CPU: onnxruntime cannot use %s here", self._path.name, self.device)
            self.device = "cpu"
        return session


class _TorchCalls:
    """Whether torch has computed in this process, or had in its parent before the fork."""

    def __init__(self) -> None:
        self.here = self.in_parent = False

    def check(self, threads: int) -> None:
        """Raise ModelError if torch would wait for threads that the fork did not copy."""
        if self.in_parent and threads > 1:
            raise ModelError(
                f"torch cannot run with {threads} threads in a forked process whose parent has used it: it "
                "would wait for ever. Start processes by 'spawn' or 'forkserver', or analyze with threads=1 "
                "or runtime='onnxruntime'."
            )
        self.here = True

    def fork(self) -> None:
        """Remember in a forked process what its parent did."""
        self.here, self.in_parent = False, self.here or self.in_parent


_TORCH_CALLS = _TorchCalls()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_TORCH_CALLS.fork)


class TorchRunner:
    """A network in torch: float32 on a CPU; bfloat16 with channels last on a GPU."""

    runtime = "torch"

    def __init__(
        self, model: str | Path, device: str, threads: int, *, tasks: Sequence[str] | None = None
    ) -> None:
        """See `load_runner`; torch's number of threads belongs to the whole process and is only lowered."""
        import torch

        from faceum.model.checkpoint import load_checkpoint
        from faceum.model.network import round_weights

        self.device = device
        if threads < torch.get_num_threads():
            torch.set_num_threads(threads)
        self._path = resolve_model(model, "safetensors")
        network, metadata = load_checkpoint(self._path)
        network.eval().to(device)
        if device == "cuda":
            round_weights(network, torch.bfloat16)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        config = network.config
        labels = {task: tuple(words) for task, words in metadata.get("labels", {}).items()}
        self.card = NetworkCard(
            name=config.name,
            tasks=config.tasks,
            crops=config.crops,
            labels=labels,
            calibration=read_calibration(metadata),
        )
        self._network = self._compile(network)

    @functools.cached_property
    def model_id(self) -> str:
        """See `Runner.model_id`."""
        return model_id(self._path, self.card.name)

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        import torch

        _TORCH_CALLS.check(torch.get_num_threads())
        on_gpu = self.device == "cuda"
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=on_gpu):
            if on_gpu:
                # Bytes are copied and converted on the GPU; (B, S, S, 3) is channels last.
                crop_BCHW = self._on_gpu(crops_BSSC).permute(0, 3, 1, 2).float() / 255
                face_tokens = self._on_gpu(face_tokens_BN)
            else:
                crop_BCHW = torch.from_numpy(network_input(crops_BSSC))
                face_tokens = torch.from_numpy(face_tokens_BN)
            output = self._network(crop_BCHW, face_tokens, tuple(tasks))
            return {task: output[task].float().cpu().numpy() for task in tasks}

    def _compile(self, network: FaceUM) -> Callable[..., Output]:
        return network

    def _on_gpu(self, array: np.ndarray) -> Tensor:
        """Copy the array to the GPU by way of pinned memory, which does not block."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().to(self.device, non_blocking=True)


class CompiledTorchRunner(TorchRunner):
    """A network compiled by torch: the first calls take minutes, and it needs a C++ compiler."""

    runtime = "torch-compiled"
    backend = "inductor"
    """The compiler, a backend name of `torch._dynamo`."""

    def _compile(self, network: FaceUM) -> Callable[..., Output]:
        import torch

        compiled: Callable[..., Output] = torch.compile(network, dynamic=True, backend=self.backend)
        return compiled


RUNNERS: dict[str, type[OnnxRunner] | type[TorchRunner]] = {
    "onnxruntime": OnnxRunner,
    "torch": TorchRunner,
    "torch-compiled": CompiledTorchRunner,
}
"""Runtime -> class of its runner."""


def _onnx_card(path: Path) -> tuple[NetworkCard, str | None]:
    """Return the file's card, and the SHA-256 of the .safetensors file it was exported from, if known."""
    try:
        text = metadata_of(path.read_bytes()).get("faceum")
    except ValueError as error:
        raise ModelError(_describe_failure(path, error)) from None
    if text is None:
        raise ModelError(
            f"The file {path} is an ONNX network, but not one of faceum: it has no faceum metadata."
        )
    try:
        values = json.loads(text)
        return NetworkCard.from_dict(values), values.get("weights_sha256")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"The faceum metadata of {path} cannot be read ({error!r}); export it again."
        ) from None


def _describe_failure(path: Path, error: Exception) -> str:
    return f"The file {path} is not an ONNX network that onnxruntime can load ({error})."
