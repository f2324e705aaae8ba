"""A comparison in words: the answer in a sentence, the differences, the minimum detectable effect, the cost."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from alexnet.study.compare import Comparison, Row
from alexnet.study.formatting import duration, table
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.records import Arm
from alexnet.study.table import Result

COST = ("parameters", "flops_per_image", "best_epoch", "epochs", "seconds", "images_per_second")


def answer(found: Comparison, arms: Sequence[Arm[Result]]) -> str:
    """One sentence, which says no more than the intervals do."""
    base = found.baseline.arm
    if not found.rows:
        return f"There is one arm alone, {base}: nothing to compare it with."
    metric, points = found.metric, found.metric.points
    if len(found.rows) == 1:
        row = found.rows[0]
        if row.verdict in ("better", "worse"):
            if isinstance(metric, EpochsToTarget):
                ends = " to ".join(metric.signed(row.change + sign * row.half)[:-1] for sign in (-1, 1))
                times = metric.amount(row.change)
                return f"{row.arm} takes {times} the epochs of {base} until {metric} ({ends})."
            low, high = sorted(abs(row.difference.mean + sign * row.half) for sign in (-1, 1))  # type: ignore[union-attr]
            mean = abs(row.difference.mean)  # type: ignore[union-attr]
            low, mean, high = (float(metric.signed(x)) for x in (low, mean, high))
            return f"{row.arm} is {row.verdict} than {base}, by {mean:g}{points} of {metric} ({low:g} to {high:g})."
        verdict = row.verdict + (points if row.verdict.startswith("inconclusive") else "")
        verdict += f" ({interval(row, metric)})" if row.verdict.startswith("equivalent") else ""
        return f"{row.arm} against {base}: {verdict}, in {metric}."
    if not any(row.difference for row in found.rows):
        return f"No verdict on {len(found.rows) + 1} arms: it takes three seeds or more of each.{_chosen(arms)}"
    by_verdict: dict[str, list[str]] = {}
    for row in found.rows:
        by_verdict.setdefault(row.verdict.split(":")[0], []).append(row.arm)
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in sorted(by_verdict.items(), key=_weight)]
    return f"Against {base}, in {metric}: {'; '.join(parts)}."


def differences(found: Comparison, paper: dict[str, float]) -> list[str]:
    """A table of every arm, its difference from the baseline, and what the paper has."""
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
        rows[-1].append(row.verdict.split(":")[0] if row.difference else row.verdict)
    header = ["arm", "n", metric.unit, "sd", metric.change, "95% interval", "each seed's", "verdict"]
    if paper:
        header.insert(7, "paper")
        for cells in rows:
            cells.insert(7, metric.signed(paper[cells[0]]) if cells[0] in paper else "")
    return table(header, rows)


def interval(row: Row, metric: Metric) -> str:
    """Both ends; nothing where there is none."""
    return "" if math.isnan(row.half) else " to ".join(metric.signed(row.change + s * row.half) for s in (-1, 1))


def power(found: Comparison, margin: float | None) -> list[str]:
    """The minimum detectable effect of such runs, and how many seeds the margin takes."""
    seen = [(row, row.difference) for row in found.rows if row.difference and not math.isnan(row.half)]
    if not seen:
        return []
    low, high = (end(d.minimum_detectable_effect(row.arms, row.level) for row, d in seen) for end in (min, max))
    effect = found.metric.amount(high)
    if high > 1.5 * low:  # an arm has a spread of its own
        effect = f"{found.metric.amount(low)}, for some arms {effect}"
    text = f"Minimum detectable effect: {effect} (80% power)."
    if margin is not None:
        needed = [difference.required_seeds(margin, row.arms, row.level) for row, difference in seen]
        low, high = (max(ends) for ends in zip(*needed, strict=True))
        if math.isinf(low):
            part = 1.96 * max(difference.images for _, difference in seen)
            text += f" No number of seeds detects the margin of {found.metric.amount(margin)}: these test images alone "
            text += f"leave +-{found.metric.amount(part)}."
        else:
            seeds = f"{low:.0f} to {high:.0f}" if high > low else f"{low:.0f}"
            text += f" The margin of {found.metric.amount(margin)} takes {seeds} seeds."
    return ["", text]


def costs(arms: Sequence[Arm[Result]]) -> list[str]:
    """A table of every arm's size, and of how long it trained."""
    rows = []
    for arm in arms:
        mean = {key: float(np.mean([run.value(key) for run in arm.runs.values()] or [np.nan])) for key in COST}
        cells = [
            f"{mean['parameters']:,.0f}",
            f"{mean['flops_per_image'] / 1e9:.3g}",
            f"{mean['best_epoch']:.1f} of {mean['epochs']:.0f}",
            duration(mean["seconds"]),
            f"{mean['images_per_second']:.1f}",
        ]
        rows.append([arm.name, str(len(arm.runs)), *(["" for _ in cells] if not arm.runs else cells)])
    return table(["arm", "runs", "parameters", "GFLOP an image", "best epoch", "training", "images/s"], rows)


def _chosen(arms: Sequence[Arm[Result]]) -> str:
    """Which arm the validation images chose, as a search does."""
    runs = [(arm.name, run) for arm in arms for run in arm.runs.values()]
    monitor, mode = runs[0][1]["monitor"], runs[0][1]["mode"]
    if {run["monitor"] for _, run in runs} != {monitor}:
        return ""
    name, run = (min if mode == "min" else max)(runs, key=lambda pair: pair[1].value(monitor))
    return f" {monitor} chose {name} ({run.value(monitor):.4f})."


def _weight(item: tuple[str, list[str]]) -> int:
    order = ("better", "worse", "equivalent", "inconclusive", "no verdict")
    return next(i for i, start in enumerate(order) if item[0].startswith(start))
