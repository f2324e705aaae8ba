"""Folders of runs and of sweeps, and a sweep that is typed again."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alexnet.errors import UserError
from alexnet.run_dir import lock_run_dir, make_dir, run_status
from tests.conftest import ROOT, SMOKE, slow, train_py

SWEEP = ("-m", *SMOKE, "model.lrn=true,false", "logger=none", "after=none")


def test_two_runs_in_the_same_second_do_not_share_a_folder(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.extend(make_dir(tmp_path / "same"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20
    assert all(path.is_dir() for path in made)


def test_state_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_status(run) is None
    run.mkdir()
    (run / "left.txt").touch()
    assert run_status(run) == "interrupted", "killed before it noted anything"
    with lock_run_dir(run):
        assert not (run / "left.txt").exists()
        assert run_status(run) == "running"
        with pytest.raises(UserError, match="a run is active there"), lock_run_dir(run):
            pass
        (run / "run.json").write_text('{"state": "running"}')
    assert run_status(run) == "interrupted"
    (run / "run.json").write_text('{"state": "failed"}')
    assert run_status(run) == "failed"
    (run / "metrics.json").touch()
    assert run_status(run) == "done"


def test_who_waits_for_a_run_holds_what_others_see(tmp_path: Path) -> None:
    """Also where it began to wait while the run before still went on."""
    waits, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        waits.set()
        with lock_run_dir(tmp_path, keep=True):
            goes_on.set()
            ended.wait(10)

    with lock_run_dir(tmp_path, keep=True):
        thread = threading.Thread(target=second)
        thread.start()
        waits.wait(10)
        time.sleep(0.2)
    assert goes_on.wait(10)
    assert run_status(tmp_path) == "running"
    with pytest.raises(UserError, match="a run is active there"), lock_run_dir(tmp_path, keep=True):
        pass
    ended.set()
    thread.join()
    assert run_status(tmp_path) == "interrupted"


def contents(sweep: Path) -> dict[str, int]:
    """The results of a sweep, and when each was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/metrics.json")}


@slow
def test_a_sweep_goes_on(tmp_path: Path) -> None:
    """What is done is read, what is new is run, what was killed or failed is run again; other settings beside it."""
    train_py(*SWEEP, f"outputs={tmp_path}")
    (sweep,) = (tmp_path / "smoke").iterdir()
    first = contents(sweep)
    assert set(first) == {"model.lrn=true", "model.lrn=false"}

    killed = sweep / "model.lrn=false"
    info = json.loads((killed / "run.json").read_text())
    assert info["state"] == "done"
    (killed / "run.json").write_text(json.dumps(info | {"state": "running"}))
    (killed / "metrics.json").unlink()
    (killed / "left_by_the_killed_run").touch()
    (killed / "checkpoints" / "last.ckpt").write_text("damaged")
    again = train_py(*SWEEP, "trainer.log_every_n_steps=7", f"run_dir='{sweep}'", "outputs=elsewhere")
    assert f"done before: {sweep / 'model.lrn=true'}" in again.stdout
    assert again.stdout.count("test top-1") == 1
    second = contents(sweep)
    assert second["model.lrn=true"] == first["model.lrn=true"]
    assert second["model.lrn=false"] > first["model.lrn=false"]
    assert not (killed / "left_by_the_killed_run").exists()

    train_py(*SWEEP, "trainer.max_epochs=1", f"run_dir='{sweep}'")
    assert set(contents(sweep)) == {*first, "model.lrn=true_2", "model.lrn=false_2"}


def test_a_sweep_that_is_not_there(tmp_path: Path) -> None:
    done = train_py(*SWEEP, f"run_dir={tmp_path}", code=1)
    assert done.stderr == f"error: run_dir={tmp_path}: no sweep to resume; leave it out to start one\n"
    assert not list(tmp_path.iterdir())


@slow
def test_two_processes_do_not_run_the_same_job(tmp_path: Path) -> None:
    """The second says that it goes on elsewhere."""
    (tmp_path / "multirun.yaml").touch()
    line = ("-m", *SMOKE, f"run_dir='{tmp_path}'", "trainer.max_epochs=500")
    run = subprocess.Popen([sys.executable, "train.py", *line], cwd=ROOT, stdout=subprocess.DEVNULL)
    folder = tmp_path / "job=0"
    try:
        while not (folder / "run.json").exists():
            assert run.poll() is None
            time.sleep(0.1)
        assert run_status(folder) == "running"
        assert f"run_dir={folder}: a run is active there, in another process" in train_py(*line, code=1).stderr
    finally:
        run.kill()
        run.wait()
    assert run_status(folder) == "interrupted"
