"""Two faces, and whether they show one person at a stated error rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceum.results import Face
from faceum.weights.thresholds import Thresholds

FMR = 1e-3
"""The false match rate at which two faces are judged unless another is asked for."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A verdict on two faces.

    same: whether the cosine reaches the threshold. cosine: similarity of the two embeddings, -1..1.
    threshold: the cosine from which on two faces are called one person. fmr: the share of pairs of different
    people that this threshold takes for one person; tmr, tmr_low, tmr_high: the share of pairs of one person
    that it recognizes, with its 95 % interval. measured: False where the threshold for that rate is
    extrapolated. set: where the rates were measured. model: id of the network, None where it is not known.

    Neither the cosine nor a rate is the probability that the two are one person.
    """

    same: bool
    cosine: float
    threshold: float
    fmr: float
    tmr: float
    tmr_low: float
    tmr_high: float
    measured: bool
    set: str
    model: str | None = None

    def __str__(self) -> str:
        verdict, reach = ("Same person", "reaches") if self.same else ("Different people", "is below")
        basis = f"measured on {self.set}" if self.measured else f"extrapolated from {self.set}"
        return (
            f"{verdict}: cosine {self.cosine:.3f} {reach} the threshold {self.threshold:.3f}, at which "
            f"{_share(self.fmr)} pairs of different people are taken for one person and "
            f"{100 * (1 - self.tmr):.1f} % of the pairs of one person are missed ({basis})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "same": self.same,
            "cosine": self.cosine,
            "threshold": self.threshold,
            "fmr": self.fmr,
            "tmr": self.tmr,
            "tmr_low": self.tmr_low,
            "tmr_high": self.tmr_high,
            "measured": self.measured,
            "set": self.set,
            "model": self.model,
        }


def match_faces(a: Face, b: Face, thresholds: Thresholds, fmr: float = FMR, *, masked: bool = False) -> Match:
    """Judge two faces at a false match rate.

    masked: use the thresholds for pairs in which a face wears a mask. Raises FaceumError where a face has no
    embedding, ModelError if they are of two networks or the rate is outside 0..1.
    """
    rate, cosine = thresholds.at(fmr, masked=masked), float(a.similarity(b))
    return Match(
        same=cosine >= rate.cosine,
        cosine=cosine,
        threshold=rate.cosine,
        fmr=fmr,
        tmr=rate.tmr,
        tmr_low=rate.tmr_low,
        tmr_high=rate.tmr_high,
        measured=rate.measured,
        set=thresholds.set + (", masked" if masked else ""),
        model=a.model,
    )


def _share(rate: float) -> str:
    """Format a small share as "1 in 1,000"."""
    return f"1 in {1 / rate:,.0f}" if rate <= 0.1 else f"{100 * rate:.0f} %"
