"""Measures a sweep of many tiny jobs in one process: the memory, open files and time that each leaves or takes."""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

WATCH = "watch.csv"
AT = 20  # the job that the last one is compared with: by then everything that is made once is there
TINY = ("experiment=smoke", "model.width=0.0625", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "after=none")


class Watch(Callback):
    """A callback of Hydra that writes watch.csv into a sweep's folder. Needs /proc.

    It has for every job its seconds, and the process's resident memory (MB) and open files after it.
    """

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        self.began = time.perf_counter()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        seconds = time.perf_counter() - self.began
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory, files = pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd"))
        with Path(config.hydra.sweep.dir, WATCH).open("a") as file:
            csv.writer(file).writerow([config.hydra.job.num + 1, f"{seconds:.3f}", f"{memory:.1f}", files])


def run(jobs: int, outputs: Path, *more: str) -> list[tuple[int, float, float, int]]:
    """Runs the smoke experiment with `jobs` seeds, and returns a row for each: (job, seconds, MB, open files)."""
    line = [*TINY, *more, f"seed=range(1,{jobs + 1})", f"outputs={outputs}"]
    line.append("+hydra.callbacks.watch._target_=alexnet.benchmarks.sweep.Watch")
    subprocess.run([sys.executable, "train.py", "-m", *line], check=True, stdout=subprocess.DEVNULL)
    (watched,) = outputs.rglob(WATCH)
    with watched.open() as file:
        return [(int(job), float(s), float(mb), int(files)) for job, s, mb, files in csv.reader(file)]


def measure(jobs: int = 200) -> str:
    """Returns a table of every twentieth job, and the last job compared with job AT."""
    with tempfile.TemporaryDirectory() as outputs:
        rows = run(jobs, Path(outputs))
    lines = [f"{'job':>5}{'seconds':>10}{'MB':>10}{'open files':>12}"]
    for i in range(AT, jobs + 1, AT):
        seconds = statistics.median(row[1] for row in rows[i - AT : i])
        lines.append(f"{i:5}{seconds:10.2f}{rows[i - 1][2]:10,.0f}{rows[i - 1][3]:12}")
    first, last = rows[AT - 1], rows[-1]
    early = statistics.median(row[1] for row in rows[1:AT])
    late = statistics.median(row[1] for row in rows[-AT:])
    lines.append(
        f"after job {jobs}, times what it was after job {AT}: memory {last[2] / first[2]:.2f}, "
        f"open files {last[3] / first[3]:.2f}, seconds a job {late / early:.2f}"
    )
    return "\n".join(lines)
