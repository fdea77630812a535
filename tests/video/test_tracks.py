"""Tracks keep their numbers, follow between detections, average and smooth; the pace holds a rate."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import faceum
from faceum.errors import FaceumError
from faceum.results import Age, Face
from faceum.video.analyze import VideoConfig, analyze_video
from faceum.video.average import Averages
from faceum.video.follow import View, follow, look_of, move_box
from faceum.video.one_euro import OneEuro
from faceum.video.records import Frame, TrackedFace
from faceum.video.schedule import DetectionPace
from faceum.video.summary import TrackCollector

pytest.importorskip("scipy", reason="scipy is not installed")


def numbers(frames: list[Frame]) -> list[dict[str, int]]:
    """For each frame, the colour of each face and its track."""
    colours = ["red", "green", "blue"]
    return [
        {colours[int(face.embedding.argmax())]: face.track_id for face in frame.faces} for frame in frames
    ]


def run(images: list[np.ndarray], analyzer: Any, **settings: Any) -> list[Frame]:
    gallery = settings.pop("gallery", None)
    config = VideoConfig(**settings)
    return list(analyze_video(images, analyzer=analyzer, gallery=gallery, config=config))


def test_people_who_cross_keep_their_numbers(scene: Any, analyzer: Any) -> None:
    images = [scene.frame((0, 20 + 6 * i, 60), (2, 250 - 6 * i, 66)) for i in range(38)]
    for every in (1, 4):
        seen = numbers(run(images, analyzer, every=every))
        assert seen[0] == seen[-1] and set(seen[0]) == {"red", "blue"}
        assert {one["red"] for one in seen if "red" in one} == {seen[0]["red"]}
        assert {one["blue"] for one in seen if "blue" in one} == {seen[0]["blue"]}


def test_a_half_covered_face_does_not_begin_a_track(
    scene: Any, analyzer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = analyzer.answer

    def answer(image: np.ndarray, faces: list[Any]) -> list[Any]:
        answers = complete(image, faces)
        for face in answers:
            if face.box[2] - face.box[0] < 40 and face.box[0] > 140:  # coming out: it resembles nobody
                face.embedding[:] = np.eye(512, dtype=np.float32)[7]
        return answers

    monkeypatch.setattr(analyzer, "answer", answer)
    images = [scene.frame((0, 20 + 3 * i, 62), (2, 250 - 3 * i, 62)) for i in range(70)]
    frames = run(images, analyzer, every=2)
    partly = [face for frame in frames for face in frame.untracked]
    assert partly, "the clip has to show a half-covered face after the crossing"
    assert {face.track_id for frame in frames for face in frame.faces} == {1, 2}
    assert numbers(frames[:1]) == numbers(frames[-1:])


@pytest.mark.parametrize("away", [25, 80])
def test_a_person_comes_back_with_the_same_number(scene: Any, analyzer: Any, away: int) -> None:
    there = [scene.frame((0, 40, 60), (1, 200, 40 + i)) for i in range(10)]
    gone = [scene.frame((1, 200, 50)) for _ in range(away)]
    back = [scene.frame((0, 120, 20), (1, 200, 50)) for _ in range(6)]
    seen = numbers(run([*there, *gone, *back], analyzer, every=2))
    assert "red" not in seen[10 + away // 2]
    assert seen[-1] == seen[0]


def test_a_cut_does_not_carry_numbers_to_other_people(scene: Any, analyzer: Any) -> None:
    first = [scene.frame((0, 40, 60), (1, 200, 60)) for _ in range(8)]
    scene.ground = 255 - scene.ground // 2
    second = [scene.frame((1, 40, 60), (2, 200, 60)) for _ in range(8)]
    seen = numbers(run(first + second, analyzer, every=3))
    assert seen[8]["green"] == seen[0]["green"] == seen[-1]["green"]
    assert seen[-1]["blue"] not in seen[0].values()


def test_faces_are_followed_between_detections(scene: Any, analyzer: Any) -> None:
    images = [scene.frame((0, 30 + 3 * i, 60 + i)) for i in range(24)]
    frames = run(images, analyzer, every=8, smooth=False)
    assert analyzer.looks == 3 and [frame.faces[0].detected for frame in frames[:9]] == [
        True,
        *[False] * 7,
        True,
    ]
    for i, frame in enumerate(frames):
        true = np.array([30 + 3 * i, 60 + i, 78 + 3 * i, 108 + i])
        assert np.abs(frame.faces[0].box - true).max() < 2
        assert np.abs(frame.faces[0].landmarks[0] - (true[:2] + [14.4, 19.2])).max() < 2
        assert (frame.faces[0].raw.age is not None) == frame.faces[0].detected
        assert frame.faces[0].age.years == pytest.approx(20)


def test_a_face_that_something_covers_is_not_followed(scene: Any) -> None:
    before, now = scene.frame((0, 100, 60)), scene.frame((0, 102, 60))
    box = np.array([100, 60, 148, 108], np.float32)
    look = look_of(View.of(before), box)
    motion = follow(View.of(before), View.of(now), box, look)
    assert motion is not None and np.abs(move_box(motion, box) - [102, 60, 150, 108]).max() < 0.5
    now[60:108, 100:160] = np.random.default_rng(0).integers(0, 255, (48, 60, 1))
    assert follow(View.of(before), View.of(now), box, look) is None


def test_a_person_known_late_gets_the_older_number(scene: Any, analyzer: Any) -> None:
    answer = analyzer.answer
    images = [scene.frame((0, 40, 60)) for _ in range(6)] + [scene.frame() for _ in range(60)]
    images += [scene.frame((0, 200, 60)) for _ in range(12)]
    seen: list[int] = []

    def unsure_at_first(image: np.ndarray, faces: list[Any]) -> list[Face]:
        found = answer(image, faces)
        for face in found:
            seen.append(1)
            if 7 <= len(seen) <= 8:  # the first two looks after the return
                face.embedding[:] = 0
                face.embedding[[0, 7]] = 0.3, 0.954
        return found

    analyzer.answer = unsure_at_first
    frames = run(images, analyzer, every=1)
    assert [face.track_id for face in frames[66].faces] == [2] and frames[-1].faces[0].track_id == 1
    assert [frame.joined for frame in frames if frame.joined] == [{2: 1}]
    (summary,) = faceum.summarize_tracks(iter(frames))
    assert summary.first == 0 and summary.last == frames[-1].time and summary.frames == 18


def test_names_come_from_the_gallery(scene: Any, analyzer: Any) -> None:
    class Gallery:
        asked = 0

        def search_vectors(self, vectors: np.ndarray, k: int = 5, *, model: str) -> list[Any]:
            self.asked += 1
            assert model == "fake@0"
            return [SimpleNamespace(name="Rose" if vector[0] > 0.9 else "unknown") for vector in vectors]

    gallery = Gallery()
    images = [scene.frame((0, 40, 60), (1, 200, 60)) for _ in range(10)]
    frames = run(images, analyzer, every=1, gallery=gallery)
    assert [face.name for face in frames[-1].faces] == ["Rose", None]
    assert gallery.asked == 2 * 4  # at 1, 2, 4 and 8 samples of each


def test_averages_weigh_by_quality_and_forget_expressions() -> None:
    averages = Averages()
    for years, weight in ((20.0, 0.9), (60.0, 0.1)):
        face = Face(box=np.zeros(4), age=Age(years=years, std=4.0))
        averages.add(face, weight, 0.0)
    assert averages.answers(face)["age"].years == pytest.approx(24)


def test_a_track_is_no_surer_of_an_age_than_its_frames() -> None:
    """Worked by hand: half at 20 and half at 26 years, each with a deviation of 4, is 23 with one of 5."""
    tracks = TrackCollector()
    for index, years in enumerate((20.0, 26.0) * 50):
        raw = Face(box=np.zeros(4), age=Age(years=years, std=4.0))
        face = TrackedFace(box=raw.box, track_id=1, weight=0.5, raw=raw)
        tracks.add(Frame(index=index, time=index / 30, faces=(face,)))
    (track,) = tracks.summaries()
    assert track.age is not None
    assert (track.age.years, track.age.std) == (pytest.approx(23), pytest.approx(5))


def test_one_euro_is_steady_at_rest_and_prompt_in_motion() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.5, (300, 5, 2))
    rest = OneEuro()
    smoothed = np.stack([rest.smooth(100 + n, i / 30, 40.0) for i, n in enumerate(noise)])[30:]
    assert np.diff(smoothed, axis=0).std() <= 0.3 * np.diff(noise, axis=0).std()
    moving = OneEuro()
    speed = 4.0  # pixels a frame, three eye distances a second
    lag = [speed * i - moving.smooth(np.full((5, 2), speed * i), i / 30, 40.0)[0, 0] for i in range(60)]
    assert max(lag[15:]) < 2 * speed


def test_the_pace_holds_a_rate() -> None:
    now = [0.0]
    pace = DetectionPace(every=None, fps=20.0, rate=30.0, clock=lambda: now[0])
    for frame in range(400):
        now[0] += 0.01 + (0.15 if frame % pace.every == 0 else 0.0)
        pace.frame_done()
    assert 3 <= pace.every <= 6  # 0.01 + 0.15 / n <= 0.05 from n = 4 on
    fixed = DetectionPace(every=7, fps=20.0, rate=30.0)
    assert fixed.every == 7
    with pytest.raises(FaceumError, match="every"):
        VideoConfig(every=0)


def test_closing_early_leaves_no_thread(scene: Any, analyzer: Any) -> None:
    frames = analyze_video((scene.frame((0, 40, 60)) for _ in range(500)), analyzer=analyzer)
    next(frames)
    frames.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("faceum-")]


def test_without_recognition_motion_alone_tracks(scene: Any, analyzer: Any) -> None:
    answer = analyzer.answer
    analyzer.answer = lambda image, faces: [
        Face(box=one.box, points5=one.points5, score=one.score, model=one.model)
        for one in answer(image, faces)
    ]
    images = [scene.frame((0, 30 + 3 * i, 60)) for i in range(12)]
    assert {face.track_id for frame in run(images, analyzer, every=3) for face in frame.faces} == {1}
