"""A wrong label costs its own face only: readers go on, and it is named with its file, skipped or refused."""

from __future__ import annotations

import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceum.data.mixture import SourceConfig
from faceum.data.pack import PackConfig, pack
from faceum.data.sample import Sample, check_sample, keep_valid
from faceum.data.sources import read_sources
from faceum.datasets.recordio import HEADER, MAGIC
from faceum.datasets.registry import read_dataset
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES

SIGNS = " ".join(["1"] * len(ATTRIBUTES))
GRAY = " ".join(["9"] * 48 * 48)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(name, root, split="train"):
    """The ids of the good faces, and the sentences about the others."""
    skipped: list[str] = []
    samples = read_dataset(name, root, split)
    good = [sample.id for sample in keep_valid(samples, refuse=False, skipped=skipped)]
    with pytest.raises(DataError, match=r"\.$") as caught:
        list(keep_valid(read_dataset(name, root, split), refuse=True, skipped=[]))
    assert str(caught.value) == skipped[0]
    return good, skipped


def test_problem_of_the_reader_is_reported_first():
    problem = "x.txt, line 3: 'y' should be numbers"
    sample = Sample(id="a", source="made", image=b"", age=300, problem=problem)
    with pytest.raises(DataError, match=r"^made a: x.txt, line 3: 'y' should be numbers\.$"):
        check_sample(sample)
    check_sample(replace(sample, problem=None, age=3))


def test_rafdb(tmp_path):
    lines = "".join(f"train_{place}.jpg {label}\n" for place, label in enumerate((1, 9, "nan", 7, 7, 7)))
    lines += "train_6.jpg\ntrain_7.jpg 7 7\ntest_8.jpg\n"
    write(tmp_path / "EmoLabel/list_patition_label.txt", lines)
    (tmp_path / "Image/original").mkdir(parents=True)
    write(tmp_path / "Annotation/manual/train_3_manu_attri.txt", "1 2\n" * 5 + "nan\n1\n1\n")
    write(tmp_path / "Annotation/boundingbox/train_4_boundingbox.txt", "1 2 x 4")
    good, sentences = read("rafdb", tmp_path)
    assert good == ["rafdb-train_0", "rafdb-train_5"]
    assert "train_1.jpg: " in sentences[0] and "label.txt, line 2 has label 9" in sentences[0]
    for sentence, said in zip(
        sentences[1:],
        (
            "line 3: 'nan' should be a whole number",
            "manu_attri.txt: 'nan' should be",
            "box.txt: '1 2 x 4'",
            "line 7 has 0 words; expected 1",
            "line 8 has 2",
        ),
        strict=True,
    ):
        assert said in sentence
    assert all(one.expression_votes is not None for one in read_dataset("rafdb", tmp_path, "train"))


def test_celeba(tmp_path):
    (tmp_path / "img_celeba").mkdir()
    lines = [SIGNS, SIGNS[2:], SIGNS + " 1", SIGNS.replace("1", "x"), *[SIGNS] * 4]
    rows = "".join(f"{place}.jpg {line}\n" for place, line in enumerate(lines))
    write(tmp_path / "list_attr_celeba.txt", "8\nnames\n" + rows)
    write(tmp_path / "list_landmarks_celeba.txt", "4.jpg 1 2 3 4 5 6 7 8 9\n")
    write(tmp_path / "list_bbox_celeba.txt", "5.jpg 1 2 3 four\n")
    write(tmp_path / "identity_CelebA.txt", "1.jpg 8\n6.jpg nan\n7.jpg\n")
    good, sentences = read("celeba", tmp_path, "all")
    assert good == ["celeba-0"]
    for sentence, said in zip(
        sentences,
        (
            "list_attr_celeba.txt, line 4 has 39 attributes; expected 40",
            "line 5 has 41 attributes",
            "line 6 has attributes other than 1 and -1",
            "list_landmarks_celeba.txt, line 1 has 9 words; expected 10",
            "list_bbox_celeba.txt, line 1: '1 2 3 four' should be numbers",
            "identity_CelebA.txt, line 2: 'nan' should be a whole number",
            "identity_CelebA.txt, line 3 has 0 words; expected 1",
        ),
        strict=True,
    ):
        assert said in sentence
    assert all(one.attributes is not None for one in read_dataset("celeba", tmp_path, "all"))


def test_celebamask(tmp_path, put):
    for number in (0, 1):
        put(tmp_path / f"CelebA-HQ-img/{number}.jpg")
        put(tmp_path / f"mask/{number}.png", np.zeros((8, 8), np.uint8))
    write(tmp_path / "CelebAMask-HQ-attribute-anno.txt", f"2\nnames\n0.jpg {SIGNS[2:]}\n1.jpg {SIGNS}\n")
    good, (sentence,) = read("celebamask", tmp_path, "all")
    assert good == ["celebamask-1"] and "anno.txt, line 3 has 39 attributes" in sentence


