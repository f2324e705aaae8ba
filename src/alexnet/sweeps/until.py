"""Runs a study until it is answered: batches of jobs, and a look after each (alexnet.study.sequential)."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alexnet.cores import available_cores
from alexnet.errors import UserError, escape_lines
from alexnet.run_dir import hold_lock, shown
from alexnet.study.formatting import duration, seeds_of
from alexnet.study.looks import look_line
from alexnet.study.sequential import Looks, first_look, next_runs, replay, seeds_in_order
from alexnet.study.table import Arm, arms_of_rows, finished
from alexnet.study_adapter.metrics import run_metric
from alexnet.study_adapter.records import Run, arms_of_runs, find_runs, plan_of
from alexnet.study_adapter.rows import rows_of
from alexnet.study_adapter.until import note_jobs, note_looks, note_question, question_of
from alexnet.sweeps.callbacks import jobs_of
from alexnet.sweeps.plan import describe_arms, plan_jobs, write_plan
from alexnet.sweeps.progress import has_tensorboard

LOCK = ".until.lock"  # held while a study is continued
ARMS = 8  # beside the baseline: for more the error rates are not known


def run_until_answered(config: DictConfig, launch: Callable[[list[list[str]]], Any]) -> None:
    """Runs batches of jobs, with a look after each, until every arm is answered, given up, or out of seeds.

    What it does next follows from the runs in the study's directory, so it goes on wherever it was stopped.

    Args:
        config: of the sweep.
        launch: runs jobs, each a list of overrides, and returns when they have ended.

    Raises:
        UserError: before anything is run, for a study that no look can answer or that another process continues;
            later where more seeds fail than finish.
    """
    study = _Study(config)
    taken = f"{study.folder}: another process continues this study; wait for its end, or stop it"
    with hold_lock(study.folder / LOCK, taken):
        study.announce()
        told = study.look()
        while runs := study.next_runs(told):
            study.run(runs, launch)
            told = study.look()


class _Study:
    """The arms of a study, their runs, and the seeds that no look can use."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.folder = Path(config.hydra.sweep.dir)
        self.metric = run_metric(config.study.metric, config.study.get("mode"))
        self.margin = self.metric.transform(config.study.margin)
        self.most: int = config.study.max_seeds
        jobs = plan_jobs(config, jobs_of(config, seed=1))
        self.places = _distinct(jobs)
        self.arms = list(self.places)
        _check_arms(self.arms, self.most)
        self.first = [jobs[place] for place in self.places.values()]
        self.described = describe_arms(jobs)
        self.planned: list[dict[str, Any]] = []
        self.digests = {job["config_digest"] for job in self.first}
        self.left_out: set[int] = set()  # seeds of which a run has failed
        self.found: list[Arm] = []  # the arms with the runs that are finished
        self.began = time.time()

    def announce(self) -> None:
        """Writes the plan, and prints the question and how long it may take."""
        write_plan(self.config, self.folder, self.first, self.began)
        note_question(self.folder, self.digests, self.config.study, self.arms)
        self.found = self._read_arms()
        runs, first = len(self.arms), first_look(len(self.arms) - 1)
        seconds = _mean_seconds(self.found) * runs * self.most
        hours = "" if math.isnan(seconds) else f", {duration(seconds)} of training"
        print(
            f"study {self.config.hydra.runtime.choices['study']}: {self.config.study.question}\n"
            f"  until it is answered: a look after every pair from pair {first}, at most {self.most} pairs\n"
            f"  first look after {first * runs} jobs, at most {self.most * runs}{hours}",
            *self.described,
            f"  {shown(self.folder)}",
            sep="\n",
            flush=True,
        )

    def _read_arms(self) -> list[Arm]:
        """Returns the arms with their finished runs, the baseline first, of jobs that this question planned."""
        plan = plan_of(self.folder)
        known = self.digests | set(question_of(plan, self.digests)["jobs"])
        runs = [run for run in _runs_in(self.folder) if run.record.get("config_digest") in known]
        runs_by_arm, _ = arms_of_runs(runs, plan)
        found = {arm.name: arm for arm in arms_of_rows(rows_of(runs_by_arm, self.metric))}
        return [found.get(name, Arm(name)) for name in self.arms]

    def look(self) -> Looks:
        """Looks at the runs, and prints what is new.

        Raises:
            UserError: where more seeds have no result than have one.
        """
        before = question_of(plan_of(self.folder), self.digests)
        self.left_out |= set(before["left_out"])
        seeds = seeds_in_order(self.found, self.left_out)
        told = replay(self.found, self.metric, self.margin, seeds, self.most)
        note_looks(self.folder, self.digests, told, self.left_out)
        new = [look for look in told.looks if look.pairs > before["pairs"]]
        for look in new if new or self.planned else told.looks[-1:]:
            seconds = self._seconds() * (1 + len(told.running))
            print(escape_lines(look_line(told, look, self.metric, self.margin, seconds)), flush=True)
        if new and has_tensorboard(self.config):
            from alexnet.sweeps.board import log_looks  # torch takes seconds

            log_looks(self.folder, new, self.metric)
        lost = sorted(self.left_out | set(told.left_out))
        if len(lost) > 2 + len(seeds) - len(told.left_out) and not told.ended:
            raise UserError(
                f"more seeds without a result than with one ({seeds_of(lost)}), so the study stops: their runs failed, "
                f"or {self.metric} is no number there"
            )
        return told

    def next_runs(self, told: Looks) -> list[tuple[str, int]]:
        return next_runs(told, self.found, self.left_out, _side_by_side(self.config))

    def run(self, runs: Sequence[tuple[str, int]], launch: Callable[[list[list[str]]], Any]) -> None:
        """Runs jobs. Seeds with a run that has not finished are left out from then on."""
        jobs = [jobs_of(self.config, seed=seed)[self.places[arm]] for arm, seed in runs]
        new = plan_jobs(self.config, jobs)
        self.planned += new
        self.digests |= {job["config_digest"] for job in new}
        write_plan(self.config, self.folder, self.planned, self.began)
        note_jobs(self.folder, self.digests)
        error: RuntimeError | None = None
        try:
            launch(jobs)
        except RuntimeError as raised:  # joblib's and submitit's, of a job that was killed; the others are on the disk
            error = raised
        self.found = self._read_arms()
        done = {(arm.name, seed) for arm in self.found for seed in arm.runs}
        bad = [(arm, seed) for arm, seed in runs if (arm, seed) not in done]
        if error is not None:
            if len(bad) == len(runs):
                raise error
            print(f"error: {type(error).__name__}: {escape_lines(str(error))}", file=sys.stderr, flush=True)
        if bad:
            seeds = sorted({seed for _, seed in bad})
            self.left_out |= set(seeds)
            print(f"{seeds_of(seeds)}: left out, since a run failed; further seeds take their place", flush=True)

    def _seconds(self) -> float:
        """Returns how long a job takes, one after another or side by side as so far; nan if that is not known."""
        if trained := sum(job["state"] != "done" for job in self.planned):  # those done before are read in no time
            return (time.time() - self.began) / trained
        return _mean_seconds(self.found) / min(_side_by_side(self.config), len(self.arms))


