"""Turn the frames of a video, and the detections in some of them, into tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from faceum.detect.base import Detection
from faceum.errors import FaceumError
from faceum.extras import is_installed, missing
from faceum.geometry import boxes_iou, compose, transform_points
from faceum.results import Face
from faceum.video.follow import View, follow, look_of, move_box
from faceum.video.records import weight_of
from faceum.video.tracks import Track, TrackConfig, assign_alike, assign_near, assign_weak, find_covered

MOST_LOST = 500
"""Lost tracks that are remembered; beyond that the oldest are forgotten."""

YOUNG_SECONDS = 2.0
"""A new track may still turn out to be an older one for so long: faces often come back turned or cut off."""

Answer = Callable[[np.ndarray, Sequence[Detection]], list[Face]]
"""What answers the tasks for detections in an RGB image."""


class Tracker:
    """Holds the tracks of one video; frames go in one after the other."""

    def __init__(self, answer: Answer, config: TrackConfig, same_cosine: float) -> None:
        """answer: see `Answer`. same_cosine: the least cosine at which a person is known again."""
        if not is_installed("scipy"):
            raise FaceumError(missing("Tracking", "scipy", "video"))
        self._answer = answer
        self._config = config
        self._same_cosine = same_cosine
        self._view: View | None = None
        self._tracks: list[Track] = []
        self._count = 0
        self.untracked: list[Detection] = []
        """Detections of the last frame that belong to no track."""
        self.joined: dict[int, int] = {}
        """Numbers that the last frame replaced by those of older tracks."""

    def follow(self, view: View, time: float) -> bool:
        """Move the active tracks into the next frame; False if a face could not be followed."""
        before, self._view = self._view, view
        self.untracked, self.joined = [], {}
        active = [track for track in self._tracks if track.active]
        if before is None:
            return True
        cut = view.cut_from(before)
        complete = True
        for track in active:
            motion = None
            if not cut and track.look is not None:
                motion = follow(before, view, track.box, track.look)
            if motion is None or _outside(move_box(motion, track.box), view.gray.shape):
                complete = False
                track.active = False
                if cut:  # where the face was says nothing about where it is
                    track.velocity, track.time = np.zeros(2), track.time - self._config.lost_seconds
                continue
            points = None if track.points5 is None else transform_points(motion, track.points5)
            track.move(
                move_box(motion, track.box), None if points is None else points.astype(np.float32), time
            )
            track.motion = compose(track.motion, motion)
        return complete and not cut

    def detect(self, image: np.ndarray, detections: Sequence[Detection], time: float) -> dict[int, Face]:
        """Associate the detections of the current frame; return the full answers by the tracks' numbers."""
        config = self._config
        strong = [one for one in detections if one.score is None or one.score >= config.new_score]
        weak = [one for one in detections if one.score is not None and one.score < config.new_score]
        answers = self._answer(image, strong) if strong else []
        embeddings = [face.embedding for face in answers]
        near = [t for t in self._tracks if t.active or time - t.time <= config.lost_seconds]
        found = assign_near(near, strong, embeddings, time, config)
        seen = {track.number: answers[i] for track, i in found.pairs}
        for track, index in found.pairs:
            self._place(track, answers[index], time)
        rest = found.left
        gone = [t for t in self._tracks if t.number not in seen and not t.active]
        alike = assign_alike(gone, [embeddings[i] for i in rest], self._same_cosine)
        for track, index in alike.pairs:
            self._place(track, answers[rest[index]], time)
            seen[track.number] = answers[rest[index]]
        covered, waiting = find_covered(strong), []
        for index in (rest[i] for i in alike.left):
            if covered[index] and self._comes_back(strong[index], near, time):
                waiting.append(strong[index])
            elif not self._is_double(strong[index], seen):
                track = self._begin(answers[index], time)
                seen[track.number] = answers[index]
        self._continue_weak(image, weak, seen, time)
        self.untracked += waiting
        self._miss(seen)
        self._join_young(seen, time)
        self._forget(time)
        return seen

    def active(self) -> list[Track]:
        """Return the tracks that are seen in the current frame."""
        return [track for track in self._tracks if track.active]

    def _begin(self, face: Face, time: float) -> Track:
        self._count += 1
        track = Track(number=self._count, box=face.box, points5=face.points5, time=time, born=time)
        self._tracks.append(track)
        self._place(track, face, time)
        return track

    def _place(self, track: Track, face: Face, time: float) -> None:
        """Put a track where its face was detected, and add the answers to its averages."""
        assert self._view is not None
        track.move(face.box, face.points5, time)
        track.score, track.missed = face.score, 0
        track.latest, track.motion = face, np.eye(2, 3)
        track.look = look_of(self._view, face.box)
        track.averages.add(face, weight_of(face), time)

    def _continue_weak(
        self, image: np.ndarray, weak: Sequence[Detection], seen: dict[int, Face], time: float
    ) -> None:
        tracks = [t for t in self._tracks if t.active and t.number not in seen]
        found = assign_weak(tracks, weak)
        faces = self._answer(image, [weak[i] for _, i in found.pairs]) if found.pairs else []
        for (track, _), face in zip(found.pairs, faces, strict=True):
            self._place(track, face, time)
            seen[track.number] = face
        self.untracked = [weak[i] for i in found.left]

    def _is_double(self, detection: Detection, seen: dict[int, Face]) -> bool:
        """Return whether a new face lies on one that is already assigned."""
        return any(boxes_iou(face.box[None], detection.box[None])[0, 0] > 0.5 for face in seen.values())

    def _comes_back(self, detection: Detection, near: Sequence[Track], time: float) -> bool:
        """Return whether a face lies where a lost track may be, so that no new one begins yet."""
        middle = (detection.box[:2] + detection.box[2:]) / 2
        side = float((detection.box[2:] - detection.box[:2]).max())
        for track in near:
            box = track.predicted(time)
            away = float(np.hypot(*((box[:2] + box[2:]) / 2 - middle)))
            if not track.active and away <= track.reach(time, self._config) * side:
                return True
        return False

    def _miss(self, seen: dict[int, Face]) -> None:
        """End tracks that the detector missed twice in a row, or that lie on a face of another track."""
        taken = [face.box for face in seen.values()]
        for track in self._tracks:
            if not track.active or track.number in seen:
                continue
            track.missed += 1
            hidden = any(boxes_iou(track.box[None], box[None])[0, 0] > 0.3 for box in taken)
            if track.missed > 1 or hidden:
                track.active = False

    def _join_young(self, seen: dict[int, Face], time: float) -> None:
        """Give young tracks the number of an older track whose person they turn out to show."""
        young = [
            t
            for t in self._tracks
            if t.active and time - t.born <= YOUNG_SECONDS and t.number in seen and t.averages.samples > 1
        ]
        if not young:
            return
        gone = [t for t in self._tracks if not t.active and t.born < min(y.born for y in young)]
        found = assign_alike(gone, [t.averages.embedding() for t in young], self._same_cosine)
        for old, index in found.pairs:
            track = young[index]
            self._tracks.remove(old)
            self.joined[track.number] = old.number
            seen[old.number] = seen.pop(track.number)
            track.averages.merge(old.averages)
            track.number, track.born = old.number, old.born
            track.name, track.named_at = old.name, old.named_at

    def _forget(self, time: float) -> None:
        kept = [t for t in self._tracks if t.active or time - t.time <= self._config.join_seconds]
        lost = sorted((t for t in kept if not t.active), key=lambda t: t.time)[-MOST_LOST:]
        self._tracks = [t for t in kept if t.active or t in lost]


def _outside(box: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether the middle of a box lies outside a frame (H, W)."""
    x, y = (box[:2] + box[2:]) / 2
    return not (0 <= x < shape[1] and 0 <= y < shape[0])
