"""Plot an evaluation's curves into PNG files with matplotlib, without a display."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from faceum.errors import DataError
from faceum.evaluate.record import Evaluation
from faceum.extras import missing
from faceum.files import whole_file

DPI = 110
"""Resolution of the plots in dots per inch."""


def write_plots(evaluation: Evaluation, folder: Path, prefix: str) -> list[Path]:
    """Draw every curve of an evaluation; return the files, `<prefix>-<curve>.png`."""
    files = []
    for name, curve in evaluation.curves.items():
        figure, axes = new_figure()
        PLOTS[name](axes, curve)
        files.append(save_figure(figure, folder / f"{prefix}-{name}.png"))
    return files


def write_expert_load(load: Mapping[str, Any], folder: Path, prefix: str) -> Path:
    """Draw the share of its tokens that each task sends to each expert, into `<prefix>-expert-load.png`.

    load: region -> task -> (E,) shares. Each region is one panel.
    """
    figure, panels = new_figure(1, len(load), (1.5 + 3.5 * len(load), 3.4))
    for axes, (region, shares) in zip(np.atleast_1d(panels), load.items(), strict=True):
        table = np.array([shares[task] for task in shares])
        image = axes.imshow(table, cmap="viridis", vmin=0, vmax=max(float(table.max()), 1e-6), aspect="auto")
        axes.set_yticks(range(len(shares)), list(shares))
        axes.set_xticks(range(table.shape[1]))
        axes.set_xlabel("expert")
        axes.set_title(f"{region} tokens", fontsize=10)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return save_figure(figure, folder / f"{prefix}-expert-load.png")


@functools.cache
def prepare_matplotlib() -> None:
    """Make matplotlib write its font cache to a temporary folder instead of the home folder.

    Call this before importing matplotlib. If the user set MPLCONFIGDIR, that folder is used.
    """
    if "MPLCONFIGDIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="faceum-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder


def new_figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.0, 4.2)) -> tuple[Any, Any]:
    """Return a figure and its axes, without a display and without changing pyplot's state.

    size: inches. Raises DataError if matplotlib is not installed.
    """
    prepare_matplotlib()
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError(missing("Drawing plots", "matplotlib")) from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, completely or not at all; return the path."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")
    return path


def _roc(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.step(np.maximum(curve["far"], 1e-6), curve["tar"], where="post")
    axes.set_xscale("log")
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(1e-4, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)


def _distances(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.stairs(curve["same"], curve["edge"], label="one person", fill=True, alpha=0.6)
    axes.stairs(curve["different"], curve["edge"], label="two people", fill=True, alpha=0.6)
    axes.set(xlabel="squared distance", ylabel="pairs")
    axes.legend()


def _scatter(axes: Any, curve: Mapping[str, Any]) -> None:
    limit = 5 + max(*curve["true"], *curve["predicted"])
    axes.plot([0, limit], [0, limit], color="black", linewidth=0.8)
    axes.scatter(curve["true"], curve["predicted"], s=6, alpha=0.4, edgecolors="none")
    axes.set(xlabel="true age, years", ylabel="predicted age, years", xlim=(0, limit), ylim=(0, limit))
    axes.grid(alpha=0.3)


def _spread(axes: Any, curve: Mapping[str, Any]) -> None:
    limit = 1.05 * max(*curve["predicted"], *curve["observed"])
    axes.plot([0, limit], [0, limit], color="black", linewidth=0.8)
    axes.plot(curve["predicted"], curve["observed"], marker="o")
    axes.set(xlabel="predicted deviation, years", ylabel="error made (root mean square), years")
    axes.grid(alpha=0.3)


def _coverage(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.plot(curve["level"], curve["share"], marker="o")
    axes.set(xlabel="stated probability of the interval", ylabel="share of true ages inside")
    axes.grid(alpha=0.3)


def _reliability(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.plot(curve["confidence"], curve["accuracy"], marker="o")
    axes.set(xlabel="stated confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)


def _confusion(axes: Any, curve: Mapping[str, Any]) -> None:
    counts = np.array(curve["counts"], np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 7 if len(shares) <= 10 else 4
    for row, column in np.argwhere(shares >= 0.005):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xticks(range(len(shares)), curve["names"], rotation=90, fontsize=size + 1)
    axes.set_yticks(range(len(shares)), curve["names"], fontsize=size + 1)
    axes.set(xlabel="predicted, % of the true class", ylabel="true")


def _ced(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.step(100 * np.array(curve["error"]), 100 * np.array(curve["share"]), where="post")
    axes.set(xlabel="NME (outer eye corners), %", ylabel="faces at or below, %", ylim=(0, 101))
    axes.grid(alpha=0.3)


def _reject(axes: Any, curve: Mapping[str, Any]) -> None:
    for name, rates in curve.items():
        if name != "share":
            axes.plot(100 * np.array(curve["share"]), 100 * np.array(rates), label=f"faces {name}")
    axes.set(xlabel="pairs of the lowest quality left out, %", ylabel="false non-match rate, %")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


PLOTS: dict[str, Callable[[Any, Mapping[str, Any]], None]] = {
    "roc": _roc,
    "distances": _distances,
    "scatter": _scatter,
    "spread": _spread,
    "coverage": _coverage,
    "reliability": _reliability,
    "confusion": _confusion,
    "ced": _ced,
    "reject": _reject,
}
"""Name of a curve in `Evaluation.curves` -> the function that draws it."""
