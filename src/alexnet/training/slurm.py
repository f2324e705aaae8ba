"""SLURM's time limit: a run keeps its state, its job goes back into the queue, and there the run is resumed in its own
folder.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alexnet.run_dir import in_sweep, read_run_json


def run_of_this_job(cfg: DictConfig) -> str | None:
    """The folder of the run that this job began with the same command line before it was requeued, or before its node
    failed; None if there is none. A script may hold several such commands: those that are done are left alone.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or not int(os.environ.get("SLURM_RESTART_COUNT", "0")) or in_sweep():
        return None
    begun = [Path(cfg.run_dir)] if cfg.run_dir else [path.parent for path in Path(cfg.outputs).glob("*/*/run.json")]
    for folder in begun:
        info = read_run_json(folder)
        if info.get("slurm_job") == job and info.get("command", [])[1:] == sys.argv[1:]:
            return str(folder)
    return None


@contextmanager
def requeued(first: bool) -> Iterator[None]:
    """Around a run: SIGUSR1, which SLURM sends for `sbatch --signal=USR1@120`, ends it as SIGTERM does, and then the
    first rank puts the job back into the queue. Lightning's own handler, which this is in place of, writes another
    checkpoint in the middle of a step, and the job would begin a new run.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or in_sweep():  # a sweep's jobs belong to its launcher
        yield
        return
    came = False

    def pass_on(*_: Any) -> None:
        nonlocal came
        came = True
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGUSR1, pass_on)
    try:
        yield
    except KeyboardInterrupt as end:
        if not came or not first:
            raise
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        said = f"could not be requeued: {done.stderr.strip()}" if done.returncode else "is requeued"
        raise type(end)(f"{end}; SLURM's job {job} {said}") from end
    finally:
        signal.signal(signal.SIGUSR1, before)
