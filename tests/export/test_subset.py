"""A network cut out of another answers its tasks exactly as before, and is smaller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from faceum.cli.app import app  # noqa: E402
from faceum.errors import ModelError  # noqa: E402
from faceum.export.subset import extract_config, extract_file, extract_tasks  # noqa: E402
from faceum.model.checkpoint import load_checkpoint, read_metadata, save_checkpoint  # noqa: E402
from faceum.model.configs import BASE, REFERENCE  # noqa: E402
from faceum.model.experts import ExpertsConfig  # noqa: E402
from faceum.model.network import FaceUM, FaceUMConfig  # noqa: E402
from faceum.model.router import FaceRouter  # noqa: E402
from faceum.runner import load_runner  # noqa: E402
from faceum.tasks import TASKS  # noqa: E402
from faceum.weights.load import load_model  # noqa: E402


def looks(config: FaceUMConfig, task: str, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    spec = config.crop_of(task)
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(count, 3, spec.size, spec.size, generator=generator)
    return crops, torch.rand(count, spec.grid**2, generator=generator) < 0.5


def with_all_weights_at_work(model: FaceUM) -> FaceUM:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            if value.numel() == 1 or value.std() < 1e-6:  # what starts alike would hide mistakes
                value.add_(torch.randn(value.shape, generator=generator) * 0.1)
        for module in model.modules():
            if isinstance(module, FaceRouter):
                module.weight.mul_(20)  # so that tasks choose differently
                module.bias.copy_(torch.rand(module.bias.shape, generator=generator) * 0.1)
    return model.eval()


def small(config: FaceUMConfig) -> FaceUMConfig:
    """Two crop policies, a class token, published heads: the published network's traits in little."""
    return replace(
        config,
        block=replace(config.block, dim=32, num_heads=2, head_dim=16, hidden_dim=32),
        moe=replace(
            config.moe, shared_hidden_dim=32, experts=ExpertsConfig(hidden_dim=16, activation="relu")
        ),
        depth=1,
        crops=tuple(
            (replace(spec, size=16 * (3 + i), grid=3 + i), t) for i, (spec, t) in enumerate(config.crops)
        ),
    )


@pytest.mark.parametrize("tasks", [["age"], ["landmarks", "expression"], list(TASKS)])
def test_answers_equal_those_of_the_whole_network(tiny_model: Path, tasks: list[str]) -> None:
    whole = with_all_weights_at_work(load_model(tiny_model))
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    part = extract_tasks(whole, tasks)
    assert part.config.tasks == tuple(task for task in TASKS if task in tasks)
    crops, masks = looks(whole.config, "age")
    with torch.inference_mode():
        together, alone = whole(crops, masks), part(crops, masks)
        for task in tasks:
            one = whole(crops, masks, (task,))[task]
            assert torch.equal(part(crops, masks, (task,))[task], one)
            torch.testing.assert_close(alone[task], together[task], rtol=1e-5, atol=1e-5)
    assert set(alone) == set(tasks)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, before[name]), f"extraction changed {name} of the whole network"


@pytest.mark.parametrize("config", [BASE, REFERENCE], ids=lambda config: config.name)
@pytest.mark.parametrize("task", ["expression", "landmarks"])
def test_several_crop_policies_and_the_published_router(config: FaceUMConfig, task: str) -> None:
    torch.manual_seed(0)
    whole = with_all_weights_at_work(FaceUM(small(config)))
    part = extract_tasks(whole, [task])
    assert len(part.config.crops) == 1
    crops, masks = looks(whole.config, task)
    with torch.inference_mode():
        assert torch.equal(part(crops, masks)[task], whole(crops, masks, (task,))[task])


def test_gates_and_heads_of_the_other_tasks_are_gone(tiny_model: Path) -> None:
    whole = load_model(tiny_model)
    part = extract_tasks(whole, ["parsing"])
    assert list(part.heads) == ["parsing"]
    for mine, its in zip(part.moe_blocks, whole.moe_blocks, strict=True):
        assert torch.equal(mine.moe.router.weight, its.moe.router.weight[[4]])
        assert torch.equal(mine.moe.experts.fc1, its.moe.experts.fc1)


def test_dense_twin_can_be_cut_out_too(tiny_model: Path) -> None:
    config = load_model(tiny_model).config
    torch.manual_seed(0)
    whole = with_all_weights_at_work(FaceUM(replace(config, moe=replace(config.moe, routed=False))))
    crops, masks = looks(config, "age")
    with torch.inference_mode():
        assert torch.equal(extract_tasks(whole, ["age"])(crops, masks)["age"], whole(crops, masks)["age"])


def test_file_loads_strictly_and_runs_everywhere(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    done = extract_file(tiny_model, ["age", "attributes"], tmp_path / "part.safetensors", onnx=True)
    assert done.after < done.before and [path.suffix for path in done.files] == [".safetensors", ".onnx"]
    header = read_metadata(done.files[0])
    assert header["config"]["tasks"] == ["age", "attributes"] and set(header["labels"]) == {"attributes"}
    assert header["licence"] == "test" and header["extracted"]["from"] == "tiny"
    assert done.files[0].stat().st_size < tiny_model.stat().st_size
    rng = np.random.default_rng(0)
    crops, masks = rng.integers(0, 256, (3, 64, 64, 3), np.uint8), rng.uniform(size=(3, 16)) < 0.5
    expected = load_runner(tiny_model, "torch").run(crops, masks, ("age", "attributes"))
    for path, runtime in zip(done.files, ("torch", "onnxruntime"), strict=True):
        runner = load_runner(path, runtime)
        assert runner.card.tasks == ("age", "attributes") and runner.card.name == "tiny-age-attributes"
        for task, answer in runner.run(crops, masks, ("age", "attributes")).items():
            np.testing.assert_allclose(answer, expected[task], rtol=1e-3, atol=1e-4)


def test_values_that_half_precision_would_change_stay_float32(tiny_model: Path, tmp_path: Path) -> None:
    whole, metadata = load_checkpoint(tiny_model)
    with torch.no_grad():
        whole.heads["age"].output.weight.mul_(1 / 3)
    fine = tmp_path / "fine.safetensors"
    save_checkpoint(fine, whole, metadata, dtype=torch.float32)
    (path,) = extract_file(fine, ["age"], tmp_path / "age.safetensors").files
    crops, masks = looks(whole.config, "age")
    with torch.inference_mode():
        assert torch.equal(load_model(path)(crops, masks)["age"], whole(crops, masks, ("age",))["age"])


def test_command_line(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["extract", "--tasks", "age", "--model", str(tiny_model)])
    assert done.exit_code == 0 and "%" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-age.safetensors"]
    wrong = CliRunner().invoke(app, ["extract", "--tasks", "ages", "--model", str(tiny_model)])
    assert wrong.exit_code == 2 and "did you mean 'age'" in wrong.output


def test_tasks_that_cannot_be_extracted_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = load_model(tiny_model).config
    with pytest.raises(ModelError, match="No task was given"):
        extract_config(config, [])
    with pytest.raises(ModelError, match="did you mean 'landmarks'"):
        extract_config(config, ["landmark"])
    with pytest.raises(ModelError, match="must end in .safetensors"):
        extract_file(tiny_model, ["age"], tmp_path / "age.onnx")
    with pytest.raises(ModelError, match="model itself"):
        extract_file(tiny_model, ["age"], tiny_model)
    only_age = extract_config(config, ["age"])
    with pytest.raises(ModelError, match="no task 'parsing'"):
        only_age.crop_of("parsing")
