"""The layouts that label whole images: attributes, expressions, ages, identities."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.data.sample import check_sample
from faceum.datasets.registry import DATASETS, read_dataset
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES, EXPRESSIONS


def read(name, root, split):
    samples = list(read_dataset(name, root, split))
    for sample in samples:
        check_sample(sample)
        assert sample.read().ndim == 3
    assert len({sample.id for sample in samples}) == len(samples)
    return samples


def expression(sample):
    return EXPRESSIONS[int(sample.expression_votes.argmax())]


@pytest.mark.parametrize("end", ["txt", "csv"])
def test_celeba(tmp_path, put, end):
    signs = ["-1"] * 40
    signs[ATTRIBUTES.index("Smiling")] = "1"
    between = "," if end == "csv" else "  "
    listing = ["3", " ".join(ATTRIBUTES)] if end == "txt" else ["image_id," + ",".join(ATTRIBUTES)]
    for number in (1, 2, 3):
        put(tmp_path / f"img_align_celeba/{number:06d}.jpg")
        listing.append(between.join([f"{number:06d}.jpg", *signs]))
    (tmp_path / f"list_attr_celeba.{end}").write_text("\n".join(listing))
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n000003.jpg 7\n")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 0\n")
    points = "3\nlefteye_x lefteye_y ...\n000001.jpg 69 109 106 113 77 142 73 152 108 154\n"
    (tmp_path / "list_landmarks_align_celeba.txt").write_text(points)
    first, third = read("celeba", tmp_path, "train")
    assert (first.identity, third.identity) == (2880, 7)
    assert np.flatnonzero(first.attributes).tolist() == [ATTRIBUTES.index("Smiling")]
    assert first.points5[1].tolist() == [106, 113] and third.points5 is None
    assert first.box is None
    assert [sample.id for sample in read("celeba", tmp_path, "val")] == ["celeba-000002"]
    assert len(read("celeba", tmp_path, "all")) == 3


def test_celeba_in_the_wild(tmp_path, put):
    put(tmp_path / "Img/img_celeba/000001.jpg")
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno/list_attr_celeba.txt").write_text("1\nx\n000001.jpg " + "1 " * 40)
    (tmp_path / "Anno/list_bbox_celeba.txt").write_text("1\nimage_id ...\n000001.jpg 95 71 226 313\n")
    (sample,) = read("celeba", tmp_path, "all")
    assert sample.box.tolist() == [95, 71, 321, 384]
    with pytest.raises(DataError, match="partition"):
        list(read_dataset("celeba", tmp_path, "train"))


def test_affectnet(tmp_path, put):
    points = ";".join(str(value) for value in range(136))
    rows = [
        "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    ]
    for label in (1, 7, 8, 10):
        put(tmp_path / f"Manually_Annotated_Images/3/{label}.jpg")
        rows.append(f"3/{label}.jpg,10,20,100,110,{points},{label},0.1,-0.2")
    lists = tmp_path / "Manually_Annotated_file_lists"
    lists.mkdir()
    (lists / "training.csv").write_text("\n".join(rows))
    (lists / "validation.csv").write_text("\n".join(["3/1.jpg,NULL,NULL,NULL,NULL,NULL,3,-2,-2"]))
    happy, contempt = read("affectnet", tmp_path, "train")
    assert (expression(happy), expression(contempt)) == ("happiness", "contempt")
    assert happy.box.tolist() == [10, 20, 110, 130] and happy.points5[2].tolist() == [60, 61]
    (surprise,) = read("affectnet", tmp_path, "val")
    assert expression(surprise) == "surprise" and surprise.box is None and surprise.points5 is None


@pytest.mark.parametrize("kind", ["original", "aligned"])
def test_rafdb(tmp_path, put, kind):
    base = tmp_path / "basic"
    (base / "EmoLabel").mkdir(parents=True)
    names = ["train_00001", "train_00002", "test_0001"]
    labels = "".join(f"{name}.jpg {label}\n" for name, label in zip(names, (1, 7, 4), strict=True))
    (base / "EmoLabel/list_patition_label.txt").write_text(labels)
    for name in names:
        put(base / f"Image/{kind}/{name}{'' if kind == 'original' else '_aligned'}.jpg")
    for folder in ("manual", "boundingbox"):
        (base / "Annotation" / folder).mkdir(parents=True)
    points = "10.5\t20\n60 21\n35 40\n20 60\n50 61\n"
    (base / "Annotation/manual/train_00001_manu_attri.txt").write_text(points + "1\n0\n2\n")
    (base / "Annotation/manual/train_00002_manu_attri.txt").write_text(points + "2\n0\n2\n")
    (base / "Annotation/boundingbox/train_00001_boundingbox.txt").write_text("1 2 101 122")
    surprise, neutral = read("rafdb", tmp_path, "train")
    assert (expression(surprise), expression(neutral)) == ("surprise", "neutral")
    assert (surprise.gender, neutral.gender) == (1, None)
    assert [expression(sample) for sample in read("rafdb", tmp_path, "test")] == ["happiness"]
    if kind == "original":
        assert surprise.box.tolist() == [1, 2, 101, 122] and surprise.points5[0].tolist() == [10.5, 20]
    else:
        assert surprise.box is None and surprise.points5 is None


def fer_table(path, labels):
    gray = " ".join(str(value % 256) for value in range(48 * 48))
    usages = ("Training", "PublicTest", "PrivateTest", "Training")
    rows = [f"{label},{gray},{usage}" for label, usage in zip(labels, usages, strict=True)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]))


def test_fer2013_table(tmp_path):
    fer_table(tmp_path / "fer2013.csv", (0, 3, 6, 5))
    angry, surprised = read("fer2013", tmp_path, "train")
    assert (expression(angry), expression(surprised)) == ("anger", "surprise")
    assert angry.read().shape == (48, 48, 3) and (angry.read()[0, :5, 0] == range(5)).all()
    assert expression(*read("fer2013", tmp_path, "val")) == "happiness"
    assert expression(*read("fer2013", tmp_path, "test")) == "neutral"


def test_fer2013_folders(tmp_path, put):
    put(tmp_path / "train/angry/1.png")
    put(tmp_path / "train/happy/1.png")
    put(tmp_path / "test/sad/1.png")
    assert [expression(sample) for sample in read("fer2013", tmp_path, "train")] == ["anger", "happiness"]
    put(tmp_path / "test/puzzled/1.png")
    with pytest.raises(DataError, match="puzzled"):
        list(read_dataset("fer2013", tmp_path, "test"))


VOTES = """Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0
PublicTest,fer0000001.png,0,10,0,0,0,0,0,0,0,0
PrivateTest,,0,0,0,0,0,0,0,0,0,10
Training,fer0000003.png,0,0,0,0,0,0,0,0,10,0
"""


@pytest.mark.parametrize("form", ["table", "folders"])
def test_ferplus(tmp_path, put, form):
    (tmp_path / "fer2013new.csv").write_text(VOTES)
    if form == "table":
        fer_table(tmp_path / "fer2013.csv", (0, 3, 6, 5))
    else:
        put(tmp_path / "FER2013Train/fer0000000.png")
        put(tmp_path / "FER2013Valid/fer0000001.png")
        (tmp_path / "FER2013Test").mkdir()
    (sample,) = read("ferplus", tmp_path, "train")
    assert sample.expression_votes.tolist() == [4, 0, 0, 1, 3, 2, 0, 0]
    assert expression(*read("ferplus", tmp_path, "val")) == "happiness"
    assert read("ferplus", tmp_path, "test") == []


def test_ferplus_needs_as_many_images_as_votes(tmp_path):
    (tmp_path / "fer2013new.csv").write_text(VOTES + VOTES.splitlines()[1])
    fer_table(tmp_path / "fer2013.csv", (0, 3, 6, 5))
    with pytest.raises(DataError, match=r"fer2013.csv ends before .*fer2013new.csv, line 6"):
        list(read_dataset("ferplus", tmp_path, "train"))


def test_morph(tmp_path, put):
    rows = ["id_num,image_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"]
    for person in range(30):
        for shot in range(2):
            rows.append(
                f"{person:06d},{shot},,,B,{'MF'[person % 2]},,{20 + person},,,Album2\\{person:06d}_{shot}.JPG"
            )
            put(tmp_path / f"Album2/{person:06d}_{shot}.JPG")
    (tmp_path / "morph_2008_nonCommercial.csv").write_text("\n".join(rows))
    everyone = read("morph", tmp_path, "all")
    assert len(everyone) == 60
    assert (everyone[2].age, everyone[2].gender, everyone[2].identity) == (21, 1, "000001")
    people = [
        {sample.identity for sample in read("morph", tmp_path, part)} for part in ("train", "val", "test")
    ]
    assert sum(len(part) for part in people) == len(set.union(*people)) == 30
    assert len(people[0]) > 15


def test_utkface(tmp_path, put):
    for name in ("100_1_0_201701.jpg.chip.jpg", "5_0_20170.jpg", "53__0_2017.jpg"):
        put(tmp_path / "UTKFace" / name)
    put(tmp_path / "UTKFace/300_0_1_2017.jpg")
    samples = {sample.id: sample for sample in read_dataset("utkface", tmp_path, "all")}
    assert {name: (sample.age, sample.gender) for name, sample in samples.items()} == {
        "utkface-100_1_0_201701": (100, 1),
        "utkface-5_0_20170": (5, 0),
        "utkface-53__0_2017": (53, None),
        "utkface-300_0_1_2017": (300, 0),
    }
    with pytest.raises(DataError, match="300_0_1_2017.jpg.*age is 300"):
        check_sample(samples["utkface-300_0_1_2017"])
    parts = [len(list(read_dataset("utkface", tmp_path, part))) for part in ("train", "val", "test")]
    assert sum(parts) == 4


def test_folders(tmp_path, put):
    for person in range(20):
        put(tmp_path / f"faces/p{person}/one.jpg")
        put(tmp_path / f"faces/p{person}/two.png")
    assert len(read("folders", tmp_path / "faces", "all")) == 40
    train, val = (
        {sample.identity for sample in read("folders", tmp_path / "faces", part)} for part in ("train", "val")
    )
    assert train and val and not train & val
    put(tmp_path / "mine/train/anna/a.jpg")
    put(tmp_path / "mine/val/bert/a.jpg")
    (sample,) = read("folders", tmp_path / "mine", "val")
    assert (sample.identity, sample.source) == ("bert", "mine")


def test_rmfd(tmp_path, put):
    base = tmp_path / "self-built-masked-face-recognition-dataset"
    put(base / "AFDB_face_dataset/anna/1.jpg")
    put(base / "AFDB_face_dataset/bert/1.jpg")
    put(base / "AFDB_masked_face_dataset/anna/1.jpg")
    samples = read("rmfd", tmp_path, "all")
    assert [(sample.identity, sample.wears_mask) for sample in samples] == [
        ("anna", False),
        ("bert", False),
        ("anna", True),
    ]


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"generated"}))
def test_every_reader_says_what_it_looked_for_and_where(tmp_path, name):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"(looked for|no folder).*{root}"):
            list(read_dataset(name, root, "train"))


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"packed", "generated", "tar"}))
def test_unknown_split_lists_the_known_ones(tmp_path, name):
    if name == "folders":
        (tmp_path / "anna").mkdir()
        (tmp_path / "anna/1.jpg").touch()
    if name == "utkface":
        (tmp_path / "1_0_1_2.jpg").touch()
    if name == "morph":
        (tmp_path / "morph.csv").write_text("id_num,gender,age,photo\n1,M,3,x.jpg\n")
    with pytest.raises(DataError, match="'holiday'; choose one of .*train"):
        list(read_dataset(name, tmp_path, "holiday"))


def test_unknown_data_set_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="celeba.*wflw"):
        read_dataset("celebs", tmp_path, "train")
