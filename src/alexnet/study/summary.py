"""Describes a comparison: the answer in a sentence, the differences, the minimum detectable effect, the cost."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from alexnet.study.compare import Comparison, Row
from alexnet.study.formatting import duration, table
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.table import Arm, finished


class Cost(NamedTuple):
    """A column of the table of costs: its title, and the text made of the means of some columns."""

    title: str
    columns: tuple[str, ...]
    text: Callable[..., str]


COSTS = (
    Cost("parameters", ("parameters",), lambda count: f"{count:,.0f}"),
    Cost("GFLOP an image", ("flops_per_image",), lambda flops: f"{flops / 1e9:.3g}"),
    Cost("tested epoch", ("best_epoch", "epochs"), lambda best, last: f"{best:.1f} of {last:.0f}"),
    Cost("training", ("seconds",), duration),
    Cost("images/s", ("images_per_second",), lambda speed: f"{speed:.1f}"),
)


def answer(found: Comparison, arms: Sequence[Arm]) -> str:
    """Returns the answer in one sentence, which claims no more than the intervals do."""
    base = found.baseline.arm
    if not found.rows:
        return f"There is one arm alone, {base}: nothing to compare it with."
    if len(found.rows) == 1:
        return _answer_on(found.rows[0], base, found.metric)
    if not any(row.difference for row in found.rows):
        return f"No verdict on {len(found.rows) + 1} arms: it takes three seeds or more of each.{_chosen(arms)}"
    by_verdict: dict[str, list[str]] = {}
    for row in found.rows:
        by_verdict.setdefault(row.verdict.split(":")[0], []).append(row.arm)
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in sorted(by_verdict.items(), key=_weight)]
    return f"Against {base}, in {found.metric}: {'; '.join(parts)}."


def _answer_on(row: Row, base: str, metric: Metric) -> str:
    """Returns the answer on a single arm."""
    if row.verdict not in ("better", "worse"):
        verdict = row.verdict
        if verdict.startswith("inconclusive"):
            verdict += metric.points
        if verdict.startswith("equivalent"):
            verdict += f" ({interval(row, metric)})"
        return f"{row.arm} against {base}: {verdict}, in {metric}."
    ends = (row.change - row.half, row.change + row.half)
    if isinstance(metric, EpochsToTarget):
        low, high = (metric.signed(end)[:-1] for end in ends)
        return f"{row.arm} takes {metric.amount(row.change)} the epochs of {base} until {metric} ({low} to {high})."
    least, most = sorted(map(abs, ends))
    low, mean, high = (f"{float(metric.signed(x)):g}" for x in (least, abs(row.change), most))
    return f"{row.arm} is {row.verdict} than {base}, by {mean}{metric.points} of {metric} ({low} to {high})."


def differences(found: Comparison, paper: dict[str, float]) -> list[str]:
    """Returns a table of every arm, its difference from the baseline, and the paper's."""
    metric = found.metric

    def shown(value: float, how: Callable[[float], str]) -> str:
        return "" if math.isnan(value) else how(value)

    first = found.baseline
    rows = [[first.arm, str(len(first.values)), shown(first.mean, metric.level), shown(first.sd, metric.spread)]]
    rows[0] += ["", "", "", "baseline"]
    for row in found.rows:
        each = " ".join(metric.signed(d) for d in list(row.differences.values())[:10])
        each += f" ... {len(row.differences)}" if len(row.differences) > 10 else ""
        reached = [row.arm, str(len(row.values)), shown(row.mean, metric.level), shown(row.sd, metric.spread)]
        rows.append([*reached, shown(row.change, metric.signed), interval(row, metric), each])
        verdict = row.verdict.split(":")[0] if row.difference else row.verdict
        rows[-1].append(verdict)
    header = ["arm", "n", metric.unit, "sd", metric.change, found.interval, "each seed's", "verdict"]
    if paper:
        header.insert(7, "paper")
        for cells in rows:
            theirs = metric.signed(paper[cells[0]]) if cells[0] in paper else ""
            cells.insert(7, theirs)
    return table(header, rows)


def interval(row: Row, metric: Metric) -> str:
    """Returns an arm's interval as text; '' without one."""
    return "" if math.isnan(row.half) else " to ".join(metric.signed(row.change + s * row.half) for s in (-1, 1))


def power(found: Comparison, margin: float | None) -> list[str]:
    """Returns the minimum detectable effect of such runs, and how many seeds the margin takes."""
    seen = [(row, row.difference) for row in found.rows if row.difference and not math.isnan(row.half)]
    if not seen:
        return []
    effects = [difference.minimum_detectable_effect(row.arms, row.confidence) for row, difference in seen]
    low, high = min(effects), max(effects)
    effect = found.metric.amount(high)
    if high > 1.5 * low:  # an arm has a spread of its own
        effect = f"{found.metric.amount(low)}, for some arms {effect}"
    text = f"Minimum detectable effect: {effect} (80% power)."
    if margin is not None:
        needed = [difference.required_seeds(margin, row.arms, row.confidence) for row, difference in seen]
        low, high = (max(ends) for ends in zip(*needed, strict=True))
        if math.isinf(low):
            part = 1.96 * max(difference.images for _, difference in seen)
            text += f" No number of seeds detects the margin of {found.metric.amount(margin)}: these test images alone "
            text += f"leave +-{found.metric.amount(part)}."
        else:
            seeds = f"{low:.0f} to {high:.0f}" if high > low else f"{low:.0f}"
            text += f" The margin of {found.metric.amount(margin)} takes {seeds} seeds."
    return ["", text]


def costs(arms: Sequence[Arm]) -> list[str]:
    """Returns a table of every arm's size and training time; nothing if the table has none of the columns COSTS."""
    runs = finished(arms)
    columns = {column for run in runs for column, text in run.row.items() if text}
    known = [cost for cost in COSTS if columns.issuperset(cost.columns)]
    if not known:
        return []
    rows = []
    for arm in arms:
        rows.append([arm.name, str(len(arm.runs)), *(_cost(arm, cost) for cost in known)])
    return ["", *table(["arm", "runs", *(cost.title for cost in known)], rows)]


def _cost(arm: Arm, cost: Cost) -> str:
    means = []
    for column in cost.columns:
        values = [run.value(column) for run in arm.runs.values() if run[column]]
        if not values:
            return ""
        means.append(float(np.mean(values)))
    return cost.text(*means)


def _chosen(arms: Sequence[Arm]) -> str:
    """Returns the arm that the validation images chose, as a search does; nothing if the table does not say how."""
    runs = finished(arms)
    monitor = runs[0]["monitor"]
    if not monitor or {run["monitor"] for run in runs} != {monitor}:
        return ""
    choose = min if runs[0]["mode"] == "min" else max
    best = choose(runs, key=lambda run: run.value(monitor))
    return f" {monitor} chose {best['arm']} ({best.value(monitor):.4f})."


def _weight(item: tuple[str, list[str]]) -> int:
    order = ("better", "worse", "equivalent", "inconclusive", "no verdict")
    return next(i for i, start in enumerate(order) if item[0].startswith(start))
