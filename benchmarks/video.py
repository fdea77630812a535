"""Measure video: identity on generated clips, jitter and lag, hidden faces, speed, memory.

    python benchmarks/video.py identity            IDF1 and switches on five clips, for pairs of portraits
    python benchmarks/video.py points              jitter on a still face, lag on a moving one
    python benchmarks/video.py hiding              faces that --blur all leaves to see
    python benchmarks/video.py speed               720p, one face, all tasks; and compared with analyze_many
    python benchmarks/video.py memory --minutes 30

Portraits: those in the public domain that are installed, or with --people N faces of LFW from the corpus in
FACEUM_CORPUS, which are only held in memory.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from clips import RATE, Portrait, cut_portrait, known_portraits, render, scripts

from faceum.analyzer import FaceAnalyzer
from faceum.geometry import boxes_iou
from faceum.video.analyze import VideoConfig, analyze_video
from faceum.video.hide import MARGIN, FaceHider, HideConfig
from faceum.video.source import open_video
from faceum.video.writer import VideoWriter

Boxes = dict[int, np.ndarray]


def corpus_portraits(analyzer: FaceAnalyzer, count: int) -> list[Portrait]:
    """Return portraits of `count` different people from the corpus, each alone in the image."""
    import io

    import pyarrow.parquet as parquet
    from PIL import Image

    from faceum.image import read_image

    path = Path(os.environ["FACEUM_CORPUS"]) / "lfw.val.parquet"
    file = parquet.ParquetFile(path)
    column = next(name for name in file.schema_arrow.names if name in ("image", "jpeg", "bytes"))
    portraits: list[Portrait] = []
    for batch in file.iter_batches(batch_size=40):
        for row in batch.column(column).to_pylist()[::40]:
            data = row["bytes"] if isinstance(row, dict) else row
            image = read_image(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
            found = analyzer.detect(image)
            if len(found) == 1:  # a bystander would be a person without an annotation
                portraits.append(cut_portrait(image, np.asarray(found[0].box, np.float64)))
            if len(portraits) == count:
                return portraits
    return portraits


def idf1(true: list[Boxes], said: list[Boxes]) -> tuple[float, int]:
    """Return IDF1 (Ristani et al., arXiv 1609.01775) and the number of switches, at an overlap of 0.5."""
    from scipy.optimize import linear_sum_assignment

    rows = sorted({key for boxes in true for key in boxes})
    columns = sorted({key for boxes in said for key in boxes})
    together = np.zeros((len(rows), max(1, len(columns))))
    switches, last = 0, {}
    for here, found in zip(true, said, strict=True):
        if not here or not found:
            continue
        names, numbers = list(here), list(found)
        overlap = boxes_iou(np.stack(list(here.values())), np.stack(list(found.values())))
        for i, j in np.argwhere(overlap >= 0.5):
            together[rows.index(names[i]), columns.index(numbers[j])] += 1
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] >= 0.5:
                switches += last.get(names[i], numbers[j]) != numbers[j]
                last[names[i]] = numbers[j]
    hits = together[linear_sum_assignment(-together)].sum()
    return float(2 * hits / (sum(map(len, true)) + sum(map(len, said)))), switches


def measure_identity(analyzer: FaceAnalyzer, portraits: list[Portrait], frames: int) -> None:
    """Print IDF1 and switches of each clip, for pairs of portraits."""
    quick = analyzer.with_options(tasks=["recognition"])
    for name in scripts(360, 640, frames):
        scores = []
        for pair in itertools.islice(zip(portraits[::2], portraits[1::2], strict=False), 4):
            clip = list(render(name, list(pair), frames=frames))
            result = analyze_video([image for image, _ in clip], analyzer=quick)
            said = [{face.track_id: face.box for face in frame.faces} for frame in result]
            true = [{k: box for k, box in enumerate(boxes) if box is not None} for _, boxes in clip]
            scores.append(idf1(true, said))
        worst = min(score for score, _ in scores)
        mean = sum(score for score, _ in scores) / len(scores)
        print(f"{name}: IDF1 {mean:.4f}, worst {worst:.4f}, switches {sum(s for _, s in scores)}", flush=True)


def measure_points(analyzer: FaceAnalyzer, portrait: Portrait) -> None:
    """Print the jitter of points on a still face, and their lag on a moving one, every frame detected."""
    from clips import Place, background, draw

    ground, noise = background(360, 640), np.random.default_rng(0)
    quick = analyzer.with_options(tasks=["landmarks"])

    def clip(speed: float) -> Iterator[np.ndarray]:
        for index in range(45):
            image, _ = draw(ground, [portrait], [Place(160 + speed * index, 180, 90)])
            grain = noise.normal(0, 6, image.shape)
            yield np.clip(image + grain, 0, 255).astype(np.uint8)

    def points(speed: float, every: int) -> tuple[np.ndarray, np.ndarray]:
        config = VideoConfig(every=every)
        faces = [f.faces[0] for f in analyze_video(clip(speed), analyzer=quick, config=config) if f.faces]
        raw = [np.concatenate([one.raw.points5, one.raw.landmarks]) for one in faces]
        return np.stack(raw)[15:], np.stack([np.r_[one.points5, one.landmarks] for one in faces])[15:]

    for every in (1, 4):
        raw, smooth = points(0, every)
        print(
            f"still, every {every}: jitter (frame to frame) smoothed {np.diff(smooth, axis=0).std():.3f} px, "
            f"raw {np.diff(raw, axis=0).std():.3f} px, ratio "
            f"{np.diff(smooth, axis=0).std() / np.diff(raw, axis=0).std():.3f}"
        )
        raw, smooth = points(4.0, every)
        lag = (raw[..., 0].mean(axis=1) - smooth[..., 0].mean(axis=1)).mean() / 4.0
        print(f"moving 4 px a frame, every {every}: lag {lag:.2f} frames", flush=True)


def measure_hiding(analyzer: FaceAnalyzer, portraits: list[Portrait], frames: int) -> None:
    """Print how many faces stay to be seen: less than 95 % of the face's box is hidden."""
    quick = analyzer.with_options(tasks=["landmarks"])
    for name in scripts(360, 640, frames):
        clip = list(render(name, portraits[:2], frames=frames))
        config = HideConfig(kind="box")
        hider, done = FaceHider(config), []
        images = [image for image, _ in clip]
        for frame in analyze_video(images, analyzer=quick, config=config.careful(VideoConfig())):
            done += [image for _, image in hider.push(frame)]
        done += [image for _, image in hider.flush()]
        leaked = total = 0
        for (_, boxes), image in zip(clip, done, strict=True):
            for box in (box for box in boxes if box is not None):
                x0, y0, x1, y1 = np.clip(np.round(box), 0, [640, 360, 640, 360]).astype(int)
                hidden = (image[y0:y1, x0:x1] == 0).all(axis=2).mean()
                leaked, total = leaked + (hidden < 0.95), total + 1
        print(f"{name}: {leaked} of {total} faces left to see (margin {MARGIN})", flush=True)


