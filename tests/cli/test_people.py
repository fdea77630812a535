"""`faceum compare`, `people` and `cluster` on a tiny network: verdicts, exit codes, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from faceum.cli.app import app
from faceum.image import write_image
from faceum.weights.thresholds import MatchRate, Thresholds, write_thresholds

Run = Callable[..., Any]


@pytest.fixture
def network(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny network with thresholds that its random embeddings cannot be far from."""
    path = tmp_path / "network" / "tiny.onnx"
    path.parent.mkdir()
    shutil.copy(tiny_model.with_suffix(".onnx"), path)
    rates = tuple(
        MatchRate(fmr=10.0**-n, cosine=1 - 10.0 ** -(n + 2), tmr=0.9, tmr_low=0.8, tmr_high=1.0)
        for n in range(1, 5)
    )
    write_thresholds(path, Thresholds(set="drawn", people=9, same_pairs=9, different_pairs=99, rates=rates))
    return path


@pytest.fixture
def faceum(network: Path, tmp_path: Path) -> Run:
    """Runs the command line with that network and a gallery of its own."""
    options = ["--model", str(network), "--threads", "1"]
    gallery = ["--gallery", str(tmp_path / "people.sqlite")]

    def run(*words: object) -> Any:
        given = [str(word) for word in words]
        if given[0] == "people":
            given += gallery + (options if given[1] in ("enroll", "import", "search") else [])
            given += options[:2] if given[1] == "doctor" else []
        elif given[0] in ("compare", "cluster"):
            given += options
        return CliRunner().invoke(app, given)

    return run


@pytest.fixture
def mirror(portrait: np.ndarray, tmp_path: Path) -> Path:
    """The portrait in a mirror: another face to the random network."""
    write_image(tmp_path / "mirror.png", portrait[:, ::-1])
    return tmp_path / "mirror.png"


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    """An image without a face."""
    write_image(tmp_path / "wall.png", np.full((90, 90, 3), 99, np.uint8))
    return tmp_path / "wall.png"


@pytest.fixture
def both(portrait: np.ndarray, tmp_path: Path) -> Path:
    """Return the portrait with a smaller copy of it at its side."""
    image = np.full((512, 768, 3), 99, np.uint8)
    image[:256, :256] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    image[:, 256:] = portrait
    write_image(tmp_path / "both.png", image)
    return tmp_path / "both.png"


