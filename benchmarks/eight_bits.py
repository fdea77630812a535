"""Benchmark: what 8 bits cost the face detector on photos.val, with and without VNNI.

    FACEUM_CORPUS=... python benchmarks/eight_bits.py --float FLOAT.onnx [--photos 121]

FLOAT.onnx is what `python tools/convert_detectors.py centerface-float` writes. Three networks
see the same photos: the float file; the shipped file by the kernels of this CPU; and the shipped file without
fused kernels, where each product of 8-bit values is computed in float32, which is exact for them: that is the
answer of a CPU with VNNI, whose 32-bit sums do not saturate. Without VNNI, sums of two products saturate at
32,767; the shipped kernels have 7 bits (at most 64), for which 2 * 255 * 64 = 32,640 fits. Printed are recall
and point error of the annotated faces, as in detection.py, and the largest differences of heat maps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from detection import judge, photos
from in_turn import options, stamp

from faceum.cli.findings import instructions
from faceum.detect.centerface import CenterFace, levels_of, network_input
from faceum.detect.tiling import scales_of
from faceum.onnx_session import LazySession
from faceum.weights.registry import asset_path


class Plain:
    """A session that runs its graph unchanged: without fused kernels for 8 bits."""

    def __init__(self, path: Path) -> None:
        chosen = onnxruntime.SessionOptions()
        chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        chosen.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])

    def run(self, image_BHWC: np.ndarray) -> list[np.ndarray]:
        """Return all outputs."""
        return self._session.run(None, {"image": image_BHWC})


def detector_with(session: object) -> CenterFace:
    """Return the default detector with another first network."""
    detector = CenterFace(threads=1)
    detector._session = session
    return detector


def main() -> None:
    """Print recall, point error and differences."""
    given = options(__doc__, float="", photos=121)
    stamp()
    print("instructions:", ", ".join(instructions()) or "unknown")
    shipped = asset_path("centerface", "faces", kind="detector")
    sessions = {
        "8 bits, as this CPU computes them": LazySession(lambda: shipped, threads=1),
        "8 bits, exact sums (VNNI)": Plain(shipped),
    }
    if given.float:
        sessions["float32"] = LazySession(lambda: Path(given.float), threads=1)
    some = photos()[: given.photos]
    heats: dict[str, list[np.ndarray]] = {name: [] for name in sessions}
    for image, _ in some[:10]:
        level = levels_of(image, scales_of(*image.shape[:2]))[0]
        for name, session in sessions.items():
            heats[name].append(session.run(network_input(level)[None])[0])
    for name in list(sessions)[1:]:
        pairs = zip(heats[name], next(iter(heats.values())), strict=True)
        print(f"heat maps, {name} against this CPU: {max(np.abs(a - b).max() for a, b in pairs):.2g} at most")
    print("| detector | faces | recall at 0.25 | 0.4 | 0.5 | point error | median |")
    for name, session in sessions.items():
        print(f"| {name} | {judge(some, detector_with(session))} |", flush=True)


if __name__ == "__main__":
    main()