def write_clip(portraits: list[Portrait], path: Path, seconds: float) -> None:
    """Write 720p at 30 frames a second with one person who sways."""
    from clips import Place, background, draw

    ground, writer = background(720, 1280), VideoWriter(path, rate=RATE)
    for index in range(int(seconds * RATE)):
        x, y = 640 + 200 * np.sin(index / 25), 360 + 40 * np.sin(index / 11)
        image, _ = draw(ground, portraits[:1], [Place(x, y, 180)])
        writer.write(image, index / RATE)
    writer.close()


def measure_speed(analyzer: FaceAnalyzer, portraits: list[Portrait], seconds: float) -> None:
    """Print frames a second of video with rows, with an annotated video, and of analyze_many."""
    from faceum.video.outputs import Outputs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.mp4"
        write_clip(portraits, path, seconds)
        count = int(seconds * RATE)

        def run(**outputs: Path) -> float:
            began = time.perf_counter()
            video = open_video(path)
            files = Outputs(**outputs)
            files.write(analyze_video(video, analyzer=analyzer), video, lambda _: None)
            files.finish()
            return time.perf_counter() - began

        run(rows=Path(folder) / "warm.jsonl")
        rows = run(rows=Path(folder) / "rows.parquet")
        annotated = run(rows=Path(folder) / "rows.jsonl", out=Path(folder) / "out.mp4")
        images = [frame.image for frame in itertools.islice(analyze_video(path, analyzer=analyzer), 30)]
        began = time.perf_counter()
        list(analyzer.analyze_many(images))
        single = (time.perf_counter() - began) / len(images)
    print(f"720p, {count} frames: {count / rows:.1f} a second with rows, {count / annotated:.1f} annotated")
    print(
        f"time a frame: video {rows / count:.4f} s, analyze_many {single:.4f} s, "
        f"ratio {rows / count / single:.2f}"
    )


def measure_memory(analyzer: FaceAnalyzer, portraits: list[Portrait], minutes: float) -> None:
    """Print the resident memory over a long generated video, by its thirds."""
    clip = [image for image, _ in render("leaving", portraits[:2], height=180, width=320, frames=90)]
    count = int(minutes * 60 * 25)
    images = itertools.islice(itertools.cycle(clip), count)
    quick = analyzer.with_options(tasks=["recognition"])
    resident = []
    for frame in analyze_video(images, analyzer=quick, config=VideoConfig(every=12)):
        if frame.index % 250 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize() / 1e6)
    thirds = [float(np.mean(part)) for part in np.array_split(np.array(resident), 3)]
    print(f"{count} frames: resident MB in the thirds {', '.join(f'{one:.1f}' for one in thirds)}")


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["identity", "points", "hiding", "speed", "memory"])
    parser.add_argument("--people", type=int, default=0)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    analyzer = FaceAnalyzer(threads=2)
    portraits = corpus_portraits(analyzer, asked.people) if asked.people else known_portraits(analyzer)
    print(f"{sys.argv[1:]}, {len(portraits)} portraits", flush=True)
    if asked.what == "identity":
        measure_identity(analyzer, portraits, asked.frames)
    elif asked.what == "points":
        measure_points(analyzer, portraits[0])
    elif asked.what == "hiding":
        measure_hiding(analyzer, portraits, asked.frames)
    elif asked.what == "speed":
        measure_speed(analyzer, portraits, asked.seconds)
    else:
        measure_memory(analyzer, portraits, asked.minutes)


if __name__ == "__main__":
    main()
