"""The folder that an evaluation leaves behind."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceum.evaluate.plots import PLOTS
from faceum.evaluate.record import Evaluation, Example, Score, Table, headline_scores, percent, years
from faceum.evaluate.report import markdown_table, score_line, write_report
from faceum.metrics.intervals import Interval


def example(name: str, **drawn: np.ndarray) -> Example:
    return Example(id=name, error=1.0, caption="said so", image=np.full((20, 30, 3), 90, np.uint8), **drawn)


CURVES = {
    "roc": {"far": [0, 0.5, 1], "tar": [0, 0.9, 1]},
    "distances": {"edge": [0, 1, 2], "same": [3, 0], "different": [0, 3]},
    "scatter": {"true": [20.0, 30.0], "predicted": [22.0, 29.0]},
    "spread": {"predicted": [2, 3], "observed": [2.5, 3.5]},
    "coverage": {"level": [0.1, 0.9], "share": [0.1, 0.8]},
    "reliability": {"confidence": [0.4, 0.9], "accuracy": [0.5, 0.8], "count": [3, 5]},
    "confusion": {"names": ["calm", "glad"], "counts": [[3, 1], [0, 0]]},
    "reject": {"share": [0, 0.1, 0.5], "weakened": [0.3, 0.2, 0.1], "as they are": [0.2, 0.1, 0]},
    "ced": {"error": [0, 0.03, 0.1], "share": [0, 0.5, 1]},
}


def evaluation(protocol: str = "landmarks", **parts: object) -> Evaluation:
    return Evaluation(
        protocol=protocol,
        dataset="toy",
        count=4,
        found={"detector": 3, "missed": 1},
        scores={
            "nme": percent(0.0512, Interval(low=0.04, high=0.06, level=0.95)),
            "fr10": percent(None),
            "mae": years(5.25),
        },
        tables=(Table(title="By part", columns=("part", "NME, %"), rows=(("jaw", 3.0), ("a | b", None))),),
        notes=("One face was not found.",),
        **parts,
    )


def test_report(tmp_path):
    points = np.random.default_rng(0).uniform(0, 20, (68, 2))
    classes = np.zeros((20, 30), np.uint8)
    drawn = [
        example("points", truth=points, answer=points + 1),
        example("map", truth=classes, answer=classes + 1),
    ]
    one = evaluation(curves=CURVES, best=tuple(drawn), worst=(example("plain"),))
    load = {
        "toy": {"MoE block 1, face": {"age": [0.25, 0.75]}, "MoE block 1, background": {"age": [0.0, 0.0]}}
    }
    path = write_report([one], tmp_path, {"model": "toy"}, expert_load=load)
    text = path.read_text()
    assert "- model: toy" in text
    assert "| nme | 5.12 % | 4.00 to 6.00 |" in text
    assert "| fr10 | - |  |" in text
    assert "| a \\| b | - |" in text
    assert "- One face was not found." in text
    contents = json.loads((tmp_path / "report.json").read_text())
    assert contents["schema"] == "faceum.evaluation/1"
    assert contents["scores"] == {
        "toy_nme": 5.12,
        "toy_nme_low": 4,
        "toy_nme_high": 6,
        "toy_mae": 5.25,
        "toy_faces_found": 3,
        "toy_faces_given": 0,
        "toy_faces_missed": 1,
    }
    assert contents["evaluations"][0]["curves"]["roc"] == CURVES["roc"]
    assert contents["expert_load"] == load
    named = {line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png")}
    assert named == written
    assert len(written) == len(CURVES) + 2
    assert set(CURVES) == set(PLOTS)
    for file in written:
        assert cv2.imread(str(tmp_path / file)).std() > 1  # something is drawn


def test_missing_load_is_explained(tmp_path):
    write_report([evaluation()], tmp_path, {}, expert_note="It needs torch.", overlays=False)
    assert "## Experts\n\nIt needs torch." in (tmp_path / "report.md").read_text()
    contents = json.loads((tmp_path / "report.json").read_text())
    assert (contents["expert_load"], contents["expert_note"]) == (None, "It needs torch.")


def test_no_overlays_means_no_images_of_the_set(tmp_path):
    one = evaluation(best=(example("a"),), worst=(example("b"),))
    write_report([one], tmp_path, {}, overlays=False)
    assert not list(tmp_path.rglob("*.png"))


def test_headlines_are_flat():
    lfw = [
        Evaluation(
            protocol=protocol, dataset="lfw", count=1, found={}, scores={"accuracy": Score(value=value)}
        )
        for protocol, value in (("verification", 88.12345), ("masked", 78.0))
    ]
    flat = headline_scores(lfw)
    assert (flat["lfw_accuracy"], flat["lfw_masked_accuracy"]) == (88.123, 78.0)
    assert flat["lfw_masked_faces_missed"] == 0
    both = headline_scores([lfw[0], replace(lfw[0], protocol="attributes")])
    assert both["lfw_attributes_accuracy"] == both["lfw_accuracy"]


def test_one_line_for_the_terminal():
    assert score_line(evaluation()) == "toy landmarks: nme 5.12 %, fr10 -, mae 5.25 years (4, 1 missed)"


def test_table():
    table = Table(title="T", columns=("a", "b"), rows=((1, 2.0), ("x", None)))
    assert markdown_table(table) == ["**T**", "", "| a | b |", "|---|---|", "| 1 | 2.00 |", "| x | - |"]


@pytest.mark.parametrize(("best", "worst"), [(1, 0), (0, 2), (6, 6)])
def test_any_number_of_examples(tmp_path, best, worst):
    one = evaluation(
        best=tuple(example(f"b{i}") for i in range(best)), worst=tuple(example(f"w{i}") for i in range(worst))
    )
    write_report([one], tmp_path, {})
    assert (tmp_path / "overlays" / "toy-landmarks.png").exists()
