"""Looks at a study after each pair of runs, until it has an answer. All looks are computed again from its runs.

Each look has an interval of 99.5% in place of 95% (intervals.EVERY_LOOK), so that in 95% of such studies the intervals
of all their looks hold the truth, whatever stops them (repeated confidence intervals: Jennison and Turnbull 1989). The
guarantee is for looks at 3 to MOST pairs, one after each pair or fewer, and for one arm to eight against one baseline.
Nothing is kept between looks: they are computed again from the runs each time, so the same runs give the same answer.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from alexnet.study.compare import PAIRS, Comparison, Row, compare, finite_values
from alexnet.study.errors import StudyError
from alexnet.study.intervals import EVERY_LOOK, Difference
from alexnet.study.metrics import Metric
from alexnet.study.table import Arm

MOST = 50  # pairs; beyond them the intervals of all looks would hold less often than in 95% of studies
# Pairs before the first look. Of several arms, one that spreads three times as much is not recognised from three seeds.
FIRST, FIRST_OF_SEVERAL = PAIRS, 5
HOPELESS, PATIENCE = 0.01, 5  # a study gives up below this chance of an answer, from so many pairs on
ANSWERS = ("better", "worse", "equivalent")
# Shares of the margin that half an interval has when studies end: of no difference on average, and of any difference.
NO_DIFFERENCE, ANY_DIFFERENCE = 0.85, 0.5

# Of a study whose number of seeds was fixed at first, by that number: how many percent find a difference where there is
# none by 30 pairs, with 99.5% intervals from the second look on, and with 95% at every look.
LATER_LOOKS = {3: (7.7, 26.5), 5: (6.9, 22.9), 10: (5.9, 17.4)}


@dataclass(frozen=True)
class Look:
    """The results after so many pairs of each arm that was still running."""

    pairs: int
    found: Comparison


@dataclass(frozen=True)
class Answered:
    """An arm's row at the look that answered it, and the number of pairs then."""

    pairs: int
    row: Row


@dataclass
class Looks:
    """All looks at a study so far.

    Attributes:
        arms: their names, the baseline's first.
        most: pairs at the most.
        looks: in order.
        answered: by arm.
        running: the arms without an answer.
        gave_up: the chance of an answer had become too small.
        used: the seeds of the last look, in their order.
        left_out: finished seeds without a finite value of the metric.
    """

    arms: list[str]
    most: int
    looks: list[Look] = field(default_factory=list)
    answered: dict[str, Answered] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    gave_up: bool = False
    used: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """The number of pairs at the last look; 0 before the first."""
        return self.looks[-1].pairs if self.looks else 0

    @property
    def ended(self) -> bool:
        """Whether there will be no further look."""
        return not self.running or self.gave_up or self.pairs >= self.most


def check_most(name: str, value: object) -> int:
    """Returns the largest number of pairs. Raises StudyError for one outside FIRST to MOST."""
    if isinstance(value, bool) or not isinstance(value, int) or not FIRST <= value <= MOST:
        raise StudyError(f"{name}={value}: must be a whole number of at least {FIRST} and at most {MOST}")
    return value


def first_look(arms: int) -> int:
    """Returns the number of pairs at the first look, for so many arms beside the baseline."""
    return FIRST if arms == 1 else FIRST_OF_SEVERAL


def later_looks(first: int) -> str:
    """Returns what to know about a study that was looked at again with more seeds. first: its pairs at first."""
    wider, same = LATER_LOOKS[max(pairs for pairs in LATER_LOOKS if pairs <= max(first, FIRST))]
    return (
        f"from the second look on intervals are of 99.5%. Of such studies at most {wider:g}% find a difference where "
        f"there is none, by 30 pairs; with 95% at each look it would be {same:g}%"
    )


def replay(arms: Sequence[Arm], metric: Metric, margin: float, seeds: Sequence[int], most: int) -> Looks:
    """Returns the looks at a study as they would have been while it ran.

    Args:
        arms: the baseline first.
        metric: what is compared.
        margin: the smallest difference that would matter, as metric.transform returns it.
        seeds: in the order in which the study runs them, without those whose run failed for good.
        most: pairs at the most.

    Raises:
        StudyError: without an arm beside the baseline, or without a margin.
    """
    if len(arms) < 2:
        raise StudyError("a study until it is answered needs an arm beside the baseline")
    if not margin > 0:
        raise StudyError("a study until it is answered needs a margin, the smallest difference that would matter")
    baseline, *running = arms
    began = len(running)
    usable, left_out = _split_by_value(arms, metric, seeds)
    told = Looks([arm.name for arm in arms], most, running=[arm.name for arm in running], left_out=left_out)
    for pairs in range(first_look(began), min(len(usable), most) + 1):
        first = usable[:pairs]
        if not all(arm.runs.keys() >= set(first) for arm in (baseline, *running)):
            break  # in order: no look while an earlier seed is still running
        restricted = [_only(arm, first) for arm in (baseline, *running)]
        found = compare(restricted, metric, margin, confidence=EVERY_LOOK, began=began)
        told.looks.append(Look(pairs, found))
        told.used = list(first)
        for row in found.rows:
            if row.verdict.startswith(ANSWERS):
                told.answered[row.arm] = Answered(pairs, row)
        running = [arm for arm in running if arm.name not in told.answered]
        told.running = [arm.name for arm in running]
        told.gave_up = bool(running) and is_hopeless(found, running, margin, pairs, most)
        if told.ended:
            break
    return told


