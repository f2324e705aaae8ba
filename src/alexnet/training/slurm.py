"""SLURM's time limit: a run keeps its state, and its job is queued again and resumes with resume=auto."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alexnet.run_dir import in_sweep


@contextmanager
def requeued(*, is_first: bool) -> Iterator[None]:
    """At SIGUSR1, ends the run as SIGTERM does and puts its job back into SLURM's queue.

    SLURM sends the signal for `sbatch --signal=USR1@120`. Lightning's own handler, which this is in place of, writes
    another checkpoint in the middle of a step, and the job would start a new run.

    Args:
        is_first: whether this is the first rank, which alone speaks to SLURM.
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
        if not came or not is_first:
            raise
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        text = f"could not be requeued: {done.stderr.strip()}" if done.returncode else "is requeued"
        raise type(end)(f"{end}; SLURM's job {job} {text}") from end
    finally:
        signal.signal(signal.SIGUSR1, before)
