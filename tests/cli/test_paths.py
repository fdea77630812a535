"""Folders are walked, files stand for themselves, and results are not read again."""

import pytest

from faceum.cli.paths import list_images
from faceum.errors import ImageError


@pytest.fixture
def house(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/er/c.webp", ".cache/d.png", "out/b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_folders_are_walked_in_order_and_hidden_things_left_out(house):
    images, empty = list_images([house])
    assert [str(path.relative_to(house)) for path in images] == [
        "a.png",
        "b.JPG",
        "deep/er/c.webp",
        "out/b.png",
    ]
    assert empty == []


def test_results_of_an_earlier_run_are_left_out(house):
    images, _ = list_images([house], leave_out=house / "out")
    assert house / "out" / "b.png" not in images and len(images) == 3


def test_reading_the_folder_that_is_written_is_refused(house):
    with pytest.raises(ImageError, match="choose another"):
        list_images([house], leave_out=house / "deep" / "..")


def test_files_stand_for_themselves_once(house):
    missing = house / "missing.jpg"
    images, _ = list_images([missing, house / "notes.txt", house / "a.png", house / "a.png"])
    assert images == [missing, house / "notes.txt", house / "a.png"]


def test_an_empty_folder_is_a_sentence(tmp_path):
    images, (sentence,) = list_images([tmp_path])
    assert images == [] and "holds no images" in sentence
