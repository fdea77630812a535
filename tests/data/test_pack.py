from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from faceum.cli.app import app
from faceum.data.check import check_packed, fingerprint
from faceum.data.face import read_face
from faceum.data.pack import PackConfig, cut_around, pack, pack_pairs
from faceum.data.pairs import Pairs, PairSet
from faceum.data.parquet import read_corpus, read_packed, read_pairs
from faceum.data.sample import Sample
from faceum.detect.base import Detection
from faceum.errors import DataError
from faceum.geometry import transform_points

BOX = np.array([60.0, 50.0, 140.0, 150.0])


def face(put, path, **labels):
    return Sample(**{"id": path.stem, "source": "made", "image": put(path), "box": BOX} | labels)


@pytest.fixture
def sample(put, tmp_path, landmarks68):
    mask = np.zeros((100, 100), np.uint8)  # at half the image's size
    mask[25:75, 30:70] = 1
    return face(
        put,
        tmp_path / "a1.png",
        age=31,
        gender=1,
        attributes=np.arange(40) % 3 == 0,
        expression_votes=np.array([7, 0, 0, 1, 0, 0, 2, 0]),
        parsing=lambda: mask,
        landmarks68=landmarks68,
        points5=landmarks68[[36, 45, 30, 48, 54]],
        identity=5,
        wears_mask=False,
    )


def test_labels_come_back_as_they_went_in(sample, tmp_path):
    path = tmp_path / "made.train.parquet"
    report = pack([sample], path, config=PackConfig(margin=None, face_pixels=None))
    assert (report.written, report.skipped) == (1, [])
    (back,) = read_packed(path)
    for name in ("id", "source", "age", "gender", "identity", "wears_mask"):
        assert getattr(back, name) == getattr(sample, name)
    for name in ("attributes", "expression_votes", "landmarks68", "points5", "box"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sample, name))
    assert (back.parsing() == np.kron(sample.parsing(), np.ones((2, 2), int))).all()
    assert np.abs(back.read().astype(int) - sample.read()).mean() < 6


def test_other_readers_of_packed_faces_read_it(sample, tmp_path):
    pack([sample, replace(sample, id="a2", age=None)], tmp_path / "made.train.parquet")
    first, second = map(read_face, read_packed(tmp_path / "made.train.parquet"))
    assert first.labels["age"] == 31 and "age" not in second.labels
    assert first.labels["parsing"].shape == first.image.shape[:2]
    labelled, _ = map(read_face, read_corpus(tmp_path, "made", "train"))
    assert labelled.labels["identity"] == 5 and labelled.points5 is not None


def test_answers_of_other_networks_are_read_back(sample, tmp_path):
    """A teacher's bytes, another's floats, and whether landmarks were drawn by hand."""
    by_bytes = np.arange(-128, 128).astype(np.int8)
    by_floats = np.random.default_rng(0).normal(size=256).astype(np.float32)
    taught = [
        replace(sample, id="bytes", embedding=by_bytes, rough_landmarks=True),
        replace(sample, id="floats", embedding=by_floats),
        sample,
    ]
    path = tmp_path / "made.train.parquet"
    assert pack(taught, path).written == 3
    assert [one.rough_landmarks for one in read_packed(path)] == [True, False, False]
    faces = list(map(read_face, read_corpus(tmp_path, "made", "train")))
    assert [one.rough_landmarks for one in faces] == [True, False, False]
    for found in (
        [one.embedding for one in read_packed(path)],
        [one.labels.get("embedding") for one in faces],
    ):
        np.testing.assert_array_equal(found[0], by_bytes)
        np.testing.assert_array_equal(found[1], by_floats)
        assert found[2] is None
    assert pack(read_packed(path), tmp_path / "again.train.parquet").written == 3
    (again, *_) = read_packed(tmp_path / "again.train.parquet")
    assert again.rough_landmarks and (again.embedding == by_bytes).all(), "packed again, too"


