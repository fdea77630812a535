"""The ONNX file answers as torch does, or it is not written."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from faceum.errors import ModelError  # noqa: E402
from faceum.export import onnx as export  # noqa: E402
from faceum.model.checkpoint import load_checkpoint  # noqa: E402
from faceum.model.experts import Experts, ExpertsConfig  # noqa: E402
from faceum.model.router import FaceRouter, RouterConfig  # noqa: E402


def test_every_expert_masked_is_the_grouped_call():
    torch.manual_seed(0)
    router = FaceRouter(RouterConfig(num_experts=4), dim=16, tasks=6)
    experts = Experts(ExpertsConfig(hidden_dim=8, activation="silu"), num_experts=4, dim=16)
    torch.nn.init.normal_(experts.fc2)
    torch.nn.init.normal_(router.weight)
    x_PND, face_PN = torch.randn(5, 9, 16), torch.rand(5, 9) < 0.5
    routing = router(x_PND, torch.tensor([0, 1, 2, 5, 5]), face_PN)
    torch.testing.assert_close(export.EveryExpert(experts)(x_PND, routing), experts(x_PND, routing))


def test_file_is_small_and_says_what_it_is(tiny_model):
    model, _ = load_checkpoint(tiny_model)
    weights = sum(value.numel() for value in model.parameters())
    program = onnx.load(str(tiny_model.with_suffix(".onnx")))
    stored = sum(
        int(np.prod(one.dims)) * (2 if one.data_type == 10 else 4) for one in program.graph.initializer
    )
    assert stored < 2.3 * weights  # half precision, but for the small ones
    header = json.loads({entry.key: entry.value for entry in program.metadata_props}["faceum"])
    assert header["licence"] == "test" and header["provenance"] == "random"
    assert header["crops"][0]["spec"]["size"] == 64


def test_export_with_other_answers_is_not_written(tiny_model, tmp_path, monkeypatch):
    model, metadata = load_checkpoint(tiny_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forward = export.EveryExpert.forward
    monkeypatch.setattr(export.EveryExpert, "forward", lambda self, x, c: 2 * forward(self, x, c))
    with pytest.raises(ModelError, match="differ from torch"):
        export.export_onnx(model, metadata, tmp_path / "x.onnx", tasks=["age"])
    assert list(tmp_path.iterdir()) == []
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"the export changed {name}"


@pytest.mark.parametrize(
    ("name", "task"),
    [("base", "recognition"), ("base", "landmarks"), ("reference", "expression"), ("reference", "parsing")],
)
def test_networks_with_a_class_token_take_any_number_of_crops(name, task, tmp_path):
    from faceum.model.configs import CONFIGS
    from faceum.model.network import FaceUM
    from faceum.runner import OnnxRunner

    config = CONFIGS[name]
    (image, image_tasks), (dense, dense_tasks) = config.crops
    config = replace(
        config,
        crops=((image, image_tasks), (replace(dense, size=192, grid=12), dense_tasks)),
        block=replace(config.block, dim=96, num_heads=2, head_dim=48, hidden_dim=96),
        moe=replace(config.moe, shared_hidden_dim=96, experts=replace(config.moe.experts, hidden_dim=48)),
        depth=1,
        moe_blocks=1,
    )
    torch.manual_seed(3)
    model = FaceUM(config).eval()
    spec = config.crop_of(task)
    export.export_onnx(model, {"labels": {}}, tmp_path / "x.onnx", tasks=[task], half=False)
    runner = OnnxRunner(tmp_path / "x.onnx", "cpu", 1)
    rng = np.random.default_rng(5)
    for count in (1, 3):
        crops = rng.uniform(size=(count, 3, spec.size, spec.size)).astype(np.float32)
        masks = rng.uniform(size=(count, spec.grid**2)) < 0.5
        with torch.inference_mode():
            expected = model(torch.from_numpy(crops), torch.from_numpy(masks), [task])[task].numpy()
        answer = runner.run_input(crops, masks, [task])[task]
        assert answer == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_file_of_one_number_of_crops_is_not_written(tiny_model, tmp_path, monkeypatch):
    model, metadata = load_checkpoint(tiny_model)
    exported = export._trace

    def of_four(*words):
        program = exported(*words)
        program.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
        return program

    monkeypatch.setattr(export, "_trace", of_four)
    with pytest.raises(ModelError, match=r"fixed batch size \(age\); nothing was written"):
        export.export_onnx(model, metadata, tmp_path / "x.onnx", tasks=["age"])
    assert list(tmp_path.iterdir()) == []


def test_one_face_alone_is_compared_and_the_file_takes_more(tiny_model, tmp_path):
    model, metadata = load_checkpoint(tiny_model)
    crops, masks = export.noise(model.config.crop_of("age"))
    found = export.export_onnx(
        model, metadata, tmp_path / "x.onnx", tasks=["age"], check=(crops[:1], masks[:1])
    )
    assert found["age"] < 1e-3 and (tmp_path / "x.onnx").exists()


def test_tasks_of_two_crop_policies_do_not_share_a_file():
    from faceum.model.configs import BASE
    from faceum.model.network import FaceUM

    with torch.device("meta"):
        base = FaceUM(BASE)
    assert export.crop_of_all(base, ["age", "expression"]).size == 112
    with pytest.raises(ModelError, match="choose among recognition,age,attributes,expression or parsing"):
        export.crop_of_all(base, ["age", "parsing"])
