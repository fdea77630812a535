"""What a Parquet file allows, and how sets are named on the command line."""

from pathlib import Path

import pytest

from faceum.errors import DataError
from faceum.evaluate.sets import load_set, parse_sets


def test_labels_and_pairs_decide_the_protocols(corpus, toy):
    labelled = load_set("toy", corpus / "toy.val.parquet")
    assert labelled.protocols == ("age", "attributes", "verification")
    assert len(labelled.pairs) == 8
    assert [row.id for row in labelled.rows()][:3] == ["red1", "red2", "blue1"]
    assert len(list(labelled.rows())) == len(list(labelled.rows())) == 8  # from the beginning each time
    ids = [row.id for row in labelled.rows()]
    points = [{"id": name, "landmarks68": toy.landmarks68().ravel().tolist()} for name in ids]
    toy.write_table(corpus / "teacher-landmarks.toy.val.parquet", points)
    masked = load_set("toy", corpus)  # a folder is searched for the set's file
    assert masked.protocols == ("age", "attributes", "verification", "masked")
    assert masked.landmarks["red1"] == pytest.approx(toy.landmarks68())


def test_a_limit_takes_pairs_from_all_over_the_list(corpus):
    labelled = load_set("toy", corpus, limit=4)
    assert labelled.every == 2
    assert load_set("toy", corpus, limit=3).every == 3
    assert list(zip(labelled.pairs.a, labelled.pairs.b, labelled.pairs.same, strict=True)) == [
        ("red1", "red2", True),
        ("green1", "green2", True),
        ("red1", "pink2", False),
        ("pink1", "green2", False),
    ]
    assert len(load_set("toy", corpus, limit=100).pairs) == 8


def test_tight_sets_are_known_by_name(corpus):
    file = corpus / "toy.val.parquet"
    assert load_set("utkface", file).tight
    assert not load_set("toy", file).tight
    assert load_set("toy", file, tight=True).tight


def test_a_set_without_labels_is_a_sentence(corpus, toy):
    toy.write_table(corpus / "bare.val.parquet", [{"id": "a"}])
    with pytest.raises(DataError, match=r"bare.val.parquet has none of the labels age, .* nothing to score"):
        load_set("bare", corpus)


def test_words_of_the_command_line():
    assert parse_sets(["a=x.parquet", "b=y=z"]) == {"a": Path("x.parquet"), "b": Path("y=z")}
    for wrong in ("lfw", "=path", "lfw="):
        with pytest.raises(DataError, match="NAME=PATH"):
            parse_sets([wrong])
    with pytest.raises(DataError, match="a was given twice"):
        parse_sets(["a=x", "a=y"])
