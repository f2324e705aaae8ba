"""What is compared, and its format: an accuracy, a loss, another number, or the epochs until a value is reached."""

import math
import re
from collections.abc import Sequence

from alexnet.study.errors import StudyError

ACCURACIES = ("top1", "top5", "label_accuracy")  # how names end: shares of images or labels, written in percent
ERRORS = ("mae", "mse", "rmse")  # the less the better
BY_IMAGE = ("test/top1", "test/top5", "test/label_accuracy", "test/mae")  # the mean of a value of each test image
UNTIL = r"((?:train|val)/\w+)(>=|<=)(\d+\.?\d*)"


class Metric:
    """An accuracy from 0 to 1, written in percent; a difference of two is written in points.

    Attributes:
        name: as it is typed, and its column in the table.
        less_is_better: as of losses and epochs.
        null_value: the change where nothing has changed, in the unit in which a margin is typed.
        scale: from what is compared to what is drawn.
        points: what follows a difference in a sentence.
        change: what a table calls a difference.
        curve: the metric whose curve by epoch is drawn.
        by_image: the mean of a value of each test image, such as right or wrong, so that intervals can be for new test
            images too.
    """

    less_is_better = False
    null_value = 0.0
    scale = 100.0
    points = " points"
    change = "difference"
    curve = "val/top1"

    def __init__(self, name: str) -> None:
        self.name = name
        self.by_image = name in BY_IMAGE

    def __str__(self) -> str:
        return self.name

    def transform(self, value: float) -> float:
        """Returns the compared quantity for a value or a margin as it is in files."""
        return value

    @property
    def unit(self) -> str:
        """The unit of `level`."""
        return f"{self.name}, %"

    def level(self, value: float) -> str:
        """Returns an arm's value as text."""
        return f"{100 * value:.2f}"

    def spread(self, value: float) -> str:
        """Returns a standard deviation as text."""
        return self.level(value)

    def signed(self, value: float) -> str:
        """Returns a difference as text, with its sign."""
        return f"{100 * value:+.2f}"

    def amount(self, value: float) -> str:
        """Returns the size of a difference as text, without its sign."""
        points = f"{100 * value:.3g}"
        return f"{points} point{'' if points == '1' else 's'}"

    def difference_from(self, baseline: str) -> str:
        """Returns the label of an axis of differences."""
        return f"difference from {baseline} in {self.name}{', points' if self.points else ''}"


class Loss(Metric):
    """A loss, written as it is."""

    less_is_better = True
    scale = 1.0
    points = ""

    @property
    def unit(self) -> str:
        return self.name

    def level(self, value: float) -> str:
        return f"{value:.4f}"

    def signed(self, value: float) -> str:
        return f"{value:+.3f}"

    def amount(self, value: float) -> str:
        return f"{value:.3g}"


class Score(Loss):
    """Another number, such as F1, written in digits that suit any scale. Its curve is that of validation."""

    def __init__(self, name: str, *, less_is_better: bool = False) -> None:
        super().__init__(name)
        self.less_is_better = less_is_better
        self.curve = re.sub("^test/", "val/", name)

    def level(self, value: float) -> str:
        return f"{value:.4g}"

    def signed(self, value: float) -> str:
        return f"{value:+.3g}"


class EpochsToTarget(Metric):
    """The number of epochs until a metric reaches a value, such as train/top1>=0.75.

    Ratios are compared: of what was measured the logarithm to the base of 2.
    """

    less_is_better = True
    null_value = 1.0
    scale = 1.0
    points = ""
    change = "times"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        found = re.fullmatch(UNTIL, name)
        assert found
        self.curve, self.sign, self.wanted = found[1], 1 if found[2] == ">=" else -1, float(found[3])

    def transform(self, value: float) -> float:
        return math.log2(value)

    @property
    def unit(self) -> str:
        return f"epochs until {self.name}"

    def level(self, value: float) -> str:
        return f"{2**value:.1f}"

    def spread(self, value: float) -> str:
        return self.signed(value)

    def signed(self, value: float) -> str:
        return f"{2**value:.2f}x"

    def amount(self, value: float) -> str:
        return f"{2**value:.3g} times"

    def difference_from(self, baseline: str) -> str:
        return f"{self.unit}, times those of {baseline}"

    def epochs(self, curve: Sequence[float]) -> float:
        """Returns the number of epochs, interpolated between two; nan if it was never reached. curve: the metric's."""
        wanted, before = self.sign * self.wanted, -math.inf
        for epoch, value in enumerate((self.sign * value for value in curve), 1):
            if value >= wanted:
                return epoch - (value - wanted) / (value - before)
            before = value
        return math.nan


def metric_of(name: str, mode: str | None = None) -> Metric:
    """Returns the metric of a column, such as test/top1, f1 or train/top1>=0.75.

    Args:
        name: the column. One whose last part is top1 or top5 is an accuracy, one whose last part is loss a loss.
        mode: max or min, which way the metric is better; None: min for a loss and for ERRORS, max for all others.

    Raises:
        StudyError: for a mode that is neither, or not that of an accuracy, a loss, or a count of epochs.
    """
    if mode not in (None, "max", "min"):
        raise StudyError(f"mode={mode}: must be one of max, min")
    if re.fullmatch(UNTIL, name):
        metric: Metric = EpochsToTarget(name)
    else:
        metric = value_metric(name, less_is_better=mode == "min")
    if mode is not None and metric.less_is_better != (mode == "min"):
        best = "minimum" if metric.less_is_better else "maximum"
        raise StudyError(f"mode={mode}: the best {name} is the {best}")
    return metric


def value_metric(name: str, *, less_is_better: bool = False) -> Metric:
    """Returns the metric of a column of values. less_is_better: for one that is neither a loss nor an accuracy."""
    last = re.split(r"[/_.\s]", name)[-1]
    if last == "loss":
        return Loss(name)
    if re.search(rf"(^|[/_.\s])({'|'.join(ACCURACIES)})$", name):
        return Metric(name)
    return Score(name, less_is_better=less_is_better or last in ERRORS)
