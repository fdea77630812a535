"""Damaged files raise the package's own errors only; tools/fuzz.py does the same with more mutants."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

FUZZ = Path(__file__).resolve().parents[2] / "tools" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["weights", "state_dict", "run"])
def test_damaged_files(fuzz: ModuleType, name: str) -> None:
    summary = fuzz.run(name, count=300)
    assert summary.foreign == {}
    assert summary.accepted + summary.refused == 300 and summary.refused


def test_mutants_can_be_repeated(fuzz: ModuleType, tmp_path: Path) -> None:
    import random

    data = bytes(range(256)) * 4
    one, two = (fuzz.damage(random.Random("run 0 17"), data) for _ in range(2))
    assert one == two and any(fuzz.damage(random.Random(str(n)), data) != data for n in range(5))


def test_hostile_values_stay_as_they_are(fuzz: ModuleType) -> None:
    import random

    before = repr(fuzz.HOSTILE)
    for number in range(3000):
        json.dumps(fuzz.damage_json(random.Random(number), {"a": {"b": [1, 2]}}))
    assert repr(fuzz.HOSTILE) == before
