"""Compares arms: which interval applies, its verdict, and warnings about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from alexnet.study.formatting import seeds_of
from alexnet.study.intervals import (
    ONCE,
    Confidence,
    Difference,
    heterogeneous_arms,
    paired_t,
    pooled,
    two_way,
    welch,
)
from alexnet.study.metrics import Metric
from alexnet.study.table import Arm, Result, finished, image_products

PAIRS = 3  # fewer say nothing of their spread


_Images = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Row:
    """An arm compared with the baseline.

    Attributes:
        values: the metric by seed, of the seeds that count.
        differences: of the pairs, arm - baseline, by seed.
        half: the interval is difference.mean +- half; nan where there is none.
        arms: the interval holds with `confidence` together with those of so many arms.
    """

    arm: str
    values: dict[int, float]
    differences: dict[int, float] = field(default_factory=dict)
    difference: Difference | None = None
    half: float = float("nan")
    arms: int = 1
    confidence: Confidence = ONCE
    verdict: str = ""

    @property
    def mean(self) -> float:
        """The mean over seeds; nan without any."""
        return float(np.mean(list(self.values.values()))) if self.values else float("nan")

    @property
    def change(self) -> float:
        """The mean difference from the baseline, with an interval or without."""
        if self.difference:
            return self.difference.mean
        return float(np.mean(list(self.differences.values()))) if self.differences else float("nan")

    @property
    def sd(self) -> float:
        """The standard deviation over seeds; nan with fewer than two."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """Every arm compared with the baseline.

    Attributes:
        metric: what is compared.
        baseline: its values.
        rows: the others'.
        method: how the intervals were made.
        notes: what a reader must know.
        interval: what a table calls one.
    """

    metric: Metric
    baseline: Row
    rows: list[Row]
    method: str
    notes: list[str]
    interval: str = "95% interval"


@dataclass
class _Plan:
    """How each arm is compared with the baseline.

    Attributes:
        values: the metric by arm and seed.
        common: the seeds that an arm shares with the baseline, by arm.
        in_pairs: arms that share enough seeds with the baseline.
        apart: other arms with enough seeds, compared unpaired.
        seeds: those that the baseline and all arms in pairs have.
        share: there are enough of these, so all arms in pairs use them.
        own: arms in pairs whose interval is made of their own spread.
        spread: the variance and degrees of freedom that the rest share, where they are several.
        confidence: that of all intervals together.
        began: with how many arms beside the baseline the study was begun, where some have been answered before.
    """

    baseline: Arm
    others: Sequence[Arm]
    values: dict[str, dict[int, float]]
    common: dict[str, list[int]]
    in_pairs: list[Arm]
    apart: list[Arm]
    seeds: list[int]
    share: bool
    notes: list[str] = field(default_factory=list)
    own: list[Arm] = field(default_factory=list)
    spread: tuple[float, float] | None = None
    confidence: Confidence = ONCE
    began: int = 0

    @property
    def judged(self) -> int:
        """The number of intervals that must hold together, including those of arms answered before."""
        return max(self.began, len(self.in_pairs) + len(self.apart))

    @property
    def together(self) -> int:
        """The number of these that share one standard deviation."""
        return self.judged - len(self.own) - len(self.apart)

    @property
    def paired(self) -> list[Arm]:
        return [self.baseline, *self.in_pairs]

    def seeds_of(self, arm: Arm) -> list[int]:
        return self.seeds if self.share and arm in self.in_pairs else self.common[arm.name]


def compare(
    arms: Sequence[Arm], metric: Metric, margin: float | None = None, *, confidence: Confidence = ONCE, began: int = 0
) -> Comparison:
    """Compares every arm with the first.

    Arms with three pairs or more are paired by the seeds that all of them finished. Where every run's test images
    are known, intervals are for new seeds and new images, else for new seeds. Several arms share one spread, and
    their intervals hold together (Dunnett). An arm whose own spread is far above the others' has its own, with
    Bonferroni; so have all where they do not share three seeds, and those with other seeds than the baseline (Welch).

    Args:
        arms: each with a finished run.
        metric: what is compared.
        margin: the smallest difference that would matter, as metric.transform returns it.
        confidence: of the intervals, all together.
        began: with how many arms beside the baseline the study was begun, where some have been answered before.
    """
    plan = _plan(arms, metric, confidence, began)
    _share_spread(plan)
    results = finished(plan.paired)
    images = image_products(results, metric)
    if plan.in_pairs and images is None and metric.by_image:
        plan.notes.append(
            f"Not every run knows which test images it had right: intervals are for these {_images(arms)}."
        )
    rows = []
    for arm in plan.others:
        row = _with_interval(_measured(arm, plan, results, images), arm, plan)
        rows.append(replace(row, verdict=_verdict(row, metric, margin)))
    base = plan.values[plan.baseline.name]
    if plan.share and plan.in_pairs:
        base = {seed: base[seed] for seed in plan.seeds}
    method = _method(plan, metric, new_images=images is not None)
    name = f"{100 * confidence.level:g}% interval"
    return Comparison(metric, Row(plan.baseline.name, base), rows, method, plan.notes, name)


def _plan(arms: Sequence[Arm], metric: Metric, confidence: Confidence, began: int) -> _Plan:
    values = {arm.name: finite_values(arm, metric) for arm in arms}
    baseline, *others = arms
    base = values[baseline.name]
    common = {arm.name: sorted(values[arm.name].keys() & base.keys()) for arm in others}
    in_pairs, apart, shared = [], [], set(base)
    for arm in others:
        if len(common[arm.name]) >= PAIRS:
            in_pairs.append(arm)
            shared &= set(common[arm.name])
        elif min(len(values[arm.name]), len(base)) >= PAIRS:
            apart.append(arm)
    seeds = sorted(shared)
    share = len(seeds) >= PAIRS
    plan = _Plan(baseline, others, values, common, in_pairs, apart, seeds, share, confidence=confidence, began=began)
    for arm in plan.paired if in_pairs and share else []:
        more = sorted(values[arm.name].keys() - set(seeds))
        if more:
            plan.notes.append(f"{arm.name}: {seeds_of(more)} left out, which not all arms have finished")
    if in_pairs and not share:
        plan.notes.append(
            "The arms do not share three seeds: each is paired with the baseline by its own (Bonferroni)."
        )
    for arm in apart:
        plan.notes.append(f"{arm.name} has other seeds than the baseline, so it is compared unpaired (Welch).")
    return plan


def finite_values(arm: Arm, metric: Metric) -> dict[int, float]:
    """Returns the compared value of each finished run of an arm, by seed, without values that are not finite."""
    values = {}
    for seed, value in arm.values(metric.name).items():
        transformed = metric.transform(value)
        if np.isfinite(transformed):
            values[seed] = transformed
    return values


def _share_spread(plan: _Plan) -> None:
    """Decides which paired arms share one standard deviation, and estimates it."""
    if not plan.share:
        plan.own = list(plan.in_pairs)
        return
    if len(plan.in_pairs) < 2:
        return
    table = np.array([_in_order(plan.values[arm.name], plan.seeds) for arm in plan.paired])
    far = heterogeneous_arms(table)
    if 0 in far:  # the baseline: every difference has its spread
        plan.own = list(plan.in_pairs)
        plan.notes.append(
            f"{plan.baseline.name} spreads more than the others, so each has its own interval (Bonferroni)."
        )
        return
    plan.own = [plan.paired[i] for i in far]
    for arm in plan.own:
        plan.notes.append(f"{arm.name} spreads more than the others, so it has its own interval (Bonferroni).")
    rest = [i for i in range(len(plan.paired)) if i not in far]
    if len(rest) > 2:
        plan.spread = pooled(table[rest])


def _in_order(values: Mapping[int, float], seeds: Sequence[int]) -> list[float]:
    return [values[seed] for seed in seeds]


def _measured(arm: Arm, plan: _Plan, results: Sequence[Result], images: _Images | None) -> Row:
    """Returns an arm's row with its difference from the baseline, if there are enough seeds.

    results: the runs of all arms in pairs, the baseline's first. images: what image_products says of these.
    """
    values, base = plan.values[arm.name], plan.values[plan.baseline.name]
    seeds = plan.seeds_of(arm)
    pairs = {seed: values[seed] - base[seed] for seed in seeds}
    if arm in plan.apart:
        return Row(arm.name, values, difference=welch(list(values.values()), list(base.values())))
    if arm not in plan.in_pairs:
        return Row(arm.name, values, pairs)
    spread = None if arm in plan.own else plan.spread
    if images is None:
        difference = paired_t(list(pairs.values()), spread)
    else:
        difference = _of_images(arm, plan, results, images, spread)
    return Row(arm.name, {seed: values[seed] for seed in seeds}, pairs, difference)


def _of_images(
    arm: Arm, plan: _Plan, results: Sequence[Result], images: _Images, spread: tuple[float, float] | None
) -> Difference:
    place = {id(result): i for i, result in enumerate(results)}
    seeds = plan.seeds_of(arm)
    a = [place[id(arm.runs[seed])] for seed in seeds]
    b = [place[id(plan.baseline.runs[seed])] for seed in seeds]
    of_two, of_one = images
    products = of_two[np.ix_(a, a)] - of_two[np.ix_(a, b)] - of_two[np.ix_(b, a)] + of_two[np.ix_(b, b)]
    return two_way(products, of_one[a] - of_one[b], int(results[0]["test_pictures"]), spread)


def _with_interval(row: Row, arm: Arm, plan: _Plan) -> Row:
    """Returns the row with the half-width of its interval.

    It holds with the plan's confidence together with all others. Those of each method have a share of what is left to 1
    by their number.
    """
    if row.difference is None:
        return row
    alone = arm in plan.own or arm in plan.apart
    count = 1 if alone else plan.together
    confidence = plan.confidence.share(count / plan.judged)
    half = row.difference.half(count, confidence)
    if np.isnan(half):
        return row
    return replace(row, half=half, arms=count, confidence=confidence)


def _verdict(row: Row, metric: Metric, margin: float | None) -> str:
    if row.difference is None:
        return "no verdict: fewer than three pairs"
    if np.isnan(row.half):
        return "no verdict: no spread between seeds"
    low, high = row.difference.mean - row.half, row.difference.mean + row.half
    if low > 0 or high < 0:
        return "better" if (low > 0) != metric.less_is_better else "worse"
    if margin is not None and -margin <= low and high <= margin:
        return f"equivalent within {metric.amount(margin)}"
    return f"inconclusive: between {metric.signed(low)} and {metric.signed(high)}"


def _method(plan: _Plan, metric: Metric, *, new_images: bool) -> str:
    if not plan.judged:
        return "No interval: it takes three seeds that two arms have in common."
    new = "new seeds and new test images" if new_images else "new seeds on these test images"
    if not metric.name.startswith("test/"):
        new = "new seeds"
    method = f"{100 * plan.confidence.level:g}% intervals for {new}"
    if plan.in_pairs:
        method += ", paired by seed"
    if plan.together > 1:
        method += ", from the spread of all arms"
    if plan.judged > 1:
        method += f"; the {plan.judged} hold together"
    return f"{method}."


def _images(arms: Sequence[Arm]) -> str:
    counts = {run["test_pictures"] for run in finished(arms)}
    if len(counts) != 1 or "" in counts:
        return "images alone"
    return f"{int(counts.pop()):,} images alone"
