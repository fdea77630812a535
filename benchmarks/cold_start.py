"""Measure how long starting takes, each time in a fresh process, and the peak memory of the main job.

python benchmarks/cold_start.py [--model compact] [--rounds 15]
"""

from __future__ import annotations

import os
import subprocess
import sys

from in_turn import ROOT, child, claim, in_turn, options, stamp

IMAGE = str(ROOT / "examples" / "astronaut.png")


def peak_memory(model: str) -> float:
    """Return the peak memory in megabytes of one `faceum analyze` of the example portrait."""
    process = subprocess.Popen(
        [sys.executable, "-m", "faceum", "analyze", IMAGE, "--model", model, "--runtime", "onnxruntime"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1e3


def main() -> None:
    """Time and print."""
    given = options(__doc__, model="compact", rounds=15)
    stamp()
    job = ["analyze", IMAGE, "--model", given.model, "--runtime", "onnxruntime"]
    times = in_turn(
        {
            "analyze": child("-m faceum", *job),
            "import torch": child("import torch"),
            "import faceum": child("import faceum"),
            "import numpy": child("import numpy"),
            "faceum --help": child("-m faceum", "--help"),
            "import typer, rich": child("import typer, rich"),
            "nothing": child("pass"),
        },
        given.rounds,
        warm=2,
    )
    claim("cold faceum analyze / import torch", times, "analyze", "import torch")
    claim("import faceum / import numpy", times, "import faceum", "import numpy")
    claim("faceum --help / import typer, rich", times, "faceum --help", "import typer, rich")
    claim("an empty Python / import typer, rich", times, "nothing", "import typer, rich")
    peaks = sorted(peak_memory(given.model) for _ in range(5))
    print(f"  peak memory of faceum analyze: {peaks[2]:.0f} MB ({peaks[0]:.0f}-{peaks[-1]:.0f})")


if __name__ == "__main__":
    main()
