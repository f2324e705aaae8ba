"""Draws many answers in one figure: each arm's difference, its interval, the margin, and the paper's figure."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from alexnet.study.compare import Row
from alexnet.study.figures import PAPER, new_axes, plain
from alexnet.study.report import StudyReport

TICKS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)  # points
LINEAR = 1.0  # points on either side of 0, beyond which the axis is logarithmic
ANSWERS = ("better", "worse", "equivalent")
MEAN: dict[str, Any] = {"marker": "s", "linestyle": "", "color": "black", "markersize": 5}


class Line(NamedTuple):
    """A line of the figure: a heading, or an arm, which has a study and a row of its table."""

    text: str
    font: Mapping[str, Any] = {}
    study: StudyReport | None = None
    row: Row | None = None


def in_points(made: StudyReport) -> bool:
    """Returns whether a study's differences are in points of a share, as those of test/top1 are."""
    return bool(made.found.metric.points and _rows(made))


def forest(studies: Mapping[str, StudyReport]) -> Figure | None:
    """Draws a line for every arm but the baselines, of the studies, by name, whose differences are in points."""
    lines = _lines(studies)
    arms = [(place, plain(line.text)) for place, line in enumerate(lines) if line.row is not None]
    if not arms:
        return None
    figure, axes = new_axes(8, 1.2 + 0.24 * len(lines))
    for place, line in enumerate(lines):
        if line.study is not None and line.row is not None:
            _draw_line(axes, place, line.study, line.row)
        else:
            _write_heading(axes, place, line)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(*zip(*arms, strict=True))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    axes.set_xlabel("difference from the baseline in test accuracy, points; beyond 1, by its logarithm")
    marks = axes.plot([], [], **MEAN, label="mean and interval, answered")
    marks += axes.plot([], [], **MEAN | {"markerfacecolor": "white"}, label="not answered")
    marks += axes.plot([], [], **PAPER, label="the paper")
    marks += axes.plot([], [], color="0.9", linewidth=8, label="the margin")
    axes.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize="small")
    return figure


def _lines(studies: Mapping[str, StudyReport]) -> list[Line]:
    lines = []
    question = None
    for name, made in studies.items():
        if not in_points(made):
            continue
        if made.study.get("question") not in (None, question):
            question = made.study["question"]
            lines.append(Line(question, {"style": "italic"}))
        lines.append(Line(f"{name}, against {made.found.baseline.arm}"))
        lines += [Line(row.arm, study=made, row=row) for row in _rows(made)]
    return lines


def _write_heading(axes: Axes, place: int, line: Line) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line at 0 ends beside it
    transform = axes.get_yaxis_transform()
    axes.text(0.01, place, plain(line.text), transform=transform, va="center", bbox=box, **line.font)


def _rows(made: StudyReport) -> list[Row]:
    return [row for row in made.found.rows if math.isfinite(row.change)]


def _draw_line(axes: Axes, place: int, made: StudyReport, row: Row) -> None:
    scale, margin = made.found.metric.scale, made.about["margin"]
    if margin is not None:
        axes.barh(place, 2 * scale * margin, left=-scale * margin, height=0.9, color="0.9", zorder=1)
    half = None if math.isnan(row.half) else scale * row.half
    inside = "black" if row.verdict.startswith(ANSWERS) else "white"
    style = MEAN | {"markerfacecolor": inside}
    axes.errorbar(scale * row.change, place, xerr=half, ecolor="black", capsize=2, zorder=3, **style)
    if row.arm in made.paper:
        axes.plot(scale * made.paper[row.arm], place, **PAPER)
