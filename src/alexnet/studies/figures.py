"""The figures of a report, each as PNG and SVG. Black, grey and shapes say what there is to say: they can be printed,
and read by the colour-blind.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alexnet.figures import save
from alexnet.studies.compare import Comparison
from alexnet.studies.gradients import Norms
from alexnet.studies.runs import Arm, Run

# Okabe and Ito's, which the colour-blind tell apart, with a line style each
COLOURS = ("#000000", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
STYLES = ("-", "--", "-.", ":")


def draw(out: Path, found: Comparison, arms: Sequence[Arm], paper: dict[str, float], norms: Norms) -> dict[str, str]:
    """Gives the names of the figures that the runs allow, with what each shows."""
    made = {}
    for name, figure, text in (
        ("differences", _differences(found, paper), "Differences from the baseline with their 95% intervals"),
        ("pairs", _pairs(found), "Every run; a line joins the runs of one seed"),
        ("curves", _curves(arms), "Validation accuracy by epoch: thin, each seed; thick, their mean"),
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
    return (1, found.metric) if found.metric.endswith("loss") else (100, f"{found.metric}, %")


def _differences(found: Comparison, paper: dict[str, float]) -> Figure | None:
    rows = [row for row in found.rows if row.differences or row.difference]
    if not rows:
        return None
    scale, _ = _scale(found)
    figure, axes = _axes(7, 1.2 + 0.6 * len(rows))
    for place, row in enumerate(rows):
        seeds = [scale * d for d in row.differences.values()]
        equal = [sum(abs(d - other) < 1e-9 for other in seeds[:i]) for i, d in enumerate(seeds)]
        axes.plot(seeds, [place - 0.12 - 0.07 * above for above in equal], "o", color="0.6", markersize=5, zorder=2)
        half = 0 if math.isnan(row.half) else scale * row.half
        axes.errorbar(scale * row.change, place + 0.12, xerr=half or None, fmt="s", color="black", capsize=3, zorder=3)
        if row.arm in paper:
            axes.plot(scale * paper[row.arm], place, "D", markerfacecolor="none", markeredgecolor="black", zorder=3)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    what = found.metric if found.metric.endswith("loss") else f"{found.metric}, points"
    axes.set_xlabel(f"difference from {found.baseline.arm} in {what}")
    key = [("o", "0.6", "one seed"), ("s", "black", "mean and 95% interval")]
    marks = [axes.plot([], [], mark, color=colour, label=text)[0] for mark, colour, text in key]
    if any(row.arm in paper for row in rows):
        marks += axes.plot([], [], "D", markerfacecolor="none", markeredgecolor="black", label="the paper, on ImageNet")
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
    return figure


def _curves(arms: Sequence[Arm]) -> Figure | None:
    """From the metrics.csv of each run, which logger=csv leaves."""
    curves = {arm.name: [c for run in arm.runs.values() if len(c := _curve(run))] for arm in arms}
    curves = {name: found for name, found in curves.items() if found}
    if not curves or max(len(c) for found in curves.values() for c in found) < 2:
        return None
    figure, axes = _axes(7, 4)
    for number, (name, found) in enumerate(curves.items()):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        for curve in found:
            axes.plot(range(1, len(curve) + 1), 100 * curve, linewidth=0.6, alpha=0.5, **look)
        mean = np.mean([c[: min(map(len, found))] for c in found], 0)
        axes.plot(range(1, len(mean) + 1), 100 * mean, linewidth=2, label=name, **look)
    axes.set_xlabel("epoch")
    axes.set_ylabel("val/top1, %")
    axes.legend(frameon=False, fontsize="small")
    return figure


def _curve(run: Run) -> np.ndarray:
    return np.array([float(row["val/top1"]) for row in run.logged if row.get("val/top1")])


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


def _cost(found: Comparison, arms: Sequence[Arm]) -> Figure | None:
    """Only where arms differ in cost by more than a tenth."""
    cost = {
        arm.name: np.mean([run.metrics.get("flops_per_image", math.nan) for run in arm.runs.values()]) / 1e9
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
    return figure
