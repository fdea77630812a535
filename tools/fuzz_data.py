"""The formats of data sets for tools/fuzz.py: packed Parquet files, RecordIO and `.bin` sets."""

from __future__ import annotations

import pickle
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from faceum.data.check import check_packed
from faceum.data.pack import pack
from faceum.data.sample import keep_valid
from faceum.data.synthetic import draw_face
from faceum.datasets.recordio import HEADER, MAGIC, read_recordio


def make_packed(folder: Path) -> Sequence[Path]:
    """Write one packed file of two drawn faces."""
    path = folder / "made.train.parquet"
    pack([draw_face("a"), draw_face("b")], path)
    return [path]


def read_packed_file(path: Path) -> None:
    """Check a packed file completely."""
    for problem in check_packed([path]):
        assert problem.sentence


def make_bins(folder: Path) -> Sequence[Path]:
    """Write a `.bin` set in three protocols of pickle."""
    paths = []
    for protocol in (0, 2, 5):
        paths.append(folder / f"p{protocol}.bin")
        paths[-1].write_bytes(pickle.dumps(([bytes(draw_face("a").image)] * 4, [True, False]), protocol))
    return paths


def make_records(folder: Path) -> Sequence[Path]:
    """Write the records of a training set; its index is written when they are read."""
    data = b""
    for label in (3.0, 4.0):
        record = HEADER.pack(0, label, 0, 0) + bytes(draw_face("a").image)
        data += struct.pack("<II", MAGIC, len(record)) + record + bytes(-len(record) % 4)
    path = folder / "train.rec"
    path.write_bytes(data)
    return [path]


def read_records(path: Path) -> None:
    """Read the records of a file by an index of two offsets."""
    folder = path.parent / "set"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / "train.rec")
    (folder / "train.idx").write_text(f"0\t0\n1\t{path.stat().st_size // 8 * 4}\n")
    for sample in keep_valid(read_recordio(folder), refuse=False, skipped=[]):
        sample.read()
