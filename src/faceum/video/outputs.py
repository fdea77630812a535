"""The files of one run over a video: written while frames go by, finished also when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceum.errors import FaceumError, OutputError, unknown_name
from faceum.files import write_bytes
from faceum.save import encode_drawing_png
from faceum.video.draw import COLOURINGS, annotate, draw_timeline
from faceum.video.hide import FaceHider, HideConfig
from faceum.video.records import Frame
from faceum.video.rows import Rows, check_tracks_path, open_rows, write_tracks
from faceum.video.summary import TrackCollector, TrackSummary
from faceum.video.writer import VideoWriter


@dataclass(kw_only=True, eq=False)
class Outputs:
    """The files to write, each None if it is not wanted.

    out: the annotated video, or with `hidden` the video with hidden faces and nothing drawn. rows, tracks:
    see rows.py. timeline: a PNG file, coloured by `colour_by`. problems: sentences about what was left out.
    """

    out: Path | None = None
    rows: Path | None = None
    tracks: Path | None = None
    timeline: Path | None = None
    colour_by: str = "expression"
    hidden: HideConfig | None = None
    problems: list[str] = field(default_factory=list)
    _collector: TrackCollector = field(default_factory=TrackCollector)
    _end: float = 0.0

    def check(self, source: str) -> None:
        """Raise FaceumError before the work begins for what would only be found at its end."""
        if self.tracks is not None:
            check_tracks_path(self.tracks)
        if self.timeline is not None and self.timeline.suffix.lower() != ".png":
            raise OutputError(f"A timeline is written as .png, got {self.timeline.name}; choose that ending.")
        if self.colour_by not in COLOURINGS:
            raise FaceumError(unknown_name(self.colour_by, "colouring of a timeline", COLOURINGS))
        for path in (self.out, self.rows, self.tracks, self.timeline):
            if path is not None and path.exists() and path.resolve() == Path(source).resolve():
                raise OutputError(f"{path} is the video itself; choose another name.")

    def write(self, frames: Iterable[Frame], video: Any, progress: Callable[[float], None]) -> bool:
        """Write the frames as they come, and finish rows and video; return whether Ctrl-C ended them.

        video: see `faceum.video.frames.Video`; its audio is copied. progress: called with each frame's time.
        """
        interrupted = False
        with ExitStack() as stack:
            rows: Rows | None = None
            writer: VideoWriter | None = None
            if self.rows is not None:
                rows = stack.enter_context(closing(open_rows(self.rows)))
            if self.out is not None:
                sound = video.name if getattr(video, "has_audio", False) else None
                writer = stack.enter_context(
                    closing(VideoWriter(self.out, rate=video.rate, audio_from=sound))
                )
            hider = None if self.hidden is None else FaceHider(self.hidden)
            try:
                for frame in frames:
                    self._add(frame, rows, writer, hider)
                    progress(frame.time)
            except KeyboardInterrupt:
                interrupted = True
            if writer is not None:
                for frame, image in () if hider is None else hider.flush():
                    writer.write(image, frame.time)
                self.problems += writer.problems
        return interrupted

    def _add(
        self, frame: Frame, rows: Rows | None, writer: VideoWriter | None, hider: FaceHider | None
    ) -> None:
        self._collector.add(frame)
        self._end = frame.time
        if rows is not None:
            rows.add(frame)
        if writer is not None and hider is None:
            writer.write(annotate(frame), frame.time)
        elif writer is not None and hider is not None:
            for done, image in hider.push(frame):
                writer.write(image, done.time)

    def finish(self) -> list[TrackSummary]:
        """Write the tracks and the timeline; return the summaries."""
        summaries = self._collector.summaries()
        if self.tracks is not None:
            write_tracks(self.tracks, summaries)
        if self.timeline is not None:
            drawing = draw_timeline(summaries, self._end, colour_by=self.colour_by)
            write_bytes(self.timeline, encode_drawing_png(drawing))
        return summaries
