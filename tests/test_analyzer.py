"""FaceAnalyzer on a tiny network: order, shapes, sources, given boxes, failures, threads, processes."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from faceum.analyzer import GROUP_SIZES, MAX_CROPS, MAX_WORKERS, FaceAnalyzer
from faceum.crop import points5_from_landmarks
from faceum.detect.base import Detection
from faceum.errors import FaceumError, ImageError, ModelError
from faceum.tasks import TASKS

SUFFIXES = {"onnxruntime": ".onnx", "torch": ".safetensors"}
FACE = np.array([176, 64, 271, 188], np.float32)
EYES = np.array([[202, 99], [248, 102], [224, 122], [206, 143], [241, 144]], np.float32)


class FixedDetector:
    """Finds the same faces in every image."""

    name = "fixed"

    def __init__(self, *faces):
        self.faces = list(faces)
        self.seen = 0

    def detect(self, image_HWC, *, min_score=0.5):
        self.seen += 1
        return [face for face in self.faces if face.score >= min_score]


def detection(shift=0.0, score=0.9):
    return Detection(box=FACE + shift, points5=EYES + shift, score=score)


@pytest.fixture(scope="module")
def onnx_model(tiny_model):
    return tiny_model.with_suffix(".onnx")


@pytest.fixture(scope="module")
def analyzer(onnx_model):
    return FaceAnalyzer(onnx_model, detector=FixedDetector(detection(), detection(100, 0.7)), threads=1)


def same(one, two, tolerance=1e-5):
    """Whether two faces have the same answers."""
    assert one.embedding == pytest.approx(two.embedding, abs=tolerance)
    assert one.age.years == pytest.approx(two.age.years, abs=1e-2)
    assert one.landmarks == pytest.approx(two.landmarks, abs=1e-2)
    assert (one.parsing.class_map == two.parsing.class_map).mean() > 0.99
    assert one.attributes == pytest.approx(two.attributes, abs=1e-3)
    assert one.box == pytest.approx(two.box)


def test_every_face_has_every_answer(analyzer, portrait):
    faces = analyzer.analyze(portrait)
    assert [face.score for face in faces] == [0.9, 0.7]
    for face in faces:
        assert face.box.shape == (4,) and face.points5.shape == (5, 2)
        assert face.embedding.shape == (512,) and np.linalg.norm(face.embedding) == pytest.approx(1)
        assert 0 <= face.age.years <= 100 and len(face.attributes) == 40
        assert sum(face.expression.probabilities.values()) == pytest.approx(1)
        assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float32
        assert face.parsing.class_map.shape == (64, 64) and face.parsing.matrix.shape == (2, 3)
    # Points of a random network lie near the crop's middle, and so on the face in the image.
    assert np.linalg.norm(faces[0].landmarks.mean(axis=0) - (224, 122)) < 60


def test_only_asked_tasks_are_answered(onnx_model, portrait):
    analyzer = FaceAnalyzer(onnx_model, tasks=["expression", "age"], detector=FixedDetector(detection()))
    (face,) = analyzer.analyze(portrait)
    assert analyzer.tasks == ("age", "expression")
    assert face.age is not None and face.expression is not None
    assert face.embedding is None and face.attributes is None
    assert face.landmarks is None and face.parsing is None


def test_min_score_and_max_faces(onnx_model, portrait):
    detector = FixedDetector(detection(0, 0.4), detection(10, 0.9), detection(20, 0.6))
    kept = FaceAnalyzer(onnx_model, detector=detector, min_score=0.5).analyze(portrait)
    assert [face.score for face in kept] == [0.9, 0.6]
    kept = FaceAnalyzer(onnx_model, detector=detector, min_score=0.5, max_faces=1).analyze(portrait)
    assert [face.score for face in kept] == [0.9]


def test_no_face_is_an_empty_result(onnx_model):
    analyzer = FaceAnalyzer(onnx_model, detector=FixedDetector())
    result = analyzer.analyze(np.zeros((9, 9, 3), np.uint8))
    assert result.faces == [] and len(result) == 0 and not result


def test_more_faces_than_one_call(onnx_model, portrait):
    count = MAX_CROPS + 3
    analyzer = FaceAnalyzer(onnx_model, detector=FixedDetector(*[detection(i) for i in range(count)]))
    faces = analyzer.analyze(portrait)
    assert len(faces) == count
    same(faces[-1], analyzer.analyze(portrait, boxes=[FACE + count - 1], points5=[EYES + count - 1])[0])


def test_answer_does_not_depend_on_the_source(analyzer, portrait, portrait_path, tmp_path):
    (reference, *_) = analyzer.analyze(portrait)
    same(reference, analyzer.analyze(portrait_path)[0])
    same(reference, analyzer.analyze(str(portrait_path))[0])
    same(reference, analyzer.analyze(portrait_path.read_bytes())[0])
    same(reference, analyzer.analyze(Image.open(portrait_path))[0])
    same(reference, analyzer.analyze(portrait[..., ::-1], bgr=True)[0])
    turned = Image.fromarray(np.rot90(portrait).copy())
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    same(reference, analyzer.analyze(tmp_path / "turned.png")[0])


def test_given_faces_replace_the_detector(onnx_model, portrait):
    detector = FixedDetector()
    analyzer = FaceAnalyzer(onnx_model, detector=detector)
    small, large = FACE + 100, FACE
    faces = analyzer.analyze(portrait, boxes=[small, large], points5=[EYES + 100, EYES])
    assert detector.seen == 0
    assert [face.box.tolist() for face in faces] == [small.tolist(), large.tolist()]
    assert all(face.score is None for face in faces)
    same(faces[1], analyzer.analyze(portrait, boxes=[large], points5=[EYES])[0])
    assert list(analyzer.analyze(portrait, boxes=[])) == []


def test_box_alone_gets_points_from_the_network(analyzer, portrait):
    (face,) = analyzer.analyze(portrait, boxes=[FACE])
    assert face.points5.shape == (5, 2)
    # A second look with these points gives the very same answer.
    same(face, analyzer.analyze(portrait, boxes=[FACE], points5=[face.points5])[0])


def test_box_alone_asks_landmarks_first(onnx_model, portrait, monkeypatch):
    analyzer = FaceAnalyzer(onnx_model, tasks=["age"], detector=FixedDetector())
    asked, run = [], analyzer._runner.run

    def watched(crops, masks, tasks):
        asked.append(tuple(tasks))
        return run(crops, masks, tasks)

    monkeypatch.setattr(analyzer._runner, "run", watched)
    (face,) = analyzer.analyze(portrait, boxes=[FACE])
    assert asked == [("landmarks",), ("age",)]
    assert face.landmarks is None and face.points5 is not None


def test_cropped_face_is_its_own_box(analyzer, portrait):
    chip = portrait[40:210, 140:310]
    (face,) = analyzer.analyze(chip, cropped=True)
    assert face.box.tolist() == [0, 0, 170, 170] and face.score is None
    same(face, analyzer.analyze(chip, boxes=[[0, 0, 170, 170]])[0])
    with pytest.raises(FaceumError, match="its own box"):
        analyzer.analyze(chip, boxes=[FACE], cropped=True)


def test_predicted_points_are_those_of_the_landmarks(analyzer, portrait):
    from faceum.crop import crop_face
    from faceum.decode import decode_answers

    spec = analyzer._runner.card.crop_of("landmarks")
    crop = crop_face(portrait, spec, FACE)
    outputs = analyzer._runner.run(crop.image[None], crop.face_tokens_N[None], ["landmarks"])
    expected = points5_from_landmarks(decode_answers(outputs, [crop])[0]["landmarks"])
    (face,) = analyzer.analyze(portrait, boxes=[FACE])
    assert face.points5 == pytest.approx(expected, abs=1e-3)


def test_both_runtimes_give_one_answer(tiny_model, portrait):
    detector = FixedDetector(detection())
    answers = [
        FaceAnalyzer(tiny_model, runtime=runtime, device="cpu", detector=detector).analyze(portrait)[0]
        for runtime in ("torch", "onnxruntime")
    ]
    same(*answers, tolerance=1e-3)


def test_many_images_keep_order_and_bad_ones_fail_alone(analyzer, portrait, tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), portrait[..., ::-1])
    (tmp_path / "empty.png").touch()
    images = (one for one in [tmp_path / "good.png", tmp_path / "empty.png", "missing.png", portrait, 7])
    results = list(analyzer.analyze_many(images))
    assert [result.error is None for result in results] == [True, False, False, True, False]
    assert results[0].source == str(tmp_path / "good.png") and results[3].source is None
    assert (results[0].width, results[0].height) == (512, 512)
    assert "empty.png" in results[1].error and results[1].faces is None
    assert "missing.png" in results[2].error and "int" in results[4].error
    same(results[0].faces[0], results[3].faces[0])


class Moody:
    """A detector that runs out of memory, or has a mistake, with images of one brightness."""

    name = "moody"

    def detect(self, image_HWC, *, min_score=0.5):
        if image_HWC.max() == 0:
            raise MemoryError("no room")
        if image_HWC.max() == 1:
            cv2.cvtColor(np.zeros((2, 2, 5), np.uint8), cv2.COLOR_RGB2GRAY)
        if image_HWC.max() == 2:
            raise ZeroDivisionError("a mistake")
        return [detection()]


def test_image_that_breaks_the_detector_fails_alone(onnx_model, portrait):
    analyzer = FaceAnalyzer(onnx_model, detector=Moody(), threads=2)
    dark, odd = portrait * 0, portrait * 0 + 1
    results = list(analyzer.analyze_many([portrait, dark, odd, portrait]))
    assert [result.error is None for result in results] == [True, False, False, True]
    assert "MemoryError: no room" in results[1].error and "number of channels" in results[2].error
    same(results[0].faces[0], results[3].faces[0])
    with pytest.raises(MemoryError):
        analyzer.analyze(dark)


def test_errors_of_own_detectors_are_raised(onnx_model, portrait):
    results = FaceAnalyzer(onnx_model, detector=Moody(), threads=2).analyze_many([portrait, portrait * 0 + 2])
    assert next(results).error is None
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_many_images_are_taken_a_few_ahead(analyzer, portrait):
    taken = []

    def images():
        for number in range(1000):
            taken.append(number)
            yield portrait

    results = analyzer.analyze_many(images(), boxes=([] for _ in range(1000)))
    ahead = 0
    for number, _ in zip(range(40), results, strict=False):
        ahead = max(ahead, len(taken) - number)
    assert 1 < ahead <= 2 * MAX_WORKERS + 3 * GROUP_SIZES["cpu"]


def test_many_images_with_boxes(analyzer, portrait):
    results = list(analyzer.analyze_many([portrait] * 3, boxes=[[FACE], None, [[9, 9, 9, 9]]]))
    assert [None if r.faces is None else len(r.faces) for r in results] == [1, 2, None]
    assert "no width" in results[2].error


@pytest.mark.parametrize("count", [1, 3])
def test_boxes_must_be_as_many_as_images(analyzer, portrait, count):
    results = analyzer.analyze_many([portrait] * 2, boxes=[[FACE]] * count)
    with pytest.raises(FaceumError, match="boxes"):
        list(results)


def test_one_image_is_not_many(analyzer, portrait):
    for one in ("x.png", b"bytes", portrait, 3):
        with pytest.raises(FaceumError, match="iterable of images"):
            analyzer.analyze_many(one)
    assert len(list(analyzer.analyze_many(np.stack([portrait] * 2)))) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": ["agee"]}, "did you mean 'age'"),
        ({"tasks": "age"}, "a list of names"),
        ({"tasks": []}, "No task was asked for"),
        ({"min_score": 7}, "lie in 0..1"),
        ({"max_faces": 0}, "at least 1"),
        ({"threads": 0}, "at least 1"),
        ({"detector": "centreface"}, "did you mean 'centerface'"),
    ],
)
def test_wrong_options_raise(onnx_model, options, sentence):
    with pytest.raises(ModelError, match=sentence):
        FaceAnalyzer(onnx_model, **options)


def test_wrong_arrays_raise(analyzer):
    for array in (np.full((9, 9, 3), np.nan), np.zeros((9, 9, 3), np.int64), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(ImageError):
            analyzer.analyze(array)


@pytest.mark.parametrize("shape", [(1, 1), (100, 20_000), (20_000, 100)])
def test_odd_images_have_no_faces(onnx_model, shape):
    analyzer = FaceAnalyzer(onnx_model, threads=1)
    assert len(analyzer.analyze(np.full((*shape, 3), 127, np.uint8))) == 0


@pytest.mark.parametrize(
    "box", [[0, 0, 1, 1], [511.5, 511.5, 512, 512], [-900, -900, 1, 1], [-4e4, -4e4, 4e4, 4e4]]
)
def test_odd_boxes_are_answered(analyzer, portrait, box):
    (face,) = analyzer.analyze(portrait, boxes=[box])
    assert np.isfinite(face.embedding).all() and np.isfinite(face.landmarks).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_many_threads_share_one_analyzer(tiny_model, portrait, runtime):
    found = FixedDetector(detection(), detection(100, 0.7))
    analyzer = FaceAnalyzer(
        tiny_model.with_suffix(SUFFIXES[runtime]), runtime=runtime, detector=found, threads=2
    )
    shifted = [np.roll(portrait, shift, axis=1) for shift in range(8)]
    alone = [analyzer.analyze(image)[0] for image in shifted]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda image: analyzer.analyze(image)[0], shifted * 4))
    for i, face in enumerate(together):
        same(face, alone[i % 8])


def test_results_fulfil_the_schema(analyzer, portrait):
    jsonschema = pytest.importorskip("jsonschema")
    from faceum.results import result_schema

    for result in analyzer.analyze_many([portrait, io.BytesIO()]):
        jsonschema.validate(result.to_dict(), result_schema())


def test_every_task_is_offered(analyzer):
    assert analyzer.tasks == tuple(TASKS)


def test_analyze_keeps_the_image_and_analyze_many_only_if_asked(analyzer, portrait, portrait_path):
    result = analyzer.analyze(portrait_path)
    assert np.array_equal(result.image, portrait) and result.source == str(portrait_path)
    assert (result.width, result.height, result.error) == (512, 512, None)
    (plain,) = analyzer.analyze_many([portrait_path])
    (kept,) = analyzer.analyze_many([portrait_path], keep_images=True)
    assert plain.image is None and np.array_equal(kept.image, portrait)
    assert plain == kept == result


def test_faces_carry_the_model_and_both_formats_have_their_own_hash(analyzer, tiny_model, portrait):
    from faceum.files import sha256_of

    digest = sha256_of(tiny_model.with_suffix(".onnx"))
    assert {face.model for face in analyzer.analyze(portrait)} == {f"tiny@{digest[:8]}"}


def test_boxes_are_keyword_only(analyzer, portrait):
    with pytest.raises(TypeError):
        analyzer.analyze(portrait, [FACE])
    with pytest.raises(TypeError):
        analyzer.analyze_many([portrait], [[FACE]])


def test_max_pixels_refuses_larger_images(onnx_model, portrait):
    analyzer = FaceAnalyzer(onnx_model, detector=FixedDetector(), max_pixels=512 * 512 - 1)
    with pytest.raises(ImageError, match="512 x 512"):
        analyzer.analyze(portrait)
    assert len(analyzer.analyze(portrait[1:])) == 0


def test_pickled_analyzer_answers_the_same(onnx_model, portrait):
    analyzer = FaceAnalyzer(onnx_model, tasks=["age"], detector=FixedDetector(detection()), threads=1)
    again = pickle.loads(pickle.dumps(analyzer))
    assert again.tasks == ("age",) and repr(again) == repr(analyzer)
    assert again.analyze(portrait) == analyzer.analyze(portrait)


def test_repr_is_short(analyzer, portrait):
    assert "tiny" in repr(analyzer) and len(repr(analyzer)) < 200
    assert len(repr(analyzer.analyze(portrait)[0])) < 200


def test_with_options_shares_the_networks_and_changes_the_answers(portrait: np.ndarray) -> None:
    whole = FaceAnalyzer(runtime="onnxruntime")
    other = whole.with_options(tasks=["age"], max_faces=1)
    assert other._runner is whole._runner and other._detector is whole._detector
    assert whole.tasks != other.tasks == ("age",)
    (face,) = other.analyze(portrait)
    assert face.landmarks is None and face.age == whole.analyze(portrait)[0].age
    near = whole.with_options(min_face=60)
    assert len(near.analyze(portrait)) == 1 and near.with_options(min_face=24)._detector is whole._detector
    with pytest.raises(ModelError, match="min_face"):
        whole.with_options(min_face=0)
    with pytest.raises(ModelError, match="min_score"):
        whole.with_options(min_score=2)
    with pytest.raises(ModelError, match="landmarks"):
        other.with_options(tasks=["landmarks"])
