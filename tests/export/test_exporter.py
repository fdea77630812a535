"""An exported file answers as torch on real faces, says what it is, or is not written."""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from typer.testing import CliRunner  # noqa: E402

from faceum.analyzer import FaceAnalyzer  # noqa: E402
from faceum.cli.app import app  # noqa: E402
from faceum.crop import FACE_TOKENS, POLICIES, crop_matrix  # noqa: E402
from faceum.decode import decode_ages  # noqa: E402
from faceum.errors import ModelError  # noqa: E402
from faceum.export import evidence, exporter, sidecar  # noqa: E402
from faceum.export.evidence import noise  # noqa: E402
from faceum.export.exporter import export_file  # noqa: E402
from faceum.export.onnx import export_onnx  # noqa: E402
from faceum.export.parity import LIMITS  # noqa: E402
from faceum.geometry import similarity_from_points  # noqa: E402
from faceum.runner import load_runner  # noqa: E402
from faceum.tasks import KINDS, TASKS  # noqa: E402
from faceum.weights.registry import asset_path  # noqa: E402

QDQ = ("QuantizeLinear", "DequantizeLinear")


@pytest.fixture(scope="module")
def images(tmp_path_factory, portrait_path):
    """The portrait in sixteen lights: twice as many faces as int8 is calibrated on."""
    folder = tmp_path_factory.mktemp("images")
    image = cv2.imread(str(portrait_path))
    for number in range(16):
        cv2.imwrite(str(folder / f"{number:02}.png"), (image * (0.6 + 0.025 * number)).astype(np.uint8))
    return folder


def rounded_router_products(path):
    """The products that a router's matrix goes into, and those of them with an input that was int8."""
    graph = onnx.load(str(path)).graph
    rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    # Only routers look up a matrix by the pair's task.
    reached = [name for node in graph.node if node.op_type == "GatherND" for name in node.output]
    products = []
    for name in reached:
        for node in graph.node:
            if name in node.input and node.op_type == "MatMul":
                products.append(node)
            elif name in node.input and node.op_type in ("Reshape", "Transpose", *QDQ):
                reached += node.output
    return len(products), [node.name for node in products if rounded & set(node.input)]


