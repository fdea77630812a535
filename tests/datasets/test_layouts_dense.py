"""The layouts that label pixels and points: CelebAMask-HQ, LaPa, 300W, Helen, WFLW."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.data.sample import check_sample
from faceum.datasets.pts import read_pts
from faceum.datasets.registry import read_dataset
from faceum.datasets.wflw import TO_68
from faceum.errors import DataError
from faceum.tasks import PARSING_CLASSES


def class_id(name):
    return PARSING_CLASSES.index(name)


def part(rows, columns, side=32):
    """A file of one part: white where it is, as CelebAMask-HQ's are."""
    mask = np.zeros((side, side, 3), np.uint8)
    mask[rows, columns] = 255
    return mask


@pytest.fixture
def celebamask(tmp_path, put):
    for number in (0, 2001):
        put(tmp_path / f"CelebA-HQ-img/{number}.jpg")
        folder = tmp_path / f"CelebAMask-HQ-mask-anno/{number // 2000}"
        put(folder / f"{number:05d}_skin.png", part(slice(8, 30), slice(4, 28)))
        put(folder / f"{number:05d}_hair.png", part(slice(0, 12), slice(0, 32)))
        put(folder / f"{number:05d}_hat.png", part(slice(0, 4), slice(0, 32)))
    mapping = "idx  orig_idx  orig_file\n0 119613 119614.jpg\n2001 190000 190001.jpg\n"
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping)
    return tmp_path


def test_celebamask_parts_are_merged_in_the_order_of_their_ids(celebamask):
    (sample,) = read_dataset("celebamask", celebamask, "train")
    check_sample(sample)
    mask = sample.parsing()
    assert mask.dtype == np.uint8 and mask.shape == (32, 32)
    assert mask[2, 10] == class_id("hat"), "the hat covers the hair"
    assert mask[10, 10] == class_id("hair"), "the hair covers the skin"
    assert mask[20, 10] == class_id("skin")
    assert mask[31, 31] == 0
    assert [sample.id for sample in read_dataset("celebamask", celebamask, "test")] == ["celebamask-2001"]
    assert len(list(read_dataset("celebamask", celebamask, "all"))) == 2


def test_celebamask_merged_already(celebamask, put):
    put(celebamask / "mask/0.png", np.full((32, 32), 17, np.uint8))
    put(celebamask / "mask/2001.png", np.full((32, 32), 19, np.uint8))
    good, wrong = read_dataset("celebamask", celebamask, "all")
    assert (good.parsing() == 17).all()
    with pytest.raises(DataError, match="2001.jpg: its parsing holds class 19"):
        check_sample(wrong)


def test_celebamask_says_which_mask_is_missing(celebamask):
    for path in (celebamask / "CelebAMask-HQ-mask-anno/0").iterdir():
        path.unlink()
    (sample,) = read_dataset("celebamask", celebamask, "train")
    with pytest.raises(DataError, match="00000_<part>.png"):
        check_sample(sample)


def lapa_points():
    points = np.full((106, 2), 50.0)
    points[33:42] = (30, 30)  # the brow of the person's right, at the image's left
    points[42:51] = (70, 30)
    points[66:75] = (30, 40)
    points[75:84] = (70, 40)
    points[[104, 105, 54, 84, 90]] = [(30, 40), (70, 40), (50, 60), (36, 80), (64, 80)]
    return points


@pytest.mark.parametrize("first_is_image_left", [True, False])
def test_lapa_sides_are_those_of_its_landmarks(tmp_path, put, first_is_image_left):
    image = put(tmp_path / "train/images/7_1.jpg")
    mask = np.zeros((100, 100), np.uint8)
    mask[20:90, 20:80] = 1
    brows, eyes = ((2, 3), (4, 5)) if first_is_image_left else ((3, 2), (5, 4))
    mask[28:32, 25:35], mask[28:32, 65:75] = brows
    mask[38:42, 25:35], mask[38:42, 65:75] = eyes
    mask[55:65, 45:55], mask[74:76, 40:60], mask[76:80, 40:60], mask[80:84, 40:60] = 6, 7, 8, 9
    mask[:20] = 10
    put(tmp_path / "train/labels/7_1.png", mask)
    lines = "\n".join(f"{x:.4f} {y:.4f}" for x, y in lapa_points())
    landmarks = tmp_path / "train/landmarks/7_1.txt"
    landmarks.parent.mkdir()
    landmarks.write_text(f"106\n{lines}")
    (sample,) = read_dataset("lapa", tmp_path, "train")
    check_sample(sample)
    assert sample.image == image and sample.landmarks68 is None
    assert sample.points5.tolist() == [[30, 40], [70, 40], [50, 60], [36, 80], [64, 80]]
    ours = sample.parsing()
    seen = {(30, 30): "r_brow", (30, 70): "l_brow", (40, 30): "r_eye", (40, 70): "l_eye", (60, 50): "nose"}
    seen |= {(75, 50): "u_lip", (78, 50): "mouth", (82, 50): "l_lip", (5, 5): "hair", (50, 25): "skin"}
    assert {place: PARSING_CLASSES[ours[place]] for place in seen} == seen
    landmarks.write_text(f"106\n{lines[: len(lines) // 2]}")
    (wrong,) = read_dataset("lapa", tmp_path, "train")
    with pytest.raises(DataError, match="7_1.jpg: .*7_1.txt holds .* and 106 points"):
        check_sample(wrong)


