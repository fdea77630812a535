"""Read and write a model's measured cosine thresholds, which decide whether two faces show one person."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from faceum.errors import ModelError
from faceum.files import sha256_of, write_text
from faceum.onnx_session import metadata_of
from faceum.weights.quality import QualityFit
from faceum.weights.registry import find_asset, looks_like_path

NEEDED = 30
"""The least number of false matches of a measured rate: the "rule of 30" of ISO/IEC 19795-1."""


@dataclass(frozen=True, kw_only=True)
class MatchRate:
    """The rates of a threshold.

    fmr: the false match rate of the threshold; fmr_low, fmr_high: its 95 % interval over resampled people,
    None if it is not measured. cosine: the threshold; above 1 no faces match. tmr, tmr_low, tmr_high: the
    true match rate, 0..1, and its 95 % interval. measured: False if fewer than `NEEDED` false matches can be
    expected, so that the threshold is extrapolated.
    """

    fmr: float
    cosine: float
    tmr: float
    tmr_low: float
    tmr_high: float
    fmr_low: float | None = None
    fmr_high: float | None = None
    measured: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded, ready for JSON."""
        return {
            name: value if value is None or isinstance(value, bool) else float(f"{value:.6g}")
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Cosine thresholds at descending false match rates, measured on one set.

    set: the set's name. people: number of people, 0 if unknown. same_pairs, different_pairs: number of pairs.
    rates: highest false match rate first, at least two. masked: thresholds for pairs in which one face wears
    a mask, None if they were not measured. quality: the formula of a face's quality, None if none was fitted.
    """

    set: str
    people: int
    same_pairs: int
    different_pairs: int
    rates: tuple[MatchRate, ...] = field(repr=False)
    masked: Thresholds | None = field(default=None, repr=False)
    quality: QualityFit | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The set and a digest of the numbers: "lfw:1a2b3c4d"."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return f"{self.set}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def at(self, fmr: float, *, masked: bool = False) -> MatchRate:
        """Return the threshold at any false match rate, interpolated on a logarithmic scale.

        Beyond the last rate the cosine rises as between the last two. Raises ModelError if the rate is
        outside 0..1, or masked faces were not measured.
        """
        if not 0 < fmr < 1:
            raise ModelError(f"Expected a false match rate between 0 and 1, got {fmr:g}; 0.001 is usual.")
        if masked:
            if self.masked is None:
                raise ModelError(
                    f"The thresholds from {self.set} do not cover masked faces; compare without masks."
                )
            return self.masked.at(fmr)
        after = next((i for i, rate in enumerate(self.rates) if rate.fmr <= fmr), len(self.rates) - 1)
        low, high = self.rates[max(after - 1, 0)], self.rates[max(after, 1)]
        if math.isclose(fmr, self.rates[after].fmr):
            return self.rates[after]
        place = math.log(fmr / low.fmr) / math.log(high.fmr / low.fmr)
        inside = 0 <= place <= 1

        def between(name: str) -> float:
            ends = getattr(low, name), getattr(high, name)
            return float(ends[0] + (ends[1] - ends[0]) * place)

        return MatchRate(
            fmr=fmr,
            cosine=between("cosine"),
            **{name: min(1.0, max(0.0, between(name))) for name in ("tmr", "tmr_low", "tmr_high")},
            measured=inside and low.measured and high.measured,
        )

    def for_gallery(self, fmr: float, samples: int, *, masked: bool = False) -> MatchRate:
        """Return the threshold at which a stranger matches any of `samples` with the rate `fmr`.

        A search is as many chances of a false match as there are samples: for n independent ones of rate r, 1
        - (1 - r)^n is the rate of the gallery, so r = 1 - (1 - fmr)^(1/n).
        """
        if not 0 < fmr < 1:
            raise ModelError(f"Expected a false match rate between 0 and 1, got {fmr:g}; 0.01 is usual.")
        return self.at(-math.expm1(math.log1p(-fmr) / max(1, samples)), masked=masked)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        values = asdict(self)
        values["rates"] = [rate.to_dict() for rate in self.rates]
        values["masked"] = None if self.masked is None else self.masked.to_dict()
        del values["quality"]
        if self.quality is not None:
            values["quality"] = self.quality.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        """Build thresholds from `to_dict`'s values; raises ModelError if the values are none."""
        try:
            masked, quality = values.get("masked"), values.get("quality")
            return cls(
                set=str(values["set"]),
                people=int(values["people"]),
                same_pairs=int(values["same_pairs"]),
                different_pairs=int(values["different_pairs"]),
                rates=_check_rates([MatchRate(**rate) for rate in values["rates"]]),
                masked=None if masked is None else cls.from_dict(masked),
                quality=None if quality is None else QualityFit.from_dict(quality),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"The thresholds cannot be read ({error!r}); measure them again.") from None

    def with_masked(self, masked: Thresholds | None) -> Thresholds:
        """Return a copy with the thresholds for masked faces."""
        return replace(self, masked=masked)

    def with_quality(self, quality: QualityFit | None) -> Thresholds:
        """Return a copy with the formula of a face's quality."""
        return replace(self, quality=quality)


def thresholds(model: str | Path = "compact") -> Thresholds:
    """Return the measured thresholds of a model.

    model: a registered name (`faceum models` lists them), or the path of an .onnx or .safetensors file, whose
    thresholds are in a file next to it (`faceum calibrate` writes it) or in its header. Raises ModelError if
    there are none.
    """
    if not looks_like_path(model):
        values: Any = find_asset(str(model), "model").thresholds
    else:
        path = Path(str(model)).expanduser()
        values = _read_neighbour(path) or _read_header(path)
    if not values:
        raise ModelError(
            f"The model {str(model)!r} has no measured thresholds to judge cosines by; measure them: "
            f"faceum calibrate --recognizer {model} --set lfw=lfw:FOLDER."
        )
    return Thresholds.from_dict(values)


def thresholds_file(path: Path) -> Path:
    """Return the path of the thresholds of a network's file: for x.onnx it is x.thresholds.json."""
    return path.with_suffix(".thresholds.json")


def write_thresholds(path: Path, measured: Thresholds) -> Path:
    """Write the thresholds of a network's file next to it; return the path."""
    target = thresholds_file(path)
    write_text(target, json.dumps({"sha256": sha256_of(path), **measured.to_dict()}, indent=2) + "\n")
    return target


def _check_rates(rates: Sequence[MatchRate]) -> tuple[MatchRate, ...]:
    falling = all(one.fmr > two.fmr for one, two in zip(rates, rates[1:], strict=False))
    if len(rates) < 2 or not falling:
        raise ValueError(f"expected two or more falling rates, got {[rate.fmr for rate in rates]}")
    return tuple(rates)


def _read_neighbour(path: Path) -> Any:
    try:
        values = json.loads(thresholds_file(path).read_text(encoding="utf-8"))
    except OSError:
        return None
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{thresholds_file(path)} is no JSON ({error}); measure the thresholds again."
        ) from None
    if values.get("sha256") != sha256_of(path):
        raise ModelError(
            f"{thresholds_file(path)} was measured on another file than {path.name} (its SHA-256 differs); "
            "measure the thresholds again with `faceum calibrate`."
        )
    return values


def _read_header(path: Path) -> Any:
    """Return the thresholds in a file's header; None if it has none."""
    try:
        if path.suffix.lower() == ".onnx":
            text = metadata_of(path.read_bytes()).get("faceum")
        else:
            from safetensors import safe_open

            with safe_open(path, framework="np") as file:
                text = (file.metadata() or {}).get("faceum")
        return json.loads(text or "{}").get("thresholds")
    except (OSError, ValueError) as error:
        raise ModelError(f"The header of {path} cannot be read ({error}); check the path.") from None
