"""How many cores a process takes itself to have, whatever the machine has."""

import os
import sys

import pytest
import torch

from alexnet.cores import available_cores, limit_threads
from tests.conftest import program

BOUND = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from alexnet.cores import available_cores
print(available_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds processes to cores")
def test_the_cores_that_it_is_bound_to() -> None:
    assert program(sys.executable, "-c", BOUND).stdout == "1\n"


@pytest.mark.parametrize(
    ("slurm", "share"),
    [
        ({}, 8),
        ({"SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_PER_TASK": "16"}, 8),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_NTASKS_PER_NODE": "2"}, 3),
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_NTASKS_PER_NODE": "2"}, 1),
        ({"SLURM_CPUS_PER_TASK": "four"}, 8),
    ],
)
def test_the_share_of_a_slurm_task(slurm: dict[str, str], share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert available_cores() == share


def test_torch_computes_on_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("alexnet.cores.available_cores", lambda: 3)
    try:
        for threads, left in ((8, 3), (2, 2)):
            torch.set_num_threads(threads)
            limit_threads()
            assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(before)
