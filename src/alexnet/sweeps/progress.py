"""What a study says while it runs: its jobs beforehand, and a line for each that ends."""

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict

from alexnet.config import check
from alexnet.errors import UserError, escape_lines
from alexnet.io import write_json
from alexnet.run_dir import read_run_json, run_status, runs_with_digest, shown, swept_values
from alexnet.run_identity import differing, digest, format_value, result_affecting
from alexnet.study.formatting import duration
from alexnet.study.metrics import EpochsToTarget
from alexnet.study.table import Result
from alexnet.study_adapter.metrics import run_metric
from alexnet.study_adapter.records import PLAN, SEEDS, plan_of, read_run
from alexnet.study_adapter.rows import row_of
from alexnet.sweeps.callbacks import SweepDirectory, exit_on_error, jobs_of
from alexnet.sweeps.study import check_study, key_of, take_arm


class Progress(Callback):
    """Checks a study and all its jobs before the first, and says how far it is."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        with exit_on_error():
            typed = list(config.hydra.overrides.task)
            check_study(config, typed)
            sweeper = config.hydra.runtime.choices["hydra/sweeper"]
            if sweeper != "basic":
                raise UserError(f"hydra/sweeper={sweeper}: not in a study, which says itself what its jobs are")
            if config.study.until is not None:  # run_until_answered plans its jobs itself
                if "seed" in map(key_of, typed):
                    raise UserError("seed=: study.until=answered takes seeds 1, 2, 3 and so on; leave one out")
                return
            print(f"study {config.hydra.runtime.choices['study']}: {config.study.question}", flush=True)
            jobs = [planned(config, overrides) for overrides in jobs_of(config)]
            print("\n".join([*told(jobs), f"  {shown(folder)}"]), flush=True)
        write_plan(config, folder, jobs, time.time())

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """A line for a job that was run now; those that were done before have one already."""
        if job_return.status != JobStatus.COMPLETED or job_return.cfg is None:
            return
        folder = Path(job_return.cfg.run_dir)
        state = StudyState.read(folder.parent)
        if folder not in state.ended:
            return
        metric, info = run_metric(config.study.metric, config.study.get("mode")), read_run_json(folder)
        value = Result(row_of("", read_run(folder), metric)).value(metric.name)
        reached = f"{metric} {value:.4f}"
        if isinstance(metric, EpochsToTarget):
            reached = f"{metric} not reached" if math.isnan(value) else f"{value:.1f} {metric.unit}"
        took = datetime.now().astimezone() - datetime.fromisoformat(_began(info) or info["started"])
        left = state.seconds_left(state.mean_seconds, free=1)
        to_come = f"; about {duration(left)} left" if left > 0 else ""
        print(
            f"[{len(state.ended)}/{state.jobs}] {folder.name}: {reached}, {duration(took.total_seconds())}{to_come}",
            flush=True,
        )


@dataclass(frozen=True)
class StudyState:
    """How far a study is, since it was typed.

    Args:
        to_do: the digests of the jobs that it had to do then.
        seconds: since then.
        ended: the directories of those that have ended.
        running: for how many seconds each job has run that has not ended.
    """

    to_do: list[str]
    seconds: float
    ended: list[Path]
    running: list[float]

    @classmethod
    def read(cls, folder: Path) -> "StudyState":
        """Reads study.json, and the run.json of each run in a study's directory."""
        plan, now = plan_of(folder), datetime.now().astimezone()
        before = {job["config_digest"]: job["began"] for job in plan["jobs"]}
        ended, running = [], []
        for path in folder.glob("*/run.json"):
            info = read_run_json(path.parent)
            began, config_digest = _began(info), info.get("config_digest")
            # not by the file's time: the clocks of a job's machine and of the disk may be others
            if began is None or config_digest not in before or began == before[config_digest]:
                continue
            if info.get("state") in ("done", "failed"):
                ended.append(path.parent)
            elif info.get("state") == "running":
                running.append((now - datetime.fromisoformat(began)).total_seconds())
        to_do = dict.fromkeys(job["config_digest"] for job in plan["jobs"] if job["state"] != "done")
        return cls(list(to_do), time.time() - plan["began"], ended, running)

    @property
    def jobs(self) -> int:
        """How many there are; more than were to do where the images of those done before have changed."""
        return max(len(self.to_do), len(self.ended))

    @property
    def mean_seconds(self) -> float:
        """What a job has taken, when one of those at a time has just ended."""
        return self.seconds / math.ceil(len(self.ended) / (len(self.running) + 1))

    def seconds_left(self, job_seconds: float, free: int = 0) -> float:
        """How long the jobs still take, with as many at a time as now.

        Args:
            job_seconds: what each takes.
            free: how many more could run at this moment than do.
        """
        waiting = self.jobs - len(self.ended) - len(self.running)
        until_free = [0.0] * free + [max(job_seconds - seconds, 0.0) for seconds in self.running]
        heapify(until_free)
        for _ in range(waiting):
            heapreplace(until_free, until_free[0] + job_seconds)
        return max(until_free)


