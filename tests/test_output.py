"""Standard output that goes away while a program runs."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.output import tolerant_output
from tests.conftest import ROOT, SMOKE, digits, program, slow

TWO_RANKS = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def shell(redirection: str, *arguments: str) -> None:
    command = subprocess.list2cmdline([sys.executable, "train.py", *SMOKE, *arguments])
    program("bash", "-o", "pipefail", "-c", f"{command} {redirection}")


def check_done(folder: Path) -> None:
    assert json.loads((folder / "run.json").read_text())["state"] == "done"
    log = (folder / "train.log").read_text()
    assert "epoch 2/2" in log
    assert "Error" not in log


@slow
@digits
@pytest.mark.parametrize(
    ("redirection", "arguments"),
    [
        ("| head -n 1", ()),
        pytest.param(">&- 2>&- <&-", (), marks=slow),
        pytest.param("2>&1 | head -n 1", TWO_RANKS, marks=slow),
    ],
)
def test_a_run_goes_on_when_its_output_is_closed(tmp_path: Path, redirection: str, arguments: tuple[str, ...]) -> None:
    shell(redirection, *arguments, f"run_dir={tmp_path / 'run'}")
    check_done(tmp_path / "run")


@digits
@slow
def test_a_run_goes_on_when_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "train.py", *SMOKE, f"run_dir={tmp_path / 'run'}"],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as under nohup
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert run.wait(timeout=300) == 0
    check_done(tmp_path / "run")


def test_what_is_written_to_a_closed_pipe_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with tolerant_output():
            print("lost", flush=True)
            print("lost")
        assert sys.stdout is stream


def test_a_program_without_standard_output_can_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with tolerant_output():
        assert not sys.stdout.closed
        assert sys.stdout.isatty() in (True, False)
    assert sys.stdout is None


def test_a_full_disk_is_an_error() -> None:
    done = program("bash", "-c", f"{sys.executable} train.py --cfg job > /dev/full", code=None)
    assert done.returncode != 0
    assert "No space left" in done.stderr
