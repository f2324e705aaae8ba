"""Reads runs from their directories, and groups them into arms."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from alexnet.compat import upgrade, upgrade_arm, upgrade_override, upgrade_record
from alexnet.errors import UserError
from alexnet.io import read_json, read_yaml
from alexnet.run_dir import read_metrics, read_run_json, run_status
from alexnet.run_identity import differing, format_value, result_affecting

SEEDS = ("seed", "data.seed")
PLAN = "study.json"  # in a study's folder: what was asked for


@dataclass(frozen=True)
class Run:
    """A run directory. config, metrics, record: its config.yaml, metrics.json and run.json, or empty."""

    folder: Path
    state: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    record: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the result, without the seed."""
        return {key: value for key, value in result_affecting(self.config).items() if key not in SEEDS}

    @cached_property
    def logged(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, which logger=csv writes; empty without it."""
        try:
            with (self.folder / "metrics.csv").open() as file:
                return list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error):
            return []

    def by_image(self, metric: str) -> NDArray[np.bool_] | NDArray[np.float64] | None:
        """Returns of every test image whether it is right by test/top1 or top5, or its value of another metric.

        None where that is not known.
        """
        name = metric.removeprefix("test/")
        try:
            if (self.folder / "test_values.npz").is_file():
                with np.load(self.folder / "test_values.npz") as file:
                    return file[name].astype(np.float64)
            with np.load(self.folder / "test_right.npz") as file:
                return np.unpackbits(file[name], count=int(file["pictures"])).astype(bool)
        except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile):
            return None


@dataclass
class RunArm:
    """Runs that differ in the seed alone: the finished ones by seed, and the others."""

    name: str
    settings: dict[str, Any]
    runs: dict[int, Run] = field(default_factory=dict)
    unfinished: list[Run] = field(default_factory=list)

    @property
    def all_runs(self) -> list[Run]:
        """The finished ones first."""
        return [*self.runs.values(), *self.unfinished]


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Returns every run in these folders, in the order in which they were started.

    Raises:
        UserError: for a folder that is not there, or that holds no run.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        inside = [path.parent.resolve() for path in folder.rglob("config.yaml")]
        if not inside:
            raise UserError(f"{folder}: no runs in it, finished or not")
        found |= {path: read_run(path) for path in inside}
    return sorted(found.values(), key=lambda run: (run.record.get("started", ""), str(run.folder)))


def read_run(folder: Path) -> Run:
    """Reads a run directory. Raises UserError if its config or metrics are damaged."""
    config = upgrade(read_yaml(folder / "config.yaml", dict))
    if "seed" not in config:
        raise UserError(f"{folder / 'config.yaml'}: not the config of a run")
    state = run_status(folder) or "interrupted"
    metrics = read_metrics(folder) if state == "done" else {}
    return Run(folder, state, config, metrics, read_run_json(folder))


def plan_of(folder: Path) -> dict[str, Any]:
    """Returns the study.json of a study's folder; empty for any other folder."""
    plan = read_json(folder / PLAN)
    if plan:
        plan["jobs"] = [upgrade_record(job) for job in plan.get("jobs", ())]
        plan["arms"] = [upgrade_arm(name) for name in plan.get("arms", ())]
        plan["varied"] = [upgrade_override(key) for key in plan.get("varied", ())]
        plan["typed"] = [upgrade_override(override) for override in plan.get("typed", ())]
    return plan


def arms_of_runs(runs: Sequence[Run], plan: Mapping[str, Any]) -> tuple[list[RunArm], list[str]]:
    """Returns the arms of these runs, the baseline first, and messages on what was left out.

    With the plan of a study, runs that differ from those it asked for in a key that it does not vary are left out.
    """
    left_out = []
    if planned := {job["config_digest"] for job in plan.get("jobs", ())}:
        varied = set(plan.get("varied", ()))
        bases = [_without(run.settings, varied) for run in runs if run.record.get("config_digest") in planned]
        kept = [run for run in runs if _without(run.settings, varied) in bases] if bases else list(runs)
        if others := [run for run in runs if run not in kept]:
            keys = sorted({key for run in others for key in differing(bases[0], _without(run.settings, varied))})
            left_out.append(f"{_count(len(others), 'run')} with other settings ({', '.join(keys)})")
        runs = kept
    arms: list[RunArm] = []
    for run in runs:
        arm = next((arm for arm in arms if arm.settings == run.settings), None)
        if arm is None:
            arm = RunArm("", run.settings)
            arms.append(arm)
        if run.state != "done":
            arm.unfinished.append(run)
        elif run.seed in arm.runs:
            left_out.append(f"{arm.runs[run.seed].folder.name}: the same settings as {run.folder.name}, which is later")
            arm.runs[run.seed] = run
        else:
            arm.runs[run.seed] = run
    for arm in arms:
        arm.unfinished = [run for run in arm.unfinished if run.seed not in arm.runs]
    _name(arms)
    order = {name: place for place, name in enumerate(plan.get("arms", ()))}
    return sorted(arms, key=lambda arm: order.get(arm.name, len(order))), left_out


def _name(arms: Sequence[RunArm]) -> None:
    """Names the arms as the sweep did if that tells them apart, else by the keys in which they differ."""
    for arm in arms:
        called = {run.record.get("arm", "") for run in arm.all_runs}
        arm.name = next(iter(called)) if len(called) == 1 else ""
    names = {arm.name for arm in arms}
    if "" not in names and len(names) == len(arms):
        return
    first, *others = arms
    keys = list(dict.fromkeys(key for arm in others for key in differing(first.settings, arm.settings)))
    few = len(keys) <= 2  # more are told by what differs from the first
    for arm in arms:
        told = keys if few else differing(first.settings, arm.settings)
        arm.name = ", ".join(f"{key}={format_value(arm.settings.get(key))}" for key in told)
    first.name = first.name or ("baseline" if others else "all runs")


def _without(values: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
