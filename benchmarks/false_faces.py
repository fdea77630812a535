"""Benchmark: false faces per 1,000 images at 99 % recall, by the detector's own score and by its confidence.

    FACEUM_CORPUS=... python benchmarks/false_faces.py [--images 40] [--first 1000] [--fit 1]

Recall is that of the annotated faces of photos.val; false faces are counted in images that were drawn without
faces (not_faces.py), and among the places of photos.val that were looked at and labelled by eye, since its
annotation is not complete (photos_unannotated.json: faces, and what is none). "before" is the score of
CenterFace alone, "after" the reported one. The second table compares both at the default threshold.

--images: of each kind. --first: number of the first image; --fit used those from 0 on. --fit: fit the numbers
of `faceum.detect.confidence` on the same photos, on masked and small gray faces, and on those images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detection import FOUND, raised_box, rows_of
from in_turn import options, stamp
from not_faces import KINDS, draw

from faceum.detect import centerface
from faceum.detect.base import MIN_SCORE
from faceum.detect.confidence import SUREST, confidence
from faceum.geometry import boxes_iou
from faceum.image import read_image

LOWEST = 0.15
"""Candidates below this score of CenterFace are not looked at."""

FACES_TO_OTHERS = 3.2
"""Faces for each thing that resembles one, as in the labelled photos and drawn images together."""


class Candidates:
    """Finds candidates by CenterFace alone, and keeps what both networks say about each."""

    def __init__(self) -> None:
        self._detector = centerface.CenterFace(threads=1)
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []
        centerface.lowest_score = lambda wanted: wanted  # type: ignore[assignment]
        centerface.confidence = self._keep  # type: ignore[assignment]

    def _keep(self, scores: np.ndarray, faces: np.ndarray) -> np.ndarray:
        self._seen.append((scores, faces))
        return scores

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (n, 4), and (n, 2): the scores of both networks."""
        self._seen.clear()
        found = self._detector.detect(image, min_score=LOWEST)
        scores, faces = self._seen[-1] if self._seen else (np.zeros(0), np.zeros(0))
        by_score = dict(zip(scores.tolist(), faces.tolist(), strict=True))
        answers = [(face.score, by_score[np.float32(face.score).item()]) for face in found]
        boxes = np.array([face.box for face in found]).reshape(-1, 4)
        return boxes, np.array(answers).reshape(-1, 2)


def match(box: Sequence[float], boxes: np.ndarray) -> int | None:
    """Return the index of the box that overlaps most, or None if that is not enough."""
    overlaps = boxes_iou(np.array([box], np.float32), boxes.astype(np.float32))[0]
    return int(overlaps.argmax()) if len(overlaps) and overlaps.max() >= FOUND else None


def judge_photos(candidates: Candidates) -> dict[str, np.ndarray]:
    """Return the answers (n, 2) for annotated faces (0 if missed), further faces, and what is no face."""
    labels = json.loads(Path(__file__).with_name("photos_unannotated.json").read_text(encoding="utf-8"))
    rows: dict[str, list[np.ndarray]] = {"annotated": [], "faces": [], "not_faces": []}
    for row in rows_of("photos", ["id", "image", "landmarks68"]):
        boxes, answers = candidates.find(read_image(row["image"]))
        for face in row["landmarks68"]:
            place = match(raised_box(np.array(face).reshape(68, 2)).tolist(), boxes)
            rows["annotated"].append(np.zeros(2) if place is None else answers[place])
        for kind, given in labels.get(row["id"], {}).items():
            places = [match(box, boxes) for box in given]
            rows[kind] += [answers[place] for place in places if place is not None]
    return {kind: np.array(found).reshape(-1, 2) for kind, found in rows.items()}


def judge_set(candidates: Candidates, name: str, most: int) -> np.ndarray:
    """Return the answers (n, 2) for the faces that a set names, 0 for missed ones."""
    rows = rows_of(name, ["image", "box"])
    answers_of = []
    for index in np.random.default_rng(1).permutation(len(rows))[:most]:
        boxes, answers = candidates.find(read_image(rows[index]["image"]))
        place = match(rows[index]["box"], boxes)
        answers_of.append(np.zeros(2) if place is None else answers[place])
    return np.array(answers_of)


def fit(faces: np.ndarray, others: np.ndarray) -> None:
    """Print the numbers of `faceum.detect.confidence`, fitted to answers (n, 2)."""
    from sklearn.linear_model import LogisticRegression

    answers = np.clip(np.concatenate([faces, others]), 1 - SUREST, SUREST)
    weights = np.repeat([FACES_TO_OTHERS / len(faces), 1 / len(others)], [len(faces), len(others)]) * len(
        others
    )
    model = LogisticRegression(C=3).fit(
        np.log(answers / (1 - answers)), np.repeat([1, 0], [len(faces), len(others)]), sample_weight=weights
    )
    print("OFFSET, BY_SCORE, BY_FACE =", model.intercept_.round(2), model.coef_.round(2))


def main() -> None:
    """Print false faces before and after, and recall at the default threshold."""
    given = options(__doc__, images=40, first=1000, fit=0, most=90)
    stamp()
    candidates = Candidates()
    photos = judge_photos(candidates)
    drawn = {
        kind: [
            candidates.find(draw(kind, number))[1]
            for number in range(given.first, given.first + given.images)
        ]
        for kind in KINDS
    }
    others = np.concatenate([answers for found in drawn.values() for answers in found])
    worn = {name: judge_set(candidates, name, given.most) for name in ("masked", "ferplus")}
    if given.fit:
        faces = np.concatenate([*photos.values()][:2] + [*worn.values()])
        faces = faces[faces[:, 0] > 0]
        fit(faces, np.concatenate([photos["not_faces"], others]))
    scores = {
        "before": lambda answers: answers[:, 0],
        "after": lambda answers: confidence(answers[:, 0], answers[:, 1]) * (answers[:, 0] > 0),
    }
    print(
        "| score | recall of | threshold | false faces in 1,000 drawn images | false places in photos.val |"
    )
    for name, score in scores.items():
        for which in (("annotated",), ("annotated", "faces")):
            values = np.sort(score(np.concatenate([photos[kind] for kind in which])))
            lowest = values[int(0.01 * len(values))]
            false = 1000 * (score(others) >= lowest).sum() / (given.images * len(KINDS))
            places = f"{(score(photos['not_faces']) >= lowest).sum()} of {len(photos['not_faces'])}"
            print(f"| {name} | 99 %, {' and '.join(which)} | {lowest:.3f} | {false:.1f} | {places} |")
    faces = {"photos.val, annotated": photos["annotated"], "photos.val, others": photos["faces"], **worn}
    print(f"\nAt {MIN_SCORE}, before and after:")
    for name, answers in faces.items():
        print(
            f"| {name} | {len(answers)} | "
            + " | ".join(f"{np.mean(f(answers) >= MIN_SCORE):.3f}" for f in scores.values())
        )
    for kind, found in drawn.items():
        answers = np.concatenate(found)
        print(
            f"| {kind} | {given.images} | "
            + " | ".join(str((f(answers) >= MIN_SCORE).sum()) for f in scores.values())
        )


if __name__ == "__main__":
    main()
