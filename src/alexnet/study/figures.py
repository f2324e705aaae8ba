"""The figures of a report, each as PNG and SVG. Black, grey and shapes say what there is to say: they can be printed,
and read by the colour-blind.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from alexnet.plotting import save
from alexnet.study.compare import Comparison
from alexnet.study.gradients import Norms
from alexnet.study.metrics import EpochsToTarget, Metric, figure_of
from alexnet.study.records import Arm
from alexnet.study.table import Result

# Okabe and Ito's, which the colour-blind tell apart, with a line style each
COLOURS = ("#000000", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
STYLES = ("-", "--", "-.", ":")


def draw(
    out: Path, found: Comparison, arms: Sequence[Arm[Result]], paper: dict[str, float], norms: Norms
) -> dict[str, str]:
    """Returns the names of the figures that the runs allow, with what each shows."""
    made = {}
    for name, figure, text in (
        ("differences", _differences(found, paper), "Differences from the baseline with their 95% intervals"),
        ("pairs", _pairs(found), "Every run; a line joins the runs of one seed"),
        ("curves", _curves(arms, found.metric), f"{found.metric.curve} by epoch; thick, the mean of the seeds"),
        (
            "gradients",
            _gradients(norms),
            "What arrives of the error at each layer, mean over the first epoch and seeds",
        ),
        ("cost", _cost(found, arms), "What an arm costs, and what it gives"),
    ):
        if figure is not None:
            save(figure, out / name)
            made[name] = text
    return made


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _scale(found: Comparison) -> tuple[float, str]:
    return found.metric.scale, found.metric.unit


def _doubling(axis: Axis) -> None:
    """Of logarithms to the base of 2: the numbers themselves."""
    axis.set_major_locator(FixedLocator([math.log2(step * 2**power) for power in range(-6, 11) for step in (1, 1.5)]))
    axis.set_major_formatter(lambda value, _: f"{2**value:.3g}")


def _differences(found: Comparison, paper: dict[str, float]) -> Figure | None:
    rows = [row for row in found.rows if row.differences or row.difference]
    if not rows:
        return None
    scale, _ = _scale(found)
    figure, axes = _axes(7, 1.2 + 0.6 * len(rows))
    for place, row in enumerate(rows):
        seeds = [scale * d for d in row.differences.values()]
        # as far as can be seen: runs note figures of float32
        equal = [sum(abs(d - other) < 1e-4 for other in seeds[:i]) for i, d in enumerate(seeds)]
        axes.plot(seeds, [place - 0.12 - 0.07 * above for above in equal], "o", color="0.6", markersize=5, zorder=2)
        half = 0 if math.isnan(row.half) else scale * row.half
        axes.errorbar(scale * row.change, place + 0.12, xerr=half or None, fmt="s", color="black", capsize=3, zorder=3)
        if row.arm in paper:
            axes.plot(scale * paper[row.arm], place, "D", markerfacecolor="none", markeredgecolor="black", zorder=3)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(found.metric.difference_from(found.baseline.arm))
    if isinstance(found.metric, EpochsToTarget):
        _doubling(axes.xaxis)
    key = [("o", "0.6", "one seed"), ("s", "black", "mean and 95% interval")]
    marks = [axes.plot([], [], mark, color=colour, label=text)[0] for mark, colour, text in key]
    if any(row.arm in paper for row in rows):
        marks += axes.plot([], [], "D", markerfacecolor="none", markeredgecolor="black", label="the paper")
    axes.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    return figure


def _pairs(found: Comparison) -> Figure | None:
    rows = [found.baseline, *found.rows]
    if not any(len(row.values) for row in found.rows):
        return None
    scale, label = _scale(found)
    figure, axes = _axes(max(4.0, 1.3 * len(rows)), 3.6)
    for seed in sorted({seed for row in rows for seed in row.values}):
        points = [(place, scale * row.values[seed]) for place, row in enumerate(rows) if seed in row.values]
        axes.plot(*zip(*points, strict=True), "o-", color="0.6", markersize=4, linewidth=1, zorder=2)
    for place, row in enumerate(rows):
        axes.hlines(scale * row.mean, place - 0.2, place + 0.2, color="black", linewidth=3, zorder=3)
    axes.set_xticks(range(len(rows)), [row.arm for row in rows], rotation=20 if len(rows) > 3 else 0)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylabel(label)
    if isinstance(found.metric, EpochsToTarget):
        _doubling(axes.yaxis)
    return figure


def _curves(arms: Sequence[Arm[Result]], metric: Metric) -> Figure | None:
    name_of = metric.curve
    drawn = figure_of(name_of)
    curves = {arm.name: [np.array(c) for run in arm.runs.values() if (c := run.curve(name_of))] for arm in arms}
    curves = {name: found for name, found in curves.items() if found}
    if not curves or max(len(c) for found in curves.values() for c in found) < 2:
        return None
    figure, axes = _axes(7, 4)
    for number, (name, found) in enumerate(curves.items()):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        for curve in found:
            axes.plot(range(1, len(curve) + 1), drawn.scale * curve, linewidth=0.6, alpha=0.5, **look)
        mean = np.mean([c[: min(map(len, found))] for c in found], 0)
        axes.plot(range(1, len(mean) + 1), drawn.scale * mean, linewidth=2, label=name, **look)
    axes.set_xlabel("epoch")
    axes.set_ylabel(drawn.unit)
    if isinstance(metric, EpochsToTarget):
        axes.axhline(drawn.scale * metric.wanted, color="0.3", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _gradients(norms: Norms) -> Figure | None:
    if not norms:
        return None
    figure, axes = _axes(7, 4)
    for number, (arm, layers) in enumerate(norms.items()):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        axes.plot(list(layers), list(layers.values()), marker="o", label=arm, **look)
    axes.set_yscale("log")
    axes.set_ylabel("norm of the gradient of its weights")
    axes.tick_params("x", rotation=20)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _cost(found: Comparison, arms: Sequence[Arm[Result]]) -> Figure | None:
    """Only where arms differ in cost by more than a tenth."""
    cost = {
        arm.name: np.mean([run.value("flops_per_image") for run in arm.runs.values()]) / 1e9
        for arm in arms if arm.runs
    }  # fmt: skip
    rows = [row for row in (found.baseline, *found.rows) if not math.isnan(row.mean)]
    if len(rows) < 2 or max(cost.values()) < 1.1 * min(cost.values()):
        return None
    scale, label = _scale(found)
    figure, axes = _axes(5, 3.6)
    for row in rows:
        axes.plot(cost[row.arm], scale * row.mean, "s", color="black")
        axes.annotate(
            row.arm, (cost[row.arm], scale * row.mean), xytext=(6, 4), textcoords="offset points", fontsize="small"
        )
    axes.set_xlabel("GFLOP an image, forward")
    axes.set_ylabel(f"{label}, mean over seeds")
    if isinstance(found.metric, EpochsToTarget):
        _doubling(axes.yaxis)
    return figure
