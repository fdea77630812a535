"""onnxruntime sessions: the only module that imports onnxruntime, the session options, and output pruning.

onnxruntime computes every output of a file, asked for or not, and the base install has no onnx package; so
`metadata_of` and `with_outputs` read what they need of the format themselves. An ONNX file is a protobuf
message: fields of a number and a kind, where kind 2 is a length followed by that many bytes; unknown fields
are skipped. The numbers are those of onnx.proto3.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from faceum.errors import ModelError
from faceum.extras import missing
from faceum.threads import usable_threads

# Before the import: from 1.29 on onnxruntime writes a device id into the home folder and resolves its maker's
# host while it is imported, and disable_telemetry_events() then comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ModuleNotFoundError:
    raise ModelError(missing("Analyzing images", "onnxruntime")) from None

LOG = logging.getLogger("faceum")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
"""Device -> the onnxruntime provider that uses it."""

ERRORS_ONLY = 3
"""onnxruntime's log severity: shape warnings about our own files do not help a user."""

SESSION_ERRORS: tuple[type[Exception], ...] = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    ValueError,  # from pruning
)
"""What onnxruntime raises for a file that it cannot load; these classes share no base of their own."""


def is_available(device: str) -> bool:
    """Return whether the installed onnxruntime was built for the device."""
    return PROVIDERS[device] in onnxruntime.get_available_providers()


def open_session(
    model: str | Path | bytes, *, threads: int | None = None, device: str = "cpu"
) -> onnxruntime.InferenceSession:
    """Return a session for an ONNX file or its bytes.

    threads: threads per run; None for all that affinity and cgroup allow. device: a key of `PROVIDERS`; the
    CPU serves what the device cannot, or everything (see `runs_on`). Raises one of `SESSION_ERRORS`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_threads(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Threads that spin while they wait starve each other as soon as the processors are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen = [PROVIDERS[device]] if device != "cpu" and is_available(device) else []
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=[*chosen, PROVIDERS["cpu"]])
    _SESSIONS.add(session)
    return session


_SESSIONS: weakref.WeakSet[onnxruntime.InferenceSession] = weakref.WeakSet()


def _keep_sessions() -> None:
    """Never destroy the parent's sessions in a forked process: that waits for threads it does not have."""
    for session in _SESSIONS:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _SESSIONS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_sessions)


def runs_on(session: onnxruntime.InferenceSession, device: str) -> bool:
    """Return whether the session uses the device for at least a part of the network."""
    return PROVIDERS[device] in session.get_providers()


class LazySession:
    """An ONNX file as a function from uint8 images to arrays, opened at the first run. Thread-safe."""

    def __init__(
        self, find_file: Callable[[], Path], *, threads: int | None = None, device: str = "cpu"
    ) -> None:
        """Remember what to load.

        find_file: returns the ONNX file when it is needed; may raise ModelError. threads, device: see
        `open_session`; a device that cannot be used is logged, and the CPU is used.
        """
        self._find_file = find_file
        self._threads = usable_threads(threads)
        self._device = device
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None
        self._process = os.getpid()

    def run(self, image_BHWC: np.ndarray) -> list[np.ndarray]:
        """Return all outputs, in the file's order, for uint8 RGB images (B, H, W, 3)."""
        outputs: list[np.ndarray] = self._open().run(None, {"image": image_BHWC})
        return outputs

    def _open(self) -> onnxruntime.InferenceSession:
        with self._lock:
            # A forked process has its parent's session, but not the session's threads: it needs its own.
            if self._session is None or self._process != os.getpid():
                self._process = os.getpid()
                path = self._find_file()
                self._session = open_session(path, threads=self._threads, device=self._device)
                if not runs_on(self._session, self._device):
                    LOG.warning("%s runs on the CPU: onnxruntime cannot use %s here", path.stem, self._device)
            return self._session


