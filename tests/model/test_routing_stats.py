"""What an inspection tells is what the routers chose; tables, JSON and command tell it on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from faceum.cli.app import app  # noqa: E402
from faceum.cli.tables import inspection_tables  # noqa: E402
from faceum.crop import Crop, crop_face  # noqa: E402
from faceum.errors import ModelError  # noqa: E402
from faceum.image import read_image  # noqa: E402
from faceum.model.network import FaceUM  # noqa: E402
from faceum.model.routing_stats import NOT_TAKEN, Inspection, Route, expert_load, inspect_face  # noqa: E402
from faceum.tasks import TASKS  # noqa: E402
from faceum.weights.load import load_model  # noqa: E402

BOX = np.array([182, 58, 270, 178], np.float32)
POINTS5 = np.array([[208, 103], [245, 105], [228, 129], [210, 144], [242, 146]], np.float32)


def by_hand() -> Inspection:
    """Four tokens, the first two on the face; three experts, one mixture."""
    crop = Crop(
        image=np.zeros((32, 32, 3), np.uint8),
        matrix=np.eye(2, 3),
        inverse=np.eye(2, 3),
        face_tokens_N=np.array([True, True, False, False]),
    )
    age = Route(
        task="age",
        moe_block=1,
        topk_experts_NK=np.array([[0, 1], [0, NOT_TAKEN], [2, NOT_TAKEN], [2, NOT_TAKEN]]),
        weights_NK=np.array([[0.5, 0.3], [0.4, 0], [0.1, 0], [0.3, 0]], np.float32),
    )
    parsing = Route(
        task="parsing",
        moe_block=1,
        topk_experts_NK=np.array([[1, NOT_TAKEN], [1, NOT_TAKEN], [2, NOT_TAKEN], [0, NOT_TAKEN]]),
        weights_NK=np.full((4, 2), [0.5, 0], np.float32),
    )
    return Inspection(
        network="toy",
        num_experts=3,
        moe_blocks=1,
        crops={"age": crop, "parsing": crop},
        routes=(age, parsing),
    )


def test_load_weight_and_overlap_of_a_case_worked_by_hand() -> None:
    toy = by_hand()
    assert toy.counts(1).tolist() == [[[0, 0, 2], [2, 1, 0]], [[1, 0, 1], [0, 2, 0]]]
    np.testing.assert_allclose(toy.load(1)[0, 1], [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(toy.weight(1), [[0.2, 0.6], [0.5, 0.5]], rtol=1e-6)
    # Shared: on the face expert 1 (1/5 against 2/4), behind it expert 2 (2/5 against 1/4).
    np.testing.assert_allclose(toy.overlap(), [[1, 0.45], [0.45, 1]])


def test_json_holds_only_what_was_taken() -> None:
    reported = json.loads(json.dumps(by_hand().to_dict(), allow_nan=False))
    assert reported["moe_blocks"][0]["age"]["experts"] == [[0, 1], [0], [2], [2]]
    assert reported["moe_blocks"][0]["age"]["weights"][0] == pytest.approx([0.5, 0.3])
    assert reported["overlap"]["age"]["parsing"] == pytest.approx(0.45)


def test_region_without_tokens_has_no_weight() -> None:
    toy = by_hand()
    for crop in toy.crops.values():
        crop.face_tokens_N[:] = True
    reported = toy.to_dict()["moe_blocks"][0]["age"]
    assert reported["weight"]["background"] is None and reported["load"]["background"] == [0, 0, 0]
    json.dumps(toy.to_dict(), allow_nan=False)


def test_it_agrees_with_the_routers_own_counts(tiny_model: Path, portrait: np.ndarray) -> None:
    network = load_model(tiny_model)
    inspection = inspect_face(network, portrait, BOX, POINTS5)
    assert inspection.tasks == tuple(TASKS)
    crop = crop_face(portrait, network.config.crop_of("age"), BOX, POINTS5)
    for place, by_task in expert_load(network, [crop], inspection.tasks).items():
        region = int(place.endswith("face"))
        for row, task in enumerate(inspection.tasks):
            np.testing.assert_allclose(inspection.load(1)[row, region], by_task[task])


def test_class_token_and_two_crop_policies(portrait: np.ndarray) -> None:
    from faceum.model.configs import REFERENCE
    from faceum.model.experts import ExpertsConfig

    torch.manual_seed(0)
    config = replace(
        REFERENCE,
        block=replace(REFERENCE.block, dim=32, num_heads=2, head_dim=16, hidden_dim=32),
        moe=replace(
            REFERENCE.moe, shared_hidden_dim=32, experts=ExpertsConfig(hidden_dim=16, activation="relu")
        ),
        depth=1,
        crops=tuple(
            (replace(spec, size=16 * (3 + i), grid=3 + i), tasks)
            for i, (spec, tasks) in enumerate(REFERENCE.crops)
        ),
    )
    inspection = inspect_face(FaceUM(config).eval(), portrait, BOX, POINTS5, ["landmarks", "age"])
    assert inspection.tasks == ("age", "landmarks")
    assert [len(inspection.route(task, 2).topk_experts_NK) for task in inspection.tasks] == [9, 16]
    assert inspection.overlap().shape == (2, 2)
    for task in inspection.tasks:
        taken_N = (inspection.route(task, 1).topk_experts_NK != NOT_TAKEN).sum(-1)
        assert (taken_N[~inspection.crops[task].face_tokens_N] == 2).all()


def test_dense_twin_and_an_unknown_task_give_sentences(tiny_model: Path, portrait: np.ndarray) -> None:
    network = load_model(tiny_model)
    with pytest.raises(ModelError, match="no task 'ages'"):
        inspect_face(network, portrait, BOX, POINTS5, ["ages"])
    config = network.config
    twin = FaceUM(replace(config, moe=replace(config.moe, routed=False))).eval()
    with pytest.raises(ModelError, match="dense network"):
        inspect_face(twin, portrait, BOX, POINTS5)


def test_tables_show_maps_load_and_what_is_shared() -> None:
    console = Console(width=140, file=io.StringIO())
    console.print(inspection_tables(by_hand()))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["0", "0", "1", "1"] in rows and ["2", "2", "2", "0"] in rows  # the maps, side by side
    assert ["age", "face", "67", "33", ".", "0.60"] in rows
    assert ["age", "100", "45"] in rows


def test_command_line(tiny_model: Path, portrait_path: Path, tmp_path: Path) -> None:
    words = ["inspect", str(portrait_path), "--model", str(tiny_model)]
    done = CliRunner().invoke(app, [*words, "--tasks", "age,parsing", "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 0 and "% shared" in done.output
    assert read_image(tmp_path / "x.png").shape[1] > 1000
    reported = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert reported["schema"] == "faceum.experts/2" and set(reported["crops"]) == set(TASKS)
    missing = CliRunner().invoke(app, [*words, "--face", "9"])
    assert missing.exit_code == 2 and "face 9" in missing.output
