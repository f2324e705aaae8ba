"""Measures runs per hour of a study: jobs side by side with one thread each, and one after another with all."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from alexnet.benchmarks.measure import Row, compare
from alexnet.benchmarks.train import ROOT
from alexnet.cores import available_cores

SEEDS = "seed=1,2,3,4"
NETWORKS = {  # each study has two arms, and runs of some 15 s
    "lenet": (
        "study=lenet",
        "study.arm=relu,tanh",
        SEEDS,
        "data=fake",
        "data.size=32",
        "data.crop=32",
        "trainer.max_epochs=60",
    ),
    "cifar": (
        "study=pooling",
        "model=cifar",
        SEEDS,
        "data=fake",
        "data.size=32",
        "data.crop=24",
        "trainer.max_epochs=60",
    ),
    "alexnet_quarter": (
        "study=dropout",
        "model.width=0.25",
        SEEDS,
        "data=fake",
        "data.size=72",
        "data.crop=67",
        "trainer.max_epochs=20",
    ),
    "alexnet": ("study=dropout", "seed=1", "data=fake", "data.batch_size=64", "trainer.max_epochs=1"),
}


def measure(rounds: int = 3) -> Iterator[Row]:
    """Yields rows of runs per hour, each timed from the command's start to the end of its report."""
    for name, line in NETWORKS.items():
        side_by_side, one_by_one = (partial(_runs, jobs, *line) for jobs in (available_cores(), 1))
        row = compare(f"jobs_{name}", "runs/h", side_by_side, one_by_one, rounds=rounds, warm=False, seconds=120)
        yield row


def _runs(jobs: int, *line: str) -> int:
    """Runs a study, and returns the runs per hour, scaled for `compare`, which divides by seconds."""
    with tempfile.TemporaryDirectory() as outputs:
        command = ("train.py", *line, f"study.jobs={jobs}", "after=none", f"outputs={outputs}")
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return 3600 * len(list(Path(outputs).rglob("metrics.json")))