def test_compare_says_same_person_in_one_sentence(faceum: Run, portrait_path: Path) -> None:
    done = faceum("compare", portrait_path, portrait_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("Same person: cosine 1.000")
    assert "1 in 1,000" in done.stdout and "10.0 %" in done.stdout and "drawn" in done.stdout


def test_compare_says_different_people(faceum: Run, portrait_path: Path, mirror: Path) -> None:
    done = faceum("compare", portrait_path, mirror, "--fmr", "1e-4", "--json")
    assert done.exit_code == 1, done.output
    (pair,) = json.loads(done.stdout)["pairs"]
    assert (pair["same"], pair["fmr"], pair["set"]) == (False, 1e-4, "drawn")
    assert pair["cosine"] < pair["threshold"] == pytest.approx(1 - 1e-6)


def test_compare_names_the_image_without_a_face(faceum: Run, portrait_path: Path, wall: Path) -> None:
    done = faceum("compare", portrait_path, wall)
    assert done.exit_code == 2 and "no face in" in done.stderr and "wall.png" in done.stderr


def test_compare_takes_every_face_or_the_largest(faceum: Run, portrait_path: Path, both: Path) -> None:
    done = faceum("compare", both, portrait_path, "--json")
    pairs = json.loads(done.stdout)["pairs"]
    assert [(pair["face_a"], pair["face_b"]) for pair in pairs] == [(0, 0), (1, 0)]
    done = faceum("compare", both, portrait_path)
    assert "face 2" in done.stdout and "face 0" not in done.stdout and "cosine" in done.stdout
    done = faceum("compare", both, portrait_path, "--best", "--json")
    assert len(json.loads(done.stdout)["pairs"]) == 1 and "2 faces" in done.stderr


def test_compare_needs_thresholds_and_a_rate(faceum: Run, network: Path, portrait_path: Path) -> None:
    done = faceum("compare", portrait_path, portrait_path, "--fmr", "2")
    assert done.exit_code == 2 and "between 0 and 1" in done.stderr
    network.with_suffix(".thresholds.json").unlink()
    done = faceum("compare", portrait_path, portrait_path)
    assert done.exit_code == 2 and "faceum calibrate" in done.stderr


def test_person_is_enrolled_found_renamed_and_removed(
    faceum: Run, portrait_path: Path, mirror: Path, tmp_path: Path
) -> None:
    done = faceum("people", "enroll", "Eileen", portrait_path, "--keep-crops")
    assert done.exit_code == 0 and "Samples added: 1," in done.stdout, done.output
    done = faceum("people", "search", portrait_path, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["faces"][0]["name"] == "Eileen"
    done = faceum("people", "search", mirror)
    assert done.exit_code == 1 and "unknown" in done.stdout and "different" in done.stdout
    assert faceum("people", "rename", "Eileen", "Eileen Collins").exit_code == 0
    assert "Eileen Collins  1" in faceum("people", "list").stdout
    done = faceum("people", "show", "Eileen Collins", "--crops", tmp_path / "crops")
    assert "astronaut.png" in done.stdout
    assert [path.suffix for path in (tmp_path / "crops").iterdir()] == [".jpg"]
    assert faceum("people", "doctor").exit_code == 0
    done = faceum("people", "remove", "Eileen")
    assert done.exit_code == 2 and "did you mean 'Eileen Collins'" in done.stderr
    assert faceum("people", "remove", "Eileen Collins").exit_code == 0
    assert json.loads(faceum("people", "list", "--json").stdout) == []


def test_folder_is_imported_and_exported(
    faceum: Run, portrait_path: Path, mirror: Path, wall: Path, both: Path, tmp_path: Path
) -> None:
    for name, image in (("Ada", portrait_path), ("Bob", mirror), ("Bob", wall), ("Cleo", both)):
        (tmp_path / "people" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "people" / name)
    done = faceum("people", "import", tmp_path / "people")
    assert done.exit_code == 1
    assert "Samples added: 2, there already: 0; images not usable: 2." in done.stdout
    assert "wall.png" in done.stderr and "2 faces" in done.stderr
    assert faceum("people", "export", "--out", tmp_path / "people.npz").exit_code == 0
    done = faceum("people", "import", tmp_path / "people.npz", "--json")
    assert json.loads(done.stdout) == {"added": 0, "known": 2, "problems": []}
    assert "1 sample of Bob is now Ada's." in faceum("people", "merge", "Bob", "Ada").stdout


def test_images_without_a_face_are_bad_input(faceum: Run, wall: Path) -> None:
    assert faceum("people", "enroll", "Ada", wall).exit_code == 2
    assert faceum("people", "search", wall).exit_code == 1


def test_faces_are_clustered_into_sheets_and_a_table(
    faceum: Run, portrait_path: Path, mirror: Path, tmp_path: Path
) -> None:
    pytest.importorskip("scipy")
    parquet = pytest.importorskip("pyarrow.parquet")
    copy = shutil.copy(portrait_path, tmp_path / "copy.png")
    done = faceum("cluster", portrait_path, mirror, copy, "--out", tmp_path / "out", "--threshold", "0.99999")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(tmp_path / "out" / "clusters.parquet").to_pydict()
    names = [Path(source).name for source in table["source"]]
    assert names == ["astronaut.png", "mirror.png", "copy.png"]
    assert table["cluster"][0] == table["cluster"][2] == 0 != table["cluster"][1]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "sheets/cluster-0000.jpg" in page and "http" not in page
    assert cv2.imread(str(tmp_path / "out" / "sheets" / "cluster-0000.jpg")).shape[0] == 96


def test_output_folder_of_clusters_is_tried_before_the_first_image(
    faceum: Run, portrait_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("faceum.people.cluster_faces.faces_of_images", None)
    done = faceum("cluster", portrait_path, "--out", tmp_path / "file" / "below")
    assert done.exit_code == 2 and "a file is in the way of its folder" in done.stderr


def test_embeddings_of_a_parquet_file_are_clustered(faceum: Run, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = np.repeat(np.eye(3, 8), [3, 1, 2], axis=0)
    parquet.write_table(
        pyarrow.table({"id": list("abcdef"), "embedding": vectors.tolist()}), tmp_path / "faces.parquet"
    )
    done = faceum("cluster", tmp_path / "faces.parquet", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(tmp_path / "out" / "clusters.parquet").to_pydict()
    assert table["source"] == list("abcdef")
    assert table["cluster"] == [0, 0, 0, 2, 1, 1] and table["size"] == [3, 3, 3, 1, 2, 2]
    parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "other.parquet")
    # Two faces at a cosine of 0.2 are two people, however few faces there are.
    pair = pyarrow.table({"embedding": [[1.0, 0.0], [0.2, 0.96**0.5]]})
    pyarrow.parquet.write_table(pair, tmp_path / "pair.parquet")
    assert "groups: 2" in faceum("cluster", tmp_path / "pair.parquet", "--out", tmp_path / "two").stdout
    done = faceum("cluster", tmp_path / "other.parquet", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "embedding" in done.stderr


def test_faces_of_a_batch_are_clustered_but_not_those_of_two_models(faceum: Run, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    half = pyarrow.list_(pyarrow.float16(), 8)

    def write(shard: str, rows: list[int], model: str) -> None:
        """A shard as `faceum batch` writes it: a row without an embedding for the image, then its faces."""
        vectors = [None, *np.eye(8, dtype=np.float16)[rows].tolist()]
        columns = {
            "source": ["image.jpg"] * len(vectors),
            "face": pyarrow.array([None, *range(len(rows))], pyarrow.int32()),
            "model": [None, *[model] * len(rows)],
            "quality": pyarrow.array([None, 0.1, *[0.9] * (len(rows) - 1)], pyarrow.float32()),
            "error": pyarrow.array([None] * len(vectors), pyarrow.string()),
            "embedding": pyarrow.array(vectors, half),
        }
        (tmp_path / "batch" / "results" / shard).mkdir(parents=True)
        parquet.write_table(pyarrow.table(columns), tmp_path / "batch" / "results" / shard / "0.parquet")

    def groups(*words: object) -> Any:
        return faceum("cluster", tmp_path / "batch", "--out", tmp_path / "out", *words)

    write("00000", [0, 1, 0], "tiny@1")
    write("00001", [3, 1], "tiny@1")
    done = groups("--threshold", "0.9")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(tmp_path / "out" / "clusters.parquet").to_pydict()
    assert table["face"] == [0, 1, 2, 0, 1] and table["cluster"] == [0, 1, 0, 2, 1]
    assert "Faces: 3," in groups("--threshold", "0.9", "--min-quality", "0.5").stdout
    done = groups()
    assert done.exit_code == 2 and "tiny@1" in done.stderr and "--threshold" in done.stderr
    write("00002", [3, 1], "other@2")
    done = groups("--threshold", "0.9")
    assert done.exit_code == 2 and "2 models" in done.stderr


def test_sheets_of_an_earlier_run_are_removed(faceum: Run, portrait_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("pyarrow")
    old = tmp_path / "out" / "sheets" / "cluster-0007.jpg"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"an old sheet")
    assert faceum("cluster", portrait_path, "--out", tmp_path / "out", "--threshold", "0.9").exit_code == 0
    assert not old.exists()


def test_reading_a_gallery_does_not_make_one(faceum: Run, portrait_path: Path, tmp_path: Path) -> None:
    for words in (("list",), ("search", portrait_path), ("doctor",), ("remove", "Ada")):
        done = faceum("people", *words)
        assert done.exit_code == 2 and "There is no gallery" in done.stderr, words
    assert not (tmp_path / "people.sqlite").exists()
