"""Measures what a study of many jobs costs beside the jobs: planning, finding finished runs, and the report.

Runs of all seeds but the first are copies, so that the study typed again has only these three to do.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import copytree

from omegaconf import OmegaConf

from alexnet.benchmarks.sweep import TINY
from alexnet.benchmarks.train import ROOT

PLAN = "study.json"
LINE = ("study=lrn", "study.jobs=1", "study.arm=none,typed", *TINY[:-1])


def measure(sizes: tuple[int, ...] = (20, 200)) -> str:
    """Returns a table with a row for each number of jobs of two arms: seconds, and files per run."""
    lines = [f"{'jobs':>5}{'plan, s':>10}{'a job, ms':>12}{'report, s':>12}{'files a run':>14}"]
    with tempfile.TemporaryDirectory() as outputs:
        line = (*LINE, f"outputs={outputs}")
        subprocess.run(_command(*line, "seed=1"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (folder,) = Path(outputs, "study").iterdir()
        files = sum(path.is_file() for path in folder.glob("*,seed=1/**/*")) / 2
        for jobs in sizes:
            seeds = f"seed=range(1,{jobs // 2 + 1})"
            plan = plan_study(*line, seeds)
            copy_runs(folder)
            each, report = finish_study(jobs, *line, seeds)
            lines.append(f"{jobs:5}{plan:10.1f}{1000 * each:12.0f}{report:12.1f}{files:14.0f}")
    return "\n".join(lines)


def plan_study(*line: str) -> float:
    """Starts a study and stops it at its first job. Returns the seconds that planning took."""
    with subprocess.Popen(_command(*line), cwd=ROOT, stdout=subprocess.PIPE, text=True) as study:
        assert study.stdout is not None
        study.stdout.readline()  # the question
        began = time.perf_counter()
        study.stdout.readline()  # the number of jobs
        seconds = time.perf_counter() - began
        next(said for said in study.stdout if said.startswith("done before"))  # the plan is written
        study.kill()
    return seconds


def copy_runs(folder: Path) -> None:
    """Copies the runs of seed 1 to all other seeds of the study's plan, as if each had been run."""
    for job in json.loads((folder / PLAN).read_text())["jobs"]:
        run, new = (folder / f"{job['arm']},seed={seed}" for seed in (1, job["seed"]))
        if new.exists():
            continue
        copytree(run, new)
        config, record = OmegaConf.load(run / "config.yaml"), json.loads((run / "run.json").read_text())
        config.seed = config.data.seed = job["seed"]
        OmegaConf.save(config, new / "config.yaml")
        (new / "run.json").write_text(json.dumps(record | {"config_digest": job["config_digest"]}))


def finish_study(jobs: int, *line: str) -> tuple[float, float]:
    """Starts a study whose jobs are all done. Returns the seconds for each job, and those of the report."""
    with subprocess.Popen(_command(*line), cwd=ROOT, stdout=subprocess.PIPE, text=True) as study:
        assert study.stdout is not None
        at = [(time.perf_counter(), said) for said in study.stdout]
    ends = [when for when, said in at if said.startswith("done before")]
    if len(ends) != jobs:
        raise RuntimeError(f"{len(ends)} of {jobs} jobs were done before")
    return (ends[-1] - ends[0]) / (jobs - 1), at[-1][0] - ends[-1]


def _command(*line: str) -> list[str]:
    return [sys.executable, "train.py", *line]