def pts(points):
    lines = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    return f"version: 1\nn_points:  {len(points)}\n{{\n{lines}\n}}\n"


def test_300w_and_helen(tmp_path, put, landmarks68):
    for place in ("afw/a_1", "helen/trainset/1_1", "helen/testset/2_1", "lfpw/trainset/i", "lfpw/testset/i"):
        put(tmp_path / f"{place}.jpg")
        (tmp_path / f"{place}.pts").write_text(pts(landmarks68 + 0.5))
    put(tmp_path / "ibug/z.png")
    (tmp_path / "ibug/z.pts").write_text(pts(landmarks68[:67]))
    train = list(read_dataset("300w", tmp_path, "train"))
    assert [sample.id for sample in train] == [
        "300w-afw-a_1",
        "300w-helen-trainset-1_1",
        "300w-lfpw-trainset-i",
    ]
    assert len(list(read_dataset("300w", tmp_path, "common"))) == 2
    assert len(list(read_dataset("300w", tmp_path, "full"))) == 3
    np.testing.assert_allclose(train[0].landmarks68, landmarks68, atol=1e-3)
    check_sample(train[0])
    x0, y0, x1, y1 = train[0].box
    assert x0 < landmarks68[36, 0] and x1 > landmarks68[45, 0] and y0 < landmarks68[36, 1] < 148 < y1
    (wrong,) = read_dataset("300w", tmp_path, "challenging")
    with pytest.raises(DataError, match="z.png: it has 67 landmarks"):
        check_sample(wrong)
    assert [sample.source for sample in read_dataset("helen", tmp_path, "all")] == ["helen", "helen"]


def test_pts_files_of_another_form_are_refused(tmp_path):
    path = tmp_path / "a.pts"
    for text, sentence in (("nothing", "not a .pts file"), ("n_points: 1\n{\n1 x\n}", "should be numbers")):
        path.write_text(text)
        with pytest.raises(DataError, match=f"a.pts.*{sentence}"):
            read_pts(path)


def test_points_without_image(tmp_path, landmarks68):
    (tmp_path / "ibug").mkdir()
    (tmp_path / "ibug/z.pts").write_text(pts(landmarks68))
    (wrong,) = read_dataset("300w", tmp_path, "challenging")
    with pytest.raises(DataError, match="z.pts has no image"):
        check_sample(wrong)


@pytest.fixture
def wflw(tmp_path, put):
    points = np.stack([np.arange(98), 2 * np.arange(98)], axis=1).ravel()
    lines = {"train": [], "test": []}
    for name, split, flags in (
        ("a", "train", "0 0 0 0 0 0"),
        ("b", "test", "1 0 0 0 0 0"),
        ("c", "test", "0 0 0 0 1 0"),
    ):
        put(tmp_path / f"WFLW_images/0--Parade/{name}.jpg")
        lines[split].append(f"{' '.join(map(str, points))} 10 20 110 140 {flags} 0--Parade/{name}.jpg")
    folder = tmp_path / "WFLW_annotations/list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    for split, rows in lines.items():
        (folder / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(rows))
    return tmp_path


def test_wflw(wflw):
    (sample,) = read_dataset("wflw", wflw, "train")
    check_sample(sample)
    assert sample.box.tolist() == [10, 20, 110, 140]
    assert sample.landmarks68[:, 0].tolist() == list(TO_68)
    assert len(list(read_dataset("wflw", wflw, "test"))) == 2
    assert [s.image.name for s in read_dataset("wflw", wflw, "test-occlusion")] == ["c.jpg"]


def test_wflw_keeps_corners_where_they_belong():
    """By WFLW's numbering: jaw 0-32, brows 33 and 42, nose 51-59, eyes 60-67 and 68-75, mouth 76-95."""
    assert len(set(TO_68)) == 68
    assert [TO_68[point] for point in (0, 8, 16)] == [0, 16, 32]
    assert [TO_68[point] for point in (17, 21, 22, 26)] == [33, 37, 42, 46]
    assert [TO_68[point] for point in (27, 30, 31, 35)] == [51, 54, 55, 59]
    assert [TO_68[point] for point in (36, 39, 42, 45)] == [60, 64, 68, 72]
    assert [TO_68[point] for point in (48, 54, 60, 64)] == [76, 82, 88, 92]
