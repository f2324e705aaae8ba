"""Warnings about the runs that a reader should know before believing a report."""

import math
from collections.abc import Sequence

import numpy as np

from alexnet.study.formatting import seeds_of
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.table import Arm, Result, finished

UNEVEN = 1.5  # times as many images seen
# Columns in which runs that are compared should not differ, and what each is of.
ALIKE = {
    "git_commit": "versions of the code",
    "fingerprint": "images",
    "precision": "precisions",
    "devices": "devices",
    "threads": "numbers of threads, which sum in another order",
    "instructions": "instruction sets, which round in other places",
    "torch": "versions of torch",
    "monitor": "metrics that chose the best epoch",
    "test_epoch": "choices of the epoch that is tested",
}
HASHES = ("git_commit", "fingerprint")  # shown by their first seven digits


def unfinished(arms: Sequence[Arm]) -> list[str]:
    """Returns a line for every run that is not done."""
    notes = []
    for arm in arms:
        for run in arm.unfinished:
            state = "still running" if run.state == "running" else run.state
            if run.state == "failed" and run["reason"]:
                state += f" ({run['reason']})"
            notes.append(f"{arm.name}, seed {run['seed']}: {state}")
    return notes


def caveats(arms: Sequence[Arm], metric: Metric) -> list[str]:
    """Returns warnings about the values of finished runs."""
    runs = finished(arms)
    notes = [note for arm in arms for note in _of_values(arm, metric)]
    of_runs = *_of_choice(arms, runs, metric), *_of_repeated(runs, metric)
    return [*notes, *_unlike(runs), *_uneven(arms, metric), *of_runs]


def _of_values(arm: Arm, metric: Metric) -> list[str]:
    """Returns warnings on runs without a value, and on runs that have learnt nothing."""
    values = arm.values(metric.name)
    missing = [seed for seed, value in values.items() if not math.isfinite(value)]
    notes = []
    if missing and isinstance(metric, EpochsToTarget):
        never = ", ".join(f"seed {seed} in {arm.runs[seed]['epochs']}" for seed in missing)
        notes.append(
            f"{arm.name} never reached {metric}: {never} epochs (censored). Left out, so that the figures favour this "
            "arm"
        )
    elif missing:
        notes.append(f"{arm.name}, {seeds_of(missing)}: {metric} is no number; left out")
    guessed = metric.by_image and metric.name.endswith(("top1", "top5"))
    chance = [seed for seed, run in arm.runs.items() if guessed and values[seed] <= _chance(run, metric)]
    if chance:
        notes.append(f"{arm.name}, {seeds_of(chance)}: no better than chance; no interval survives such a run")
    return notes


def _chance(run: Result, metric: Metric) -> float:
    """Returns the accuracy of guessing plus two standard deviations; nan without columns classes and test_pictures."""
    share = (5 if metric.name.endswith("top5") else 1) / run.value("classes")
    return share + 2 * float(np.sqrt(share * (1 - share) / run.value("test_pictures")))


def _unlike(runs: Sequence[Result]) -> list[str]:
    """Returns warnings on the columns in which the runs differ. A missing column counts as equal."""
    notes = []
    for column, what in ALIKE.items():
        values = {run[column] or "not recorded" for run in runs}
        if len(values) < 2:
            continue
        if column in HASHES:
            values = {value[:7] for value in values}
        notes.append(f"The runs are of different {what}: {', '.join(sorted(values))}")
    return notes


def _uneven(arms: Sequence[Arm], metric: Metric) -> list[str]:
    if isinstance(metric, EpochsToTarget):
        return []
    seen = [_images_seen(arm) for arm in arms if arm.runs]
    low, high = min(seen), max(seen)
    if not high > UNEVEN * low:
        return []
    return [
        f"Some arms were trained for longer than others: on {_about(low)} to {_about(high)} images, each counted as "
        "often as it was seen. With less data the same epochs are fewer steps"
    ]


def _images_seen(arm: Arm) -> float:
    return float(np.mean([run.value("seconds") * run.value("images_per_second") for run in arm.runs.values()]))


def _of_choice(arms: Sequence[Arm], runs: Sequence[Result], metric: Metric) -> list[str]:
    """Returns warnings on what choosing a commit, an epoch or an arm does to the values."""
    monitors = {run["monitor"].split("/")[0] for run in runs if run["test_epoch"] != "last"}
    notes = []
    if any(run["git_dirty"] == "true" for run in runs):
        notes.append("Some runs were of code that was not committed: their git.diff has it")
    if "train" in monitors:
        notes.append("Without validation images, the best epoch was chosen on training figures")
    if metric.name.startswith("val/") and "val" in monitors:
        notes.append("Validation chose the best epoch, so its figures are better than those of new images would be")
    if len(arms) > 2 and metric.name.startswith("test/"):
        best = "the lowest" if metric.less_is_better else "the highest"
        notes.append(
            f"These are test figures: {best} of {len(arms)} arms looks better than it is. Choose by validation."
        )
    return notes


def _of_repeated(runs: Sequence[Result], metric: Metric) -> list[str]:
    """Returns a warning where test images are among the training images."""
    repeated = [run for run in runs if run.value("test_repeated") > 0]
    if not repeated or not metric.name.startswith("test/"):
        return []
    count = f"{repeated[0]['test_repeated']} of {repeated[0]['test_pictures']} test images"
    return [f"{count} are training images too: test figures are better than those of new images would be"]


def _about(count: float) -> str:
    """Returns three digits of a count that was computed from a time and a rate."""
    return f"{float(f'{count:.3g}'):,.0f}"