def test_one_task_in_half_precision(tiny_model, tmp_path, portrait_path, images):
    done = CliRunner().invoke(
        app,
        ["export", "--model", str(tiny_model), "--out", str(tmp_path / "age.onnx"), "--tasks", "age"]
        + ["--precision", "fp16", "--images", str(images)],
    )
    assert done.exit_code == 0, done.output
    assert "on 16 faces" in done.output and "age is off by" in done.output
    about = json.loads((tmp_path / "age.json").read_text())
    assert about["precision"] == "fp16" and list(about["outputs"]) == ["age"]
    assert about["preprocessing"]["size"] == 64 and about["licence"] == "test"
    assert about["compared_with_torch"]["faces"] == 16
    assert (tmp_path / "age.onnx").stat().st_size < tiny_model.with_suffix(".onnx").stat().st_size
    by_file = FaceAnalyzer(tmp_path / "age.onnx", device="cpu").analyze(portrait_path)
    by_torch = FaceAnalyzer(tiny_model, tasks=["age"], runtime="torch", device="cpu").analyze(portrait_path)
    assert by_file[0].age.years == pytest.approx(by_torch[0].age.years, abs=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["age.json", "age.onnx"]


def test_without_images_noise_is_compared_and_said(tiny_model, tmp_path):
    exported = export_file(tiny_model, tmp_path / "x.onnx", tasks=["expression"])
    assert exported.faces == 0 and exported.distances["expression"] < 1e-4
    compared = json.loads(exported.sidecar.read_text())["compared_with_torch"]
    assert compared["on"] == "noise, as no images were given" and compared["faces"] == 0
    said = " ".join(CliRunner().invoke(app, ["export", "--help"]).output.replace("│", " ").split())
    assert "Without images the file is compared on noise" in said
    stored = onnx.load(str(tmp_path / "x.onnx")).graph.initializer
    assert all(one.data_type != onnx.TensorProto.FLOAT16 for one in stored)


def test_sidecar_suffices_without_this_package(tiny_model, tmp_path):
    exported = export_file(tiny_model, tmp_path / "x.onnx")
    about = json.loads(exported.sidecar.read_text())
    spec = spec_of(tiny_model)
    crops, masks = noise(spec)
    session = onnxruntime.InferenceSession(str(exported.file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == list(about["outputs"]) == list(TASKS)
    answers = dict(zip(names, session.run(names, {"crop_BCHW": crops, "face_tokens_BN": masks}), strict=True))
    for task, values in answers.items():
        said = about["outputs"][task]
        assert said["shape"] == ["B", *values.shape[1:]] and len(said["axes"]) == values.ndim
        assert said["meaning"] and len(said["labels"]) in (0, values.shape[1]), task
    # The words taken at their word are what this package answers.
    sigmoid = 1 / (1 + np.exp(-answers["age"].astype(np.float64)))
    years = (sigmoid / sigmoid.sum(axis=1, keepdims=True)) @ np.arange(101)
    assert years == pytest.approx([age.years for age in decode_ages(answers["age"])])
    assert (answers["landmarks"] >= 0).all() and (answers["landmarks"] <= 1).all()

    rule = about["preprocessing"]
    points = np.array([[202.5, 101.0], [247.0, 103.5], [223.5, 127.0], [202.5, 140.0], [245.5, 141.0]])
    by_rule = similarity_from_points(points, np.array(rule["points5_in_crop"]))
    assert by_rule == pytest.approx(crop_matrix(spec, np.zeros(4), points, (512, 512)), abs=1e-4)
    left, right = rule["points5_in_crop"][:2]
    assert right[0] - left[0] == pytest.approx(rule["eye_distance"] * rule["size"])
    assert left[1] == pytest.approx(rule["eye_height"] * rule["size"])
    box, (side, middle) = np.array([90.0, 40.0, 190.0, 180.0]), (rule["size"], rule["size"] / 2)
    scale = rule["eye_distance"] * side / ((100 + 0.74 * 140) / 4.44)
    eyes = crop_matrix(spec, box, None, (512, 512)) @ (140, 40 + 0.395 * 140, 1)
    assert eyes == pytest.approx([middle, rule["eye_height"] * side])
    assert crop_matrix(spec, box, None, (512, 512))[0, 0] == pytest.approx(scale)
    assert "0.395 height" in rule["rule"] and "/ 4.44" in rule["rule"]
    assert "centre" in rule["face_tokens_rule"]


def test_every_kind_policy_and_face_token_rule_has_its_words():
    assert set(sidecar.MEANINGS) == set(KINDS)
    assert set(sidecar.CROP_RULES) == set(POLICIES) and set(sidecar.FACE_RULES) == set(FACE_TOKENS)


def test_task_named_twice_is_exported_once(tiny_model, tmp_path):
    out = tmp_path / "age.onnx"
    done = CliRunner().invoke(
        app, ["export", "--model", str(tiny_model), "--out", str(out), "--tasks", "age, age"]
    )
    assert done.exit_code == 0, done.output
    assert [output.name for output in onnx.load(str(out)).graph.output] == ["age"]


def test_no_file_stays_without_its_sidecar(tiny_model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(exporter, "describe_outputs", full)
    with pytest.raises(OSError, match="No space"):
        export_file(tiny_model, tmp_path / "x.onnx", tasks=["age"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError, match=r"x\.json"):
        export_file(tiny_model, tmp_path / "x.onnx", tasks=["age"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.fixture(scope="module")
def jittered(tmp_path_factory, portrait_path):
    """The portrait's face in sixteen sizes, places, angles and lights."""
    folder, rng = tmp_path_factory.mktemp("jittered"), np.random.default_rng(0)
    image = cv2.imread(str(portrait_path))
    for number in range(16):
        matrix = cv2.getRotationMatrix2D((224.0, 120.0), rng.uniform(-12, 12), rng.uniform(0.8, 1.25))
        matrix[:, 2] += rng.uniform(-6, 6, 2) + (-64, 0)
        seen = cv2.warpAffine(image, matrix, (320, 288), borderMode=cv2.BORDER_REPLICATE)
        cv2.imwrite(str(folder / f"{number:02}.png"), (seen * rng.uniform(0.7, 1.0)).astype(np.uint8))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported_once():
    """`export_onnx` that makes a file of the same words but once: fp32 and int8 begin alike."""
    made = {}

    def export(network, metadata, path, *, tasks, half, check):
        if (key := (tuple(tasks), half)) not in made:
            export_onnx(network, metadata, path, tasks=tasks, half=half, check=check)
            made[key] = path.read_bytes()
        path.write_bytes(made[key])

    return export


@pytest.mark.parametrize(
    ("precision", "tasks", "tolerance"),
    [("fp32", None, None), ("fp16", ("recognition", "age"), None), ("int8", None, {"age": 3.0})],
)
def test_shipped_weights_keep_the_stated_limits(
    precision, tasks, tolerance, jittered, exported_once, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporter, "export_onnx", exported_once)
    out = tmp_path / "compact.onnx"
    given = {"tasks": tasks, "precision": precision, "images": jittered}
    exported = export_file("compact", out, tolerance=tolerance, **given)
    assert exported.faces == (8 if precision == "int8" else 16)
    compared = json.loads(exported.sidecar.read_text())["compared_with_torch"]
    limits = {task: LIMITS[precision][TASKS[task].kind] for task in tasks or TASKS} | (tolerance or {})
    assert {task: one["accepted"] for task, one in compared["distances"].items()} == limits
    assert all(one["distance"] <= one["accepted"] for one in compared["distances"].values())
    if precision == "int8":
        assert compared["on"] == "faces it was not calibrated on" and compared["calibrated_on_faces"] == 8
        assert exported.distances["age"] > 1e-3  # else nothing would have been rounded
        assert_computes_in_int8(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compact.json", "compact.onnx"]


def assert_computes_in_int8(file):
    """Small, with a product of each task and mixture left to the routers, and still a network that is cut."""
    program = onnx.load(str(file))
    assert onnx.TensorProto.INT8 in {one.data_type for one in program.graph.initializer}
    assert rounded_router_products(file) == (12, [])
    assert file.stat().st_size < 0.8 * asset_path("compact").stat().st_size
    runner = load_runner(file, tasks=["age"])  # metadata kept, and it can be cut
    crops = np.zeros((5, 112, 112, 3), np.uint8)
    assert runner.run(crops, np.ones((5, 49), bool), ["age"])["age"].shape == (5, 101)


@pytest.mark.parametrize(("precision", "narrow"), [("fp32", 1e-9), ("int8", 1e-3)])
def test_beyond_the_tolerance_nothing_is_written(
    precision, narrow, jittered, exported_once, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporter, "export_onnx", exported_once)
    with pytest.raises(ModelError, match=rf"{precision} file are too far.*age is off by .* {narrow:g}"):
        export_file(
            "compact",
            tmp_path / "x.onnx",
            precision=precision,
            images=jittered,
            tolerance={"age": narrow},
        )
    assert list(tmp_path.iterdir()) == []


def test_int8_without_enough_faces_is_refused(tiny_model, tmp_path, portrait_path):
    with pytest.raises(ModelError, match="at least 8"):
        export_file(tiny_model, tmp_path / "x.onnx", precision="int8", images=[portrait_path])


def spec_of(model):
    from faceum.model.checkpoint import load_checkpoint

    return load_checkpoint(model)[0].config.crop_of("age")


def test_most_faces(tiny_model, images, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_FACES", 3)
    crops, masks, places = evidence.faces_in(sorted(images.iterdir()), spec_of(tiny_model))
    assert crops.shape == (3, 64, 64, 3) and masks.shape == (3, 16) and masks.any()
    assert places.tolist() == [0, 1, 2]


def test_int8_is_compared_on_other_images_than_it_was_calibrated_on(tiny_model, monkeypatch):
    spec = spec_of(tiny_model)
    crops = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    masks = np.ones((5, 16), bool)
    monkeypatch.setattr(evidence, "FEWEST_TO_CALIBRATE", 2)

    def found(*places):
        monkeypatch.setattr(evidence, "faces_in", lambda *_: (crops, masks, np.array(places)))
        made = evidence.evidence_in([], spec, calibrate=True)
        pairs = made.calibration[0], made.compared[0]
        return made.on, *(np.rint(one[:, 0, 0, 0] * 255).tolist() for one in pairs)

    # The second and fifth image have no face, the third has two.
    assert found(0, 2, 2, 3, 5) == ("faces it was not calibrated on", [0, 3], [1, 2, 4])
    every = [0, 1, 2, 3, 4]
    assert found(1, 1, 1, 1, 1) == ("the faces it was calibrated on, of one image", every, every)


def test_plain_network_is_checked_on_the_faces_too(tiny_model, images, tmp_path, monkeypatch):
    seen = []
    whole = exporter.export_onnx
    monkeypatch.setattr(
        exporter, "export_onnx", lambda *given, **named: seen.append(named["check"]) or whole(*given, **named)
    )
    export_file(tiny_model, tmp_path / "x.onnx", tasks=["age"], images=sorted(images.iterdir())[:2])
    expected = evidence.faces_in(sorted(images.iterdir())[:2], spec_of(tiny_model))
    assert np.array_equal(seen[0][0], evidence.network_input(expected[0]))
    assert np.array_equal(seen[0][1], expected[1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "x.pt"], ".onnx"),
        (["--out", "x.onnx", "--format", "engine"], "no format 'engine'"),
        (["--out", "x.onnx", "--precision", "fp8"], "no precision 'fp8'"),
        (["--out", "x.onnx", "--tolerance", "age"], "TASK=NUMBER"),
        (["--out", "x.onnx", "--tolerance", "agee=1"], "'agee'"),
        (["--out", "x.onnx", "--tasks", "agee"], "no task 'agee'"),
    ],
)
def test_wrong_words_give_sentences(tiny_model, words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "--model", str(tiny_model), *words])
    assert done.exit_code == 2 and sentence in done.output
    assert list(tmp_path.iterdir()) == []
