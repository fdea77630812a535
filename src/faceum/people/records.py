"""The records of a gallery: people, their samples, and who a face resembles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNKNOWN = "unknown"
"""The name of a face that resembles nobody in the gallery closely enough."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What all vectors of a gallery have in common.

    model: id of the recognition network. dim: numbers of a vector. thresholds: id of the thresholds that
    were in force when the gallery was made, "" where the network had none.
    """

    model: str
    dim: int
    thresholds: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One enrolled face.

    person: name. key: what makes the sample unique within its person, such as the image's SHA-256.
    vector: (D,) float16 of length 1, (0,) where it was not read. source: where the image came from.
    model, thresholds: see `Binding`. quality: 0..1, None where it was not measured. crop: JPEG bytes of the
    face, None where crops are not kept. added: UTC time, ISO 8601. id: the store's number, 0 for a new one.
    """

    person: str
    key: str
    vector: np.ndarray = field(repr=False)
    source: str = ""
    model: str = ""
    thresholds: str = ""
    quality: float | None = None
    crop: bytes | None = field(default=None, repr=False)
    added: str = ""
    id: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, without the vector and the crop."""
        return {
            "id": self.id,
            "person": self.person,
            "key": self.key,
            "source": self.source,
            "model": self.model,
            "thresholds": self.thresholds,
            "quality": self.quality,
            "has_crop": self.crop is not None,
            "added": self.added,
        }


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person of the gallery: name, number of samples, and when the person was added (UTC, ISO 8601)."""

    name: str
    samples: int
    added: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"name": self.name, "samples": self.samples, "added": self.added}


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A person near a vector: the name, and the nearest of the person's samples with its cosine."""

    name: str
    sample: int
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A person whom a face may show.

    name, sample: who, and by which sample. cosine: with that sample. same: whether the cosine reaches the
    search's threshold.
    """

    name: str
    sample: int
    cosine: float
    same: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"name": self.name, "sample": self.sample, "cosine": self.cosine, "same": self.same}


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """Who one face resembles in a gallery.

    candidates: the nearest people, nearest first. threshold: the cosine from which on a candidate is
    accepted, None where the network has no thresholds. fmr: the false match rate asked for the whole
    gallery; pair_fmr: the rate for one pair that follows from it. measured: False where the threshold for
    that rate is extrapolated. people, samples: size of the gallery. box: (4,) of the face in its image, None
    where a vector was searched.
    """

    candidates: tuple[Candidate, ...]
    threshold: float | None
    fmr: float
    pair_fmr: float
    measured: bool
    people: int
    samples: int
    box: np.ndarray | None = None

    @property
    def name(self) -> str:
        """The nearest person where the cosine reaches the threshold, else "unknown"."""
        best = self.candidates[0] if self.candidates else None
        return best.name if best is not None and best.same else UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "name": self.name,
            "box": None if self.box is None else [float(value) for value in self.box],
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "threshold": self.threshold,
            "fmr": self.fmr,
            "pair_fmr": self.pair_fmr,
            "measured": self.measured,
            "people": self.people,
            "samples": self.samples,
        }


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that `doctor` looked at: what, whether it is sound, and a sentence."""

    name: str
    ok: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}
