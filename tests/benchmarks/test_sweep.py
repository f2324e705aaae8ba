"""Many jobs in one process."""

from pathlib import Path

import pytest

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
