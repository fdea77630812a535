"""Every row of a list or table is packed, skipped with a message, or ends the reading with one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.data.pack import PackConfig, pack
from faceum.datasets.recordio import HEADER, MAGIC
from faceum.datasets.registry import read_dataset
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES

SIGNS = " ".join(["1", "-1"] * (len(ATTRIBUTES) // 2))
POINTS98 = " ".join(str(number % 40) for number in range(196))
PIXELS = " ".join(str(number % 250) for number in range(48 * 48))
LONG, DIGITS = "x" * 1_000_000, "9" * 5_000


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())  # the content decides, not the suffix


def celeba(root: Path, rows: list[str]) -> tuple[Path, str]:
    text = f"{len(rows)}\n{' '.join(ATTRIBUTES)}\n" + "".join(f"{row}\n" for row in rows)
    return root / "list_attr_celeba.txt", text


def affectnet(root: Path, rows: list[str]) -> tuple[Path, str]:
    return root / "Manually_Annotated_file_lists/training.csv", "".join(f"{row}\n" for row in rows)


def morph(root: Path, rows: list[str]) -> tuple[Path, str]:
    return root / "morph.csv", "photo,id_num,gender,age\n" + "".join(f"{row}\n" for row in rows)


def fer2013(root: Path, rows: list[str]) -> tuple[Path, str]:
    return root / "fer2013.csv", "emotion,pixels,Usage\n" + "".join(f"{row}\n" for row in rows)


def ferplus(root: Path, rows: list[str]) -> tuple[Path, str]:
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    return root / "fer2013new.csv", header + "".join(f"{row}\n" for row in rows)


def rafdb(root: Path, rows: list[str]) -> tuple[Path, str]:
    return root / "EmoLabel/list_patition_label.txt", "".join(f"{row}\n" for row in rows)


def wflw(root: Path, rows: list[str]) -> tuple[Path, str]:
    folder = root / "WFLW_annotations/list_98pt_rect_attr_train_test"
    return folder / "list_98pt_rect_attr_train.txt", "".join(f"{row}\n" for row in rows)


SETS: dict[str, tuple[Callable[[Path, list[str]], tuple[Path, str]], str, str, str, list[str]]] = {
    # data set: (its list, split, folder of its images, a good row for a name, wrong rows)
    "celeba": (
        celeba,
        "all",
        "img_align_celeba",
        f"{{name}} {SIGNS}",
        [
            f"3.jpg {SIGNS} 1",
            f"lost.jpg {SIGNS}",
            f"5.jpg {DIGITS} {SIGNS[2:]}",
            f"6.jpg {LONG}",
            LONG,
            "000007 1 -1",
        ],
    ),
    "affectnet": (
        affectnet,
        "train",
        "Manually_Annotated_Images",
        "{name},1,1,30,30,NULL,3,0,0",
        [
            "3.jpg,1,1,30,30,NULL,3,0,0,7",
            "lost.jpg,1,1,30,30,NULL,3,0,0",
            f"5.jpg,1,1,30,30,NULL,{DIGITS},0,0",
            f"6.jpg,1,1,30,30,{LONG},3,0,0",
            f'"{LONG}',
        ],
    ),
    "morph": (
        morph,
        "all",
        ".",
        "{name},1,M,30",
        [
            "3.jpg,1,M,30,7",
            "lost.jpg,1,M,30",
            f"5.jpg,1,M,{DIGITS}",
            f"6.jpg,{LONG},M,30",
            f'"{LONG}',
            '"7.jpg,1,M',
        ],
    ),
    "fer2013": (
        fer2013,
        "train",
        ".",
        f"3,{PIXELS},Training",
        [
            f"3,{PIXELS},Training,7",
            f"{DIGITS},{PIXELS},Training",
            f"3,{LONG},Training",
            f"3,{PIXELS},Elsewhere",
            f"3,{PIXELS} {DIGITS},Training",
            f'"3,{PIXELS},Training',
        ],
    ),
    "ferplus": (
        ferplus,
        "train",
        "FER2013Train",
        "Training,{name},8,2,0,0,0,0,0,0,0,0",
        [
            "Training,3.jpg,8,2,0,0,0,0,0,0,0,0,7",
            "Training,lost.jpg,8,2,0,0,0,0,0,0,0,0",
            f"Training,5.jpg,{DIGITS},2,0,0,0,0,0,0,0,0",
            f"Training,{LONG},8",
            "Elsewhere,6.jpg,8,2,0,0,0,0,0,0,0,0",
        ],
    ),
    "rafdb": (
        rafdb,
        "train",
        "Image/original",
        "train_{name} 4",
        [
            "train_3.jpg 4 7",
            "train_lost.jpg 4",
            f"train_5.jpg {DIGITS}",
            f"train_6.jpg {LONG}",
            LONG,
            "other.jpg 4",
        ],
    ),
    "wflw": (
        wflw,
        "train",
        "WFLW_images",
        f"{POINTS98} 1 1 30 30 0 0 0 0 0 0 {{name}}",
        [
            f"{POINTS98} 1 1 30 30 0 0 0 0 0 0 3.jpg 7",
            f"{POINTS98} 1 1 30 30 0 0 0 0 0 0 lost.jpg",
            f"{DIGITS} {POINTS98[2:]} 1 1 30 30 0 0 0 0 0 0 5.jpg",
            f"{LONG} 6.jpg",
        ],
    ),
}
NAMES = ["1.jpg", "2.JPG", "my face.Png"]


def counted(name: str, root: Path, split: str) -> tuple[int, int]:
    """How many rows were packed and how many skipped."""
    report = pack(read_dataset(name, root, split), root / "out.parquet", config=PackConfig(margin=None))
    return report.written, len(report.skipped)


@pytest.fixture(params=SETS)
def rows_of(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[str, str, list[str], list[str], Callable]:
    """A set's name, split, good rows and wrong rows, and a function that writes its list."""
    make, split, folder, good, wrong = SETS[request.param]
    prefix = "train_" if request.param == "rafdb" else ""
    for name in (*NAMES, "3.jpg", "5.jpg", "6.jpg", "7.jpg"):
        image(tmp_path / folder / f"{prefix}{name}")

    def write(rows: list[str], encoding: str = "utf-8", newline: str = "\n") -> None:
        path, text = make(tmp_path, rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.replace("\n", newline).encode(encoding))

    (tmp_path / "img_align_celeba").mkdir(exist_ok=True)
    return request.param, split, [good.format(name=name) for name in NAMES], wrong, write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_good_rows_are_packed_in_every_encoding(tmp_path, rows_of, encoding, newline):
    name, split, good, _, write = rows_of
    write(good, encoding, newline)
    assert counted(name, tmp_path, split) == (len(good), 0)


