"""Draws a benchmark's rows."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alexnet.benchmarks.measure import Row


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws each row's ratio as a bar, to the left where ours is slower. The suffix of `path` is the format."""
    figure = Figure(figsize=(7, 1 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    rates = [row for row in reversed(rows) if row.unit.endswith("/s")]
    bars = axes.barh([row.name for row in rates], [row.ratio - 1 for row in rates], left=1)
    axes.bar_label(bars, [f" {row.ratio:.2f} " for row in rates])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("times as fast as the baseline")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
