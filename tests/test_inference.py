"""The release's command line: its files and lines, published numbers for published weights, ours for ours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from faceum.analyzer import FaceAnalyzer  # noqa: E402
from faceum.crop import crop_face  # noqa: E402
from faceum.detect.base import load_detector  # noqa: E402
from faceum.geometry import transform_points  # noqa: E402
from faceum.image import read_image, write_image  # noqa: E402
from faceum.model import convert as conversion  # noqa: E402
from faceum.model.configs import BASE, REFERENCE  # noqa: E402
from faceum.tasks import ATTRIBUTES  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "Attributes_binary.txt",
    "Dense_landmarks.png",
    "Dense_landmarks.txt",
    "Dense_parsing.png",
    "Dense_parsing_visualization.png",
    "Identity_recog.txt",
)


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def inference() -> ModuleType:
    return loaded("inference", ROOT / "inference.py")


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return loaded("published_network", ROOT / "tests" / "model" / "published_network.py")


@pytest.fixture(scope="module")
def checkpoint(
    published: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A narrow network under the published names, as a published file."""
    state = published.random_state(published.reference_shapes(published.NARROW), seed=6)
    path = tmp_path_factory.mktemp("ckpts") / "checkpoint.pth.tar"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    return path, state


@pytest.fixture(autouse=True)
def narrow_kinds(published: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion makes networks of the narrow widths."""
    from dataclasses import replace

    sizes = published.NARROW
    for kind, config in (("farl", BASE), ("reference", REFERENCE)):
        narrow = replace(
            config,
            block=replace(
                config.block,
                dim=sizes.dim,
                num_heads=sizes.num_heads,
                head_dim=16,
                hidden_dim=sizes.hidden_dim,
            ),
            moe=replace(
                config.moe,
                shared_hidden_dim=sizes.hidden_dim,
                experts=replace(config.moe.experts, hidden_dim=sizes.expert_hidden_dim),
            ),
            depth=sizes.dense_blocks,
        )
        monkeypatch.setitem(conversion.KINDS, kind, replace(conversion.KINDS[kind], config=narrow))


@pytest.fixture(scope="module")
def two_faces(portrait_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait twice, the left one larger."""
    portrait = read_image(portrait_path)
    small = cv2.resize(portrait, (384, 384), interpolation=cv2.INTER_AREA)
    wide = np.zeros((512, 896, 3), np.uint8)
    wide[:, :512], wide[:384, 512:] = portrait, small
    path = tmp_path_factory.mktemp("images") / "two.png"
    write_image(path, wide)
    return path


def numbers(path: Path) -> np.ndarray:
    return np.array([[float(word) for word in line.split()] for line in path.read_text().splitlines()])


def test_published_checkpoint_gives_the_published_numbers(
    inference: ModuleType,
    published: ModuleType,
    checkpoint: tuple[Path, dict[str, Any]],
    portrait_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, state = checkpoint
    words = ["--model_path", path, "--image_path", portrait_path, "--results_path", tmp_path, "--gpu_num", 0]
    assert inference.main([str(word) for word in words]) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == list(FILES)

    image = read_image(portrait_path)
    box = load_detector().detect(image)[0].box
    expected: dict[str, Any] = {}
    for spec, tasks in REFERENCE.crops:
        crop = crop_face(image, spec, box)
        pixels = torch.from_numpy(crop.image).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (REFERENCE.mean, REFERENCE.std))
        face = torch.from_numpy(crop.face_tokens_N)
        expected |= published.answers(state, published.NARROW, (pixels - mean) / std, face, tasks)

    embedding = numbers(tmp_path / "Identity_recog.txt")[:, 0]
    np.testing.assert_allclose(embedding, expected["recognition"], rtol=1e-3, atol=1e-4)
    assert abs(np.linalg.norm(embedding) - 1) > 0.1  # as the network gives it
    lines = (tmp_path / "Attributes_binary.txt").read_text().splitlines()
    assert lines == [
        f"{name}: {int(x > 0)}" for name, x in zip(ATTRIBUTES, expected["attributes"].tolist(), strict=True)
    ]
    logits = torch.nn.functional.interpolate(expected["parsing"][None], size=(512, 512), mode="bilinear")
    classes = cv2.imread(str(tmp_path / "Dense_parsing.png"), cv2.IMREAD_UNCHANGED)
    assert classes.shape == (512, 512)
    assert (classes == logits[0].argmax(0).numpy()).mean() > 0.9999
    np.testing.assert_allclose(
        numbers(tmp_path / "Dense_landmarks.txt"), expected["landmarks"].numpy() * 512, atol=1e-2
    )
    blended = read_image(tmp_path / "Dense_parsing_visualization.png")
    mixed = cv2.addWeighted(crop.image, 0.5, inference.RELEASE_COLOURS[classes], 0.5, 0)
    np.testing.assert_array_equal(blended, mixed)
    drawn = read_image(tmp_path / "Dense_landmarks.png")
    for x, y in numbers(tmp_path / "Dense_landmarks.txt").astype(int):
        assert not (0 <= x < 512 and 0 <= y < 512) or drawn[y, x].tolist() == [255, 255, 0]

    age = float(expected["age"].softmax(0) @ torch.arange(101.0)) + 30
    word = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")[
        int(expected["expression"].argmax())
    ]
    loaded_line, first, second = capsys.readouterr().out.splitlines()
    assert loaded_line == "load msg: <All keys matched successfully>"
    name, number = first.split(":")
    assert name == "Age Estimation" and float(number) == pytest.approx(age, abs=1e-2)
    assert second == f"expression_pre:{word}"


