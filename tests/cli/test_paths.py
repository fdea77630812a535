"""Paths on a command line become images: files, folders, pipes and lists."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.cli.paths import list_images
from faceum.errors import ImageError

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 99, np.uint8))[1].tobytes()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.text",
        ".hidden.png",
        "deep/er/c.webp",
        ".cache/d.png",
        "out/b.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def relative(images, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in images.files]


def test_folders_are_walked_in_order(house):
    images = list_images([house])
    assert relative(images, house) == ["a.png", "b.JPG", "deep/er/c.webp", "out/b.png"]
    assert images.problems == []


def test_files_left_out_are_counted(house):
    (house / "link").symlink_to(house / "deep")
    (house / "gone").symlink_to(house / "nowhere")
    os.mkfifo(house / "pipe")
    images = list_images([house])
    assert images.left_out == {
        "hidden": 2, "not images": 1, "linked folders": 1, "unreadable": 1, "neither files nor folders": 1
    }  # fmt: skip
    assert sorted(images.summary().removeprefix("Left out of the folders: ").rstrip(".").split(", ")) == [
        "1 linked folder", "1 neither a file nor a folder", "1 not an image", "1 unreadable", "2 hidden"
    ]  # fmt: skip
    images.left_out.update({"linked folders": 1, "not images": 1})
    assert "2 linked folders" in images.summary() and "2 not images" in images.summary()
    assert list_images([house / "deep"]).summary() is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights are set otherwise here")
def test_unreadable_folder_is_counted(house, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "er":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    if os.geteuid():
        (house / "deep" / "er").chmod(0)
    else:  # root reads every folder
        monkeypatch.setattr(os, "scandir", refuse)
    try:
        images = list_images([house])
    finally:
        (house / "deep" / "er").chmod(0o700)
    assert relative(images, house) == ["a.png", "b.JPG", "out/b.png"]
    assert "1 unreadable folder" in images.summary().split(": ")[1].rstrip(".").split(", ")


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "scan", "photo.txt", "x.json", "photo.avif"])
def test_content_decides_not_the_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(JPEG)
    assert relative(list_images([tmp_path]), tmp_path) == [name]


def test_results_of_an_earlier_run_are_left_out(house):
    images = list_images([house], leave_out=house / "out")
    assert house / "out" / "b.png" not in images.files and len(images.files) == 3


def test_reading_the_output_folder_is_refused(house):
    with pytest.raises(ImageError, match="choose another"):
        list_images([house], leave_out=house / "deep" / "..")


def test_files_count_once_whatever_their_name(house):
    missing = house / "missing.jpg"
    images = list_images([missing, house / "notes.text", house / "a.png", house / "a.png"])
    assert images.files == [missing, house / "notes.text", house / "a.png"]


def test_empty_folder_is_a_problem(tmp_path):
    images = list_images([tmp_path])
    assert images.files == [] and len(images.problems) == 1 and str(tmp_path) in images.problems[0]


@pytest.mark.parametrize("text", [b"{a}\n{b}\n", b"\xef\xbb\xbf{a}\r\n\r\n{b}", b"{a}\0{b}\0"])
def test_list_names_one_path_per_line(tmp_path, text):
    names = {b"{a}": b"first.jpg", b"{b}": b"f\xc3\xb6lder"}
    (tmp_path / "földer").mkdir()
    (tmp_path / "földer" / "second.png").touch()
    for mark, name in names.items():
        text = text.replace(mark, os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / "list.txt").write_bytes(text)
    images = list_images([tmp_path / "list.txt"])
    assert relative(images, tmp_path) == ["first.jpg", "földer/second.png"]


def test_text_file_without_text_is_an_image(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\x01\x02\x03")
    assert list_images([tmp_path / "x.txt"]).files == [tmp_path / "x.txt"]


class Stdin(io.TextIOWrapper):
    """Standard input that holds these bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def test_standard_input_holds_an_image_or_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", Stdin(JPEG))
    assert list_images([Path("-")]).sources == {"-": JPEG}
    monkeypatch.setattr("sys.stdin", Stdin(f"{tmp_path}/a.jpg\n{tmp_path}/b.jpg".encode()))
    assert relative(list_images([Path("-")]), tmp_path) == ["a.jpg", "b.jpg"]
    monkeypatch.setattr("sys.stdin", Stdin(b""))
    assert list_images([Path("-")]).sources == {"-": b""}


def test_pipe_holds_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(JPEG,))
    writer.start()
    assert list_images([tmp_path / "pipe"]).sources == {str(tmp_path / "pipe"): JPEG}
    writer.join()
