"""The model card and README's table hold the numbers of the weights: made-up ones and the shipped ones."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "write_card.py"
SCORES = {"utkface_mae": 12.3456, "lfw_masked_accuracy": 61.5, "lfw_accuracy": 70.25, "lfw_something": 3}
SCORES |= {"lfw_accuracy_low": 68.5, "lfw_accuracy_high": 72.0, "lfw_faces_found": 12345}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with two texts, a registry and a weights file."""
    folder = tmp_path / "src" / "faceum" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "README.md").write_text("before\n<!-- scores:start -->\nold\n<!-- scores:end -->\nafter\n")
    (tmp_path / "tools").mkdir()
    marks = "\n".join(f"<!-- {name} -->" for name in ("scores", "tables", "data", "recipes", "worst"))
    (tmp_path / "tools" / "model_card.md").write_text(f"the card\n{marks}\nits end\n")
    weights = {
        "some-detector": {"kind": "detector", "files": {}, "scores": {"recall": 1}},
        "small": {"kind": "model", "files": {"safetensors": {"file": "small.safetensors"}}, "scores": SCORES},
    }
    (folder / "registry.json").write_text(json.dumps({"weights": weights}))
    write_header(folder / "small.safetensors", SCORES)
    return tmp_path


def write_header(path: Path, scores: dict[str, float], **more: Any) -> None:
    header = json.dumps({"__metadata__": {"faceum": json.dumps({"scores": scores, **more})}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_tables_hold_the_registrys_numbers(checkout: Path) -> None:
    assert run("--root", str(checkout)).returncode == 0
    readme = (checkout / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old" not in readme
    rows = [
        [cell.strip() for cell in line.split("|")] for line in readme.splitlines() if line.startswith("|")
    ]
    values = {(row[2], row[3]): row[4] for row in rows}
    assert values["UTKFace", "mean absolute error"] == "12.35 years"
    assert values["LFW pairs", "accuracy"] == "70.25 % (68.50 to 72.00)"
    assert values["LFW pairs, a mask painted on one side", "accuracy"] == "61.50 %"
    assert "something" not in readme and "recall" not in readme
    card = (checkout / "MODEL_CARD.md").read_text()
    assert "| something | 3 |" in card and "| LFW pairs | accuracy | 70.25 % | 68.50 to 72.00 |" in card
    assert "faces found by our detector | 12,345 |" in card and "accuracy low" not in card
    assert card.startswith("the card\n") and card.endswith("its end\n")
    assert card.count("Not recorded in these weights.") == 4, "this file says no more than its scores"


def test_card_holds_groups_data_and_recipes(checkout: Path) -> None:
    columns = ["age band", "faces", "MAE, years", "95 % from", "to"]
    rows = [["20-29", 1505, 3.0, 2.5, 3.5], ["70+", 12, 9.5, 8.0, 11.0], ["03-09", 30, 5.0, 4.0, 6.0]]
    batch, old = {"batch_size": 14}, {"count": 14}
    write_header(
        checkout / "src" / "faceum" / "weights" / "small.safetensors",
        SCORES,
        tables=[{"set": "utkface", "title": "By age band", "columns": columns, "rows": rows}],
        data=[{"name": "UTKFace", "train": 19279, "held_out": 1680, "labels": "age", "teachers": "none",
               "terms": "research"}],
        recipes=[{"out": "small-2", "initial": "small", "steps": 13000, "lr": 0.001, "seed": 0,
                  "precision": "bfloat16", "sources": {"utkface": batch, "celeba": old}}],
    )  # fmt: skip
    assert run("--root", str(checkout)).returncode == 0
    card = (checkout / "MODEL_CARD.md").read_text()
    assert "**UTKFace, by age band**" in card and "| 20-29 | 1,505 | 3.00 | 2.50 | 3.50 |" in card
    assert "best 3.00 (age band 20-29, 1505 faces), worst 9.50 (70+, 12)" in card
    assert "| UTKFace | 19,279 | 1,680 | age | none | research |" in card
    assert "1. small-2: from small, 13,000 steps of 28 faces (utkface 14, celeba 14)" in card
    assert "Not recorded" not in card


def test_check_reports_and_changes_nothing(checkout: Path) -> None:
    done = run("--root", str(checkout), "--check")
    assert done.returncode == 1 and "README.md" in done.stdout
    assert "old" in (checkout / "README.md").read_text()
    run("--root", str(checkout))
    assert run("--root", str(checkout), "--check").returncode == 0


def test_weights_that_say_something_else_are_refused(checkout: Path) -> None:
    file = checkout / "src" / "faceum" / "weights" / "small.safetensors"
    write_header(file, {**SCORES, "utkface_mae": 4.0})
    done = run("--root", str(checkout))
    assert done.returncode == 1 and "small.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_text_without_marks_is_refused(checkout: Path) -> None:
    (checkout / "README.md").write_text("no marks")
    done = run("--root", str(checkout))
    assert done.returncode == 1 and "scores:start" in done.stderr
    (checkout / "README.md").write_text("<!-- scores:start -->\n<!-- scores:end -->\n")
    (checkout / "tools" / "model_card.md").write_text("no marks")
    done = run("--root", str(checkout))
    assert done.returncode == 1 and "<!-- scores -->" in done.stderr


def test_every_score_of_the_shipped_card_has_words() -> None:
    table = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8").split("## Scores")[1].split("\n\n")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 60
    for dataset, words, *_ in rows:
        assert dataset.strip() and "_" not in words, (dataset, words)


def test_shipped_tables_are_up_to_date() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr
