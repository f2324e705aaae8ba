"""Texts on a study that runs until it is answered: a line for each look, why it ended, a table and a figure."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet.study.compare import Comparison, Row, compare
from alexnet.study.figures import Drawing, doubling_ticks, open_frame, plain
from alexnet.study.formatting import duration, seeds_of, table
from alexnet.study.intervals import EVERY_LOOK
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.sequential import (
    ANY_DIFFERENCE,
    MOST,
    NO_DIFFERENCE,
    Look,
    Looks,
    chance_of_answer,
    first_look,
    forecast,
    images_hide,
    later_looks,
)
from alexnet.study.summary import interval
from alexnet.study.table import Arm


def plan_line(told: Looks) -> str:
    """Returns a line on how the looks are planned."""
    first = first_look(len(told.arms) - 1)
    return f"Looks after every pair from pair {first} to at most pair {told.most}, until every arm has an answer."


def look_line(told: Looks, look: Look, metric: Metric, margin: float, seconds: float = math.nan) -> str:
    """Returns a line on a look: what was found, and what to expect.

    Args:
        told: the looks until now.
        look: one of them.
        metric: what is compared.
        margin: as metric.transform returns it.
        seconds: that a pair takes, with all arms that go on; nan where that is not known.
    """
    parts = [_found(row, metric) for row in look.found.rows]
    line = f"{look.pairs} pairs: {'; '.join(parts)}"
    if look is not told.looks[-1]:
        return line
    if told.ended:
        return ". ".join([line, *ending(told, margin)[len(told.answered) :]])
    running = [row for row in look.found.rows if row.arm in told.running]
    return f"{line}. {_expected(running, look.pairs, told.most, margin, seconds)}"


def _found(row: Row, metric: Metric) -> str:
    within = f" ({interval(row, metric)})" if interval(row, metric) else ""
    verdict = row.verdict.split(":")[0]
    return f"{row.arm} {metric.signed(row.change)}{metric.points}{within}: {verdict}"


def _expected(rows: Sequence[Row], pairs: int, most: int, margin: float, seconds: float) -> str:
    """Returns when the running arm that takes longest will have an answer."""
    if any(images_hide(row, margin) for row in rows):
        return "No number of seeds shows that there is no difference: it takes more test images"
    equal = _latest([forecast(row, margin, pairs, NO_DIFFERENCE) for row in rows])
    last = _latest([forecast(row, margin, pairs, ANY_DIFFERENCE) for row in rows])
    text = f"If there is no difference, {_pairs(*equal)} in all; otherwise {_pairs(*last)} at the latest"
    if equal[0] > most:
        text += f", and {most} are allowed"
    if math.isnan(seconds):
        return text
    soonest, latest = (duration(max(min(end, most) - pairs, 1) * seconds) for end in (equal[0], last[1]))
    return f"{text}: {latest} more" if soonest == latest else f"{text}: {soonest} to {latest} more"


def _latest(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    likely, wide = zip(*ends, strict=True)
    return max(likely), max(wide)


def _pairs(likely: float, most: float) -> str:
    if math.isinf(likely):
        return f"more than {MOST} pairs"
    end = f"more than {MOST}" if math.isinf(most) else f"{most:.0f}"
    return f"about {likely:.0f} pairs (to {end})"


def ending(told: Looks, margin: float) -> list[str]:
    """Returns why each arm's looks ended, in a sentence each. margin: as metric.transform returns it."""
    sentences = [f"{arm}: answered after {answered.pairs} pairs" for arm, answered in told.answered.items()]
    last = {row.arm: row for row in told.looks[-1].found.rows} if told.looks else {}
    return sentences + [_unanswered(told, arm, last.get(arm), margin) for arm in told.running]


def _unanswered(told: Looks, arm: str, row: Row | None, margin: float) -> str:
    if row is None:
        return f"{arm}: no look yet; the first is after {first_look(len(told.arms) - 1)} pairs"
    if not told.ended:
        return f"{arm}: no answer after {told.pairs} pairs. {_expected([row], told.pairs, told.most, margin, math.nan)}"
    if math.isnan(row.half):
        return f"{arm}: given up after {told.pairs} pairs, which all differ by the same: there is no spread to judge by"
    if told.gave_up:
        chance = _percent(chance_of_answer(row, margin, told.pairs, told.most))
        why = f"given up after {told.pairs} pairs, since the chance of an answer by {told.most} is {chance}"
    else:
        why = f"no answer after {told.pairs} pairs, the most that were asked"
    if told.most < MOST:
        chance = _percent(chance_of_answer(row, margin, told.pairs, MOST))
        why += f"; by {MOST} pairs (max_seeds={MOST}) the chance is {chance}"
    if images_hide(row, margin):
        why += ". That there is no difference would take more test images, or a larger margin"
    return f"{arm}: {why}"


def _percent(chance: float) -> str:
    return "below 1%" if chance < 0.01 else f"{100 * chance:.0f}%"


def looks_table(told: Looks, metric: Metric) -> list[str]:
    """Returns the looks as a Markdown table, with a row for every look and arm that was still running."""
    rows = []
    for look in told.looks:
        for row in look.found.rows:
            verdict = row.verdict.split(":")[0]
            rows.append([str(look.pairs), row.arm, metric.signed(row.change), interval(row, metric), verdict])
    return table(["pairs", "arm", metric.change, told.looks[0].found.interval, "verdict"], rows) if rows else []


