"""Draws all answers in one figure: each arm's difference, its interval, the margin, and the paper's figure."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from alexnet.study.compare import Row
from alexnet.study.figures import PAPER, new_axes, plain
from alexnet.study.report import StudyReport

TICKS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)  # points
LINEAR = 1.0  # points on either side of 0, beyond which the axis is logarithmic


def in_points(made: StudyReport) -> bool:
    """Returns whether a study's differences are in points of a share, as those of test/top1 are."""
    return bool(made.found.metric.points and _rows(made))


def forest(groups: Mapping[str, Mapping[str, StudyReport]]) -> Figure | None:
    """Draws a line for every arm but the baselines, of studies whose differences are in points.

    Args:
        groups: under a heading each, studies by their names.
    """
    lines: list[tuple[str, StudyReport | None, Row | None]] = []
    for heading, studies in groups.items():
        lines.append((heading, None, None))
        drawn = {name: made for name, made in studies.items() if in_points(made)}
        for name, made in drawn.items():
            lines.append((f"{name}, against {made.found.baseline.arm}", made, None))
            lines += [(row.arm, made, row) for row in _rows(made)]
    arms = [(place, plain(text)) for place, (text, _, row) in enumerate(lines) if row is not None]
    if not arms:
        return None
    figure, axes = new_axes(8, 1.2 + 0.24 * len(lines))
    for place, (text, study, row) in enumerate(lines):
        if study is None or row is None:
            weight = "bold" if study is None else "normal"
            axes.text(
                0.01,
                place,
                plain(text),
                transform=axes.get_yaxis_transform(),
                va="center",
                weight=weight,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # the line at 0 ends beside it
            )
        else:
            _draw_line(axes, place, study, row)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(*zip(*arms, strict=True))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    axes.set_xlabel("difference from the baseline in test accuracy, points; beyond 1, by its logarithm")
    marks = axes.plot([], [], "s", color="black", label="mean and interval")
    marks += axes.plot([], [], **PAPER, label="the paper")
    marks += axes.plot([], [], color="0.9", linewidth=8, label="the margin")
    axes.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    return figure


def _rows(made: StudyReport) -> list[Row]:
    return [row for row in made.found.rows if math.isfinite(row.change)]


def _draw_line(axes: Axes, place: int, made: StudyReport, row: Row) -> None:
    scale, margin = made.found.metric.scale, made.about["margin"]
    if margin is not None:
        axes.barh(place, 2 * scale * margin, left=-scale * margin, height=0.9, color="0.9", zorder=1)
    half = None if math.isnan(row.half) else scale * row.half
    axes.errorbar(scale * row.change, place, xerr=half, fmt="s", color="black", markersize=5, capsize=2, zorder=3)
    if row.arm in made.paper:
        axes.plot(scale * made.paper[row.arm], place, **PAPER)
