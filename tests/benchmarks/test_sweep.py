"""Many jobs in one process."""

from pathlib import Path

import pytest

from alexnet.benchmarks import many
from alexnet.benchmarks.sweep import run
from tests.conftest import slow


@slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_twenty_jobs_leave_nothing_behind(tmp_path: Path) -> None:
    """The last ten take no more than the ten before, in memory to a tenth, and in open files at all."""
    rows = run(20, tmp_path, "data=fake", "data.size=80", "data.crop=67")
    assert [job for job, *_ in rows] == list(range(1, 21))
    memory, files = ([row[column] for row in rows] for column in (2, 3))
    assert max(memory[10:]) < 1.1 * max(memory[:10])
    assert files[10:] == [files[9]] * 10


@slow
def test_a_study_of_copied_runs_has_nothing_to_do() -> None:
    """It would raise were one of its jobs not done before."""
    head, row = many.measure((4,)).splitlines()
    jobs, plan, each, report, files = map(float, row.split())
    assert head.split(", ")[0].split() == ["jobs", "plan"]
    assert (jobs, plan > 0, each > 0, report > 0) == (4, True, True, True)
    assert files > 10