def test_packed_row_is_named_by_its_file_and_id(sample, tmp_path):
    path = tmp_path / "made.train.parquet"
    pack([sample], path)
    (back,) = read_packed(path)
    assert back.name == f"{path}, row a1"
    report = pack([replace(back, age=300), back], tmp_path / "again.train.parquet")
    assert report.skipped[0].startswith(f"{path}, row a1: its age is 300")


def test_everything_moves_with_the_cut(sample, tmp_path):
    pack([sample], tmp_path / "made.train.parquet", config=PackConfig(margin=1.5, face_pixels=50))
    (back,) = read_packed(tmp_path)
    # 150 pixels around the box's middle (100, 100), shrunk to half
    assert back.read().shape == (75, 75, 3)
    np.testing.assert_allclose(back.box, (BOX - 25) / 2)
    np.testing.assert_allclose(back.landmarks68, (sample.landmarks68 - 25) / 2, atol=1e-5)
    mask = back.parsing()
    assert mask.shape == (75, 75)
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], back.box, atol=1
    )


@pytest.mark.parametrize(
    "box", [[-40, -40, 60, 60], [150, 150, 260, 260], [90, 90, 110, 110], [0, 0, 200, 200]]
)
def test_cuts_stay_in_the_image(box):
    matrix, (height, width) = cut_around((200, 180), np.array(box, float), PackConfig(face_pixels=40))
    corners = transform_points(np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2], [[0, 0], [width, height]])
    assert (corners > -1e-9).all() and (corners <= np.array([180, 200]) + 1e-9).all()
    assert np.linalg.norm(matrix[0, :2]) == pytest.approx(min(1, 40 / (box[2] - box[0])), rel=0.03)


def test_only_used_columns_are_written(put, tmp_path):
    pack([face(put, tmp_path / "a.png"), face(put, tmp_path / "b.png", age=3)], tmp_path / "x.train.parquet")
    names = parquet.read_schema(tmp_path / "x.train.parquet").names
    assert "age" in names and "points5" in names
    unused = {"parsing", "attributes", "identity", "wears_mask", "embedding", "rough_landmarks"}
    assert not unused & set(names)


def test_many_row_groups_are_one_file(put, tmp_path):
    samples = [face(put, tmp_path / f"{number}.png", age=number) for number in range(5)]
    seen = []
    config = PackConfig(rows=2)
    pack(
        samples,
        tmp_path / "x.train.parquet",
        config=config,
        progress=lambda report: seen.append(report.written),
    )
    assert seen == [2, 4]
    assert [back.age for back in read_packed(tmp_path)] == [0, 1, 2, 3, 4]


def test_wrong_samples_are_skipped_or_refused(put, tmp_path):
    good = face(put, tmp_path / "good.png")
    wrong = [
        replace(good, id="old", age=300),
        replace(good, id="broken", image=b"no image"),
        replace(good, id="away", box=BOX + 5000),
    ]
    path = tmp_path / "x.train.parquet"
    report = pack([*wrong, good], path)
    assert report.written == 1 and len(report.skipped) == 3
    for sentence, word in zip(
        report.skipped, ("age is 300", "made broken", "outside the image"), strict=True
    ):
        assert word in sentence
    for sample in wrong:
        with pytest.raises(DataError):
            pack([good, sample], path, config=PackConfig(refuse=True))
    assert len(list(read_packed(path))) == 1, "a refused packing leaves the old file"
    with pytest.raises(DataError, match="Nothing was packed, 1 sample .*age is 300"):
        pack(wrong[:1], tmp_path / "y.parquet")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["good.png", "x.train.parquet"]


class OneFace:
    """A detector that sees one face, always at the same place."""

    name = "one"

    def __init__(self, box):
        self.found = Detection(box=np.float32(box), points5=np.ones((5, 2), np.float32), score=0.8)

    def detect(self, image_HWC, *, min_score=0.5):
        return [self.found]


