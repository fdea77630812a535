from __future__ import annotations

import os
import pickle

import cv2
import numpy as np
import pytest

from faceum.datasets.insightface_bin import read_bin
from faceum.datasets.lfw import read_lfw
from faceum.datasets.registry import PAIR_SETS, read_dataset
from faceum.datasets.rmfd import read_rmfd_pairs
from faceum.errors import DataError


def encoded(value, side=112):
    return cv2.imencode(".png", np.full((side, side, 3), value, np.uint8))[1].tobytes()


@pytest.fixture
def lfw(tmp_path, put):
    for person, count in (("Anna", 3), ("Bert_B", 2), ("Carl", 1)):
        for shot in range(1, count + 1):
            put(tmp_path / f"lfw/{person}/{person}_{shot:04d}.jpg")
    fold = "Anna\t1\t2\nAnna\t2\t3\nAnna\t1\tBert_B\t2\nCarl\t1\tAnna\t3\n"
    (tmp_path / "pairs.txt").write_text("2\t2\n" + fold + "Bert_B\t1\t2\n" + fold[len("Anna\t1\t2\n") :])
    (tmp_path / "pairsDevTest.txt").write_text("2\n" + fold)
    return tmp_path


def test_lfw(lfw):
    found = read_lfw(lfw)
    assert found.pairs.fold.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.pairs.same.tolist() == [True, True, False, False] * 2
    assert (found.pairs.a[2], found.pairs.b[2]) == ("lfw-Anna_0001", "lfw-Bert_B_0002")
    assert (found.pairs.a[4], found.pairs.b[4]) == ("lfw-Bert_B_0001", "lfw-Bert_B_0002")
    ids = [sample.id for sample in found.samples]
    assert len(ids) == len(set(ids)) == 6
    assert all(sample.read().shape == (200, 200, 3) for sample in found.samples)
    assert set(read_lfw(lfw, "val").pairs.fold.tolist()) == {0}
    assert len(list(read_dataset("lfw", lfw, "test"))) == 6


def test_lfw_list_of_wrong_length(lfw):
    (lfw / "pairs.txt").write_text("2\t2\nAnna\t1\t2\n")
    with pytest.raises(DataError, match="should have 2 x 4 pairs; it has 1"):
        read_lfw(lfw)


BINS = [encoded(value) for value in range(0, 160, 4)]
SAME = [pair % 3 == 0 for pair in range(20)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [bool, np.bool_, int])
def test_bin_sets_of_every_protocol(tmp_path, protocol, kind):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((BINS, [kind(same) for same in SAME]), protocol))
    found = read_bin(path)
    assert found.pairs.same.tolist() == SAME
    assert found.pairs.fold.tolist() == sorted(list(range(10)) * 2)
    assert found.pairs.a[1] == found.samples[2].id and found.pairs.b[1] == found.samples[3].id
    assert [int(sample.read()[0, 0, 0]) for sample in found.samples] == list(range(0, 160, 4))
    assert found.samples[0].points5.shape == (5, 2)
    assert found.samples[1].name == f"{path}, row lfw-00001"


def test_bin_sets_written_by_python_2(tmp_path):
    """Python 2 writes images as its str, and NumPy's booleans by numpy.core.multiarray."""
    state = b"(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    kind = b"cnumpy\ndtype\n(U\x02b1K\x00K\x01tR" + state
    answer = b"cnumpy.core.multiarray\nscalar\n(" + kind + b"U\x01\x01tR"
    strings = b"".join(b"T" + len(data).to_bytes(4, "little") + data for data in BINS[:2])
    path = tmp_path / "old.bin"
    path.write_bytes(b"\x80\x02(](" + strings + b"e](" + answer + b"et.")
    found = read_bin(path)
    assert found.pairs.same.tolist() == [True]
    assert [sample.image for sample in found.samples] == BINS[:2]


class Evil:
    """Runs a command when a plain unpickler reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Evil2(Evil):
    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("evil", [Evil, Evil2])
def test_bin_sets_execute_no_code(tmp_path, evil):
    trace = tmp_path / "ran"
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps((BINS, [*SAME[:-1], evil(trace)])))
    with pytest.raises(DataError, match="evil.bin.*not allowed"):
        read_bin(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps(5),
        pickle.dumps((BINS[:3], SAME[:2])),
        pickle.dumps(([1, 2], [True])),
        pickle.dumps(([], [])),
        pickle.dumps((BINS[:2], [7])),
        pickle.dumps((BINS[:2], [np.float64(1)])),
        pickle.dumps((BINS, SAME))[:-30],
    ],
)
def test_invalid_bin_files(tmp_path, content):
    path = tmp_path / "lfw.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match="lfw.bin"):
        read_bin(path)


def test_rmfd_pairs_are_of_one_masked_and_one_bare_face(tmp_path, put):
    for person in range(12):
        for shot in range(2):
            put(tmp_path / f"AFDB_face_dataset/p{person:02d}/{shot}.jpg")
        put(tmp_path / f"AFDB_masked_face_dataset/p{person:02d}/m.jpg")
    found = read_rmfd_pairs(tmp_path)
    by_id = {sample.id: sample for sample in found.samples}
    assert len(found.pairs) == 24 and found.pairs.same.sum() == 12
    people = [set() for _ in range(5)]
    for fold, a, b, same in zip(
        found.pairs.fold, found.pairs.a, found.pairs.b, found.pairs.same, strict=True
    ):
        assert by_id[a].wears_mask and not by_id[b].wears_mask
        assert (by_id[a].identity == by_id[b].identity) == same
        people[fold] |= {by_id[a].identity, by_id[b].identity}
    assert sum(len(group) for group in people) == len(set.union(*people)) == 12
    assert read_rmfd_pairs(tmp_path).pairs.b.tolist() == found.pairs.b.tolist()


@pytest.mark.parametrize("name", PAIR_SETS)
def test_missing_sets_name_expected_files(tmp_path, name):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"(looked for|no folder|no file).*{root}"):
            PAIR_SETS[name](root, "test")