def seeds_in_order(arms: Sequence[Arm], left_out: Collection[int]) -> list[int]:
    """Returns seeds 1, 2, 3 to the last that any arm has finished, without those that are left out."""
    last = max((seed for arm in arms for seed in arm.runs), default=0)
    return [seed for seed in range(1, last + 1) if seed not in left_out]


def found_at_looks(told: Looks) -> Comparison:
    """Returns the results of all looks: every arm's row at the look that answered it, or at the last.

    Raises:
        ValueError: before the first look.
    """
    if not told.looks:
        raise ValueError("there is no look yet")
    last = told.looks[-1].found
    rows = {row.arm: row for row in last.rows} | {arm: answered.row for arm, answered in told.answered.items()}
    notes = list(dict.fromkeys(note for look in told.looks for note in look.found.notes))
    method = f"{last.method} Those of all looks hold together in 95% of studies, whatever stopped them."
    ordered = [rows[arm] for arm in told.arms[1:]]
    return replace(last, rows=ordered, method=method, notes=notes, interval="interval (95% over all looks)")


def next_runs(
    told: Looks, arms: Sequence[Arm], left_out: Collection[int], side_by_side: int = 1
) -> list[tuple[str, int]]:
    """Returns the runs that the next look waits for, as arm and seed; none once the study has ended.

    Args:
        told: the looks so far.
        arms: the baseline first, with the runs that are finished.
        left_out: seeds that no look can use, since a run of theirs has failed.
        side_by_side: how many runs there should be at least: seeds of later looks are added.
    """
    if told.ended:
        return []
    running = [arm for arm in arms if arm.name in (told.arms[0], *told.running)]
    usable = (seed for seed in itertools.count(1) if seed not in left_out and seed not in told.left_out)
    wanted = max(told.pairs + 1, first_look(len(arms) - 1))
    found: list[tuple[str, int]] = []
    for pairs, seed in enumerate(itertools.islice(usable, told.most), 1):
        if pairs > wanted and len(found) >= side_by_side:
            break
        found += [(arm.name, seed) for arm in running if seed not in arm.runs]
    return found


def _split_by_value(arms: Sequence[Arm], metric: Metric, seeds: Sequence[int]) -> tuple[list[int], list[int]]:
    """Returns the seeds with finite values in all finished runs, and the others."""
    bad = set()
    for arm in arms:
        bad |= arm.runs.keys() - finite_values(arm, metric).keys()
    return [seed for seed in seeds if seed not in bad], [seed for seed in seeds if seed in bad]


def _only(arm: Arm, seeds: Sequence[int]) -> Arm:
    return Arm(arm.name, {seed: arm.runs[seed] for seed in seeds})


def is_hopeless(found: Comparison, running: Sequence[Arm], margin: float, pairs: int, most: int) -> bool:
    """Returns whether every running arm's chance of an answer by `most` pairs is below HOPELESS."""
    if pairs < PATIENCE:
        return False
    names = {arm.name for arm in running}
    chances = [chance_of_answer(row, margin, pairs, most) for row in found.rows if row.arm in names]
    return max(chances, default=0.0) < HOPELESS


def chance_of_answer(row: Row, margin: float, pairs: int, most: int) -> float:
    """Returns the chance that an arm has an answer after `most` pairs, by the spread so far.

    margin: as metric.transform returns it. 1 for an arm without enough pairs, of which nothing is known yet, and 0 for
    one whose pairs all differ by the same.
    """
    if row.difference is None or pairs >= most:
        return 1.0
    if math.isnan(row.half):
        return 0.0
    last = _half_after(row, row.difference, most, pairs)
    if last <= margin / 2:
        return 1.0
    mean = row.difference.mean
    move = row.difference.sd * math.sqrt(1 / pairs - 1 / most)  # how far the mean still goes: its standard deviation
    outside = special.ndtr((mean - last) / move) + special.ndtr((-mean - last) / move)
    within = special.ndtr((margin - last - mean) / move) - special.ndtr((last - margin - mean) / move)
    return float(outside + max(0.0, within))


def forecast(row: Row, margin: float, pairs: int, share: float) -> tuple[float, float]:
    """Returns after how many pairs half an arm's interval is `share` of the margin, by its sd and its upper limit.

    margin: as metric.transform returns it. inf where that takes more than MOST pairs. With NO_DIFFERENCE it is when a
    study of no difference ends on average, and with ANY_DIFFERENCE when studies of any have ended.
    """
    if row.difference is None or math.isnan(row.half):
        return math.inf, math.inf
    likely = _pairs_until(row, row.difference, share * margin, pairs)
    wide = replace(row.difference, sd=row.difference.largest_sd)
    return likely, _pairs_until(row, wide, share * margin, pairs)


def _pairs_until(row: Row, difference: Difference, half: float, now: int) -> float:
    for pairs in range(now, MOST + 1):
        if _half_after(row, difference, pairs, now) <= half:
            return pairs
    return math.inf


def _half_after(row: Row, difference: Difference, pairs: int, now: int) -> float:
    return difference.after(pairs, now).half(row.arms, row.confidence)


def images_hide(row: Row, margin: float) -> bool:
    """Returns whether the test images alone make an interval too wide for `equivalent`, with any number of seeds."""
    if row.difference is None:
        return False
    endless = replace(row.difference, seeds=1e-9, dof=np.inf)
    return endless.half(row.arms, row.confidence) >= margin
