"""Draws the figures of a report, each as PNG and SVG.

Black, grey and shapes say what there is to say: they can be printed, and read by the colour-blind.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from alexnet.study.compare import Comparison, Row
from alexnet.study.files import replace_file
from alexnet.study.metrics import EpochsToTarget, Metric, value_metric
from alexnet.study.table import Arm

# Okabe and Ito's, which the colour-blind tell apart, with a line style each
COLOURS = ("#000000", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
STYLES = ("-", "--", "-.", ":")
PAPER: dict[str, Any] = {
    "marker": "D",
    "linestyle": "",
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "zorder": 3,
}


class Drawing(NamedTuple):
    """A figure, its file name, and its caption."""

    name: str
    figure: Figure
    text: str


def draw(found: Comparison, arms: Sequence[Arm], paper: dict[str, float]) -> list[Drawing]:
    """Returns the figures that can be drawn of the runs."""
    curve = found.metric.curve
    drawn = (
        ("differences", _differences(found, paper), f"Differences from the baseline, each with its {found.interval}"),
        ("pairs", _pairs(found), "Every run; a line joins the runs of one seed"),
        ("curves", _curves(arms, found.metric), f"{curve} by epoch; thick, the mean of the seeds"),
        ("cost", _cost(found, arms), "What an arm costs, and what it gives"),
    )
    return [Drawing(name, figure, text) for name, figure, text in drawn if figure is not None]


def save(figure: Figure, path: Path) -> None:
    """Writes path.png and path.svg. The same figure makes the same files."""
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):

        def write(temporary: Path, kind: str = kind, metadata: dict[str, None] = metadata) -> None:
            figure.savefig(temporary, format=kind, dpi=150, bbox_inches="tight", metadata=metadata)

        with matplotlib.rc_context({"svg.hashsalt": "alexnet"}):
            replace_file(path.with_name(f"{path.name}.{kind}"), write)


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns a figure of that size in inches, with one plot without a frame on top and to the right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    open_frame(axes)
    return figure, axes


def open_frame(axes: Axes) -> None:
    """Removes the frame of a plot on top and to the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def line_look(number: int) -> dict[str, Any]:
    """Returns the colour and line style of an arm, by its place."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}


def doubling_ticks(axis: Axis) -> None:
    """Labels an axis of base-2 logarithms with the numbers themselves."""
    axis.set_major_locator(FixedLocator([math.log2(step * 2**power) for power in range(-6, 11) for step in (1, 1.5)]))
    axis.set_major_formatter(lambda value, _: f"{2**value:.3g}")


def _differences(found: Comparison, paper: dict[str, float]) -> Figure | None:
    rows = [row for row in found.rows if row.differences or row.difference]
    if not rows:
        return None
    figure, axes = new_axes(7, 1.2 + 0.6 * len(rows))
    for place, row in enumerate(rows):
        _draw_difference(axes, place, row, found.metric.scale)
        if row.arm in paper:
            axes.plot(found.metric.scale * paper[row.arm], place, **PAPER)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(rows)), [plain(row.arm) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(found.metric.difference_from(plain(found.baseline.arm)))
    if isinstance(found.metric, EpochsToTarget):
        doubling_ticks(axes.xaxis)
    marks = axes.plot([], [], "o", color="0.6", label="one seed")
    marks += axes.plot([], [], "s", color="black", label=f"mean and {found.interval}")
    if any(row.arm in paper for row in rows):
        marks += axes.plot([], [], **PAPER, label="the paper")
    axes.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    return figure


def _draw_difference(axes: Axes, place: int, row: Row, scale: float) -> None:
    """Draws a row of points, those of equal seeds above each other, and the interval below them."""
    seeds = [scale * difference for difference in row.differences.values()]
    width = max(seeds, default=0) - min(seeds, default=0)
    near = max(1e-3 * width, 1e-7 * scale)  # equal as far as can be seen: tables hold float32
    heights = []
    for number, difference in enumerate(seeds):
        equal = np.isclose(seeds[:number], difference, rtol=0, atol=near).sum()
        heights.append(place - 0.12 - 0.07 * equal)
    axes.plot(seeds, heights, "o", color="0.6", markersize=5, zorder=2)
    half = None if math.isnan(row.half) else scale * row.half
    axes.errorbar(scale * row.change, place + 0.12, xerr=half, fmt="s", color="black", capsize=3, zorder=3)


def _pairs(found: Comparison) -> Figure | None:
    rows = [found.baseline, *found.rows]
    if not any(len(row.values) for row in found.rows):
        return None
    scale = found.metric.scale
    figure, axes = new_axes(max(4.0, 1.3 * len(rows)), 3.6)
    for seed in sorted({seed for row in rows for seed in row.values}):
        points = [(place, scale * row.values[seed]) for place, row in enumerate(rows) if seed in row.values]
        axes.plot(*zip(*points, strict=True), "o-", color="0.6", markersize=4, linewidth=1, zorder=2)
    for place, row in enumerate(rows):
        axes.hlines(scale * row.mean, place - 0.2, place + 0.2, color="black", linewidth=3, zorder=3)
    rotation = 20 if len(rows) > 3 else 0
    axes.set_xticks(range(len(rows)), [plain(row.arm) for row in rows], rotation=rotation)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylabel(found.metric.unit)
    if isinstance(found.metric, EpochsToTarget):
        doubling_ticks(axes.yaxis)
    return figure


def _curves(arms: Sequence[Arm], metric: Metric) -> Figure | None:
    drawn = value_metric(metric.curve)
    curves = {arm.name: _curves_of(arm, metric.curve) for arm in arms}
    curves = {name: found for name, found in curves.items() if found}
    if not curves or max(len(curve) for found in curves.values() for curve in found) < 2:
        return None
    figure, axes = new_axes(7, 4)
    for number, (name, found) in enumerate(curves.items()):
        look = line_look(number)
        faint = min(0.5, 1.5 / len(found))  # so that the mean is still seen over the lines of many seeds
        for curve in found:
            axes.plot(range(1, len(curve) + 1), drawn.scale * curve, linewidth=0.6, alpha=faint, **look)
        shortest = min(map(len, found))
        mean = np.mean([curve[:shortest] for curve in found], 0)
        axes.plot(range(1, shortest + 1), drawn.scale * mean, linewidth=2, label=plain(name), **look)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(drawn.unit)
    if isinstance(metric, EpochsToTarget):
        axes.axhline(drawn.scale * metric.wanted, color="0.3", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _curves_of(arm: Arm, metric: str) -> list[NDArray[np.float64]]:
    curves = [run.curve(metric) for run in arm.runs.values()]
    return [np.array(curve) for curve in curves if curve]


def _cost(found: Comparison, arms: Sequence[Arm]) -> Figure | None:
    """Draws accuracy by cost, if the arms differ in cost by more than a tenth."""
    cost = {}
    for arm in arms:
        if arm.runs:
            cost[arm.name] = arm.mean("flops_per_image") / 1e9
    rows = [row for row in (found.baseline, *found.rows) if not math.isnan(row.mean)]
    if len(rows) < 2 or not max(cost.values()) >= 1.1 * min(cost.values()):
        return None
    figure, axes = new_axes(5, 3.6)
    for row in rows:
        point = (cost[row.arm], found.metric.scale * row.mean)
        axes.plot(*point, "s", color="black")
        axes.annotate(plain(row.arm), point, xytext=(6, 4), textcoords="offset points", fontsize="small")
    axes.set_xlabel("GFLOP an image, forward")
    axes.set_ylabel(f"{found.metric.unit}, mean over seeds")
    if isinstance(found.metric, EpochsToTarget):
        doubling_ticks(axes.yaxis)
    return figure


def plain(name: str) -> str:
    """Returns a name without anything that matplotlib reads as mathematics."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")
