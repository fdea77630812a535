"""Damage every image format many times; an image or one sentence must come of it, in bounded time.

    python tools/fuzz_images.py [mutants of each, 10000 by default]

Prints a line for each kind of file: how many mutants were read, refused and answered with another error,
and the longest processor time of one. Ends with 1 if there was another error.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from faceum.errors import ImageError
from faceum.image import read_image
from test_image_fuzz import SEEDS, mutate


def fuzz(name: str, mutants: int) -> int:
    """Read the mutants of one kind of file, print the summary, and return the number of other errors."""
    data, random = SEEDS[name](), np.random.default_rng(20261127)
    read = refused = wrong = 0
    longest = 0.0
    for number in range(mutants):
        damaged = mutate(data, random)
        start = time.process_time()
        try:
            read_image(damaged, max_pixels=1_000_000)
            read += 1
        except ImageError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this program looks for
            wrong += 1
            print(f"{name}, mutant {number}: {type(error).__name__}: {error}")
        longest = max(longest, time.process_time() - start)
    print(f"{name:18} {read:6} read {refused:6} refused {wrong:4} other errors, {longest:.2f} s", flush=True)
    return wrong


def main() -> None:
    """Fuzz every kind of file."""
    warnings.simplefilter("ignore")
    mutants = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    wrong = sum(fuzz(name, mutants) for name in SEEDS)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
