"""Warnings about runs of this package that a reader should know before believing a report."""

import math
from collections.abc import Sequence
from typing import Any

from alexnet.errors import UserError
from alexnet.study.formatting import seeds_of
from alexnet.study.table import Arm
from alexnet.study_adapter.records import Run, RunArm

DIFFERS = 0.01  # of the factors of local response normalisation, their standard deviation over their mean
LRN = "lrn_spread/"  # columns, of a layer each: see diagnostics/lrn_spread.py


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises UserError for finished runs whose metrics cannot be compared."""
    data: dict[str, int] = {}
    for run in runs:
        known = run.record.get("data", {})
        name = f"{known.get('source')} with {known.get('pictures', {}).get('test')} test images"
        data[name] = data.get(name, 0) + 1
    if len(data) > 1:
        several = ", ".join(f"{name} ({count} runs)" for name, count in data.items())
        raise UserError(f"these runs are of different data, and cannot be compared: {several}")


def not_begun(arms: Sequence[RunArm], plan: dict[str, Any]) -> list[str]:
    """Returns lines on planned runs that have not begun, and on arms with the same settings."""
    begun = {(arm.name, run.seed) for arm in arms for run in arm.all_runs}
    first: dict[str, str] = {}
    missing: dict[str, list[int]] = {}
    same: dict[str, str] = {}
    for job in plan.get("jobs", ()):
        twin = first.setdefault(job["config_digest"], job["arm"])
        if twin != job["arm"]:
            same[job["arm"]] = twin
        elif (job["arm"], job["seed"]) not in begun:
            missing.setdefault(job["arm"], []).append(job["seed"])
    notes = [f"{arm}, {seeds_of(seeds)}: not run yet" for arm, seeds in missing.items()]
    return [*notes, *(f"{arm} changes nothing here: it is the same as {other}" for arm, other in same.items())]


def idle_norms(arms: Sequence[Arm]) -> dict[str, float]:
    """Returns the arms whose local response normalisation is nearly one factor for all values.

    Each with how much its factors differ at most: their standard deviation over their mean.
    """
    found = {}
    for arm in arms:
        spreads = [run.value(key) for run in arm.runs.values() for key in run.row if key.startswith(LRN)]
        most = max(filter(math.isfinite, spreads), default=0.0)
        if 0 < most < DIFFERS:
            found[arm.name] = most
    return found


def idle_note(arms: Sequence[Arm]) -> list[str]:
    """Returns a sentence on what idle_norms found."""
    idle = idle_norms(arms)
    if not idle:
        return []
    return [
        f"{', '.join(idle)}: local response normalisation multiplies all values by nearly the same factor, within "
        f"{100 * max(idle.values()):.2g}%, and so does next to nothing. The paper's inputs were a hundred times "
        "larger, as data.normalize=mean_image has them"
    ]
