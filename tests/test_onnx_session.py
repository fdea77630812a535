"""ONNX files read by hand are what the onnx package reads; a cut network is the one its extractor cuts."""

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from faceum.onnx_session import metadata_of, with_outputs  # noqa: E402


@pytest.fixture(scope="module")
def network(tiny_model):
    return tiny_model.with_suffix(".onnx").read_bytes()


def test_metadata_is_what_onnx_reads(network):
    entries = onnx.load_model_from_string(network).metadata_props
    assert metadata_of(network) == {entry.key: entry.value for entry in entries} != {}


@pytest.mark.parametrize("tasks", [["age"], ["parsing"], ["recognition", "landmarks"]])
def test_a_cut_network_is_the_extractors(network, tasks):
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


def test_what_a_branch_takes_from_outside_is_kept():
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
    session = onnxruntime.InferenceSession(cut, providers=["CPUExecutionProvider"])
    x = np.array([3], np.float32)
    assert session.run(None, {"x": x, "flag": np.array(True)})[0] == [-6]
    assert session.run(None, {"x": x, "flag": np.array(False)})[0] == [-3]


def test_bytes_that_are_no_network_are_refused(network):
    for bad in (b"rubbish", network[: len(network) // 2], b"\x3a\xff", b"\xff" * 9):
        with pytest.raises(ValueError, match=r"kind|over the end"):
            with_outputs(bad, ["age"])
