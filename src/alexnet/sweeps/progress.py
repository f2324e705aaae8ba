"""Logs the progress of a study: its jobs at the start, and a line for each that ends."""

import math
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from alexnet.errors import UserError, escape_lines
from alexnet.run_dir import read_run_json, shown
from alexnet.study.formatting import duration
from alexnet.study.metrics import EpochsToTarget
from alexnet.study.table import Result
from alexnet.study_adapter.metrics import run_metric
from alexnet.study_adapter.records import plan_of, read_run
from alexnet.study_adapter.rows import row_of
from alexnet.sweeps.callbacks import SweepDirectory, exit_on_error, jobs_of
from alexnet.sweeps.plan import began_at, plan_jobs, told, write_plan
from alexnet.sweeps.study import check_study, key_of


class Progress(Callback):
    """Checks a study and all its jobs before the first, and logs its progress."""

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
            jobs = plan_jobs(config, jobs_of(config))
            print("\n".join([*told(jobs), f"  {shown(folder)}"]), flush=True)
            write_plan(config, folder, jobs, time.time())

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Logs a line for a job that ran now; those done before have one already."""
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
        took = datetime.now().astimezone() - datetime.fromisoformat(began_at(info) or info["started"])
        left = state.seconds_left(state.mean_seconds, free=1)
        to_come = f"; about {duration(left)} left" if left > 0 else ""
        print(
            f"[{len(state.ended)}/{state.jobs}] {folder.name}: {reached}, {duration(took.total_seconds())}{to_come}",
            flush=True,
        )


@dataclass(frozen=True)
class StudyState:
    """The progress of a study since it was started.

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
            began, config_digest = began_at(info), info.get("config_digest")
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
        """The number of jobs; more than planned if the images of earlier runs have changed."""
        return max(len(self.to_do), len(self.ended))

    @property
    def mean_seconds(self) -> float:
        """Returns the mean time of a job, when one of those that run side by side has just ended."""
        return self.seconds / math.ceil(len(self.ended) / (len(self.running) + 1))

    def seconds_left(self, job_seconds: float, free: int = 0) -> float:
        """Returns how long the remaining jobs take, with as many side by side as now.

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


class ReportCallback(Callback):
    """Makes the report of a sweep or study when it ends, also after failures."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        SweepDirectory.after.append(partial(_report, board=has_tensorboard(config)))


def has_tensorboard(config: DictConfig) -> bool:
    """Returns whether the runs log to TensorBoard."""
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
    except Exception as error:  # noqa: BLE001 (the runs are there all the same)
        said = f"no report: {type(error).__name__}: {error} (python report.py {shown(folder)} tries again)"
    print(escape_lines(said), flush=True)
