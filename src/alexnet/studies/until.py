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


def epochs_until(logged: Sequence[dict[str, str]], metric: str) -> float:
    """The base-2 logarithm of the number of epochs, between two of them in proportion; nan if it was never reached.

    Args:
        logged: the rows of metrics.csv.
    """
    (figure, wanted), sign = reached(metric), 1 if ">=" in metric else -1
    curve = [sign * float(row[figure]) for row in logged if row.get(figure)]
    for epoch, value in enumerate(curve, 1):
        if value >= sign * wanted:
            before = curve[epoch - 2] if epoch > 1 else -math.inf
            return math.log2(epoch - (value - sign * wanted) / (value - before))
    return math.nan
