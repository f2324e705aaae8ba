"""The metrics that runs of this package have. Does not import torch."""

import re
from collections.abc import Iterable

from alexnet.errors import ArgumentError, suggest
from alexnet.study.metrics import UNTIL, Metric, metric_of
from alexnet.validation import check_choice

DEFAULT = "test/top1"
OF_TASK = {  # what every run has, by the task's class
    "ImageClassifier": ("loss", "top1", "top5"),
    "MultilabelClassifier": ("loss", "map", "f1", "label_accuracy"),
    "ImageRegressor": ("loss", "mae", "r2"),
}
PLAIN = r"(?:train|val|test)/\w+"


def run_metric(name: object, mode: object = None) -> Metric:
    """Returns the metric of a name such as test/top1, val/f1 or train/top1>=0.75.

    Args:
        name: a metric of metrics.json, or the epochs until one reaches a value.
        mode: max or min, which way the metric is better; None: min for a loss, max for all others.

    Raises:
        ArgumentError: for one that cannot be compared.
    """
    checked = None if mode is None else check_choice("mode", mode, ("max", "min"))
    if not isinstance(name, str) or not re.fullmatch(f"{PLAIN}|{UNTIL}", name):
        raise ArgumentError(
            f"metric={name}: must be a metric of metrics.json, such as {DEFAULT} or val/loss, or the epochs until one "
            "reaches a value, such as train/top1>=0.75"
        )
    return metric_of(name, checked)


def check_known(name: str, metrics: Iterable[str], task: str = "ImageClassifier") -> None:
    """Raises ArgumentError for a metric that no run will have.

    Args:
        name: as run_metric takes it.
        metrics: the names in the group `metrics`.
        task: the class of the task. One that is not of this package may have any metric.
    """
    figure = re.split("[/<>]", name)[1]
    known = [*OF_TASK.get(task, ()), *metrics]
    if task in OF_TASK and figure not in known:
        near = suggest(figure, known) or f" Known are {', '.join(known)}; the group metrics adds others, metrics=f1"
        raise ArgumentError(f"metric={name}: no run would have it.{near}")
