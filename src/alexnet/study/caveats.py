"""What a reader should know of the runs before believing a report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet.errors import UserError
from alexnet.study.formatting import seeds_of
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.records import Arm, Run
from alexnet.study.table import LRN, Result

UNEVEN = 1.5  # times as many images seen
DIFFERS = 0.01  # of the factors of local response normalisation, their standard deviation over their mean


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuses finished runs whose figures say nothing about each other."""
    data: dict[str, int] = {}
    for run in runs:
        known = run.record.get("data", {})
        name = f"{known.get('source')} with {known.get('pictures', {}).get('test')} test images"
        data[name] = data.get(name, 0) + 1
    if len(data) > 1:
        several = ", ".join(f"{name} ({count} runs)" for name, count in data.items())
        raise UserError(f"these runs are of different data, and cannot be compared: {several}")


def unfinished(arms: Sequence[Arm[Result]]) -> list[str]:
    notes = []
    for arm in arms:
        for run in arm.unfinished:
            state = "still running" if run["state"] == "running" else run["state"]
            why = f" ({run['reason']})" if run["state"] == "failed" and run["reason"] else ""
            notes.append(f"{arm.name}, seed {run.seed}: {state}{why}")
    return notes


def not_begun(arms: Sequence[Arm[Any]], plan: dict[str, Any]) -> list[str]:
    """The runs that a study asked for and has not begun, and its arms that are the same as others."""
    begun = {(arm.name, seed) for arm in arms for seed in (*arm.runs, *(run.seed for run in arm.unfinished))}
    first: dict[str, str] = {}
    missing: dict[str, list[int]] = {}
    for job in plan.get("jobs", ()):
        twin = first.setdefault(job["config_digest"], job["arm"])
        if twin == job["arm"] and (job["arm"], job["seed"]) not in begun:
            missing.setdefault(job["arm"], []).append(job["seed"])
    notes = [f"{arm}, {seeds_of(seeds)}: not run yet" for arm, seeds in missing.items()]
    same = {
        job["arm"]: first[job["config_digest"]]
        for job in plan.get("jobs", ())
        if first[job["config_digest"]] != job["arm"]
    }
    return [*notes, *(f"{arm} changes nothing here: it is the same as {other}" for arm, other in same.items())]


def caveats(arms: Sequence[Arm[Result]], metric: Metric) -> list[str]:
    """What speaks against the figures of finished runs."""
    runs, notes = [run for arm in arms for run in arm.runs.values()], []
    for arm in arms:
        chance, nothing, never = [], [], []
        for seed, run in arm.runs.items():
            value, share = run.value(metric.name), (5 if metric.name.endswith("top5") else 1) / run.value("classes")
            images = run.value("test_pictures")
            if math.isnan(value) and isinstance(metric, EpochsToTarget):
                never.append(f"seed {seed} in {run['epochs']}")
            elif math.isnan(value):
                nothing.append(seed)
            elif metric.by_image and value <= share + 2 * (share * (1 - share) / images) ** 0.5:
                chance.append(seed)
        if nothing:
            notes.append(f"{arm.name}, {seeds_of(nothing)}: {metric} is no number; left out")
        if never:
            notes.append(
                f"{arm.name} never reached {metric}: {', '.join(never)} epochs (censored). Left out, so that the "
                "figures favour this arm"
            )
        if chance:
            notes.append(f"{arm.name}, {seeds_of(chance)}: no better than chance; no interval survives such a run")
    if idle := idle_norms(arms):
        notes.append(
            f"{', '.join(idle)}: local response normalisation multiplies all values by nearly the same factor, within "
            f"{100 * max(idle.values()):.2g}%, and so does next to nothing. The paper's inputs were a hundred times "
            "larger, as data.normalize=mean_image has them"
        )
    for what, values in {
        "versions of the code": {run["git_commit"][:7] or "none" for run in runs},
        "images": {run["fingerprint"][:7] for run in runs},
        "precisions": {run["precision"] for run in runs},
        "devices": {run["devices"] for run in runs},
        "numbers of threads, which sum in another order": {run["threads"] for run in runs},
        "versions of torch": {run["torch"] for run in runs},
        "figures that chose the best epoch": {run["monitor"] for run in runs},
    }.items():
        if len(values) > 1:
            notes.append(f"The runs are of different {what}: {', '.join(sorted(values))}")
    seen = [float(np.mean([run.value("seconds") * run.value("images_per_second") for run in arm.runs.values()]))
            for arm in arms if arm.runs]  # fmt: skip
    if not isinstance(metric, EpochsToTarget) and max(seen) > UNEVEN * min(seen):
        notes.append(
            f"Some arms were trained for longer than others: on {_about(min(seen))} to {_about(max(seen))} images, "
            "each counted as often as it was seen. With less data the same epochs are fewer steps"
        )
    if any(run["git_dirty"] for run in runs):
        notes.append("Some runs were of code that was not committed: their git.diff has it")
    if any(run["monitor"].startswith("train") for run in runs):
        notes.append("Without validation images, the best epoch was chosen on training figures")
    if metric.name.startswith("val/") and any(run["monitor"].startswith("val") for run in runs):
        notes.append("Validation chose the best epoch, so its figures are better than those of new images would be")
    if len(arms) > 2 and metric.name.startswith("test/"):
        best = "the lowest" if metric.less_is_better else "the highest"
        notes.append(
            f"These are test figures: {best} of {len(arms)} arms looks better than it is. Choose by validation."
        )
    return notes


def idle_norms(arms: Sequence[Arm[Result]]) -> dict[str, float]:
    """The arms in which local response normalisation is as good as one factor for all values, and by how much its
    factors differ at most: their standard deviation over their mean.
    """
    found = {}
    for arm in arms:
        spreads = [run.value(key) for run in arm.runs.values() for key in run.row if key.startswith(LRN)]
        if 0 < (most := max(filter(math.isfinite, spreads), default=0.0)) < DIFFERS:
            found[arm.name] = most
    return found


def _about(count: float) -> str:
    """Three digits of a count that was made of a time and a rate."""
    return f"{float(f'{count:.3g}'):,.0f}"
