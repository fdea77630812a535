"""`faceum video`: follow people through a video, and write rows, tracks, an annotated video, a timeline."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceum.cli.options import (
    DetectorOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    RecognizerOption,
    RuntimeOption,
    TasksOption,
    ThreadsOption,
    parse_tasks,
)
from faceum.cli.terminal import print_json, say
from faceum.errors import FaceumError

if TYPE_CHECKING:
    from faceum.video.summary import TrackSummary


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A file, a folder of images, a camera's number, or an address (rtsp, http)."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Write the video with boxes, points and labels: .mp4, .mov or .mkv.")
]
RowsOption = Annotated[Path | None, typer.Option(help="Write the faces of every frame: .jsonl or .parquet.")]
TracksOption = Annotated[Path | None, typer.Option(help="Write a summary of each person: .json or .parquet.")]
TimelineOption = Annotated[Path | None, typer.Option(help="Draw the people over time: .png.")]
ColourOption = Annotated[str, typer.Option(help="Colours of the timeline: expression or age.")]
FpsOption = Annotated[
    float | None, typer.Option(min=0.01, help="Frames per second to hold: detect as often as that allows.")
]
EveryOption = Annotated[
    int | None,
    typer.Option(min=1, help="Detect faces in every n-th frame; by default, about 6 times a second."),
]
StartOption = Annotated[float, typer.Option(min=0.0, help="Begin at this second.")]
EndOption = Annotated[float | None, typer.Option(min=0.0, help="End at this second.")]
LengthOption = Annotated[float | None, typer.Option(min=0.01, help="End after this many seconds of video.")]
BlurOption = Annotated[
    str | None, typer.Option(help="Hide faces in --out: all, unknown (people not in the gallery), or names.")
]
KindOption = Annotated[str, typer.Option(help="How faces are hidden: blur, mosaic or box.")]
GalleryOption = Annotated[
    str | None, typer.Option(help="Name people by this gallery: a file, or postgresql://user@host/database.")
]
AverageOption = Annotated[bool, typer.Option(help="Average the answers along each track.")]
MinFaceOption = Annotated[
    float, typer.Option(min=24, help="Smallest face to search for, in pixels; larger is faster.")
]
SmoothOption = Annotated[bool, typer.Option(help="Smooth points and boxes.")]


def video_command(
    source: SourceArgument,
    out: OutOption = None,
    rows: RowsOption = None,
    tracks: TracksOption = None,
    timeline: TimelineOption = None,
    colour_by: ColourOption = "expression",
    json: JsonOption = False,
    fps: FpsOption = None,
    every: EveryOption = None,
    start: StartOption = 0.0,
    end: EndOption = None,
    max_seconds: LengthOption = None,
    blur: BlurOption = None,
    blur_kind: KindOption = "blur",
    gallery: GalleryOption = None,
    average: AverageOption = True,
    smooth: SmoothOption = True,
    tasks: TasksOption = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    recognizer: RecognizerOption = None,
    min_face: MinFaceOption = 24,
    threads: ThreadsOption = None,
) -> None:
    """Follow people through a video and answer the tasks for each.

    Ctrl-C ends the video there and finishes all files. Without --out, --rows, --tracks and --timeline nothing
    is written.
    """
    from faceum.analyzer import FaceAnalyzer
    from faceum.video.analyze import VideoConfig, analyze_video
    from faceum.video.hide import HideConfig
    from faceum.video.outputs import Outputs
    from faceum.video.source import open_video

    hidden = None if blur is None else HideConfig(who=_names(blur), kind=blur_kind)
    _check_hiding(hidden, out, gallery)
    outputs = Outputs(
        out=out, rows=rows, tracks=tracks, timeline=timeline, colour_by=colour_by, hidden=hidden
    )
    outputs.check(source)
    config = VideoConfig(every=every, fps=fps, average=average, smooth=smooth)
    config = config if hidden is None else hidden.careful(config)
    video = open_video(source)
    analyzer = FaceAnalyzer(
        model, tasks=parse_tasks(tasks), device=device, runtime=runtime, detector=detector,
        recognizer=recognizer, min_face=min_face, threads=threads,
    )  # fmt: skip
    if max_seconds is not None:
        end = min(start + max_seconds, float("inf") if end is None else end)
    with ExitStack() as stack:
        known: Any = None
        if gallery is not None:
            from faceum.people.gallery import Gallery

            known = stack.enter_context(Gallery(gallery, analyzer=analyzer))
            if hidden is not None:
                hidden.check_names([person.name for person in known.people()])
        frames = analyze_video(video, analyzer=analyzer, start=start, end=end, gallery=known, config=config)
        last = min(float("inf") if end is None else end, video.duration or float("inf"))
        progress = stack.enter_context(_progress(None if last == float("inf") else last - start, start))
        interrupted = outputs.write(frames, video, progress)
    summaries = outputs.finish()
    for problem in (*video.problems, *outputs.problems):
        say(problem)
    if json:
        print_json([_plain(one) for one in summaries])
    else:
        _show(summaries)
    if interrupted:
        raise KeyboardInterrupt


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise FaceumError("--blur is empty; give all, unknown, or names separated by commas.")
    return names


def _check_hiding(hidden: Any, out: Path | None, gallery: str | None) -> None:
    if hidden is not None and out is None:
        raise FaceumError("--blur hides faces in the video of --out; give --out as well.")
    if hidden is not None and hidden.needs_gallery and gallery is None:
        raise FaceumError("--blur unknown or names needs a gallery that knows people; give --gallery.")


@contextmanager
def _progress(seconds: float | None, start: float) -> "Iterator[Callable[[float], None]]":
    """Yield a function that is called with each frame's time; it shows the time left on a terminal."""
    if not sys.stderr.isatty():
        yield lambda time: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.completed:.1f} s of video"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("video", total=seconds)
        yield lambda time: progress.update(task, completed=time - start)


def _plain(summary: "TrackSummary") -> dict[str, Any]:
    plain = summary.to_dict()
    for name in ("crop", "embedding", "moments", "attributes"):
        del plain[name]
    return plain


def _show(summaries: "list[TrackSummary]") -> None:
    from rich.table import Table

    from faceum.cli.terminal import escape, make_console

    table = Table("track", "name", "from", "to", "frames", "age", "expressions")
    for one in summaries:
        table.add_row(
            str(one.track_id),
            escape(one.name or ""),
            f"{one.first:.2f} s",
            f"{one.last:.2f} s",
            str(one.frames),
            "" if one.age is None else str(one.age),
            ", ".join(f"{label} {share:.0%}" for label, share in list(one.expressions.items())[:3]),
        )
    make_console().print(table)
