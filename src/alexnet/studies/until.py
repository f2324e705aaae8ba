"""How many epochs it took until a figure reached a value, such as train/top1>=0.75, as the metric of a study.

Such figures are compared as ratios: in here, and in intervals, they are logarithms to the base of 2.
"""

import math
import re
from collections.abc import Sequence

PATTERN = r"((?:train|val)/(?:loss|top1|top5))(>=|<=)(\d+\.?\d*)"


def is_until(metric: str) -> bool:
    return re.fullmatch(PATTERN, metric) is not None


def reached(metric: str) -> tuple[str, float]:
    """The figure, and the value that it must reach."""
    found = re.fullmatch(PATTERN, metric)
    assert found is not None
    return found[1], float(found[3])


def curve_of(metric: str) -> str:
    """The figure whose curve says most of a metric."""
    return reached(metric)[0] if is_until(metric) else "val/top1"


def epochs_until(curve: Sequence[float], metric: str) -> float:
    """The base-2 logarithm of the number of epochs, between two of them in proportion; nan if it was never reached.

    curve: the figure by epoch.
    """
    sign = 1 if ">=" in metric else -1
    wanted, before = sign * reached(metric)[1], -math.inf
    for epoch, value in enumerate((sign * value for value in curve), 1):
        if value >= wanted:
            return math.log2(epoch - (value - wanted) / (value - before))
        before = value
    return math.nan
