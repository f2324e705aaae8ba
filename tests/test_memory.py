import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import slow

CODE = """
import resource, torch
from alexnet.malloc import keep_freed_memory
torch.set_num_threads(1)
print(keep_freed_memory() if {on} else None)
for _ in range(30):  # what alignment leaves over goes to malloc's caches of small blocks, until those are full
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's alone")
def test_freed_memory_is_not_faulted_in_anew() -> None:
    faults = []
    for on in (True, False):
        done = subprocess.run([sys.executable, "-c", CODE.format(on=on)], capture_output=True, text=True, check=True)
        said, count = done.stdout.split()
        assert said == str(on or None)
        faults.append(int(count))
    assert 2 * faults[0] < faults[1], "ten times 64 MB are 164,000 pages of 4 KB, fewer where they are huge"


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from alexnet.malloc import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


@slow
def test_a_run_says_so(smoke: Path) -> None:
    said = json.loads((smoke / "run.json").read_text())["machine"]["keeps_freed_memory"]
    assert said == (platform.libc_ver()[0] == "glibc")
