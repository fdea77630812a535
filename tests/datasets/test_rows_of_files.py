"""Sets with a file a face or pair: every one is packed, skipped with a message, or ends the reading."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.datasets.test_rows import DIGITS, LONG, SETS, SIGNS, counted, image

from faceum.data.pack import PackConfig, pack
from faceum.data.synthetic import draw_face
from faceum.datasets.insightface_bin import read_bin
from faceum.datasets.registry import DATASETS, PAIR_SETS, read_dataset
from faceum.errors import DataError

POINTS106 = "\n".join(f"{x % 30} {x % 31}" for x in range(106))
POINTS68 = "\n".join(f"{x % 30} {x % 29}" for x in range(68))


def labels(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.ones((40, 40), np.uint8))[1].tobytes())


def lapa(root: Path, name: str, suffix: str) -> Path:
    image(root / f"train/images/{name}{suffix}")
    labels(root / f"train/labels/{name}.png")
    return root / f"train/landmarks/{name}.txt"


def points_300w(root: Path, name: str, suffix: str) -> Path:
    image(root / f"ibug/{name}{suffix}")
    return root / f"ibug/{name}.PTS"


def helen(root: Path, name: str, suffix: str) -> Path:
    image(root / f"trainset/{name}{suffix}")
    return root / f"trainset/{name}.pts"


def wrong_points(good: str, long: str) -> list[str]:
    """Files of points with a number too many, a number too long, a line too long, and nothing."""
    changed = [good.replace("\n0 0\n", line, 1) for line in ("\n0 0 7\n", f"\n{DIGITS} 0\n")]
    return [*changed, long, ""]


LAPA_TEXT = f"106\n{POINTS106}\n"
PTS_TEXT = f"version: 1\nn_points: 68\n{{\n{POINTS68}\n}}\n"
OF_POINTS: dict[str, tuple[Callable[[Path, str, str], Path], str, str, list[str]]] = {
    # data set: (writes an image and returns the path of its points, split, good points, wrong points)
    "lapa": (
        lapa,
        "train",
        LAPA_TEXT,
        wrong_points(LAPA_TEXT, f"106\n{LONG}\n"),
    ),
    "300w": (
        points_300w,
        "challenging",
        PTS_TEXT,
        wrong_points(PTS_TEXT, f"n_points: 68\n{{\n{LONG}\n}}"),
    ),
}
OF_POINTS["helen"] = (helen, "train", *OF_POINTS["300w"][2:])


@pytest.mark.parametrize("name", OF_POINTS)
def test_files_of_points_are_packed_or_skipped(tmp_path: Path, name: str) -> None:
    make, split, good, wrong = OF_POINTS[name]
    forms = [
        ("utf-8", "\n"),
        ("utf-8-sig", "\r\n"),
        ("utf-16", "\r\n"),
        ("utf-16-le", "\n"),
        ("utf-32", "\n"),
    ]
    for number, (encoding, newline) in enumerate(forms):
        path = make(tmp_path, f"good {number}", (".jpg", ".JPG", ".Png")[number % 3])
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(good.replace("\n", newline).encode(encoding))
    assert counted(name, tmp_path, split) == (len(forms), 0)
    for number, text in enumerate(wrong):
        make(tmp_path, f"wrong {number}", ".jpg").write_text(text, encoding="utf-16" if number else "utf-8")
    path.with_stem("without image").write_text(good)
    assert counted(name, tmp_path, split) == (len(forms), len(wrong) + 1)
    (tmp_path / "out.parquet").unlink()
    make(tmp_path, "empty", ".jpg").write_text(good)
    empty = next(file for file in tmp_path.rglob("empty.jpg"))
    empty.write_bytes(b"")
    assert counted(name, tmp_path, split) == (len(forms), len(wrong) + 2)


def test_lapa_images_without_points_or_labels_are_skipped(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        path = lapa(tmp_path, name, ".jpg")
        path.parent.mkdir(exist_ok=True)
        path.write_text(LAPA_TEXT)
    (tmp_path / "train/landmarks/b.txt").unlink()
    (tmp_path / "train/labels/c.png").unlink()
    assert counted("lapa", tmp_path, "train") == (1, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_celebamask_rows_are_packed_or_skipped(tmp_path: Path, encoding: str, newline: str) -> None:
    for number, suffix in ((0, ".jpg"), (1, ".JPG"), (2, ".png"), (3, ".jpg"), (4, ".jpg"), (5, ".jpg")):
        image(tmp_path / f"CelebA-HQ-img/{number}{suffix}")
        if number != 3:
            labels(tmp_path / f"mask/{number}.png")
    rows = [f"{number}.jpg {SIGNS}" for number in range(4)]
    rows += [f"4.jpg {SIGNS} 1", f"5.jpg {DIGITS} {SIGNS[2:]}", f"6.jpg {SIGNS}", f"7.jpg {LONG}"]
    mapping = "idx orig_idx orig_file\n" + "".join(
        f"{number} 1 {number + 1:06d}.jpg\n" for number in range(9)
    )
    for name, text in (
        ("CelebAMask-HQ-attribute-anno.txt", "\n".join(rows)),
        ("CelebA-HQ-to-CelebA-mapping.txt", mapping),
    ):
        (tmp_path / name).write_bytes(text.replace("\n", newline).encode(encoding))
    # Skipped are 3 without a mask, 4 and 5 with wrong attributes, and 6, 7 and 8 without an image.
    assert counted("celebamask", tmp_path, "train") == (3, 6)
    assert counted("celebamask", tmp_path, "all") == (3, 6)
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping.replace("\n8 1", f"\n{DIGITS} 1"))
    with pytest.raises(DataError, match=r"mapping\.txt, line 10"):
        counted("celebamask", tmp_path, "train")


def test_images_of_people_are_packed_or_skipped(tmp_path: Path) -> None:
    for tree in ("people", "rmfd/AFDB_face_dataset", "rmfd/AFDB_masked_face_dataset"):
        for name in ("a.jpg", "b c.JPG", "d.Png"):
            image(tmp_path / tree / "A B" / name)
        (tmp_path / tree / "A B" / "empty.jpg").write_bytes(b"")
        (tmp_path / tree / "A B" / "text.png").write_text(LONG)
    assert counted("folders", tmp_path / "people", "all") == (3, 2)
    assert counted("rmfd", tmp_path / "rmfd", "all") == (6, 4)


def test_pairs_of_people_name_every_face_that_is_used(tmp_path: Path) -> None:
    for person in range(10):
        for tree in ("AFDB_face_dataset", "AFDB_masked_face_dataset"):
            image(tmp_path / tree / str(person) / "a b.JPG")
    masked = tmp_path / "AFDB_masked_face_dataset" / "3" / "a b.JPG"
    masked.write_bytes(b"")
    assert counted("rmfd-pairs", tmp_path, "all") == (19, 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lfw_lines_are_pairs_or_end_the_reading(tmp_path: Path, encoding: str) -> None:
    for number in (1, 2):
        image(tmp_path / f"lfw/A B/A B_000{number}.jpg")
    good = ["1\t1", "A B\t1\t2", "A B\t1\tA B\t2"]
    for wrong in (f"A B\t1\t{DIGITS}", LONG, "A B\t1\t2\t3\t4", "A B\t1"):
        (tmp_path / "pairs.txt").write_text("\r\n".join([*good[:2], wrong]), encoding=encoding)
        with pytest.raises(DataError, match=r"pairs\.txt, line 3"):
            counted("lfw", tmp_path, "test")
    (tmp_path / "pairs.txt").write_text("\r\n".join([*good, good[1]]), encoding=encoding)
    with pytest.raises(DataError, match=r"should have 1 x 2 pairs; it has 3"):
        counted("lfw", tmp_path, "test")
    (tmp_path / "pairs.txt").write_text("\r\n".join([*good[:2], "A B\t1\tC\t1"]), encoding=encoding)
    assert counted("lfw", tmp_path, "test") == (2, 1)


def test_images_in_one_file_are_packed_or_skipped(tmp_path: Path) -> None:
    faces = [draw_face(str(number)) for number in range(3)]
    encoded = [bytes(face.image) for face in faces]
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([*encoded, b""], [True, False])))
    config = PackConfig(margin=None)
    for number, (samples, counts) in enumerate(
        [
            (read_bin(tmp_path / "x.bin").samples, (3, 1)),
            (faces, (3, 0)),
            (read_dataset("packed", tmp_path / "1.parquet", "train"), (3, 0)),
            (read_dataset("generated", "4", "train"), (4, 0)),
        ]
    ):
        report = pack(samples, tmp_path / f"{number}.parquet", config=config)
        assert (report.written, len(report.skipped)) == counts


def test_every_reader_has_a_test_of_its_rows() -> None:
    others = {"celebamask", "folders", "rmfd", "rmfd-pairs", "lfw", "bin", "packed", "generated"}
    elsewhere = {"recordio", "utkface", "tar"}  # in test_rows.py and test_tar_shards.py
    assert {*SETS, *OF_POINTS, *others, *elsewhere} == {*DATASETS, *PAIR_SETS}