def test_its_converted_file_gives_the_same(
    inference: ModuleType,
    checkpoint: tuple[Path, dict[str, Any]],
    portrait_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = checkpoint
    conversion.convert_file("reference", path, tmp_path / "x.safetensors")
    reported = []
    for model, folder in ((path, "a"), (tmp_path / "x.safetensors", "b")):
        words = ["--model_path", model, "--image_path", portrait_path, "--results_path", tmp_path / folder]
        assert inference.main([str(word) for word in words]) == 0
        reported.append(capsys.readouterr().out)
    assert reported[0].splitlines()[2] == reported[1].splitlines()[2]
    one, other = tmp_path / "a", tmp_path / "b"
    for name in ("Identity_recog.txt", "Dense_landmarks.txt"):
        np.testing.assert_allclose(numbers(one / name), numbers(other / name), rtol=1e-4, atol=1e-3)
    maps = [cv2.imread(str(folder / "Dense_parsing.png"), cv2.IMREAD_UNCHANGED) for folder in (one, other)]
    assert (maps[0] == maps[1]).mean() > 0.9999


@pytest.mark.parametrize("part", [".onnx", ".safetensors"])
def test_our_weights_give_our_numbers(
    part: str,
    inference: ModuleType,
    tiny_model: Path,
    portrait_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_model.with_suffix(part)
    words = ["--model_path", model, "--image_path", portrait_path, "--results_path", tmp_path]
    assert inference.main([str(word) for word in words]) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == list(FILES)
    face = FaceAnalyzer(model).analyze(portrait_path)[0]
    _, first, second = capsys.readouterr().out.splitlines()
    assert first == f"Age Estimation:{face.age.years}"
    assert second == f"expression_pre:{face.expression.label}"
    np.testing.assert_allclose(numbers(tmp_path / "Identity_recog.txt")[:, 0], face.embedding, atol=1e-6)
    frame = crop_face(read_image(portrait_path), inference.Ours.FRAME, face.box)
    back = transform_points(frame.inverse, numbers(tmp_path / "Dense_landmarks.txt"))
    np.testing.assert_allclose(back, face.landmarks, atol=1e-2)
    assert cv2.imread(str(tmp_path / "Dense_parsing.png"), cv2.IMREAD_UNCHANGED).shape == (512, 512)


@pytest.mark.parametrize("mode", ["published", "ours"])
def test_two_faces(
    mode: str,
    inference: ModuleType,
    checkpoint: tuple[Path, dict[str, Any]],
    tiny_model: Path,
    two_faces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = checkpoint[0] if mode == "published" else tiny_model
    words = ["--model_path", model, "--image_path", two_faces, "--results_path", tmp_path]
    assert inference.main([str(word) for word in words]) == 0
    second = [f"{Path(name).stem}_2{Path(name).suffix}" for name in FILES]
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([*FILES, *second])
    starts = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert starts == ["load msg", "Age Estimation", "expression_pre", "Age Estimation_2", "expression_pre_2"]


def test_analysis_of_two_faces_takes_one_encoder_pass_a_resolution(
    checkpoint: tuple[Path, dict[str, Any]], two_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceum.model.vit import Trunk

    conversion.convert_file("reference", checkpoint[0], tmp_path / "x.safetensors")
    analyzer = FaceAnalyzer(tmp_path / "x.safetensors", runtime="torch")
    passes, forward = [], Trunk.forward

    def counted(trunk: Trunk, x_B3SS: Any) -> Any:
        passes.append(tuple(x_B3SS.shape))
        return forward(trunk, x_B3SS)

    monkeypatch.setattr(Trunk, "forward", counted)
    faces = analyzer.analyze(two_faces)
    assert passes == [(2, 3, 112, 112), (2, 3, 512, 512)]
    assert len(faces) == 2
    for face in faces:
        assert face.expression.label in conversion.REFERENCE_EXPRESSIONS
        assert face.landmarks.shape == (68, 2) and face.parsing.class_map.shape == (512, 512)
        assert face.age is not None and face.attributes and face.embedding.shape == (512,)


def test_no_face_is_no_crash(
    inference: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "gray.png", np.full((90, 90, 3), 128, np.uint8))
    words = [
        "--model_path",
        tiny_model,
        "--image_path",
        tmp_path / "gray.png",
        "--results_path",
        tmp_path / "r",
    ]
    assert inference.main([str(word) for word in words]) == 0
    assert "no face in" in capsys.readouterr().out
    assert not (tmp_path / "r").exists()


def test_missing_module_is_reported(
    inference: ModuleType, portrait_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--model_path",
        str(tmp_path / "ckpts" / "checkpoint.pth.tar"),
        "--image_path",
        str(portrait_path),
    ]
    assert inference.main(words) == 2
    said = capsys.readouterr().err
    assert "github.com/FacePerceiver/FaRL" in said and "--model_path compact" in said
    assert "Traceback" not in said
    assert inference.main(["--model_path", "compcat", "--image_path", str(portrait_path)]) == 2
    assert inference.main([]) == 2
    assert "--image_path" in capsys.readouterr().err


def test_farls_file_is_recognized(
    inference: ModuleType,
    published: ModuleType,
    portrait_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "FaRL.pth"
    torch.save({"state_dict": published.random_state(published.farl_shapes(published.NARROW), 1)}, path)
    assert inference.main(["--model_path", str(path), "--image_path", str(portrait_path)]) == 2
    assert "faceum convert farl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "known", "ignored"),
    [
        ("detector: auto  # which\nmin_score: 0.25\n", {"detector": "auto", "min_score": 0.25}, ""),
        ("---\na:\n  b: 1\n  c: [1,\n 2]\nd:\n- e\nmin_score: .3\n", {"min_score": 0.3}, "a, d"),
        ("'model_path': \"x y.pth\"\ngpu_num: [0, 1]\n", {"model_path": "x y.pth", "gpu_num": 0}, "gpu_num"),
        ("model_path: null\nresults_path: ~\n", {"results_path": "results"}, "model_path, results_path"),
        ("device: cuda:0\nmin_score: 5\nnotes: |\n  a: b\n", {"device": "auto"}, "device, min_score, notes"),
        ("\ncommon:\n\n  heads:\n      type: A\n", {"min_score": 0.5}, "common"),
        ("", {}, ""),
    ],
)  # fmt: skip
def test_any_mapping_is_accepted_as_config(
    text: str,
    known: dict[str, Any],
    ignored: str,
    inference: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "test.yaml"
    path.write_bytes("# 配置\n".encode("gbk") + text.encode())
    settings = inference.read_settings(["--config_path", str(path), "--image_path", "x.jpg"])
    assert {key: settings[key] for key in known} == known
    said = capsys.readouterr().err.strip()
    assert said == (f"{path}: not used here: {ignored}" if ignored else "")


def test_quoted_value_keeps_its_hash(inference: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text("image_path: 'a # b.jpg'  # the photo\nresults_path: a # b\n")
    assert inference.read_config(path) == {"image_path": "a # b.jpg", "results_path": "a"}


def test_our_config_holds_only_settings(inference: ModuleType) -> None:
    config = inference.read_config(ROOT / "test.yaml")
    assert config and set(config) <= set(inference.SETTINGS)


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_command_as_the_release_prints_it(
    launcher: str, tiny_model: Path, portrait_path: Path, two_faces: Path, tmp_path: Path
) -> None:
    """Two ranks share three photos; a plain process does all of them."""
    (tmp_path / "list.txt").write_text(f"{portrait_path}\n{two_faces}\n{tmp_path / 'absent.jpg'}\n")
    start = [sys.executable, *"-m torch.distributed.run --nproc_per_node=2 --master_port=53007".split()]
    words = ["inference.py", "--config_path", "test.yaml", "--model_path", tiny_model, "--image_path"]
    words += [tmp_path / "list.txt", "--results_path", tmp_path / "results", "--gpu_num", "0"]
    done = subprocess.run(
        [*(start if launcher == "torchrun" else start[:1]), *(str(word) for word in words)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if launcher == "torchrun" else 1), done.stderr
    assert "absent.jpg" in done.stderr
    assert done.stdout.count("Age Estimation:") == 2 and done.stdout.count("Age Estimation_2:") == 1
    folders = sorted(one.name for one in (tmp_path / "results").iterdir())
    assert folders == [portrait_path.stem, two_faces.stem]
    assert len(list((tmp_path / "results" / two_faces.stem).iterdir())) == 12


def test_colours_match_release(inference: ModuleType) -> None:
    from faceum.tasks import PARSING_CLASSES

    assert inference.RELEASE_COLOURS.shape == (19, 3) and len(set(inference.RELEASE_CLASSES)) == 19
    assert inference.RELEASE_COLOURS[[0, 1, 18]].tolist() == [[0, 0, 0], [0, 153, 255], [0, 0, 0]]
    order = [PARSING_CLASSES.index(name) for name in inference.RELEASE_CLASSES]
    assert order == list(conversion.PARSING_FROM_REFERENCE)
    assert (inference.OUR_COLOURS[order] == inference.RELEASE_COLOURS).all()