def write_plan(config: DictConfig, folder: Path, jobs: list[dict[str, Any]], began: float) -> None:
    """Writes study.json: what was typed, and the jobs, as `planned` returns them.

    began: when this process began with them, as time.time().
    """
    before = plan_of(folder)
    varied = {str(key) for key in config.hydra.sweeper.get("params") or ()}
    varied |= {key for job in jobs for key in differing(jobs[0]["settings"], job["settings"])}
    plan = before | {
        "study": config.hydra.runtime.choices["study"],
        "typed": list(config.hydra.overrides.task),
        "began": began,
        # a line that asks for some arms alone resumes the study that has them all
        "arms": list(dict.fromkeys([*before.get("arms", ()), *(job["arm"] for job in jobs)])),
        "varied": sorted((varied | set(before.get("varied", ()))) - {*SEEDS, "study.arm"}),
        "jobs": list(map(_recorded, jobs)),
    }
    write_json(folder / PLAN, plan)


def _recorded(job: Mapping[str, Any]) -> dict[str, Any]:
    """What study.json holds of a job."""
    return {key: job[key] for key in ("arm", "seed", "config_digest", "state", "began")}


def _began(info: Mapping[str, Any]) -> str | None:
    """When a run was begun, or went on for the last time."""
    return (info.get("resumed") or [info])[-1].get("started")


class ReportCallback(Callback):
    """Makes the report of a sweep or study when it ends, whatever has failed in it."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        SweepDirectory.after.append(partial(_report, board=has_tensorboard(config)))


def has_tensorboard(config: DictConfig) -> bool:
    """Whether the runs log to TensorBoard."""
    loggers = (config.logger or {}).values()
    return any(str(logger.get("_target_", "")).endswith("TensorBoardLogger") for logger in loggers)


def _report(folder: Path, *, board: bool) -> None:
    try:
        from alexnet.study_adapter.report import report  # matplotlib takes a second

        _, text = report([folder])
        if board:
            from alexnet.sweeps.board import log_report

            log_report(folder)
        said = f"\n{text}\n\nreport {shown(folder) / 'report.md'}"
    except UserError as error:
        said = f"no report: {error}"
    except Exception as error:  # the runs are there all the same
        said = f"no report: {type(error).__name__}: {error} (python report.py {shown(folder)} tries again)"
    print(escape_lines(said), flush=True)


def planned(config: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """A job before it runs: its arm, seed, settings and their digest, and the state of its run, if there is one.

    Raises:
        UserError: for a config that its run would refuse.
    """
    name = config.hydra.job.config_name
    cfg = hydra.compose(name, [*config.hydra.overrides.hydra, *overrides], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.job.config_name, cfg.hydra.job.num = name, 0
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    take_arm(cfg)
    check(cfg)
    config_digest = digest(cfg)
    runs = list(runs_with_digest(config_digest))
    states = [run_status(folder) for folder in runs]
    state = next((state for state in ("done", *states) if state in states), None)
    began = _began(read_run_json(runs[states.index(state)])) if runs else None
    return {
        "arm": swept_values(cfg),
        "seed": cfg.seed,
        "settings": result_affecting(cfg),
        "config_digest": config_digest,
        "state": state,
        "began": began,
    }


def told(jobs: list[dict[str, Any]]) -> list[str]:
    """How many jobs there are and in which state, and what each arm changes against the first."""
    arms, seeds = {job["arm"] for job in jobs}, {job["seed"] for job in jobs}
    states = Counter(job["state"] for job in jobs)
    known = "".join(f", {states[s]} {s}" for s in ("done", "running", "interrupted", "failed") if states[s])
    return [f"  {len(jobs)} jobs, {len(arms)} arms with {len(seeds)} seeds{known}", *describe_arms(jobs)]


def describe_arms(jobs: list[dict[str, Any]]) -> list[str]:
    """What each arm changes against the first, a line for each."""
    arms = {job["arm"]: job["settings"] for job in reversed(jobs)}
    arms = dict(reversed(arms.items()))
    lines = []
    baseline, *_ = arms.values()
    for arm, values in arms.items():
        keys = [key for key in differing(baseline, values) if key not in SEEDS]
        changed = " ".join(f"{key}={format_value(values.get(key))}" for key in keys)
        nothing = "baseline" if values is baseline else "the same as the baseline here"
        lines.append(f"  {arm:24} {changed or nothing}")
    return lines