def test_fer2013(tmp_path):
    rows = [f"3,{GRAY},Training", f"9,{GRAY},Training", f"nan,{GRAY},Training", "3,1 2 3,Training", "3,1 2"]
    write(tmp_path / "fer2013.csv", "\n".join(["emotion,pixels,Usage", *rows]))
    good, sentences = read("fer2013", tmp_path)
    assert good == ["fer2013-00000"]
    assert "fer2013.csv, line 3 has emotion 9; expected 0 to 6" in sentences[0]
    assert "line 4: 'nan' should be a whole number" in sentences[1] and "got 3" in sentences[2]
    assert "fer2013.csv, line 6 ends before its column Usage: got 2 columns, expected 3" in sentences[3]
    assert read("fer2013", tmp_path, "test") == ([], sentences[3:]), "their split is not known"
    write(tmp_path / "fer2013.csv", f"Usage,emotion,pixels\nTraining,3\nPublicTest,3\nTraining,3,{GRAY}\n")
    good, (sentence,) = read("fer2013", tmp_path)
    assert good == ["fer2013-00002"] and "line 2 ends before its column pixels" in sentence


def test_ferplus(tmp_path):
    votes = ("4,0,0,1,3,2,0,0", "nan,9,0,1,3,2,0,0", "4,0,0,1,x,2,0,0", "0,0,0,0,0,0,0,0", "1,2")
    rows = [f"Training,fer{place}.png,{line}" for place, line in enumerate(votes)]
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    write(tmp_path / "fer2013new.csv", "\n".join([header, *rows]))
    (tmp_path / "FER2013Train").mkdir()
    good, (lost, word, short) = read("ferplus", tmp_path)
    assert good == ["ferplus-fer0"], "votes for nothing are left out without a word"
    assert "fer1.png: its expression votes hold a negative number or NaN" in lost
    assert "fer2.png: " in word and "fer2013new.csv, line 4: " in word
    assert "fer4.png: " in short and "line 6 ends before its column anger, contempt, disgust, fear" in short


def test_ferplus_without_any_vote(tmp_path):
    votes = ("0,9,0,0,0,0,0,0,1,0", "0,0,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,10,0", "0,0,0,0,0,0,0,0,0,10")
    rows = [f"Training,fer{place}.png,{line}" for place, line in enumerate((*votes, votes[1][:-1] + "x"))]
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    write(tmp_path / "fer2013new.csv", "\n".join([header, *rows]))
    (tmp_path / "FER2013Train").mkdir()
    good, (none, word) = read("ferplus", tmp_path)
    assert good == ["ferplus-fer0"], "votes for unknown and NF are left out without a word"
    assert "fer1.png: " in none and "fer2013new.csv, line 3 has no votes, not even for unknown or NF" in none
    assert "fer4.png: " in word and "line 6: '0 x' should be numbers" in word


def test_affectnet(tmp_path):
    (tmp_path / "Manually_Annotated_Images").mkdir()
    labels = (3, 8, 10, 11, "nan", 3)
    rows = [f"3/{place}.jpg,-1,-1,-1,-1,NULL,{label},0,0" for place, label in enumerate(labels)]
    rows[5] = rows[5].replace("NULL", "1;2;3")
    rows += ["3/6.jpg,-1", f"{rows[0]},0"]
    write(tmp_path / "training.csv", "\n".join(rows))
    good, sentences = read("affectnet", tmp_path)
    assert good == ["affectnet-0"], "8 to 10 are no expressions, and left out without a word"
    assert "training.csv, line 4 has expression 11" in sentences[0]
    assert "line 5: 'nan'" in sentences[1] and "line 6 has 3 numbers for its landmarks" in sentences[2]
    assert "6.jpg: " in sentences[3] and "line 7 has 2 words; expected 9" in sentences[3]
    assert "line 8 has 10 words" in sentences[4] and len(sentences) == 5


@pytest.mark.parametrize("age", ["", "old", "nan"])
def test_morph(tmp_path, age):
    write(tmp_path / "morph.csv", f"id_num,gender,age,photo\n1,M,30,a.jpg\n2,F,{age},b.jpg\n")
    good, (sentence,) = read("morph", tmp_path, "all")
    assert good == ["morph-a"] and "b.jpg: " in sentence
    assert ("its age is nan" if age == "nan" else f"morph.csv, line 3: '{age}' should be") in sentence
    assert all(one.age is not None for one in read_dataset("morph", tmp_path, "all"))


def test_morph_short_rows(tmp_path):
    write(tmp_path / "morph.csv", "photo,id_num,gender,age\na.jpg,1,M,30\nb.jpg,1,M\nc.jpg\n")
    good, (short, nobody) = read("morph", tmp_path, "all")
    assert good == ["morph-a"] and "b.jpg: " in short
    assert "morph.csv, line 3 ends before its column age: got 3 columns, expected 4" in short
    for split in ("train", "val", "test"):
        assert nobody in read("morph", tmp_path, split)[1], "whose image it is is not known"


