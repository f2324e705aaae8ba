"""study.jobs: how many runs of a study there are at a time."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from alexnet.errors import UserError
from alexnet.sweeps import jobs
from alexnet.sweeps.callbacks import exit_on_error
from tests.conftest import digits, needs, program, slow, train_py
from tests.study.test_study import ONE_BY_ONE, TINY

SMALL_STUDY = ("study=dropout", "model.width=0.125", "after=none", *TINY)


def config(study_jobs: Any = "auto", typed: tuple[str, ...] = (), **trainer: Any) -> DictConfig:
    return OmegaConf.create(
        {
            "study": {"jobs": study_jobs},
            "trainer": {"devices": 1, "accelerator": "auto"} | trainer,
            "hydra": {
                "launcher": {},
                "overrides": {"hydra": list(typed)},
                "runtime": {"choices": {"hydra/launcher": "basic"}},
            },
        }
    )


def at_a_time(cfg: DictConfig) -> Any:
    jobs.set_launcher(cfg)
    return cfg.hydra.launcher.get("n_jobs", 1)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "available_cores", lambda: 8)
    monkeypatch.setattr(jobs, "_has_gpu", lambda: False)
    monkeypatch.setattr(jobs, "MEMORY_OF_A_JOB", 1.0)


@pytest.mark.usefixtures("eight_cores")
def test_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(jobs.JOBLIB)
    assert at_a_time(config()) == 8
    assert at_a_time(config(3)) == 3
    assert at_a_time(config(1)) == 1
    assert at_a_time(config(devices=2)) == 1
    assert at_a_time(config(typed=("hydra/launcher=basic",))) == 1
    with pytest.raises(UserError, match=r"^study\.jobs=2: has no effect with hydra/launcher=ray"):
        jobs.set_launcher(config(2, typed=("hydra/launcher=ray",)))
    monkeypatch.setattr(jobs, "_has_gpu", lambda: True)
    assert at_a_time(config()) == 1
    assert at_a_time(config(accelerator="cpu")) == 8
    monkeypatch.setattr(jobs, "MEMORY_OF_A_JOB", 1e15)
    assert at_a_time(config(accelerator="cpu")) == 1


@pytest.mark.usefixtures("eight_cores")
def test_one_after_another_without_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "find_spec", lambda _: None)
    assert at_a_time(config()) == 1
    with pytest.raises(UserError, match=r"^study\.jobs=2: needs a package"):
        jobs.check_jobs(2)


@pytest.mark.parametrize("number", [0, -1, 10**20, 1.5, True, "all", None])
def test_mistakes(number: Any) -> None:
    with pytest.raises(UserError, match=rf"^study\.jobs={number}: must be"):
        jobs.check_jobs(number)


@needs("hydra/launcher", "joblib")
@slow
@digits
def test_side_by_side_is_the_same(tmp_path: Path) -> None:
    """Of one thread each: the runs are those of one after another with one thread."""
    pytest.importorskip(jobs.JOBLIB)
    found = []
    for number in (2, 1):
        line = (*SMALL_STUDY, f"study.jobs={number}", "seed=1", "trainer=exact", f"outputs={tmp_path}/{number}")
        said = program(sys.executable, "train.py", *line, "trainer.max_epochs=2", OMP_NUM_THREADS="1").stdout
        assert ("2 jobs at a time" in said) == (number == 2)
        estimate = re.search(r"^\[0/2\] model.dropout=0.5,seed=1: epoch 1 of 2; about \d+ s left$", said, re.M)
        assert estimate or number == 2, "of two such tiny runs the other may have ended before"
        assert said.count(": test/top1 0.") == 2
        metrics = sorted((tmp_path / str(number)).rglob("metrics.json"))
        found.append([json.loads(path.read_text())["test"] for path in metrics])
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_it_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = train_py(*SMALL_STUDY, "study.jobs=0", f"outputs={tmp_path}/o", code=1)
    assert done.stderr.startswith("error: study.jobs=0: must be auto, or a whole number")
    assert not (tmp_path / "o").exists()


@slow
def test_a_study_whose_jobs_all_fail(tmp_path: Path) -> None:
    """It leaves no directory, and says so by its exit code."""
    done = train_py("study=groups", ONE_BY_ONE, "optimizer.lr=-1", "seed=1", *TINY, f"outputs={tmp_path}/o", code=1)
    assert "error: 2 of the sweep's jobs failed:\njob 0 (seed=1 model.groups=2" in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_bug_before_a_sweep_ends_it_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """Hydra would make it a warning, and the jobs would go on without what the callback does."""
    with pytest.raises(SystemExit, match="1"), exit_on_error():
        raise KeyError("own")
    assert capsys.readouterr().err.endswith("KeyError: 'own'\n")
