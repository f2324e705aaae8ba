"""A job of SLURM's whose time is over, and that is queued again."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMOKE, first, train_py
from tests.training import test_resume
from tests.training.test_resume import RUN, assert_same

whole = test_resume.whole

SLURM = {"SLURM_JOB_NAME": "study", "SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
SLURM |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}


@first(1)
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
@pytest.mark.parametrize("code", [0, 1])
def test_a_requeued_job_goes_on_with_its_run(whole: Path, code: int, tmp_path: Path) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* > {tmp_path}/asked\necho not now >&2\nexit {code}\n")
    scontrol.chmod(0o755)
    env = SLURM | {"PYTHONPATH": str(ROOT), "PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"}
    run = tmp_path / "run"
    line = (*RUN, f"run_dir={run}", "resume=auto", "data.num_workers=1")
    warned = {"KILL": "on_train_batch_end:6", "SIGNAL": str(int(signal.SIGUSR1))}
    said = train_py(*line, code=143, **env, **warned).stderr
    queued = "could not be requeued: not now" if code else "is requeued"
    assert said == f"interrupted; resume with python train.py resume={run}; SLURM's job 77 {queued}\n"
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    if code:
        return
    assert f"{run}: resumes after epoch 0 and 6 batches\n" in train_py(*line, **env).stdout
    assert_same(run, whole)
    assert train_py(*line, **env).stdout == f"resume={run}: this run is done; nothing to resume\n"
    assert json.loads((run / "run.json").read_text())["slurm_job"] == "77"


def test_resume_auto_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for arguments, message in (
        (["resume=auto"], "resume=auto: needs the directory of the run"),
        (["resume=auto", f"run_dir={tmp_path}/other"], "is neither a run's directory nor empty"),
        (["-m", "resume=auto", "seed=1,2"], "resume=auto: not in a sweep"),
    ):
        assert message in train_py(*arguments, *SMOKE, f"outputs={tmp_path}/o", code=1).stderr
    assert (tmp_path / "other" / "notes.txt").exists()


def test_a_run_that_was_killed_at_its_very_start_starts_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").write_text("")
    train_py(*SMOKE, "resume=auto", f"run_dir={tmp_path}/run", "trainer.max_epochs=1", "logger=none")
    assert (tmp_path / "run" / "metrics.json").exists()
