"""What C libraries write to stderr: the noise of image decoders goes to the log, the rest is passed on."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger("faceum")

NOISE = re.compile(
    rb"^(Corrupt JPEG data|Premature end of JPEG|Warning: unknown JFIF|Unsupported marker type"
    rb"|Invalid (SOS parameters|component|progressive)|Inconsistent progression|Unknown Adobe color"
    rb"|Application trans|Caution: quantization tables|libpng (warning|error)|TIFF\w*: "
    rb"|\[ ?(WARN|ERROR)[^]]*\] global loadsave)"
)
"""How lines begin that libjpeg, libpng, libtiff and OpenCV write about damaged images, which they then either
read or refuse; a refused image gets a sentence of its own."""


@contextmanager
def without_decoder_noise() -> Iterator[None]:
    """Keep decoders' noise off the process's stderr meanwhile; each line becomes a debug line of the log.

    Python's own stderr is untouched, and so is every line that is not known noise. Does nothing where the
    process has no stderr, and on Windows. Call it once, from the main thread of a program of our own: a
    library must not redirect its process.
    """
    saved = None
    if sys.platform != "win32" and sys.stderr is not None:
        try:
            saved = os.dup(2)
        except OSError:  # stderr is closed
            saved = None
    if saved is None:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # a library that writes more than fits must lose it rather than wait
    python_stderr = sys.stderr
    python_stderr.flush()
    sys.stderr = open(
        saved, "w", buffering=1, encoding=python_stderr.encoding, errors=python_stderr.errors, closefd=False
    )
    os.dup2(writing, 2)
    os.close(writing)
    reader = threading.Thread(target=_sort_lines, args=(reading, saved), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(saved, 2)  # the last writer of the pipe, unless a child process still has it
        reader.join(timeout=1)


def _sort_lines(reading: int, saved: int) -> None:
    with open(reading, "rb", buffering=0) as pipe:
        rest = b""
        while chunk := pipe.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if NOISE.match(line):
                    LOG.debug("the decoder says: %s", line.decode("utf-8", "replace").strip())
                else:
                    os.write(saved, line + b"\n")
        if rest:
            os.write(saved, rest)