def _runs_in(folder: Path) -> list[Run]:
    try:
        return find_runs([folder])
    except UserError:  # none yet
        return []


def _distinct(jobs: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Returns the arms whose settings differ, each with its place among the jobs of a seed."""
    places: dict[str, int] = {}
    seen = set()
    for place, job in enumerate(jobs):
        if job["config_digest"] not in seen:
            places[job["arm"]] = place
        seen.add(job["config_digest"])
    return places


def _check_arms(arms: Sequence[str], most: int) -> None:
    others = len(arms) - 1
    if others < 1:
        raise UserError("study.until=answered: there is one arm alone, and nothing to compare it with")
    if others > ARMS:
        raise UserError(
            f"study.until=answered: {others} arms beside the baseline; its error rates are known for at most {ARMS}"
        )
    if most < first_look(others):
        raise UserError(
            f"study.max_seeds={most}: must be at least {first_look(others)} with {others} arms beside the baseline: "
            "the first look is after so many"
        )


def _side_by_side(config: DictConfig) -> int:
    """Returns how many jobs the launcher runs at a time."""
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if launcher == "joblib":
        jobs = config.hydra.launcher.n_jobs
        return jobs if jobs > 0 else available_cores()
    if launcher == "submitit_slurm":
        return int(config.hydra.launcher.array_parallelism)
    return 1


def _mean_seconds(arms: Sequence[Arm]) -> float:
    """Returns the mean training time of the finished runs."""
    seconds = [run.value("seconds") for run in finished(arms)]
    return sum(seconds) / len(seconds) if seconds else math.nan