MODEL_GRAPH, MODEL_METADATA = 7, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_VALUE = 1, 5, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_ATTRIBUTE = 1, 2, 5
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 6, 11
TENSOR_NAME, VALUE_NAME = 8, 1

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields: a number in as many bytes as it needs, eight bytes, a length and bytes, four bytes."""

Field = tuple[int, memoryview, memoryview]
"""A field's number, its value's bytes, and all its bytes with number and length."""


def metadata_of(model: bytes) -> dict[str, str]:
    """Return the metadata properties of an ONNX file; raises ValueError if the bytes are not one."""
    return dict(_entry(value) for number, value, _ in _fields(model) if number == MODEL_METADATA)


def with_outputs(model: bytes, outputs: Collection[str]) -> bytes:
    """Return the network with only these of its outputs, without the nodes that none of them needs.

    Names that are not outputs are ignored. Raises ValueError if the bytes are not an ONNX file.
    """
    parts: list[bytes | memoryview] = []
    for number, value, whole in _fields(model):
        if number == MODEL_GRAPH:
            graph = b"".join(_graph_with_outputs(value, outputs))
            parts += [_varint(MODEL_GRAPH << 3 | BYTES), _varint(len(graph)), graph]
        else:
            parts.append(whole)
    return b"".join(parts)


def _graph_with_outputs(graph: memoryview, outputs: Collection[str]) -> Iterator[memoryview]:
    fields = list(_fields(graph))
    kept = [number != GRAPH_NODE for number, _, _ in fields]
    needed = set(outputs)
    for index in reversed(range(len(fields))):  # nodes come after all nodes whose values they take
        number, node, _ = fields[index]
        if number == GRAPH_NODE and not needed.isdisjoint(_texts(node, NODE_OUTPUT)):
            kept[index] = True
            needed.update(_find_used_values(node))
    named = {GRAPH_OUTPUT: VALUE_NAME, GRAPH_INITIALIZER: TENSOR_NAME, GRAPH_VALUE: VALUE_NAME}
    used = {GRAPH_OUTPUT: set(outputs), GRAPH_INITIALIZER: needed, GRAPH_VALUE: needed}
    for (number, value, whole), keep in zip(fields, kept, strict=True):
        if keep and (number not in named or used[number].issuperset(_texts(value, named[number]))):
            yield whole


def _find_used_values(node: memoryview) -> Iterator[str]:
    """Yield the names of the values that a node takes, also those that graphs inside it take from outside."""
    yield from _texts(node, NODE_INPUT)
    for number, attribute, _ in _fields(node):
        if number == NODE_ATTRIBUTE:
            for kind, graph, _ in _fields(attribute):
                if kind in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    yield from _find_used_inside(graph)


def _find_used_inside(graph: memoryview) -> Iterator[str]:
    for number, value, _ in _fields(graph):
        if number == GRAPH_NODE:
            yield from _find_used_values(value)
        elif number == GRAPH_OUTPUT:  # may be a value from outside, as it is
            yield from _texts(value, VALUE_NAME)


def _entry(entry: memoryview) -> tuple[str, str]:
    return next(_texts(entry, ENTRY_KEY), ""), next(_texts(entry, ENTRY_VALUE), "")


def _texts(message: memoryview, number: int) -> Iterator[str]:
    return (str(value, "utf-8") for found, value, _ in _fields(message) if found == number)


def _fields(message: bytes | memoryview) -> Iterator[Field]:
    """Yield the fields of a message in order; raises ValueError if it is not a message."""
    view, position = memoryview(message), 0
    while position < len(view):
        start = position
        key, position = _number(view, position)
        kind = key & 7
        if kind == BYTES:
            length, position = _number(view, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        elif kind == VARINT:
            length = _number(view, position)[1] - position
        else:
            raise ValueError(f"unknown kind of field: {kind}")
        if position + length > len(view):
            raise ValueError("a field reaches beyond the end")
        yield key >> 3, view[position : position + length], view[start : position + length]
        position += length


def _number(view: memoryview, position: int) -> tuple[int, int]:
    """Return the number at a position, seven bits per byte, lowest first, and the position after it."""
    number = shift = 0
    while position < len(view):
        byte = view[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position
    raise ValueError("a number reaches beyond the end")


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)
