"""Quantize an ONNX network to int8, calibrated on crops of faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

import faceum.onnx_session  # noqa: F401  # isort: skip  # first: switches the telemetry off
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

QUANTIZED = ("Conv", "MatMul", "Gemm")
"""Operations that become int8: those that take nearly all of the time."""

SENSITIVE = ("router", "heads.landmarks.output", "heads.parsing.output")
"""Parts of the names of operations, or of their constants, that stay float32: the routers and the last layers
of points and parsing."""

MOVING = (
    "Cast", "Gather", "GatherND", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""Operations that only move or cast the values of their first input."""


class Crops(CalibrationDataReader):
    """Batches of crops and face tokens."""

    def __init__(self, crops_BCHW: np.ndarray, masks_BN: np.ndarray, batch: int = 8) -> None:
        """crops_BCHW: float32 in 0..1. masks_BN: bool. batch: crops per batch."""
        self._feeds: Iterator[dict[str, np.ndarray]] = iter(
            [
                {
                    "crop_BCHW": crops_BCHW[first : first + batch],
                    "face_tokens_BN": masks_BN[first : first + batch],
                }
                for first in range(0, len(crops_BCHW), batch)
            ]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None at the end."""
        return next(self._feeds, None)


def quantize(source: Path, target: Path, crops_BCHW: np.ndarray, masks_BN: np.ndarray) -> None:
    """Write the float32 network of `source` to `target` with int8 weights and activations.

    Activations get the ranges that the crops produce, and every channel of a weight its own scale. The
    metadata is kept. The caller checks whether the answers are close enough.
    """
    prepared = target.with_name(target.name + ".prepared")
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        sensitive = _sensitive(onnx.load(str(prepared)))
        quantize_static(
            str(prepared),
            str(target),
            Crops(crops_BCHW, masks_BN),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=sensitive,
            per_channel=True,
            reduce_range=True,  # u8 x s8 saturates on CPUs with AVX2 but without VNNI
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        prepared.unlink(missing_ok=True)
    metadata = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    program = onnx.load(str(target))
    _use_float_inputs(program, sensitive)
    onnx.helper.set_model_props(program, metadata)
    onnx.save(program, str(target))


def _sensitive(program: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that use a SENSITIVE constant, also through MOVING operations.

    Exporters fold small routers into constants without a name; then the node's own name decides.
    """
    maker = {name: node for node in program.graph.node for name in node.output}

    def origin(name: str) -> str:
        while name in maker and maker[name].op_type in MOVING:
            name = maker[name].input[0]
        return name

    def is_sensitive(node: onnx.NodeProto) -> bool:
        names = [node.name, *map(origin, node.input)]
        return any(word in name for name in names for word in SENSITIVE)

    return [node.name for node in program.graph.node if node.op_type in QUANTIZED and is_sensitive(node)]


def _use_float_inputs(program: onnx.ModelProto, names: Sequence[str]) -> None:
    """Give these nodes their inputs as they were before quantization; other users keep the int8 ones.

    onnxruntime quantizes a tensor for all its users, also for excluded nodes and with DedicatedQDQPair.
    """
    maker = {name: node for node in program.graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    copied: dict[str, str] = {}

    def unquantized(name: str) -> str:
        node = maker.get(name)
        if node is None or name in copied:
            return copied.get(name, name)
        if node.op_type == "DequantizeLinear" and node.input[0] in maker:
            return unquantized(maker[node.input[0]].input[0])
        if node.op_type not in MOVING or (source := unquantized(node.input[0])) == node.input[0]:
            return name
        copied[name] = f"{name}.unquantized"
        again = onnx.helper.make_node(node.op_type, [source, *node.input[1:]], [copied[name]])
        again.attribute.extend(node.attribute)
        nodes.append(again)
        return copied[name]

    for node in program.graph.node:
        if node.name in names:
            node.input[:] = [unquantized(name) for name in node.input]
        nodes.append(node)
    del program.graph.node[:]
    program.graph.node.extend(nodes)
