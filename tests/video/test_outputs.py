"""Rows, tracks, annotated and hidden video, and the timeline; also after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from faceum.errors import FaceumError, OutputError
from faceum.video.analyze import VideoConfig, analyze_video
from faceum.video.draw import draw_timeline
from faceum.video.hide import FaceHider, HideConfig, hide
from faceum.video.outputs import Outputs
from faceum.video.records import Frame
from faceum.video.rows import open_rows
from faceum.video.source import open_video
from faceum.video.summary import TrackCollector, summarize_tracks
from faceum.video.writer import VideoWriter

pytest.importorskip("scipy", reason="scipy is not installed")

Write = Callable[..., Path]


@pytest.fixture
def images(scene: Any) -> list[np.ndarray]:
    """Twelve frames: a red person moves, a green one appears in the fifth."""
    return [scene.frame((0, 30 + 4 * i, 60), (1, 220, 60) if i >= 4 else None) for i in range(12)]


def read_back(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_all_files_of_a_run(images: list[np.ndarray], analyzer: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for rows, tracks in (("rows.jsonl", "tracks.json"), ("rows.parquet", "tracks.parquet")):
        outputs = Outputs(
            out=tmp_path / "out.mp4", rows=tmp_path / rows, tracks=tmp_path / tracks,
            timeline=tmp_path / "time.png",
        )  # fmt: skip
        outputs.check("frames")
        video = open_video(images)
        assert not outputs.write(analyze_video(video, analyzer=analyzer), video, lambda time: None)
        assert [one.track_id for one in outputs.finish()] == [1, 2]
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(12))
    face = lines[8]["faces"][0]
    assert face["track_id"] == 1 and face["raw"]["box"] and "embedding" not in face
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(table) == sum(len(line["faces"]) for line in lines)
    assert table[0]["age"] == 20 and table[0]["raw_expression"] == "neutral" and len(table[0]["box"]) == 4
    told = json.loads((tmp_path / "tracks.json").read_text())["tracks"]
    stored = parquet.read_table(tmp_path / "tracks.parquet").to_pylist()
    assert told[0]["first"] == 0 and told[0]["age"]["years"] == pytest.approx(20) and told[0]["crop"]
    assert stored[1]["track_id"] == 2 and stored[1]["crop"][:2] == b"\xff\xd8"
    frames = read_back(tmp_path / "out.mp4")
    assert len(frames) == 12 and (frames[0].width, frames[0].height) == (320, 180)
    assert (tmp_path / "time.png").read_bytes()[:4] == b"\x89PNG"


def test_ctrl_c_finishes_the_files(images: list[np.ndarray], analyzer: Any, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Frame]:
        for frame in analyze_video(images, analyzer=analyzer):
            if frame.index == 7:
                raise KeyboardInterrupt
            yield frame

    for hidden in (None, HideConfig()):
        outputs = Outputs(out=tmp_path / "out.mp4", rows=tmp_path / "rows.jsonl", hidden=hidden)
        assert outputs.write(interrupted(), open_video(images), lambda time: None)
        assert len(read_back(tmp_path / "out.mp4")) == 7
        assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 7


def test_an_error_leaves_no_half_file(images: list[np.ndarray], tmp_path: Path) -> None:
    def broken() -> Iterator[Frame]:
        yield from ()
        raise FaceumError("broken")

    outputs = Outputs(out=tmp_path / "out.mp4", rows=tmp_path / "rows.jsonl")
    with pytest.raises(FaceumError, match="broken"):
        outputs.write(broken(), open_video(images), lambda time: None)
    assert not (tmp_path / "out.mp4").exists()


def test_audio_is_copied_and_times_are_kept(tmp_path: Path, images: list[np.ndarray]) -> None:
    source = tmp_path / "sound.mkv"
    with av.open(str(source), "w") as container:
        video_in, sound = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=16000)
        video_in.height, video_in.width, video_in.pix_fmt = 180, 320, "yuv420p"
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(images[index], format="rgb24")
            frame.pts = index
            container.mux(video_in.encode(frame))
            tone = np.sin(np.arange(640) / 5)[None].astype(np.float32)
            wave = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            wave.rate, wave.pts = 16000, 640 * index
            container.mux(sound.encode(wave))
        container.mux(video_in.encode(None))
        container.mux(sound.encode(None))
    writer = VideoWriter(tmp_path / "out.mp4", rate=25, audio_from=str(source))
    times = [0.12, 0.16, 0.3, 0.31]
    for time in times:
        writer.write(images[0][:179, :319], time)
    writer.close()
    assert not writer.problems
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        video, audio = container.streams.video[0], container.streams.audio[0]
        packets = [packet for packet in container.demux() if packet.dts is not None]
        seconds = sum(float(p.duration * p.time_base) for p in packets if p.stream is audio)
        assert 0.15 < seconds < 0.35 and (video.width, video.height) == (320, 180)
    shown = [frame.time for frame in read_back(tmp_path / "out.mp4")]
    assert np.allclose(np.array(shown) - shown[0], np.array(times) - times[0], atol=1e-3)


def test_wrong_endings_are_said(tmp_path: Path) -> None:
    for begin in (
        lambda: open_rows(tmp_path / "rows.csv"),
        lambda: VideoWriter(tmp_path / "out.gif", rate=25),
        lambda: Outputs(tracks=tmp_path / "tracks.xml").check("in.mp4"),
        lambda: Outputs(timeline=tmp_path / "time.jpg").check("in.mp4"),
    ):
        with pytest.raises(OutputError, match="written as"):
            begin()
    (tmp_path / "in.mp4").write_bytes(b"video")
    with pytest.raises(OutputError, match="is the video itself"):
        Outputs(out=tmp_path / "in.mp4").check(str(tmp_path / "in.mp4"))


def test_no_face_is_left_to_see(scene: Any, analyzer: Any) -> None:
    places = [(30 + 4 * i, 60) if 5 <= i and not 18 <= i < 24 else None for i in range(40)]
    images = [scene.frame(None if place is None else (0, *place)) for place in places]
    detect, looks = analyzer.detect, [0]

    def careless(image: np.ndarray, **settings: Any) -> list[Any]:
        looks[0] += 1
        found = detect(image, **settings)
        return found if looks[0] not in (6, 7, 12, 13, 14, 25, 26) else []  # late, and with gaps

    analyzer.detect = careless
    config = HideConfig().careful(VideoConfig())
    hider = FaceHider(HideConfig())
    done = []
    for frame in analyze_video(images, analyzer=analyzer, config=config):
        done += hider.push(frame)
    done += hider.flush()
    assert [frame.index for frame, _ in done] == list(range(40))
    leaked = []
    for frame, image in done:
        if (place := places[frame.index]) is not None:
            part = slice(place[1], place[1] + 48), slice(place[0], place[0] + 48)
            same = (image[part] == images[frame.index][part]).all(axis=2).mean()
            leaked += [frame.index] if same > 0.02 else []
    assert not leaked
    # The first frame of the face was missed by the detector: it is hidden all the same.
    assert np.array_equal(images[5], done[5][0].image) and not np.array_equal(images[5], done[5][1])


@pytest.mark.parametrize("kind", ["blur", "mosaic", "box"])
def test_hidden_faces_cannot_be_distinguished(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    before = image.copy()
    hide(image, np.array([30.0, 30, 70, 70]), kind)
    assert np.array_equal(image[:20], before[:20])
    assert image[30:70, 30:70].std() < 0.3 * before[30:70, 30:70].std()
    hide(image, np.array([-500.0, -500, -400, -400]), kind)


def test_who_is_hidden_depends_on_names() -> None:
    ann, nobody = ["Ann"] * 3, [None] * 3
    assert HideConfig().hides(ann) and HideConfig(who=("unknown",)).hides(nobody)
    assert not HideConfig(who=("unknown",)).hides(ann) and HideConfig(who=("Ann",)).hides(ann)
    assert not HideConfig(who=("Ann",)).hides(nobody)
    assert HideConfig(who=("Ann",)).hides(nobody[:2])  # not known long enough to be shown
    with pytest.raises(FaceumError, match="way to hide"):
        HideConfig(kind="fog")
    HideConfig(who=("Ann", "Bob")).check_names(["Ann", "Bob", "Eve"])
    HideConfig(who=("unknown",)).check_names([])
    with pytest.raises(FaceumError, match="'Anne'; did you mean 'Ann'"):
        HideConfig(who=("Anne",)).check_names(["Ann", "Bob"])


def test_a_timeline_shows_when_people_were_there(images: list[np.ndarray], analyzer: Any) -> None:
    tracks = summarize_tracks(analyze_video(images, analyzer=analyzer))
    drawings = [draw_timeline(tracks, 0.5, colour_by=colour_by) for colour_by in ("expression", "age")]
    assert drawings[0].shape == (90 + 2 * 56, 1280, 3) and not np.array_equal(*drawings)
    bar = drawings[0][12 + 56 + 20]  # the second person comes later
    assert np.array_equal(bar[220], bar[215]) and not np.array_equal(bar[220], bar[700])
    assert draw_timeline([], 1.0).shape[1] == 1280
    with pytest.raises(FaceumError, match="colouring"):
        draw_timeline(tracks, 1.0, colour_by="mood")


def test_moments_of_a_long_track_stay_few(images: list[np.ndarray], analyzer: Any) -> None:
    from dataclasses import replace

    frame = next(analyze_video(images, analyzer=analyzer))
    collector = TrackCollector()
    for second in range(4000):
        collector.add(replace(frame, time=float(second), image=None))
    (track,) = collector.summaries()
    assert 200 < len(track.moments) < 512 and track.frames == 4000 and track.last == 3999
