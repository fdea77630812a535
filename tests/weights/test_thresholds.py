"""Thresholds are read from the registry, a file's header or its JSON file, and interpolated between rates."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import faceum
from faceum.errors import ModelError
from faceum.metrics.match_rates import MatchRate
from faceum.weights.thresholds import Thresholds, thresholds, thresholds_file, write_thresholds


def rate(fmr: float, cosine: float, tmr: float, measured: bool = True) -> MatchRate:
    """A rate with an interval of 0.1."""
    return MatchRate(
        fmr=fmr,
        cosine=cosine,
        tmr=tmr,
        tmr_low=round(tmr - 0.05, 3),
        tmr_high=round(tmr + 0.05, 3),
        measured=measured,
    )


@pytest.fixture
def measured() -> Thresholds:
    """Thresholds that are easy to read between."""
    bare = (rate(1e-1, 0.2, 0.9), rate(1e-3, 0.4, 0.7), rate(1e-5, 0.5, 0.5, measured=False))
    masked = Thresholds(set="lfw", people=9, same_pairs=10, different_pairs=1000, rates=bare[:2])
    return Thresholds(set="lfw", people=9, same_pairs=10, different_pairs=1000, rates=bare, masked=masked)


def test_measured_rates_are_given_as_they_are(measured: Thresholds) -> None:
    assert [measured.at(one.fmr) for one in measured.rates] == list(measured.rates)


@pytest.mark.parametrize(
    ("fmr", "cosine", "tmr", "known"),
    [
        (1e-2, 0.3, 0.8, True),
        (1e-4, 0.45, 0.6, False),
        (1e-7, 0.6, 0.3, False),
        (0.5, 0.2 - 0.1 * math.log10(5), None, False),
    ],
)
def test_other_rates_are_read_between_them(
    measured: Thresholds, fmr: float, cosine: float, tmr: float | None, known: bool
) -> None:
    found = measured.at(fmr)
    assert found.cosine == pytest.approx(cosine)
    assert found.measured is known
    if tmr is not None:
        assert found.tmr == pytest.approx(tmr)


def test_gallery_asks_for_a_lower_rate_of_each_pair(measured: Thresholds) -> None:
    for samples in (1, 10, 1000):
        pair = measured.for_gallery(0.01, samples).fmr
        assert 1 - (1 - pair) ** samples == pytest.approx(0.01)


def test_masked_faces_have_their_own(measured: Thresholds) -> None:
    assert measured.at(1e-5, masked=True).cosine == pytest.approx(0.6)
    with pytest.raises(ModelError, match="masked"):
        measured.with_masked(None).at(1e-3, masked=True)


@pytest.mark.parametrize("fmr", [0.0, 1.0, -1.0, math.nan])
def test_rate_outside_0_to_1_is_refused(measured: Thresholds, fmr: float) -> None:
    with pytest.raises(ModelError, match="between 0 and 1"):
        measured.at(fmr)
    with pytest.raises(ModelError, match="between 0 and 1"):
        measured.for_gallery(fmr, 3)


def test_they_survive_json(measured: Thresholds) -> None:
    again = Thresholds.from_dict(json.loads(json.dumps(measured.to_dict())))
    assert again == measured
    assert again.id == measured.id != measured.with_masked(None).id


@pytest.mark.parametrize("broken", [{}, {"rates": []}, {"rates": [{"fmr": 1}]}, {"masked": 3}])
def test_broken_ones_are_refused(measured: Thresholds, broken: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="measure them again"):
        Thresholds.from_dict({**(measured.to_dict() if broken else {}), **broken})


def test_files_header_is_read(tmp_path: Path, measured: Thresholds) -> None:
    path = tmp_path / "x.safetensors"
    header = {"faceum": json.dumps({"thresholds": measured.to_dict()})}
    save_file({"a": np.zeros(1)}, path, metadata=header)
    assert thresholds(path) == measured


def test_thresholds_file_of_a_network_is_read_and_checked(tmp_path: Path, measured: Thresholds) -> None:
    path = tmp_path / "arcface.onnx"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="faceum calibrate"):
        thresholds(path)
    assert write_thresholds(path, measured) == thresholds_file(path)
    assert thresholds(path) == measured
    path.write_bytes(b"\x00")
    with pytest.raises(ModelError, match="another file"):
        thresholds(path)


def test_shipped_model_has_measured_thresholds() -> None:
    shipped = faceum.thresholds()
    assert [one.fmr for one in shipped.rates][:4] == [1e-1, 1e-2, 1e-3, 1e-4]
    for one in filter(None, (shipped, shipped.masked)):
        assert all(rate.measured for rate in one.rates[:4])
        pairs = zip(one.rates, one.rates[1:], strict=False)
        assert all(a.cosine < b.cosine and a.tmr >= b.tmr for a, b in pairs)
