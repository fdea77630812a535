"""An ONNX network and crops to calibrate on in; the same network computing in int8 out."""

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

QUANTISED = ("Conv", "MatMul", "Gemm")
"""The operations that become int8: all the work, and nothing where range matters more than time."""

SENSITIVE = ("router", "heads.landmarks.output", "heads.parsing.output")
"""Words in the constants, or the names, of operations that stay float32: a router's comparisons, and the last
layers before places."""

MOVING = (
    "Cast", "Gather", "GatherND", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""Operations behind which the values of their first input are the same, in another place."""


class Crops(CalibrationDataReader):
    """Crops and masks handed out one batch after another."""

    def __init__(self, crops_BCHW: np.ndarray, masks_BN: np.ndarray, batch: int = 8) -> None:
        """crops_BCHW: float32 in 0..1. masks_BN: bool. batch: crops a time."""
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
        """The next feed, None at the end."""
        return next(self._feeds, None)


def quantise(source: Path, target: Path, crops_BCHW: np.ndarray, masks_BN: np.ndarray) -> None:
    """Write `target`, the float32 network of `source` with int8 weights and activations.

    The ranges of activations are those that the crops bring about. Each channel of a weight has a scale of
    its own. The metadata is kept. Whether the answers are still good is for the caller to check.
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
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=sensitive,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        prepared.unlink(missing_ok=True)
    metadata = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    program = onnx.load(str(target))
    _take_unrounded(program, sensitive)
    onnx.helper.set_model_props(program, metadata)
    onnx.save(program, str(target))


def _sensitive(program: onnx.ModelProto) -> list[str]:
    """The nodes that a `SENSITIVE` constant goes into, whatever moves its values about on the way.

    Exporters fold small routers into constants without a name; then the node's own name tells.
    """
    maker = {name: node for node in program.graph.node for name in node.output}

    def origin(name: str) -> str:
        while name in maker and maker[name].op_type in MOVING:
            name = maker[name].input[0]
        return name

    def is_sensitive(node: onnx.NodeProto) -> bool:
        names = [node.name, *map(origin, node.input)]
        return any(word in name for name in names for word in SENSITIVE)

    return [node.name for node in program.graph.node if node.op_type in QUANTISED and is_sensitive(node)]


def _take_unrounded(program: onnx.ModelProto, names: Sequence[str]) -> None:
    """Let these nodes have their inputs as they were before int8, which others of their users still take.

    onnxruntime rounds a tensor for all its users, those left out and its DedicatedQDQPair included.
    """
    maker = {name: node for node in program.graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    copied: dict[str, str] = {}

    def unrounded(name: str) -> str:
        node = maker.get(name)
        if node is None or name in copied:
            return copied.get(name, name)
        if node.op_type == "DequantizeLinear" and node.input[0] in maker:
            return unrounded(maker[node.input[0]].input[0])
        if node.op_type not in MOVING or (source := unrounded(node.input[0])) == node.input[0]:
            return name
        copied[name] = f"{name}.unrounded"
        again = onnx.helper.make_node(node.op_type, [source, *node.input[1:]], [copied[name]])
        again.attribute.extend(node.attribute)
        nodes.append(again)
        return copied[name]

    for node in program.graph.node:
        if node.name in names:
            node.input[:] = [unrounded(name) for name in node.input]
        nodes.append(node)
    del program.graph.node[:]
    program.graph.node.extend(nodes)