def test_detected_box_replaces_labelled_box(put, tmp_path):
    sample = face(put, tmp_path / "a.png")
    whole = PackConfig(margin=None, face_pixels=None)
    path = tmp_path / "x.train.parquet"
    for labelled, seen, box, score in (
        (BOX, BOX + 4, BOX + 4, 0.8),
        (BOX, BOX + 80, BOX, 0.0),
        (None, BOX + 80, BOX + 80, 0.8),
    ):
        pack([replace(sample, box=labelled)], path, config=whole, detector=OneFace(seen))
        (row,) = parquet.read_table(path).to_pylist()
        np.testing.assert_allclose(row["box"], box)
        assert row["detector_score"] == pytest.approx(score)
    pack([replace(sample, box=None)], path, config=whole)
    (row,) = parquet.read_table(path).to_pylist()
    assert row["box"] == [0, 0, 200, 200] and row["detector_score"] == 0


def test_identity_numbers_agree_between_files(put, tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        pack([face(put, tmp_path / f"{name}.png", identity="anna")], tmp_path / f"x.{split}.parquet")
    rows = [parquet.read_table(tmp_path / f"x.{split}.parquet").to_pylist()[0] for split in ("train", "val")]
    assert rows[0]["identity"] == rows[1]["identity"] >= 0
    assert rows[0]["person"] == "anna"


def test_pairs(tmp_path):
    pairs = Pairs(
        fold=np.array([0, 1]),
        a=np.array(["x", "y"], object),
        b=np.array(["z", "x"], object),
        same=np.array([True, False]),
    )
    assert pack_pairs(PairSet(samples=[], pairs=pairs), tmp_path / "p.parquet") == 2
    back = read_pairs(tmp_path / "p.parquet")
    assert back.a.tolist() == ["x", "y"] and back.same.tolist() == [True, False]
    assert pack_pairs(PairSet(samples=[], pairs=pairs), tmp_path / "p.parquet", skipped=["z"]) == 1
    assert read_pairs(tmp_path / "p.parquet").a.tolist() == ["y"]
    with pytest.raises(DataError, match="Every pair"):
        pack_pairs(PairSet(samples=[], pairs=pairs), tmp_path / "p.parquet", skipped=["x"])


def test_packing_pairs_counts_those_of_skipped_faces(put, tmp_path):
    people = tmp_path / "set" / "lfw"
    for name in ("Anna", "Ben"):
        for number in (1, 2):
            put(people / name / f"{name}_{number:04}.jpg")
    (people / "Ben" / "Ben_0002.jpg").write_bytes(b"no image")
    (tmp_path / "set" / "pairs.txt").write_text(
        "1\t2\nAnna\t1\t2\nBen\t1\t2\nAnna\t1\tBen\t1\nAnna\t2\tBen\t2\n"
    )
    words = [
        "data",
        "pack",
        "lfw",
        str(tmp_path / "set"),
        "--out",
        str(tmp_path / "out"),
        "--split",
        "test",
        "--detector",
        "none",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "3 faces, 1 skipped" in done.output
    assert "2 pairs, left out for skipped faces: 2" in done.output
    pairs = read_pairs(tmp_path / "out" / "lfw-pairs.test.parquet")
    known = {sample.id for sample in read_packed(tmp_path / "out" / "lfw.test.parquet")}
    assert len(pairs) == 2 and {*pairs.a, *pairs.b} <= known


@pytest.fixture
def packed(put, tmp_path):
    """Two good splits, packed; a function packs further samples into a third."""
    folder = tmp_path / "packed"
    faces = [face(put, tmp_path / f"{name}.png", age=20, identity=name) for name in "abcd"]
    whole = PackConfig(margin=None, face_pixels=None)
    pack(faces[:2], folder / "made.train.parquet", config=whole)
    pack(faces[2:], folder / "made.val.parquet", config=whole)

    def add(sample):
        pack([sample], folder / "made.wild.parquet", config=whole)
        return [(problem.kind, problem.sentence) for problem in check_packed([folder])]

    return folder, faces, add


def test_good_files_have_no_problems(packed):
    folder, _, _ = packed
    assert list(check_packed([folder])) == []
    assert list(check_packed([folder / "made.train.parquet", folder / "made.val.parquet"])) == []


def test_leaks_between_splits_are_found(packed, put, tmp_path):
    _, faces, add = packed
    other = put(tmp_path / "other.png")
    ((kind, sentence),) = add(replace(faces[0], id="new", image=other))
    assert kind == "person" and "made.train.parquet, row a" in sentence
    ((kind, sentence),) = add(replace(faces[0], id="new", identity="new"))
    assert kind == "image" and "made.train.parquet, row a" in sentence
    ((kind, sentence),) = add(replace(faces[0], image=other, identity="new"))
    assert kind == "id" and "made.train.parquet, row a" in sentence


def test_broken_rows_are_found(packed):
    folder, _, _ = packed
    path = folder / "made.val.parquet"
    table = parquet.read_table(path)
    rows = table.to_pylist()
    rows[0]["age"] = 300.0
    rows[1]["image"] = rows[1]["image"][:40]
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    problems = list(check_packed([folder]))
    assert [(problem.kind, problem.place) for problem in problems] == [
        ("label", "made.val.parquet, row c"),
        ("broken", "made.val.parquet, row d"),
    ]
    assert problems[0].sentence.startswith("its age is 300"), "its place is named once"
    rows[0]["age"], rows[0]["box"] = 20.0, [500.0, 500.0, 600.0, 600.0]
    parquet.write_table(type(table).from_pylist(rows[:1], schema=table.schema), path)
    ((problem),) = check_packed([path])
    assert problem.kind == "label" and "outside its image of 200 x 200" in problem.sentence


def test_fingerprint_ignores_encoding(put, tmp_path, image):
    gray = np.full((50, 50, 3), 90, np.uint8)
    assert fingerprint(gray) != fingerprint(gray + 1)
    wavy = (image * (1 + 0.3 * np.sin(np.arange(200) / 5))[:, None]).clip(0, 255).astype(np.uint8)
    assert fingerprint(wavy) == fingerprint(wavy.copy())
    assert fingerprint(wavy) != fingerprint(wavy[:, ::-1])


def test_commands(put, tmp_path):
    run = CliRunner().invoke
    for name in ("20_1_0_1.jpg", "300_0_0_1.jpg", "41_0_0_2.jpg"):
        put(tmp_path / "utk" / name)
    out = tmp_path / "out"
    words = [
        "data",
        "pack",
        "utkface",
        str(tmp_path / "utk"),
        "--out",
        str(out),
        "--split",
        "all",
        "--detector",
        "none",
    ]
    result = run(app, words)
    assert result.exit_code == 0, result.output
    assert "2 faces, 1 skipped" in result.output and "age is 300" in result.output
    result = run(app, ["data", "check", str(out)])
    assert (result.exit_code, result.output) == (0, "0 problems\n")
    copy = out / "utkface.val.parquet"
    copy.write_bytes((out / "utkface.all.parquet").read_bytes())
    result = run(app, ["data", "check", str(out)])
    assert result.exit_code == 1 and "4 problems (2 id, 2 image)" in result.output
    result = run(app, [*words, "--refuse"])
    assert result.exit_code == 2 and "age is 300" in result.output
    result = run(app, ["data", "pack", "utkfaces", "x", "--out", str(out)])
    assert result.exit_code == 2 and "celeba" in result.output
    assert run(app, ["data", "check", str(tmp_path / "nowhere")]).exit_code == 2


def test_command_packs_pairs(put, tmp_path):
    for person in ("A", "B"):
        for shot in (1, 2):
            put(tmp_path / f"lfw/{person}/{person}_{shot:04d}.jpg")
    (tmp_path / "pairs.txt").write_text("1\t1\nA\t1\t2\nA\t1\tB\t1\n")
    words = [
        "data",
        "pack",
        "lfw",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--split",
        "test",
        "--detector",
        "none",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert read_pairs(tmp_path / "out/lfw-pairs.test.parquet").same.tolist() == [True, False]
    assert len(list(read_packed(tmp_path / "out", "test"))) == 3
