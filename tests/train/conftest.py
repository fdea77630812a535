"""What the training tests share: a tiny network, and a run on drawn faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from faceum.config import load_recipe
from faceum.data.mixture import SourceConfig
from faceum.train import RunConfig

SMOKE = Path(__file__).resolve().parents[2] / "src" / "faceum" / "recipes" / "smoke.py"


@pytest.fixture
def drawn_run(tmp_path: Path) -> Callable[..., RunConfig]:
    """The smoke recipe on few drawn faces and few steps, with any other settings."""

    def make(**settings: Any) -> RunConfig:
        smoke = load_recipe(SMOKE)
        given = {
            "out": str(tmp_path / "run"),
            "sources": {"drawn": SourceConfig(reader="generated", path="24", batch_size=6)},
            "steps": 8,
            "warmup": 2,
            "workers": 0,
            "save_every": 3,
            "log_every": 1,
            "validate_every": 0,
        }
        return type(smoke)(**{**vars(smoke), **given, **settings})

    return make
