"""What a Parquet file allows, and how sets are named on the command line."""

import pickle

import cv2
import numpy as np
import pytest

from faceum.errors import DataError
from faceum.evaluate.sets import load_set, parse_sets


def test_labels_and_pairs_decide_the_protocols(corpus, toy):
    labelled = load_set("toy", corpus / "toy.val.parquet")
    assert labelled.protocols == ("age", "attributes", "verification", "masked", "stretched", "small")
    assert len(labelled.pairs) == 8
    assert [one.id for one in labelled.faces()][:3] == ["red1", "red2", "blue1"]
    assert len(list(labelled.faces())) == len(list(labelled.faces())) == 8  # from the beginning each time
    assert labelled.landmarks == {}  # masks are painted by the five points
    ids = [one.id for one in labelled.faces()]
    points = [{"id": name, "landmarks68": toy.landmarks68().ravel().tolist()} for name in ids]
    toy.write_table(corpus / "teacher-landmarks.toy.val.parquet", points)
    masked = load_set("toy", corpus)  # a folder is searched for the set's file
    assert masked.landmarks["red1"] == pytest.approx(toy.landmarks68())


def test_sets_are_known_by_name_or_layout(corpus):
    file = corpus / "toy.val.parquet"
    assert load_set("utkface", file).tight
    assert not load_set("toy", file).tight
    assert load_set("lapa", file).classes == (0, 1, 2, 4, 5, 6, 7, 10, 11, 12, 13)
    assert load_set("toy", file).classes is None


def test_layout_is_read_in_its_split(tmp_path):
    image = cv2.imencode(".jpg", np.full((20, 20, 3), 99, np.uint8))[1].tobytes()
    for part in ("lfpw/testset", "ibug", "helen/testset"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "one.jpg").write_bytes(image)
        lines = "".join(f"{5 + n % 9}.5 {4 + n // 9}.5\n" for n in range(68))
        (tmp_path / part / "one.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}}}\n")
    common = load_set("common", f"300w/common:{tmp_path}")
    assert common.protocols == ("landmarks",)
    assert len(list(common.faces())) == 2
    assert len(list(load_set("full", f"300w/full:{tmp_path}").faces())) == 3
    with pytest.raises(DataError, match="common"):
        load_set("300w", f"300w/no-such-split:{tmp_path}")


def test_bin_set_is_aligned_and_can_be_masked(tmp_path):
    image = cv2.imencode(".jpg", np.full((112, 112, 3), 99, np.uint8))[1].tobytes()
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps(([image] * 40, [True, False] * 10)))
    labelled = load_set("cfp_fp", tmp_path / "cfp_fp.bin")
    assert labelled.protocols == ("verification", "masked", "stretched", "small")
    assert labelled.aligned
    assert len(set(labelled.pairs.fold)) == 10


def image(side: tuple[int, int]) -> bytes:
    return cv2.imencode(".jpg", np.full((*side, 3), 99, np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("folder", "sides", "tight"), [("aligned", (20, 20), True), ("original", (20, 30), False)]
)
def test_rafdb_is_tight_where_it_is_aligned(tmp_path, folder, sides, tight):
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel/list_patition_label.txt").write_text("test_0001.jpg 4\ntest_0002.jpg 7\n")
    (tmp_path / f"Image/{folder}").mkdir(parents=True)
    for number in "12":
        name = f"test_000{number}{'_aligned' if tight else ''}.jpg"
        (tmp_path / f"Image/{folder}" / name).write_bytes(image(sides))
    labelled = load_set("raf", f"rafdb/test:{tmp_path}")
    assert labelled.tight == tight
    assert len(labelled.expressions) == 7 and "contempt" not in labelled.expressions


def test_affectnet_has_seven_or_eight_classes_by_its_name(tmp_path, toy):
    one = {
        "id": "a",
        "source": "affectnet",
        "image": image((20, 30)),
        "expression_votes": [1.0] + [0.0] * 7,
    }
    toy.write_table(tmp_path / "a.parquet", [one])
    assert len(load_set("affectnet-7", tmp_path / "a.parquet").expressions) == 7
    for name in ("affectnet", "affectnet-8", "ferplus"):
        assert load_set(name, tmp_path / "a.parquet").expressions is None


def test_lfws_public_folder_can_be_masked(tmp_path):
    (tmp_path / "pairs.txt").write_text("1 1\nann 1 2\nann 1 bob 1\n")
    for person, number in (("ann", 1), ("ann", 2), ("bob", 1)):
        (tmp_path / "lfw" / person).mkdir(parents=True, exist_ok=True)
        (tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg").write_bytes(image((25, 25)))
    labelled = load_set("lfw", f"lfw:{tmp_path}")
    assert labelled.protocols == ("verification", "masked", "stretched", "small")
    assert not labelled.pointed


def test_wflw_says_that_it_is_68_of_98_points(corpus):
    assert "98 points" in load_set("wflw", corpus / "toy.val.parquet").notes[0]


def test_set_without_labels_gives_a_sentence(corpus, toy):
    bare = {"id": "a", "source": "bare", "image": b""}
    toy.write_table(corpus / "bare.val.parquet", [bare])
    with pytest.raises(DataError, match=r"nothing to score in .*none of the labels age"):
        load_set("bare", corpus)
    with pytest.raises(DataError, match="There is no file"):
        load_set("missing", corpus)


def test_words_of_the_command_line():
    assert parse_sets(["a=x.parquet", "b=y=z"]) == {"a": "x.parquet", "b": "y=z"}
    for wrong in ("lfw", "=path", "lfw="):
        with pytest.raises(DataError, match="NAME=PATH"):
            parse_sets([wrong])
    with pytest.raises(DataError, match="a was given twice"):
        parse_sets(["a=x", "a=y"])
