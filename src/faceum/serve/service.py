"""What the endpoints share: analyzer, batcher, gallery, keys and counters of one process."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from faceum.errors import ModelError
from faceum.results import Face, Result
from faceum.serve.batching import Batcher, Options
from faceum.serve.keys import KeyRing, read_keys
from faceum.serve.metrics import Metrics
from faceum.serve.problems import Problem, busy
from faceum.serve.settings import KEYS_VARIABLE, Settings
from faceum.serve.uploads import Buffers, Upload

if TYPE_CHECKING:
    from faceum.people.gallery import Gallery
    from faceum.weights.thresholds import Thresholds


class Service:
    """One process's state; `start` loads the network and `stop` ends the work."""

    def __init__(self, settings: Settings, *, analyzer: Any = None, keys: KeyRing | None = None) -> None:
        """analyzer: made from the settings if it is None. keys: read from file and environment if None."""
        self.settings = settings
        if keys is None:
            records = read_keys(settings.keys_file, os.environ.get(KEYS_VARIABLE, ""))
            keys = KeyRing(records, rate_share=1 / settings.workers)
        self.keys = keys
        self.buffers = Buffers(settings.max_buffered)
        self.metrics = Metrics(lambda: 0 if self.batcher is None else self.batcher.waiting)
        self.analyzer = analyzer
        self.batcher: Batcher | None = None
        self.gallery: Gallery | None = None

    async def start(self) -> None:
        """Load the network, answer one image to warm up, and open the gallery."""
        if self.analyzer is None:
            self.analyzer = await asyncio.to_thread(load_analyzer, self.settings)
        if self.settings.gallery is not None:
            from faceum.people.gallery import Gallery

            self.gallery = Gallery(
                self.settings.gallery, analyzer=self.analyzer.with_options(tasks=["recognition"])
            )
        self.batcher = Batcher(
            self.analyzer,
            places=self.settings.queue,
            batch=self.settings.batch,
            deadline=self.settings.deadline,
            observe=self.metrics.batches.observe,
        )

    async def stop(self) -> None:
        """Refuse what waits, finish what has begun, and close the gallery."""
        batcher, self.batcher = self.batcher, None
        if batcher is not None:
            await asyncio.to_thread(batcher.close)
        if self.gallery is not None:
            self.gallery.close()
        self.metrics.close()

    async def analyze(self, uploads: list[Upload], options: Options) -> list[Result]:
        """Return the results of uploads; raises Problem if the server is busy or stopping."""
        if self.batcher is None:
            raise busy("not_ready", "The server is not ready.")
        results = await self.batcher.analyze([upload.content for upload in uploads], options)
        self.metrics.faces.inc(sum(len(result) for result in results))
        return results

    async def faces_of(self, upload: Upload) -> list[Face]:
        """Return the faces of an image with their embeddings; raises Problem if it is broken."""
        options = Options(tasks=("recognition",), max_faces=self.settings.max_faces)
        (result,) = await self.analyze([upload], options)
        require_readable([result], [upload])
        return list(result)

    def thresholds(self) -> Thresholds | None:
        """Return the network's measured thresholds, None if it has none."""
        try:
            thresholds: Thresholds = self.analyzer.thresholds()
        except ModelError:
            return None
        return thresholds


def load_analyzer(settings: Settings) -> Any:
    """Load the analyzer of a server and let it answer once, so that the first request finds it warm."""
    import numpy as np

    from faceum.analyzer import FaceAnalyzer

    analyzer = FaceAnalyzer(
        settings.model,
        recognizer=settings.recognizer,
        detector=settings.detector,
        runtime=settings.runtime,
        device=settings.device,
        max_faces=settings.max_faces,
        max_pixels=settings.max_pixels,
        threads=settings.threads,
    )
    analyzer.analyze(np.zeros((64, 64, 3), np.uint8), cropped=True)
    list(analyzer.analyze_many([np.zeros((64, 64, 3), np.uint8)]))
    return analyzer


def require_readable(results: list[Result], uploads: list[Upload]) -> None:
    """Raise Problem if none of the images could be analyzed."""
    if any(result.error is None for result in results):
        return
    sentences = [name_error(result, upload) for result, upload in zip(results, uploads, strict=True)]
    raise Problem("broken_image", sentences[0], {"images": sentences} if len(sentences) > 1 else {})


def name_error(result: Result, upload: Upload) -> str:
    """Return a result's error with the upload's name for the image."""
    error = result.error or ""
    return error.replace("the image given as bytes", upload.name or "The image", 1)
