"""From arms to verdicts: which interval applies, what it says, and what stands against believing it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from alexnet.study.formatting import seeds_of
from alexnet.study.intervals import LEVEL, Difference, heterogeneous_arms, paired_t, pooled, two_way, welch
from alexnet.study.metrics import Metric
from alexnet.study.records import Arm
from alexnet.study.table import Result, both_right

PAIRS = 3  # fewer say nothing of their spread


@dataclass(frozen=True)
class Row:
    """An arm against the baseline.

    values: the metric by seed, of the seeds that count. differences: of the pairs, arm - baseline, by seed. half: the
    interval is difference.mean +- half, which is nan where there is none; it holds at `level` together with those of
    `arms` arms.
    """

    arm: str
    values: dict[int, float]
    differences: dict[int, float] = field(default_factory=dict)
    difference: Difference | None = None
    half: float = float("nan")
    arms: int = 1
    level: float = LEVEL
    verdict: str = ""

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values()))) if self.values else float("nan")

    @property
    def change(self) -> float:
        """The mean difference from the baseline, with an interval or without."""
        if self.difference:
            return self.difference.mean
        return float(np.mean(list(self.differences.values()))) if self.differences else float("nan")

    @property
    def sd(self) -> float:
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """baseline and rows: of the metric. method: how the intervals were made. notes: what a reader must know."""

    metric: Metric
    baseline: Row
    rows: list[Row]
    method: str
    notes: list[str]


def compare(arms: Sequence[Arm[Result]], metric: Metric, margin: float | None = None) -> Comparison:
    """Every arm against the first.

    Arms with three pairs or more are paired by the seeds that all of them finished. Where every run's test images
    are known, intervals are for new seeds and new images, else for new seeds. Several arms share one spread, and
    their intervals hold together (Dunnett). An arm whose own spread is far above the others' has its own, with
    Bonferroni; so have all where they do not share three seeds, and those with other seeds than the baseline (Welch).
    """
    values = {arm.name: _values(arm, metric) for arm in arms}
    baseline, *others = arms
    base, notes = values[baseline.name], []
    common = {arm.name: sorted(values[arm.name].keys() & base.keys()) for arm in others}
    in_pairs = [arm for arm in others if len(common[arm.name]) >= PAIRS]
    apart = [arm for arm in others if arm not in in_pairs and min(len(values[arm.name]), len(base)) >= PAIRS]
    seeds = sorted(set(base).intersection(*(common[arm.name] for arm in in_pairs)))
    share = len(seeds) >= PAIRS
    for arm in [baseline, *in_pairs] if in_pairs and share else []:
        if more := sorted(values[arm.name].keys() - set(seeds)):
            notes.append(f"{arm.name}: {seeds_of(more)} left out, which not all arms have finished")
    if in_pairs and not share:
        notes.append("The arms do not share three seeds: each is paired with the baseline by its own (Bonferroni).")
    for arm in apart:
        notes.append(f"{arm.name} has other seeds than the baseline, so it is compared unpaired (Welch).")

    own, spread = ([] if share else list(in_pairs)), None
    if share and len(in_pairs) > 1:
        table = np.array([[values[arm.name][seed] for seed in seeds] for arm in (baseline, *in_pairs)])
        far = heterogeneous_arms(table)
        own = list(in_pairs) if 0 in far else [in_pairs[i - 1] for i in far]
        for arm in [baseline] if 0 in far else own:
            notes.append(f"{arm.name} spreads more than the others, so {'each has' if 0 in far else 'it has'} its own "
                         "interval (Bonferroni).")  # fmt: skip
        rest = [0, *(i + 1 for i, arm in enumerate(in_pairs) if arm not in own)]
        spread = pooled(table[rest]) if len(rest) > 2 else None
    results = [run for arm in (baseline, *in_pairs) for run in arm.runs.values()]
    right = both_right(results, metric)
    place = {id(result): i for i, result in enumerate(results)}
    if in_pairs and right is None and metric.by_image:
        notes.append(f"Not every run knows which test images it had right: intervals are for these {_images(arms)}.")
    judged = len(in_pairs) + len(apart)
    together = len(in_pairs) - len(own)

    rows = []
    for arm in others:
        row = Row(arm.name, values[arm.name])
        alone = arm in own or arm in apart
        count, level = (
            (1, 1 - (1 - LEVEL) / judged) if alone else (together, 1 - (1 - LEVEL) * together / max(judged, 1))
        )
        used = seeds if arm in in_pairs and share else common[arm.name]
        pairs = {seed: values[arm.name][seed] - base[seed] for seed in used}
        if arm in in_pairs:
            if right is not None:
                a, b = ([place[id(of.runs[seed])] for seed in used] for of in (arm, baseline))
                products = right[np.ix_(a, a)] - right[np.ix_(a, b)] - right[np.ix_(b, a)] + right[np.ix_(b, b)]
                sums = right.diagonal()[a] - right.diagonal()[b]
                found = two_way(products, sums, int(results[0]["test_pictures"]), None if alone else spread)
            else:
                found = paired_t(list(pairs.values()), None if alone else spread)
            row = replace(row, values={s: values[arm.name][s] for s in used}, differences=pairs, difference=found)
        elif arm in apart:
            row = replace(row, difference=welch(list(row.values.values()), list(base.values())))
        else:
            row = replace(row, differences=pairs)
        if row.difference and not np.isnan(half := row.difference.half(count, level)):
            row = replace(row, half=half, arms=count, level=level)
        rows.append(replace(row, verdict=_verdict(row, metric, margin)))
    counted = {seed: base[seed] for seed in seeds} if share and in_pairs else base
    return Comparison(
        metric, Row(baseline.name, counted), rows, _method(metric, right is not None, together, judged), notes
    )


def _values(arm: Arm[Result], metric: Metric) -> dict[int, float]:
    found = {seed: metric.transform(run.value(metric.name)) for seed, run in sorted(arm.runs.items())}
    return {seed: value for seed, value in found.items() if np.isfinite(value)}


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


def _method(metric: Metric, new_images: bool, together: int, judged: int) -> str:
    if not judged:
        return "No interval: it takes three seeds that two arms have in common."
    new = "new seeds and new test images" if new_images else "new seeds on these test images"
    new = new if metric.name.startswith("test/") else "new seeds"
    several = f"; the {judged} hold together" if judged > 1 else ""
    spread = ", from the spread of all arms" if together > 1 else ""
    return f"95% intervals for {new}, paired by seed{spread}{several}."


def _images(arms: Sequence[Arm[Result]]) -> str:
    counts = {run["test_pictures"] for arm in arms for run in arm.runs.values()}
    return f"{int(counts.pop()):,} images alone" if len(counts) == 1 and "" not in counts else "images alone"