def test_wrong_rows_are_skipped_one_by_one(tmp_path, rows_of):
    name, split, good, wrong, write = rows_of
    write([good[0], *wrong, *good[1:]])
    assert counted(name, tmp_path, split) == (len(good), len(wrong))


def test_wrong_rows_in_utf_16_are_skipped_one_by_one(tmp_path, rows_of):
    name, split, good, wrong, write = rows_of
    write([*good, *wrong], "utf-16", "\r\n")
    assert counted(name, tmp_path, split) == (len(good), len(wrong))


def test_celeba_rows_without_a_partition_are_in_no_split_lost(tmp_path):
    for name in NAMES:
        image(tmp_path / "img_align_celeba" / name)
    path, text = celeba(tmp_path, [f"{name} {SIGNS}" for name in NAMES])
    path.write_text(text)
    (tmp_path / "list_eval_partition.txt").write_text(f"1.jpg 0\n2.JPG {DIGITS}\n")
    assert counted("celeba", tmp_path, "train") == (1, 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_other_sets_are_read_in_every_encoding(tmp_path, encoding):
    points = "\n".join(f"{x % 30} {x % 31}" for x in range(106))
    image(tmp_path / "train/images/a.JPG")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/landmarks").mkdir()
    cv2.imwrite(str(tmp_path / "train/labels/a.png"), np.ones((40, 40), np.uint8))
    (tmp_path / "train/landmarks/a.txt").write_text(f"106\r\n{points}", encoding=encoding)
    image(tmp_path / "ibug/b c.Jpg")
    text = "n_points: 68\r\n{\r\n" + "\r\n".join(f"{x % 30} {x % 29}" for x in range(68)) + "\r\n}"
    (tmp_path / "ibug/b c.PTS").write_text(text, encoding=encoding)
    image(tmp_path / "lfw/A B/A B_0001.jpg")
    image(tmp_path / "lfw/A B/A B_0002.jpg")
    (tmp_path / "pairs.txt").write_text("1\t1\r\nA B\t1\t2\r\nA B\t1\tA B\t2\r\n", encoding=encoding)
    for name, split, count in (("lapa", "train", 1), ("300w", "challenging", 1), ("lfw", "test", 2)):
        assert counted(name, tmp_path, split) == (count, 0), name


def test_recordio_rows(tmp_path):
    encoded = cv2.imencode(".png", np.zeros((12, 12, 3), np.uint8))[1].tobytes()
    record = HEADER.pack(0, 3.0, 0, 0) + encoded
    data = struct.pack("<II", MAGIC, len(record)) + record + bytes(-len(record) % 4)
    (tmp_path / "train.rec").write_bytes(data + data)
    offsets = [0, len(data), 4, len(data) * 2, -1, 2**62]
    for encoding in ("utf-8-sig", "utf-16"):
        index = "".join(f"{key}\t{offset}\r\n" for key, offset in enumerate(offsets))
        (tmp_path / "train.idx").write_text(index, encoding=encoding)
        assert counted("recordio", tmp_path, "train") == (2, 4)
    for row in (f"7\t{DIGITS}", f"{DIGITS}\t0", f"0\t{LONG}", "0\t0\n0\t0", "8\t1 2"):
        (tmp_path / "train.idx").write_text(f"{row}\n")
        with pytest.raises(DataError, match=r"train\.idx, line"):
            counted("recordio", tmp_path, "train")


def test_images_of_folders_are_packed_or_skipped(tmp_path):
    for name in ("20_1_0_1.jpg", "30_0_0_2.JPG", "unnamed.jpg", f"{'9' * 200}_0_0_1.jpg"):
        image(tmp_path / name)
    assert counted("utkface", tmp_path, "all") == (2, 2)
