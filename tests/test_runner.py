"""Both runtimes give one answer, the choice between them, and what cannot run."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from faceum import engine as engine_module
from faceum.engine import choose_engine
from faceum.errors import ModelError
from faceum.onnx_session import onnxruntime
from faceum.runner import CompiledTorchRunner, OnnxRunner, TorchRunner, load_runner
from faceum.tasks import TASKS


@pytest.fixture
def crops():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8), rng.uniform(size=(3, 16)) < 0.5


def test_both_runtimes_answer_alike(tiny_model, crops):
    by_torch = load_runner(tiny_model, "torch", "cpu", 1)
    by_onnx = load_runner(tiny_model, "onnxruntime", "cpu", 1)
    assert isinstance(by_torch, TorchRunner) and isinstance(by_onnx, OnnxRunner)
    assert by_torch.card == by_onnx.card
    one, two = by_torch.run(*crops, tuple(TASKS)), by_onnx.run(*crops, tuple(TASKS))
    assert set(one) == set(two) == set(TASKS)
    for task in TASKS:
        assert one[task].dtype == two[task].dtype == np.float32
        assert one[task] == pytest.approx(two[task], rel=1e-3, abs=1e-4), task


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_shapes_and_chosen_tasks(tiny_model, crops, runtime):
    loaded = load_runner(tiny_model, runtime, "cpu", 1)
    assert set(loaded.run(*crops, ["age"])) == {"age"}
    answers = loaded.run(*crops, tuple(TASKS))
    assert {task: answer.shape for task, answer in answers.items()} == {
        "recognition": (3, 512),
        "age": (3, 101),
        "attributes": (3, 40),
        "expression": (3, 8),
        "parsing": (3, 19, 32, 32),
        "landmarks": (3, 68, 2),
    }


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_batch_is_its_singles(tiny_model, crops, runtime):
    loaded = load_runner(tiny_model, runtime, "cpu", 1)
    images, masks = crops
    together = loaded.run(images, masks, tuple(TASKS))
    for i in range(3):
        alone = loaded.run(images[i : i + 1], masks[i : i + 1], tuple(TASKS))
        for task in TASKS:
            assert together[task][i] == pytest.approx(alone[task][0], rel=1e-4, abs=1e-5)


def test_compiled_torch_answers_as_torch_does(tiny_model, crops, monkeypatch):
    monkeypatch.setattr(CompiledTorchRunner, "backend", "eager")  # all of it but the C++ compiler
    compiled = load_runner(tiny_model, "torch-compiled", "cpu", 1)
    assert isinstance(compiled, CompiledTorchRunner) and compiled.runtime == "torch-compiled"
    plain = load_runner(tiny_model, "torch", "cpu", 1)
    for count in (3, 2):
        images, masks = (one[:count] for one in crops)
        one, two = (runner.run(images, masks, ("age", "parsing")) for runner in (compiled, plain))
        for task in one:
            assert one[task] == pytest.approx(two[task], abs=1e-5)


def test_some_tasks_are_cut_out_of_the_file(tiny_model, crops):
    whole = load_runner(tiny_model, "onnxruntime", "cpu", 1)
    cut = load_runner(tiny_model, "onnxruntime", "cpu", 1, tasks=["age"])
    assert cut.card == whole.card
    assert [output.name for output in cut._session(["age"]).get_outputs()] == ["age"]
    assert len(cut._sessions) == 1
    answers = whole.run(*crops, tuple(TASKS))
    for tasks in (["age"], ["landmarks"], ["parsing", "age"], tuple(TASKS)):
        for task, answer in cut.run(*crops, tasks).items():
            assert np.array_equal(answer, answers[task])


def test_many_threads_share_one_runner(tiny_model, crops):
    loaded = load_runner(tiny_model, "onnxruntime", "cpu", 2, tasks=["age"])
    asked = [("age",), ("landmarks",), ("expression", "age"), tuple(TASKS)] * 8
    alone = {tasks: loaded.run(*crops, tasks) for tasks in set(asked)}
    fresh = load_runner(tiny_model, "onnxruntime", "cpu", 2)
    with ThreadPoolExecutor(16) as pool:
        for tasks, answers in zip(
            asked, pool.map(lambda names: fresh.run(*crops, names), asked), strict=True
        ):
            for task in tasks:
                assert answers[task] == pytest.approx(alone[tasks][task], rel=1e-5, abs=1e-6)


def test_card_holds_crop_policy_and_labels(tiny_model):
    card = load_runner(tiny_model, "onnxruntime", "cpu").card
    assert card.name == "tiny" and card.tasks == tuple(TASKS)
    assert card.crop_of("age").size == 64 and card.crop_of("age").policy == "similarity"
    assert card.labels["expression"] == TASKS["expression"].labels
    assert type(card).from_dict(card.to_dict()) == card


def test_runtime_follows_file_suffix(tiny_model, caplog):
    with caplog.at_level(logging.INFO, logger="faceum"):
        assert load_runner(tiny_model.with_suffix(".onnx"), device="cpu").runtime == "onnxruntime"
    assert len(caplog.records) == 1 and "onnxruntime on cpu" in caplog.text
    assert choose_engine(tiny_model, device="cpu").runtime == "torch"


@pytest.mark.parametrize(
    ("runtime", "device", "sentence"),
    [
        ("onxruntime", "auto", "did you mean 'onnxruntime'"),
        ("auto", "gpu", "no device 'gpu'"),
        ("auto", "cdua", "did you mean 'cuda'"),
    ],
)
def test_unknown_names_suggest_the_nearest(tiny_model, runtime, device, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_runner(tiny_model, runtime, device)


def test_cuda_without_a_gpu_raises(tiny_model, monkeypatch):
    monkeypatch.setattr(engine_module, "gpu_is_present", lambda: False)
    with pytest.raises(ModelError, match="no NVIDIA GPU"):
        load_runner(tiny_model, device="cuda")
    assert load_runner(tiny_model, "onnxruntime", "auto").device == "cpu"


def test_cuda_without_a_runtime_for_it_is_an_error(tiny_model, monkeypatch):
    monkeypatch.setattr(engine_module, "gpu_is_present", lambda: True)
    monkeypatch.setattr(engine_module, "torch_is_installed", lambda: False)
    with pytest.raises(ModelError, match="no installed runtime"):
        load_runner(tiny_model.with_suffix(".onnx"), device="cuda")


def test_with_a_gpu_the_named_file_is_what_runs(tiny_model, monkeypatch):
    monkeypatch.setattr(engine_module, "gpu_is_present", lambda: True)
    onnx_file = tiny_model.with_suffix(".onnx")
    both = {"onnxruntime", "torch", "torch-compiled"}
    for able, on_gpu in ((both, {onnx_file, tiny_model}), ({"onnxruntime"}, {onnx_file})):
        monkeypatch.setattr(engine_module, "_has_cuda", lambda runtime, able=able: runtime in able)
        for file, runtime in ((onnx_file, "onnxruntime"), (tiny_model, "torch"), (str(tiny_model), "torch")):
            engine = choose_engine(file)
            on_cuda = Path(file) in on_gpu
            assert (engine.runtime, engine.device) == (runtime, "cuda" if on_cuda else "cpu"), file
    monkeypatch.setattr(engine_module, "_has_cuda", lambda runtime: runtime == "torch")
    assert choose_engine(onnx_file).device == "cpu" and choose_engine(onnx_file).runtime == "onnxruntime"
    assert choose_engine(tiny_model).device == "cuda"
    # A runtime that is asked for by name may still take the neighbour.
    assert choose_engine(onnx_file, runtime="torch").runtime == "torch"


def test_without_torch_the_torch_runtime_says_how_to_get_it(tiny_model, monkeypatch):
    monkeypatch.setattr(engine_module, "torch_is_installed", lambda: False)
    for runtime in ("torch", "auto"):
        with pytest.raises(ModelError, match=r"pip install 'moe-faceum\[torch\]'"):
            load_runner(tiny_model, runtime, "cpu")
    assert load_runner(tiny_model.with_suffix(".onnx"), "auto", "cpu").runtime == "onnxruntime"


def test_files_that_are_not_networks_raise(tmp_path, tiny_model):
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match=r"bad\.onnx is not an ONNX network"):
        load_runner(tmp_path / "bad.onnx")
    shutil.copy(tiny_model, tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        load_runner(tmp_path / "cut.safetensors", "torch")


def test_foreign_onnx_file_raises(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="no faceum metadata"):
        load_runner(tmp_path / "other.onnx")


def test_coreml_falls_back_to_the_cpu_and_says_so(tiny_model, monkeypatch, caplog, crops):
    monkeypatch.setattr(engine_module, "is_available", lambda device: False)
    with caplog.at_level(logging.WARNING, logger="faceum"):
        runner = load_runner(tiny_model, device="coreml", threads=1)
    assert (runner.runtime, runner.device) == ("onnxruntime", "cpu")
    assert "CoreMLExecutionProvider" in caplog.text
    assert set(runner.run(*crops, ["age"])) == {"age"}
    with pytest.raises(ModelError, match="onnxruntime runtime"):
        load_runner(tiny_model, "torch", "coreml")


def test_coreml_that_is_offered_but_fails_falls_back(tiny_model, monkeypatch, caplog):
    # The engine believes in CoreML; the session of this onnxruntime then has no such provider.
    if "CoreMLExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CoreML is here")
    monkeypatch.setattr(engine_module, "is_available", lambda device: True)
    with caplog.at_level(logging.WARNING, logger="faceum"):
        runner = load_runner(tiny_model, device="coreml", threads=1)
    assert runner.device == "cpu" and "cannot use coreml" in caplog.text


def test_model_id_is_one_for_all_formats_of_registered_weights(tiny_model):
    by_format = {name: load_runner(tiny_model, name, "cpu", 1) for name in ("onnxruntime", "torch")}
    ids = {name: runner.model_id for name, runner in by_format.items()}
    assert all(one.startswith("tiny@") and len(one) == 13 for one in ids.values())
    shipped = {load_runner("compact", name, "cpu", 1).model_id for name in by_format}
    assert len(shipped) == 1 and shipped.pop().startswith("compact@")
