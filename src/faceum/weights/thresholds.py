"""When are two faces one person? A model's measured cosine thresholds, and how to read between them."""

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
from faceum.weights.registry import find_asset, looks_like_path

NEEDED = 30
"""False matches that a rate must rest on to count as measured: the "rule of 30" of ISO/IEC 19795-1."""


@dataclass(frozen=True, kw_only=True)
class MatchRate:
    """What a threshold achieves.

    fmr: the false match rate that the threshold is for; fmr_low, fmr_high: its 95 % interval over resampled
    people, None where it is not measured. cosine: the threshold; above 1 nobody matches. tmr, tmr_low,
    tmr_high: the true match rate, 0..1, and its 95 % interval. measured: False where fewer than `NEEDED`
    false matches can be expected, so that the threshold is extrapolated.
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
        """Plain values, rounded, ready for JSON."""
        return {
            name: value if value is None or isinstance(value, bool) else float(f"{value:.6g}")
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Cosine thresholds at falling false match rates, measured on one set.

    set: the set's name. people: how many people (0 where they are not known); same_pairs, different_pairs:
    how many pairs. rates: highest false match rate first, at least two. masked: the same for pairs in which
    one face wears a mask, None where that was not measured.
    """

    set: str
    people: int
    same_pairs: int
    different_pairs: int
    rates: tuple[MatchRate, ...]
    masked: Thresholds | None = field(default=None)

    @property
    def id(self) -> str:
        """The set and a digest of the numbers: "lfw:1a2b3c4d"."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return f"{self.set}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def at(self, fmr: float, *, masked: bool = False) -> MatchRate:
        """The threshold at any false match rate, read between the measured ones on a logarithmic scale.

        Beyond the last rate the cosine rises as between the last two. Raises ModelError for a rate outside
        0..1 and where masked faces were not measured.
        """
        if not 0 < fmr < 1:
            raise ModelError(f"A false match rate lies between 0 and 1, got {fmr:g}; 0.001 is usual.")
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
        """The threshold at which a stranger matches any of `samples` with the rate `fmr`.

        A search is as many chances of a false match as there are samples: for n independent ones of rate r, 1
        - (1 - r)^n is the rate of the gallery, so r = 1 - (1 - fmr)^(1/n).
        """
        if not 0 < fmr < 1:
            raise ModelError(f"A false match rate lies between 0 and 1, got {fmr:g}; 0.01 is usual.")
        return self.at(-math.expm1(math.log1p(-fmr) / max(1, samples)), masked=masked)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = asdict(self)
        values["rates"] = [rate.to_dict() for rate in self.rates]
        values["masked"] = None if self.masked is None else self.masked.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        """The inverse of to_dict; ModelError where the values are no thresholds."""
        try:
            masked = values.get("masked")
            return cls(
                set=str(values["set"]),
                people=int(values["people"]),
                same_pairs=int(values["same_pairs"]),
                different_pairs=int(values["different_pairs"]),
                rates=_checked([MatchRate(**rate) for rate in values["rates"]]),
                masked=None if masked is None else cls.from_dict(masked),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"The thresholds cannot be read ({error!r}); measure them again.") from None

    def with_masked(self, masked: Thresholds | None) -> Thresholds:
        """The same with those for masked faces."""
        return replace(self, masked=masked)


def thresholds(model: str | Path = "compact") -> Thresholds:
    """The measured thresholds of a model.

    model: a registered name (`faceum models` lists them), or the path of an .onnx or .safetensors file, whose
    thresholds lie beside it (`faceum calibrate` writes them) or in its header. Raises ModelError where there
    are none.
    """
    if not looks_like_path(model):
        values: Any = find_asset(str(model), "model").thresholds
    else:
        path = Path(str(model)).expanduser()
        values = _beside(path) or _in_header(path)
    if not values:
        raise ModelError(
            f"The model {str(model)!r} has no measured thresholds to judge cosines by; measure them: "
            f"faceum calibrate --recognizer {model} --set lfw=FOLDER."
        )
    return Thresholds.from_dict(values)


def thresholds_file(path: Path) -> Path:
    """Where the thresholds of a network's file lie: x.onnx -> x.thresholds.json."""
    return path.with_suffix(".thresholds.json")


def write_thresholds(path: Path, measured: Thresholds) -> Path:
    """Write the thresholds of a network's file beside it, and return the path."""
    target = thresholds_file(path)
    write_text(target, json.dumps({"sha256": sha256_of(path), **measured.to_dict()}, indent=2) + "\n")
    return target


def _checked(rates: Sequence[MatchRate]) -> tuple[MatchRate, ...]:
    falling = all(one.fmr > two.fmr for one, two in zip(rates, rates[1:], strict=False))
    if len(rates) < 2 or not falling:
        raise ValueError(f"expected two or more falling rates, got {[rate.fmr for rate in rates]}")
    return tuple(rates)


def _beside(path: Path) -> Any:
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


def _in_header(path: Path) -> Any:
    """The thresholds in a file's own header; None where it has none or is no file of ours."""
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
