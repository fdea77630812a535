"""Files and settings with old names load through the map of old names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from faceum import old_names  # noqa: E402
from faceum.config import load_recipe, to_plain  # noqa: E402
from faceum.errors import RecipeError  # noqa: E402
from faceum.model.checkpoint import config_to_dict, load_checkpoint, save_checkpoint  # noqa: E402
from faceum.model.configs import COMPACT  # noqa: E402
from faceum.train.provenance import require_same_recipe  # noqa: E402
from faceum.weights.registry import asset_path  # noqa: E402

OLD_CONFIG = {"moe_blocks": "mixtures"}
OLD_BLOCK = {"dim": "width", "num_heads": "heads", "hidden_dim": "hidden"}
OLD_ROUTER = {"num_experts": "experts", "top_p": "tau"}
OLD_RUN = {
    "sources": "shares", "balance_weight": "switch", "bias_step": "balance", "grad_clip": "clip",
    "fold_projection": "fold", "keep_checkpoints": "keep",
}  # fmt: skip


def rename(values: dict, names: dict[str, str]) -> dict:
    return {names.get(name, name): value for name, value in values.items()}


def old_network(config: dict) -> dict:
    moe = config["moe"]
    old_moe = {
        **rename(moe, {"shared_hidden_dim": "shared_hidden"}),
        "router": rename(moe["router"], OLD_ROUTER),
        "experts": rename(moe["experts"], {"hidden_dim": "hidden"}),
    }
    return rename({**config, "block": rename(config["block"], OLD_BLOCK), "moe": old_moe}, OLD_CONFIG)


def old_run(config: dict) -> dict:
    sources = {}
    for name, source in config["sources"].items():
        augment = rename(source["augment"], {"mask_probability": "mask"})
        sources[name] = rename({**source, "augment": augment}, {"batch_size": "count"})
    network = config["network"] and old_network(config["network"])
    return rename({**config, "sources": sources, "network": network}, OLD_RUN)


def old_tensor(name: str) -> str:
    name = name.replace("moe_blocks.", "mixtures.", 1) if name.startswith("moe_blocks.") else name
    for part in ("mlp", "moe.shared", "moe.experts"):
        name = name.replace(f"{part}.fc1", f"{part}.expand").replace(f"{part}.fc2", f"{part}.reduce")
    return name


def test_network_configs() -> None:
    config = config_to_dict(COMPACT)
    assert old_network(config) != config
    assert old_names.rename_network_config(old_network(config)) == config
    assert old_names.rename_network_config(config) == config


def test_shipped_network_loads_and_keeps_its_values(tmp_path: Path) -> None:
    network, header = load_checkpoint(asset_path("compact", "safetensors"))
    assert network.config == COMPACT
    new = tmp_path / "new.safetensors"
    save_checkpoint(new, network, header)
    with safe_open(new, framework="pt") as file:
        assert old_tensor("moe_blocks.0.moe.experts.fc1") == "mixtures.0.moe.experts.expand"
        old = {old_tensor(name): file.get_tensor(name) for name in file.keys()}
    old_header = {**header, "config": old_network(config_to_dict(COMPACT))}
    save_file(old, tmp_path / "old.safetensors", metadata={"faceum": json.dumps(old_header)})
    again, _ = load_checkpoint(tmp_path / "old.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("recipe", ["smoke", "compact", "base_faceptor_mix"])
def test_run_records(tmp_path: Path, recipe: str) -> None:
    run = load_recipe(recipe)
    record = {"recipe": old_run(to_plain(run)), "data": {}, "earlier": []}
    assert "shares" in record["recipe"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    require_same_recipe(tmp_path, run)
    with pytest.raises(RecipeError, match="balance_weight=0.01, not 0.5"):
        require_same_recipe(tmp_path, load_recipe(recipe, ["switch=0.5"]))


@pytest.mark.parametrize("text", ["", "[]", "{}", "\\x00", '{"recipe": 1}', "[" * 50_000])
def test_damaged_run_records(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecipeError, match="run.json"):
        require_same_recipe(tmp_path, load_recipe("smoke"))


def test_training_states() -> None:
    network = {"mixtures.0.moe.shared.expand.bias": 2}
    old = {"step": 3, "centres": {"weight": 1}, "network": network, "average": {}}
    new = old_names.rename_training_state(old)
    assert new["network"] == {"moe_blocks.0.moe.shared.fc1.bias": 2}
    assert {**new, "network": {}} == {"step": 3, "partial_fc": {"weight": 1}, "network": {}, "average": {}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shares.celeba.count", "sources.celeba.batch_size"),
        ("sources.x.augment.mask", "sources.x.augment.mask_probability"),
        ("network.moe.experts.hidden", "network.moe.experts.hidden_dim"),
        ("network.mixtures", "network.moe_blocks"),
        ("network.block.width", "network.block.dim"),
        ("keep", "keep_checkpoints"),
        ("lr", "lr"),
    ],
)
def test_settings(old: str, new: str) -> None:
    assert old_names.rename_setting(old) == new