def test_wflw(tmp_path):
    face = " ".join(map(str, range(98 * 2))) + " 10 20 110 140"
    lines = [f"{face} 1 0 0 0 0 0 a.jpg", f"{face} 0 0 0 0 0 b.jpg", f"{face} 1 0 0 0 0 x c.jpg", "d.jpg"]
    lines += ["nan" + f"{face} 1 0 0 0 0 0 e.jpg"[1:], "", f"{face} 0 0 0 0 0 0 f.jpg"]
    (tmp_path / "WFLW_images").mkdir()
    write(tmp_path / "list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt", "\n".join(lines))
    good, sentences = read("wflw", tmp_path, "test")
    assert good == ["wflw-test-00000", "wflw-test-00005"]
    for sentence, said in zip(
        sentences,
        (
            "_test.txt, line 2 has 206 words; expected 206 numbers and a name",
            "line 3: '0 1 2",
            "line 4 has 1",
            "NaN",
        ),
        strict=True,
    ):
        assert said in sentence
    assert "b.jpg: " in sentences[0]
    assert read("wflw", tmp_path, "test-pose") == (good[:1], sentences), "their subset is not known"
    assert all(one.landmarks68 is not None for one in read_dataset("wflw", tmp_path, "test"))


def test_lapa(tmp_path, put):
    points = "\n".join(f"{x} {x * 3 % 50}" for x in range(106))
    files = {"a": f"106\n{points}", "b": f"105\n{points[4:]}", "c": "", "d": f"106\n{points[:-2]}x"}
    files |= {"e": f"106\nnan {points[2:]}", "f": None}
    for name, text in files.items():
        put(tmp_path / f"train/images/{name}.jpg")
        put(tmp_path / f"train/labels/{name}.png", np.zeros((8, 8), np.uint8))
        if text is not None:
            write(tmp_path / f"train/landmarks/{name}.txt", text)
    good, sentences = read("lapa", tmp_path)
    assert good == ["lapa-a"]
    for sentence, said in zip(
        sentences,
        (
            "b.txt holds 105 points",
            "c.txt holds 0 points",
            "d.txt, line 107: ",
            "e.txt holds NaN",
            "are missing: looked for",
        ),
        strict=True,
    ):
        assert said in sentence
    assert all(one.parsing is not None for one in read_dataset("lapa", tmp_path, "train"))


def test_pts(tmp_path, put, landmarks68):
    points = "\n".join(f"{x} {y}" for x, y in landmarks68)
    for name, text in (("a", points), ("b", "1 2 x"), ("c", points)):
        write(tmp_path / f"ibug/{name}.pts", f"n_points: 68\n{{\n{text}\n}}")
    put(tmp_path / "ibug/a.jpg")
    put(tmp_path / "ibug/b.jpg")
    good, (words, alone) = read("300w", tmp_path, "challenging")
    assert good == ["300w-ibug-a"]
    assert "b.jpg: " in words and "b.pts: '1 2 x' should be numbers" in words
    assert "c.pts has no image: looked for c.jpg" in alone
    assert all(one.landmarks68 is not None for one in read_dataset("300w", tmp_path, "challenging"))


def test_recordio(tmp_path):
    data, index = b"", ""
    image = cv2.imencode(".png", np.zeros((12, 12, 3), np.uint8))[1].tobytes()
    for key, label in enumerate((3.0, float("nan"), 0.5, 4.0)):
        record = HEADER.pack(0, label, 0, 0) + image
        index += f"{key}\t{len(data)}\n"
        data += struct.pack("<II", MAGIC, len(record)) + record + bytes(-len(record) % 4)
    (tmp_path / "train.rec").write_bytes(data)
    write(tmp_path / "train.idx", index)
    good, (lost, half) = read("recordio", tmp_path)
    assert [name.rpartition("-")[2] for name in good] == ["0", "3"]
    assert "train.rec, record 1: its label is nan; expected the whole number of a person" in lost
    assert "record 2: its label is 0.5" in half
    assert all(one.identity is not None for one in read_dataset("recordio", tmp_path, "train"))


@pytest.fixture
def rafdb(tmp_path, put):
    write(tmp_path / "EmoLabel/list_patition_label.txt", "train_1.jpg 9\ntrain_2.jpg 1\n")
    for name in ("train_1", "train_2"):
        put(tmp_path / f"Image/original/{name}.jpg")
    return tmp_path


def test_training_skips_or_refuses(rafdb):
    for lazy in (False, True):
        shares = {"rafdb": SourceConfig(batch_size=1, reader="rafdb", path=str(rafdb), lazy=lazy)}
        data = read_sources(shares, "", read_dataset)
        assert len(data.faces["rafdb"]) == 1 and "line 1 has label 9" in data.skipped[0]
        with pytest.raises(DataError, match="train_1.jpg: .*line 1 has label 9"):
            read_sources(shares, "", read_dataset, refuse=True)


def test_packing_skips_or_refuses(rafdb):
    path = rafdb / "rafdb.train.parquet"
    report = pack(read_dataset("rafdb", rafdb, "train"), path)
    assert report.written == 1 and "line 1 has label 9" in report.skipped[0]
    with pytest.raises(DataError, match="train_1.jpg: .*line 1 has label 9"):
        pack(read_dataset("rafdb", rafdb, "train"), path, config=PackConfig(refuse=True))
