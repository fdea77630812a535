"""Metadata and pruning against the onnx package; no telemetry."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

import faceum  # noqa: E402
from faceum.onnx_session import metadata_of, open_session, with_outputs  # noqa: E402


@pytest.fixture(scope="module")
def network(tiny_model):
    return tiny_model.with_suffix(".onnx").read_bytes()


def test_metadata_is_what_onnx_reads(network):
    entries = onnx.load_model_from_string(network).metadata_props
    assert metadata_of(network) == {entry.key: entry.value for entry in entries} != {}


@pytest.mark.parametrize("tasks", [["age"], ["parsing"], ["recognition", "landmarks"]])
def test_pruned_network_equals_the_extractors(network, tasks):
    cut = onnx.load_model_from_string(with_outputs(network, tasks))
    onnx.checker.check_model(cut, full_check=True)
    whole = onnx.load_model_from_string(network)
    expected = onnx.utils.Extractor(whole).extract_model(["crop_BCHW", "face_tokens_BN"], tasks)
    names = lambda model: sorted(node.name for node in model.graph.node)  # noqa: E731
    assert names(cut) == names(expected) and len(cut.graph.node) < len(whole.graph.node)
    constants = {one.name for one in cut.graph.initializer}
    assert constants == {one.name for one in expected.graph.initializer}
    assert [output.name for output in cut.graph.output] == [
        output.name for output in whole.graph.output if output.name in tasks
    ]
    assert cut.metadata_props == whole.metadata_props and cut.opset_import == whole.opset_import


def test_all_outputs_are_all_the_bytes(network):
    outputs = [output.name for output in onnx.load_model_from_string(network).graph.output]
    assert with_outputs(network, outputs) == network


def test_values_that_a_branch_takes_from_outside_are_kept():
    info = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)  # noqa: E731
    branches = [
        helper.make_graph([helper.make_node("Neg", ["doubled"], ["a"])], "then", [], [info("a", 1, [1])]),
        helper.make_graph([helper.make_node("Identity", ["kept"], ["b"])], "else", [], [info("b", 1, [1])]),
    ]
    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("Neg", ["x"], ["kept"]),
        helper.make_node("Abs", ["x"], ["other"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    inputs = [info("x", TensorProto.FLOAT, [1]), info("flag", TensorProto.BOOL, [])]
    outputs = [info("y", TensorProto.FLOAT, [1]), info("other", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    cut = with_outputs(model.SerializeToString(), ["y"])
    assert len(onnx.load_model_from_string(cut).graph.node) == 3
    session = open_session(cut, threads=1)
    x = np.array([3], np.float32)
    assert session.run(None, {"x": x, "flag": np.array(True)})[0] == [-6]
    assert session.run(None, {"x": x, "flag": np.array(False)})[0] == [-3]


def test_other_bytes_raise(network):
    for bad in (b"rubbish", network[: len(network) // 2], b"\x3a\xff", b"\xff" * 9):
        with pytest.raises(ValueError, match=r"kind|beyond the end"):
            with_outputs(bad, ["age"])


def test_telemetry_is_switched_off_before_the_import_and_stays_so(tmp_path):
    code = "import faceum.onnx_session, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert list(tmp_path.rglob("*")) == []


def test_onnxruntime_is_imported_after_the_variable_is_set():
    first_set = {
        "onnx_session.py": 'setdefault("ORT_DISABLE_TELEMETRY"',
        "quantize.py": "import faceum.onnx_session",
    }
    for path in Path(faceum.__file__).parent.rglob("*.py"):
        text = re.sub(r"if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", path.read_text(encoding="utf-8"))
        found = re.search(r"^ *(import|from) onnxruntime\b", text, re.MULTILINE)
        if found is not None:
            assert -1 < text.find(first_set[path.name]) < found.start(), path
