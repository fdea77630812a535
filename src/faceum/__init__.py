"""Face perception: one network answers six tasks for every face in an image.

The public names are imported when they are first used, so `import faceum` is quick and loads no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer
    from faceum.crop import CropSpec
    from faceum.detect.base import Detection, load_detector
    from faceum.errors import DataError, FaceumError, GalleryError, ImageError, ModelError, RecipeError
    from faceum.image import read_image
    from faceum.jobs.read import read_results
    from faceum.match import Match
    from faceum.people.gallery import Gallery
    from faceum.render import render_faces
    from faceum.results import Age, Expression, Face, Parsing, Result, result_schema
    from faceum.save import save_result
    from faceum.video.analyze import VideoConfig, analyze_video
    from faceum.video.records import Frame, TrackedFace
    from faceum.video.summary import TrackSummary, summarize_tracks
    from faceum.weights.load import load_model
    from faceum.weights.thresholds import Thresholds, thresholds

# Any module may be the first to import onnxruntime, which from version 1.29 on would write a device id into
# the user's home and look up its maker's host. Switching that off after the import is too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

HOMES = {
    "Age": "faceum.results",
    "CropSpec": "faceum.crop",
    "DataError": "faceum.errors",
    "Detection": "faceum.detect.base",
    "Expression": "faceum.results",
    "Face": "faceum.results",
    "FaceAnalyzer": "faceum.analyzer",
    "FaceumError": "faceum.errors",
    "Frame": "faceum.video.records",
    "Gallery": "faceum.people.gallery",
    "GalleryError": "faceum.errors",
    "ImageError": "faceum.errors",
    "Match": "faceum.match",
    "ModelError": "faceum.errors",
    "Parsing": "faceum.results",
    "RecipeError": "faceum.errors",
    "Result": "faceum.results",
    "Thresholds": "faceum.weights.thresholds",
    "TrackSummary": "faceum.video.summary",
    "TrackedFace": "faceum.video.records",
    "VideoConfig": "faceum.video.analyze",
    "analyze_video": "faceum.video.analyze",
    "load_detector": "faceum.detect.base",
    "load_model": "faceum.weights.load",
    "read_image": "faceum.image",
    "read_results": "faceum.jobs.read",
    "render_faces": "faceum.render",
    "result_schema": "faceum.results",
    "save_result": "faceum.save",
    "summarize_tracks": "faceum.video.summary",
    "thresholds": "faceum.weights.thresholds",
}
"""Public name -> the module that defines it."""

__all__ = [
    "Age",
    "CropSpec",
    "DataError",
    "Detection",
    "Expression",
    "Face",
    "FaceAnalyzer",
    "FaceumError",
    "Frame",
    "Gallery",
    "GalleryError",
    "ImageError",
    "Match",
    "ModelError",
    "Parsing",
    "RecipeError",
    "Result",
    "Thresholds",
    "TrackSummary",
    "TrackedFace",
    "VideoConfig",
    "__version__",
    "analyze_video",
    "load_detector",
    "load_model",
    "read_image",
    "read_results",
    "render_faces",
    "result_schema",
    "save_result",
    "summarize_tracks",
    "thresholds",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("moe-faceum")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
    if name not in HOMES:
        raise AttributeError(f"module 'faceum' has no attribute {name!r}")
    value = getattr(importlib.import_module(HOMES[name]), name)
    # The next use does not come here.
    vars(importlib.import_module("faceum"))[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
