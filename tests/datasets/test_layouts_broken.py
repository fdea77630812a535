"""Tables and lists that are broken: every reader names the file and the line, and no traceback is seen."""

from __future__ import annotations

import pickle
import re

import pytest

from faceum.datasets.insightface_bin import read_bin
from faceum.datasets.registry import PAIR_SETS, read_dataset
from faceum.datasets.text import read_csv
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES

SIGNS = " ".join(["1"] * len(ATTRIBUTES))


def refused(name, root, split="train"):
    with pytest.raises(DataError) as caught:
        PAIR_SETS[name](root, split) if name in PAIR_SETS else list(read_dataset(name, root, split))
    return str(caught.value)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "pairs.txt, line 1, should say the number of folds"),
        ("\n\n", "pairs.txt, line 1, should say"),
        ("0 0\n", "pairs.txt, line 1 should say the number of folds.*got '0 0'"),
        ("1 1 1\n", "pairs.txt, line 1 should say"),
        ("-1 -1\nA 1 2\nA 1 B 2\n", "pairs.txt, line 1 should say"),
        ("ten 300\n", "pairs.txt, line 1: 'ten' should be numbers"),
        ("1 1\nA 1 2\nA x B 1\n", "pairs.txt, line 3: 'x' should be numbers"),
        ("1 1\nA 1 2\nA nan B 1\n", "pairs.txt, line 3: 'nan' should be a whole number"),
        ("1 1\nA 1 2\n\nA 1\n", "pairs.txt, line 4: a pair is"),
    ],
)
def test_lfw(tmp_path, text, sentence):
    (tmp_path / "lfw").mkdir()
    write(tmp_path / "pairs.txt", text)
    assert re.search(sentence, refused("lfw", tmp_path, "test"))


@pytest.mark.parametrize("content", [(5, 6), (b"ab", [True]), ([b"a", b"b"], 1), {1: 2, 3: 4}])
def test_bin_sets_that_hold_no_lists(tmp_path, content):
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"lfw\.bin is not a \.bin set"):
        read_bin(tmp_path / "lfw.bin")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("mapping", "idx orig_idx orig_file\n0 5\n", "mapping.txt, line 2 has 2 words; expected 3"),
        ("mapping", "0 5 six.jpg\n", "mapping.txt, line 1: 'six' should be numbers"),
        ("anno", f"1\nx y\nnone.jpg {SIGNS}\n", "anno.txt, line 3: 'none' should be numbers"),
    ],
)
def test_celebamask(tmp_path, file, text, sentence):
    (tmp_path / "CelebA-HQ-img").mkdir()
    (tmp_path / "mask").mkdir()
    names = {"mapping": "CelebA-HQ-to-CelebA-mapping.txt", "anno": "CelebAMask-HQ-attribute-anno.txt"}
    write(tmp_path / names["mapping"], "0 5 000006.jpg\n")
    write(tmp_path / names[file], text)
    assert sentence in refused("celebamask", tmp_path)


def test_affectnet(tmp_path):
    (tmp_path / "Manually_Annotated_Images").mkdir()
    write(tmp_path / "training.csv", "subDirectory_filePath,expression\n3/1.jpg,3\n")
    assert "training.csv, line 1 has no column face_x" in refused("affectnet", tmp_path)


def test_morph(tmp_path):
    write(tmp_path / "morph.csv", "id_num,photo\n1,a.jpg\n")
    assert "morph.csv has no column age, gender; is it the set's own" in refused("morph", tmp_path, "all")


def test_fer(tmp_path):
    write(tmp_path / "fer2013.csv", "emotion,Usage\n1,Training\n")
    assert "fer2013.csv has no column pixels; is it the set's own" in refused("fer2013", tmp_path)


def test_broken_line_of_a_table_spoils_its_row_alone(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a, b, c\n\n1, 2\n3\n"4, 5\n6,' + "7" * 200_000 + "\n8, 9, , \n1, 2, 3, 4\n")
    rows = list(read_csv(path, ("a", "b")))
    short = "ends before its column b: got 1 column, expected 3"
    assert [row["a"] for _, row, _ in rows] == ["1", "3", "4, 5", "6", "8", "1"]
    assert [where for where, _, _ in rows] == [f"{path}, line {number}" for number in range(3, 9)]
    assert [problem and problem.removeprefix(f"{where} ") for where, _, problem in rows] == [
        None, short, short, None, None, "has 4 columns; expected 3, as in the header",
    ]  # fmt: skip
    assert len(rows[3][1]["b"]) < 1000
    path.write_text("")
    with pytest.raises(DataError, match=r"table\.csv has no column a, b"):
        list(read_csv(path, ("b", "a")))
