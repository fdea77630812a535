"""Tracks of faces: the state of each, and the association of detections with tracks.

In the manner of ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection
Box", arXiv 2110.06864): confident detections are assigned first, then weak detections continue the tracks
that are left. Two things differ. Between detections the faces are followed (follow.py), so motion is measured
and not predicted; and embeddings take part, so that people who cross or come back keep their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from faceum.detect.base import Detection
from faceum.geometry import boxes_iou
from faceum.results import Face
from faceum.video.average import Averages
from faceum.video.one_euro import OneEuro


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """How detections become tracks.

    new_score: a track begins with a detection of at least this score. low_score: weaker detections down to
    this score continue tracks. lost_seconds: an occlusion up to this length is bridged by motion and
    embedding. join_seconds: after that, a person who comes back within this time is known by the embedding
    alone. same_cosine: the least cosine for that; None for the model's own threshold. different_cosine:
    below it two faces that meet in place are still two people.
    """

    new_score: float = 0.5
    low_score: float = 0.25
    lost_seconds: float = 2.0
    join_seconds: float = 600.0
    same_cosine: float | None = None
    different_cosine: float = 0.15


@dataclass(kw_only=True, eq=False)
class Track:
    """One person on the way through the video.

    box, points5: the latest place. look: see `faceum.video.follow.look_of`. latest: the last full answer;
    motion: the similarity from the frame of that answer to the current one. velocity: of the box's centre, in
    pixels a second. time: when last seen; born: when first seen. active: seen in the last frame.
    """

    number: int
    box: np.ndarray
    points5: np.ndarray | None
    time: float
    born: float
    score: float | None = None
    look: np.ndarray | None = None
    latest: Face | None = None
    motion: np.ndarray = field(default_factory=lambda: np.eye(2, 3))
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    active: bool = True
    missed: int = 0
    averages: Averages = field(default_factory=Averages)
    smoother: OneEuro = field(default_factory=OneEuro)
    name: str | None = None
    named_at: int = 0

    def predicted(self, time: float) -> np.ndarray:
        """Return the box (4,) at a time, by its velocity for at most half a second."""
        if self.active:
            return self.box
        shift = self.velocity * min(time - self.time, 0.5)
        return np.asarray(self.box + np.tile(shift, 2), np.float32)

    def reach(self, time: float, config: TrackConfig) -> float:
        """Return how far from the predicted place the face may be, as a share of its side."""
        return 0.8 if self.active else 0.8 + 1.5 * min(time - self.time, config.lost_seconds)

    def move(self, box: np.ndarray, points5: np.ndarray | None, time: float) -> None:
        """Take a new place, and measure the velocity if the last one is recent."""
        elapsed = time - self.time
        if self.active and elapsed > 0:
            shift = ((box[:2] + box[2:]) - (self.box[:2] + self.box[2:])) / 2
            keep = np.exp(-elapsed / 0.2)
            self.velocity = keep * self.velocity + (1 - keep) * shift / elapsed
        elif not self.active:
            self.velocity = np.zeros(2)
        self.box, self.points5, self.time, self.active = box, points5, time, True


@dataclass(frozen=True, kw_only=True, eq=False)
class Assigned:
    """The detections of a frame by their index: pairs of track and detection, and those left over."""

    pairs: list[tuple[Track, int]]
    left: list[int]


def assign_near(
    tracks: Sequence[Track],
    detections: Sequence[Detection],
    embeddings: Sequence[np.ndarray | None],
    time: float,
    config: TrackConfig,
) -> Assigned:
    """Assign detections to tracks that are near in place and alike in embedding."""
    affinity, covered = np.zeros((len(tracks), len(detections))), find_covered(detections)
    for row, track in enumerate(tracks):
        affinity[row] = _affinities(track, detections, embeddings, covered, time, config)
    return _best_pairs(tracks, affinity)


def assign_weak(tracks: Sequence[Track], detections: Sequence[Detection]) -> Assigned:
    """Assign detections of low score to active tracks by overlap alone."""
    if not tracks or not detections:
        return Assigned(pairs=[], left=list(range(len(detections))))
    overlap = boxes_iou(np.stack([t.box for t in tracks]), np.stack([d.box for d in detections]))
    return _best_pairs(tracks, np.where(overlap >= 0.4, overlap, 0))


def assign_alike(
    tracks: Sequence[Track], embeddings: Sequence[np.ndarray | None], same_cosine: float
) -> Assigned:
    """Assign faces to tracks by embedding alone, wherever they are."""
    affinity = np.zeros((len(tracks), len(embeddings)))
    for row, track in enumerate(tracks):
        mean = track.averages.embedding()
        for column, embedding in enumerate(embeddings):
            if mean is not None and embedding is not None:
                cosine = float(mean @ embedding)
                affinity[row, column] = cosine if cosine >= same_cosine else 0
    return _best_pairs(tracks, affinity)


def _affinities(
    track: Track,
    detections: Sequence[Detection],
    embeddings: Sequence[np.ndarray | None],
    covered: np.ndarray,
    time: float,
    config: TrackConfig,
) -> np.ndarray:
    """Return the affinity of a track with each detection: 0 where they cannot be one face, else up to 2."""
    row = np.zeros(len(detections))
    box, mean = track.predicted(time), track.averages.embedding()
    middle, side = (box[:2] + box[2:]) / 2, float(np.sqrt(max((box[2:] - box[:2]).prod(), 1.0)))
    reach = track.reach(time, config)
    for index, (detection, embedding) in enumerate(zip(detections, embeddings, strict=True)):
        its_middle = (detection.box[:2] + detection.box[2:]) / 2
        its_side = float(np.sqrt(max((detection.box[2:] - detection.box[:2]).prod(), 1.0)))
        away = float(np.hypot(*(its_middle - middle))) / max(side, its_side)
        if away > reach or not 0.4 < its_side / side < 2.5:
            continue
        overlap = float(boxes_iou(box[None], detection.box[None])[0, 0])
        if mean is None or embedding is None:
            row[index] = overlap + max(0.0, 0.5 - away) if track.active or away < 1 else 0
            continue
        cosine = float(mean @ embedding)
        least = config.different_cosine if track.active or covered[index] else 2 * config.different_cosine
        if cosine >= least:
            row[index] = 0.01 + overlap + cosine
    return row


def find_covered(detections: Sequence[Detection]) -> np.ndarray:
    """Return (n,) whether each face touches another head, as that of someone who comes out from behind does.

    A head is taken as 1.5 times its face. The embedding of a face that is partly covered says less.
    """
    if not detections:
        return np.zeros(0, bool)
    boxes = np.stack([one.box for one in detections])
    middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    overlap = boxes_iou(boxes, np.concatenate([middles - 0.75 * sides, middles + 0.75 * sides], axis=1))
    np.fill_diagonal(overlap, 0)
    return np.asarray((overlap > 0).any(axis=1))


def _best_pairs(tracks: Sequence[Track], affinity: np.ndarray) -> Assigned:
    """Return the assignment of the largest total affinity; entries of 0 are never assigned."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-affinity)
    pairs = [
        (tracks[row], int(column))
        for row, column in zip(rows, columns, strict=True)
        if affinity[row, column] > 0
    ]
    taken = {column for _, column in pairs}
    return Assigned(pairs=pairs, left=[i for i in range(affinity.shape[1]) if i not in taken])
