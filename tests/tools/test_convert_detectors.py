"""The detectors' conversion: the ONNX that it writes against the published layers written out in torch."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from faceum.weights.registry import asset_path

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
F = torch.nn.functional

TOOL = Path(__file__).resolve().parents[2] / "tools" / "convert_detectors.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_detectors", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["convert_detectors"] = module
    spec.loader.exec_module(module)
    return module


def run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(
        zip(
            [item.name for item in session.get_outputs()],
            session.run(None, {"image": image}),
            strict=True,
        )
    )


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)


# ----------------------------------------------------------------------------------------------------- MTCNN

SHAPES = {
    "pnet": [(3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32), (1, 1, 32, 4), (1, 1, 32, 2)],
    "rnet": [(3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128), (128, 4), (128, 2)],
    "onet": [
        (3, 3, 3, 32),
        (3, 3, 32, 64),
        (3, 3, 64, 64),
        (2, 2, 64, 128),
        (1152, 256),
        (256, 4),
        (256, 10),
        (256, 2),
    ],
}
HIDDEN = {"pnet": 3, "rnet": 4, "onet": 5}
POOLS = {"pnet": [(2, True)], "rnet": [(3, True), (3, False)], "onet": [(3, True), (3, False), (2, True)]}


def random_arrays(name: str) -> list[np.ndarray]:
    """Weights in the published order: kernel, bias and, but for the outputs, slopes; exact in float16."""
    random, arrays = np.random.default_rng(2), []
    for index, shape in enumerate(SHAPES[name]):
        scale = 1.5 / np.sqrt(np.prod(shape[:-1]))
        arrays += [random.normal(0, scale, shape), random.normal(0, 0.1, shape[-1:])]
        if index < HIDDEN[name]:
            slope = random.uniform(0, 0.5, shape[-1])
            arrays.append(slope if len(shape) == 2 else slope.reshape(1, 1, -1))
    return [array.astype(np.float16).astype(np.float32) for array in arrays]


def published(name: str, arrays: list[np.ndarray], image: np.ndarray) -> list[torch.Tensor]:
    """The published layers one after the other, on channels-last arrays where it matters."""
    left = [torch.tensor(array) for array in arrays]
    x_BCHW = (torch.tensor(image).float() - 127.5).permute(0, 3, 1, 2) / 128
    for layer in range(HIDDEN[name]):
        weight, bias, slope = (left.pop(0) for _ in range(3))
        if weight.ndim == 2:
            x_BCHW = x_BCHW.permute(0, 3, 2, 1).reshape(len(x_BCHW), -1) if x_BCHW.ndim == 4 else x_BCHW
            x_BCHW = x_BCHW @ weight + bias
        else:
            x_BCHW = F.conv2d(x_BCHW, weight.permute(3, 2, 0, 1), bias)
        x_BCHW = F.prelu(x_BCHW, slope.flatten())
        if layer < len(POOLS[name]):
            size, same = POOLS[name][layer]
            if same:  # as many outputs as half the inputs, rounded up; what is missing is added at the end
                missing = [max(0, (-(-side // 2) - 1) * 2 + size - side) for side in x_BCHW.shape[2:]]
                x_BCHW = F.pad(x_BCHW, (0, missing[1], 0, missing[0]), value=-float("inf"))
            x_BCHW = F.max_pool2d(x_BCHW, size, 2)
    outputs = []
    while left:
        weight, bias = left.pop(0), left.pop(0)
        one = (
            F.conv2d(x_BCHW, weight.permute(3, 2, 0, 1), bias) if weight.ndim == 4 else x_BCHW @ weight + bias
        )
        outputs.append(one if left else one.softmax(dim=1))
    return outputs


@pytest.mark.parametrize(
    ("name", "size"), [("pnet", (37, 52)), ("pnet", (12, 13)), ("rnet", (24, 24)), ("onet", (48, 48))]
)
def test_mtcnn_equals_its_published_layers(tool: ModuleType, name: str, size: tuple[int, int]) -> None:
    arrays, image = random_arrays(name), images(2, *size)
    graph, weights = tool.Graph(), tool.Weights(arrays)
    build, input_size = tool.MTCNN_PARTS[name]
    model = graph.model(name, input_size, build(graph, weights), "test")
    assert not weights.left
    for got, expected in zip(run(model, image).values(), published(name, arrays, image), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_shipped_points_network_matches_published_layers() -> None:
    model = onnx.load(asset_path("centerface", "points", kind="detector"))
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    arrays = []
    for name, value in stored.items():
        if name.endswith(".w.half") and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        if name.endswith((".w.half", ".b.half", ".slope.half")):
            arrays.append(value.astype(np.float32))
    image = images(3, 48, 48)
    for got, expected in zip(run(model, image).values(), published("onet", arrays, image), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------------------------ CenterFace


def small_centerface() -> onnx.ModelProto:
    """Layers of the published kinds under its names: convolution, transposed convolution with norm, heads."""
    random = np.random.default_rng(3)

    def tensor(name: str, *shape: int, least: float = -0.5) -> onnx.TensorProto:
        value = random.uniform(least, least + 1, shape).astype(np.float16).astype(np.float32)
        return onnx.numpy_helper.from_array(value, name)

    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["input.1", "w1", "b1"], ["1"], strides=[4, 4], kernel_shape=[3, 3], pads=[1] * 4),
        node("Relu", ["1"], ["2"]),
        node("ConvTranspose", ["2", "w2"], ["3"], strides=[2, 2], kernel_shape=[2, 2]),
        node("BatchNormalization", ["3", "scale", "bias", "mean", "variance"], ["4"], epsilon=1e-3),
        node("Relu", ["4"], ["5"]),
        node("Conv", ["5", "w6", "b6"], ["6"], kernel_shape=[1, 1]),
        node("Sigmoid", ["6"], ["537"]),
    ]
    weights = [
        tensor("w1", 4, 3, 3, 3),
        tensor("b1", 4),
        tensor("w2", 4, 5, 2, 2),
        tensor("scale", 5, least=0.5),
        tensor("bias", 5),
        tensor("mean", 5),
        tensor("variance", 5, least=0.5),
        tensor("w6", 1, 5, 1, 1),
        tensor("b6", 1),
    ]
    outputs = {"537": 1}
    for name, channels in (("538", 2), ("539", 2), ("540", 10)):
        nodes.append(node("Conv", ["5", f"w{name}", f"b{name}"], [name], kernel_shape=[1, 1]))
        weights += [tensor(f"w{name}", channels, 5, 1, 1), tensor(f"b{name}", channels)]
        outputs[name] = channels
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "published",
        [value("input.1", onnx.TensorProto.FLOAT, ["B", 3, "H", "W"])],
        [
            value(name, onnx.TensorProto.FLOAT, ["B", channels, "h", "w"])
            for name, channels in outputs.items()
        ],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 9)], ir_version=4)


def test_centerface_keeps_its_answers_when_norms_are_folded_and_last_layers_joined(tool: ModuleType) -> None:
    image = images(2, 40, 56)
    before = onnxruntime.InferenceSession(small_centerface().SerializeToString())
    floats = np.ascontiguousarray(image.transpose(0, 3, 1, 2)).astype(np.float32)
    expected = before.run(None, {"input.1": floats})
    fourth = np.random.default_rng(4).integers(0, 256, (*image.shape[:3], 1), dtype=np.uint8)
    converted = run(tool.rebuild_centerface(small_centerface()), np.concatenate([image, fourth], axis=3))
    assert list(converted) == ["heat", "size", "offset", "points"]
    for got, want in zip(converted.values(), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.fixture
def noise_corpus(tool: ModuleType, tmp_path: Path) -> Path:
    """Files named as the calibration wants them, of images of noise."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images(3, 40, 50)]
    for name in tool.CALIBRATION["sets"]:
        parquet.write_table(arrow.table({"image": encoded}), tmp_path / f"{name}.train.parquet")
    return tmp_path


def test_centerface_in_8_bits_is_near_the_one_in_float(tool: ModuleType, noise_corpus: Path) -> None:
    exact = tool.rebuild_centerface(small_centerface())
    rounded = tool.quantized(exact, noise_corpus)
    image = next(tool.calibration_images(noise_corpus))[None]
    assert rounded.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    for got, want in zip(run(rounded, image).values(), run(exact, image).values(), strict=True):
        assert 0 < np.abs(got - want).mean() < 0.03 * np.ptp(want)


# ---------------------------------------------------------------------------------------------------- hashes


def test_wheel_with_wrong_hash_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "mtcnn-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mtcnn/assets/weights/pnet.lz4", b"a pickle that must never be opened")
    with pytest.raises(SystemExit, match="SHA-256"):
        tool.main(["mtcnn", str(wheel), "--out", str(tmp_path / "out")])
    assert not list((tmp_path / "out").iterdir())


def test_file_of_another_content_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match="pnet.lz4 has SHA-256"):
        tool.check_hash("pnet.lz4", b"other bytes", tool.MEMBERS["mtcnn/assets/weights/pnet.lz4"])