def looks_notes(
    told: Looks, arms: Sequence[Arm], found: Comparison, until: Mapping[str, Any], before: Sequence[int]
) -> list[str]:
    """Returns what a reader must know about the looks.

    Args:
        told: the looks.
        arms: with all their runs.
        found: what they found together.
        until: asked, what was asked in turn; left_out, the seeds that were passed over since a run had failed.
        before: of how many seeds a report was made when their number was still fixed.
    """
    metric, notes = found.metric, []
    better = [row.difference.sd for row in found.rows if row.verdict in ("better", "worse") and row.difference]
    if better:
        notes.append(
            "It stopped when the difference was large enough, so a better or worse is overstated on average, by up to "
            f"a tenth of a pair's standard deviation (here {metric.amount(0.1 * max(better))}); the interval allows "
            "for it"
        )
    if until["left_out"]:
        notes.append(f"{seeds_of(until['left_out'])} left out, since a run failed")
    if told.left_out:
        notes.append(
            f"{seeds_of(told.left_out)} left out, since {metric} is no number there: left out for their result, so the "
            "error rates do not hold"
        )
    if before:
        notes.append(f"Reported with {before[0]} seeds before it was asked until answered: {later_looks(before[0])}")
    return notes + _other_questions(until.get("asked", ())) + _further(told, arms, metric)


def with_question(
    asked: Sequence[Mapping[str, Any]], metric: str, mode: str | None, margin: float, arms: Sequence[str], pairs: int
) -> list[dict[str, Any]]:
    """Returns the earlier questions and the present one last. pairs: after how many pairs it is asked."""
    now = {"metric": metric, "mode": mode, "margin": margin, "arms": list(arms)}
    kept = [dict(question) for question in asked]
    if kept and all(kept[-1][key] == value for key, value in now.items()):
        return kept
    return [*kept, now | {"pairs": pairs}]


def _other_questions(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a warning where the question changed after the first look: the error rates are those of the first."""
    notes = []
    for earlier, later in pairwise(asked):
        keys = [key for key in ("metric", "mode", "margin", "arms") if earlier[key] != later[key]]
        if later["pairs"] and keys:
            was = ", ".join(f"{key} {_listed(earlier[key])}" for key in keys)
            notes.append(
                f"Asked otherwise ({was}) for the first {later['pairs']} pairs: the error rates are of that question"
            )
    return notes


def _listed(value: Any) -> str:
    return " and ".join(value) if isinstance(value, list) else str(value)


def _further(told: Looks, arms: Sequence[Arm], metric: Metric) -> list[str]:
    """Returns a line on finished seeds that no look used, with the interval of all seeds."""
    done = set.intersection(*(set(arm.runs) for arm in arms))
    more = sorted(done - set(told.used) - set(told.left_out))
    if not told.ended or not more:
        return []
    found = compare([arm for arm in arms if arm.runs], metric, confidence=EVERY_LOOK)
    each = "; ".join(f"{row.arm} {metric.signed(row.change)} ({interval(row, metric)})" for row in found.rows)
    return [f"{seeds_of(more)} were run as well and change no verdict. With them: {each}, at 99.5%"]


def looks_drawing(told: Looks, metric: Metric, margin: float) -> Drawing:
    """Returns the figure of mean and interval by pairs, a plot per arm. There must be a look."""
    arms = told.arms[1:]
    figure = Figure(figsize=(7, 1 + 2.2 * len(arms)), layout="constrained")
    plots = figure.subplots(len(arms), 1, squeeze=False, sharex=True)
    for axes, arm in zip(plots[:, 0], arms, strict=True):
        _draw_looks(axes, told, arm, metric, margin)
    axes.set_xlabel("pairs of runs")
    axes.set_xlim(told.looks[0].pairs - 0.5, told.pairs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(plain(metric.difference_from(told.arms[0])), fontsize="medium")
    return Drawing("looks", figure, "Mean and interval at each look; the dashed lines are the margin")


def _draw_looks(axes: Axes, told: Looks, arm: str, metric: Metric, margin: float) -> None:
    found = [(look.pairs, row) for look in told.looks for row in look.found.rows if row.arm == arm]
    pairs = [n for n, _ in found]
    means = [metric.scale * row.change for _, row in found]
    halves = [0.0 if math.isnan(row.half) else metric.scale * row.half for _, row in found]
    axes.errorbar(pairs, means, yerr=halves, fmt="s", color="black", markersize=4, capsize=2)
    axes.axhline(0, color="0.3", linewidth=1)
    for side in (-1, 1):
        axes.axhline(side * metric.scale * margin, color="0.5", linewidth=1, linestyle="--")
    last = halves[-1] + abs(means[-1])
    reach = max(2 * metric.scale * margin, 1.3 * last)  # the first looks are far wider than the last
    axes.set_ylim(-reach, reach)
    axes.set_title(plain(arm), fontsize="small", loc="left")
    if isinstance(metric, EpochsToTarget):
        doubling_ticks(axes.yaxis)
    open_frame(axes)
