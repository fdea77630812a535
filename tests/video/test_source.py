"""Frames and their times from files, folders, cameras and streams, and what is broken in them."""

from __future__ import annotations

import http.server
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from faceum.errors import FaceumError
from faceum.video.ahead import read_ahead
from faceum.video.convert import deinterlace, make_graph
from faceum.video.frames import Section
from faceum.video.source import open_video
from faceum.video.stream import StreamVideo, without_password

Write = Callable[..., Path]


def frames_of(source: object, **section: float) -> list:
    return list(open_video(source).frames(Section(**section)))


def levels(frames: list) -> list[int]:
    """The brightness of each frame as the number of its source image; see `gray_images`."""
    return [round((float(frame.image.mean()) - 20) / 20) for frame in frames]


def test_frames_keep_their_order_times_and_sizes(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    frames = frames_of(write_clip(gray_images))
    assert [frame.index for frame in frames] == list(range(10)) == levels(frames)
    assert np.allclose([frame.time for frame in frames], np.arange(10) / 25, atol=1e-3)
    assert all(frame.image.shape == (48, 64, 3) for frame in frames)


def test_times_of_a_variable_rate_are_the_streams_own(
    write_clip: Write, gray_images: list[np.ndarray]
) -> None:
    times = [0.0, 0.04, 0.08, 0.3, 0.31, 0.5, 1.0, 1.04, 1.9, 2.0]
    frames = frames_of(write_clip(gray_images, name="clip.mkv", codec="ffv1", times=times))
    assert np.allclose([frame.time for frame in frames], times, atol=2e-3)


def test_a_section_begins_and_ends_where_it_says(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    frames = frames_of(write_clip(gray_images), start=0.12, end=0.24)
    assert levels(frames) == [3, 4, 5] and [frame.index for frame in frames] == [0, 1, 2]
    with pytest.raises(FaceumError, match="empty"):
        Section(start=2, end=1)


def test_odd_sizes_are_read(write_clip: Write) -> None:
    images = [np.full((47, 63, 3), 90, np.uint8)] * 2
    assert frames_of(write_clip(images, name="odd.mkv", codec="ffv1"))[1].image.shape == (47, 63, 3)


def test_a_rotation_flag_turns_the_frame(write_clip: Write) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :20] = 250  # bright on the left; a quarter turn clockwise brings that to the top
    path = write_clip([image] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 1 << 30)
    path.write_bytes(data)
    turned = frames_of(path)[0].image
    assert turned.shape == (64, 48, 3)
    assert turned[:15].mean() > 200 > 60 > turned[-15:].mean()


def test_ten_bits_and_hdr_become_eight_bits_of_plain_colour(write_clip: Write) -> None:
    gray = np.full((48, 64, 3), 146, np.uint8)  # about the code of HDR's reference white in PQ
    plain = frames_of(write_clip([gray] * 2, name="ten.mkv", codec="ffv1", pix_fmt="yuv420p10le"))
    assert abs(float(plain[0].image.mean()) - 146) < 3

    def mark_as_pq(frame: object) -> None:
        frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, 16, 9

    path = write_clip([gray] * 2, name="hdr.mkv", codec="ffv1", pix_fmt="yuv420p10le", prepare=mark_as_pq)
    with av.open(str(path)) as container:
        marked = next(container.decode(video=0)).color_trc == 16
    if marked and av.library_versions["libswscale"][0] >= 9:
        assert frames_of(path)[0].image.mean() > 225


def test_interlaced_frames_lose_their_combs() -> None:
    frames = []
    for number in range(6):
        image = np.zeros((64, 96, 3), np.uint8)
        image[0::2, 8 * number : 8 * number + 24] = 255  # the second field is half a step later
        image[1::2, 8 * number + 4 : 8 * number + 28] = 255
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        marking = make_graph(av, frame, "setfield", "mode=tff")
        marking.push(frame)
        frames.append(marking.pull())
    assert frames[0].interlaced_frame

    def comb(frame: av.VideoFrame) -> float:
        rows = frame.to_ndarray(format="gray").astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    done = [frame for frame, _ in deinterlace(av, iter(frames))]
    assert len(done) == len(frames) and [frame.time for frame in done] == [frame.time for frame in frames]
    assert comb(done[3]) < 0.5 * comb(frames[3])


def test_broken_packets_are_left_out_and_counted(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    path = write_clip(gray_images, name="clip.mov", codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    fifth = [i for i in range(len(data)) if data[i : i + 4] == b"\x89PNG"][4]
    data[fifth : fifth + 4] = b"null"
    path.write_bytes(data)
    video = open_video(path)
    frames = list(video.frames(Section()))
    assert levels(frames) == [0, 1, 2, 3, 5, 6, 7, 8, 9] and "left out: 1." in video.problems[0]


def test_a_file_cut_off_gives_what_it_holds(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    path = write_clip(gray_images, name="clip.mkv", codec="ffv1", rate=3)
    assert len(frames_of(path)) == 10
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    video = open_video(str(path))
    frames = list(video.frames(Section()))
    assert 0 < len(frames) < 8
    assert f"end at {frames[-1].time:.1f} s, where 3.3 s were expected" in video.problems[-1]
    early = open_video(str(path))
    list(early.frames(Section(end=1.0)))
    assert early.problems == []


def test_what_is_no_video_is_said_in_a_sentence(tmp_path: Path, write_clip: Write) -> None:
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    for source, words in (
        (tmp_path / "absent.mp4", "no file"),
        (tmp_path / "text.mp4", "cannot be read as a video"),
        (tmp_path / "empty.mp4", "cannot be read as a video"),
        (tmp_path / "folder", "holds no image"),
        (sound, "no video stream"),
        (97, "Camera 97 cannot be opened"),
        ("http://127.0.0.1:9/none.mp4", "cannot be read as a video"),
    ):
        with pytest.raises(FaceumError, match=words):
            frames_of(source)


def test_a_video_without_frames_is_said(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    path = write_clip(gray_images[:2], name="clip.mov", codec="png", pix_fmt="rgb24")
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"null"))
    with pytest.raises(FaceumError, match="no frame"):
        frames_of(path)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path, gray_images: list[np.ndarray]) -> None:
    for number, image in enumerate(gray_images):
        cv2.imwrite(str(tmp_path / f"frame{number + 5}.png"), image)
    (tmp_path / "frame8.png").write_bytes(b"broken")
    video = open_video(str(tmp_path))
    frames = list(video.frames(Section()))
    assert levels(frames) == [0, 1, 2, 4, 5, 6, 7, 8, 9] and len(video.problems) == 1
    assert frames[3].time == pytest.approx(4 / 25)


def test_reading_ahead_keeps_order_errors_and_closes_its_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(5)
            raise FaceumError("broken")
        finally:
            closed.set()

    entries = read_ahead(source(), 2)
    assert [next(entries) for _ in range(5)] == list(range(5))
    with pytest.raises(FaceumError, match="broken"):
        next(entries)
    entries, closed = read_ahead(source(), 2), threading.Event()
    next(entries)
    entries.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "faceum-frames"]


def test_a_late_reader_of_a_live_source_misses_the_oldest() -> None:
    sent = threading.Event()

    def source() -> Iterator[int]:
        yield from range(50)
        sent.set()

    entries = read_ahead(source(), 3, drop=True)
    first = next(entries)
    assert sent.wait(10)
    seen = list(entries)
    assert seen in ([47, 48, 49], [48, 49]) and first not in seen


@contextmanager
def serve_parts(parts: list[bytes]) -> Iterator[tuple[str, threading.Event]]:
    """Serve one part for each connection, and then hold the connection until the event is set."""
    left, done = list(parts), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not left:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(left.pop(0))
            self.wfile.flush()
            if left:
                done.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.ts", done
    finally:
        done.set()
        server.shutdown()
        server.server_close()


def test_a_stream_that_stalls_is_connected_to_again(write_clip: Write, gray_images: list[np.ndarray]) -> None:
    data = write_clip(gray_images * 4, name="live.ts", codec="mpeg2video").read_bytes()
    with serve_parts([data, data]) as (address, _):
        video = StreamVideo(address, stall_seconds=1.0, give_up_seconds=2.0)
        frames = list(video.frames(Section()))
    assert video.live and 70 <= len(frames) <= 80
    assert np.all(np.diff([frame.time for frame in frames]) > 0)
    assert frames[-1].time > 3.0 and "connected to again" in video.problems[0]


def test_a_server_that_cannot_go_back_in_a_file_is_said(write_clip: Write) -> None:
    """The index of an MP4 file is at its end, so a server that cannot go back has no frame to give."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
    with serve_parts([write_clip(noise).read_bytes()]) as (address, _):
        with pytest.raises(FaceumError, match="no frame that can be decoded"):
            list(StreamVideo(address.replace("live.ts", "film.mp4")).frames(Section()))


def test_a_camera_gives_rgb_by_the_clock_until_it_stops(
    write_clip: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV reads a red clip in the camera's place, in its order of colours, which is BGR."""
    red = np.full((48, 64, 3), (200, 30, 20), np.uint8)
    path = str(write_clip([red] * 5))
    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: opened(path if number == 7 else "none.mp4"))
    with pytest.raises(FaceumError, match="Camera 0 cannot be opened"):
        open_video("0")
    camera = open_video("7")
    frames = list(camera.frames(Section()))
    assert camera.live and camera.duration is None and camera.rate == pytest.approx(25)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].image.mean((0, 1)) == pytest.approx([200, 30, 20], abs=12)
    assert all(before.time < after.time for before, after in pairwise(frames))
    assert camera.problems == ["camera 7 sends no more frames."]


def test_a_password_is_not_shown() -> None:
    assert without_password("rtsp://me:secret@camera:554/a") == "rtsp://camera:554/a"
