"""docs/scaling.md holds what benchmarks/scaling.py computes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_holds_the_computed_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"))
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert script["fill"](page) == page, "run benchmarks/scaling.py --write"
    for value, _ in script["FIGURES"].values():
        assert str(value) in page
