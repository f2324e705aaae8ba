"""What a study says, and how it goes on when it is typed again."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml
from omegaconf import DictConfig
from torch import nn

from alexnet.study.formatting import duration
from alexnet.sweeps.estimate import FirstEstimate
from alexnet.sweeps.plan import try_parts
from alexnet.sweeps.progress import StudyState
from tests.conftest import ROOT, digits, slow, train_py
from tests.study.test_study import TINY

LINE = ("study=groups", "study.jobs=1", "model.width=0.125", "scheduler=constant", *TINY)


@slow
@digits
def test_a_study_typed_again_goes_on(tmp_path: Path) -> None:
    """Finished jobs are read, interrupted ones and new seeds run, each with its line; other settings are others."""
    outputs = f"outputs={tmp_path}"
    first = train_py(*LINE, "seed=1", outputs).stdout.splitlines()
    folder = tmp_path / "study" / "groups-digits-alexnet"
    assert first[:2] == [
        "study groups: Do the two towers help, or cost?",
        "  2 jobs, 2 arms with 1 seed",
    ]
    assert [line.split() for line in first[2:4]] == [
        ["model.groups=2", "baseline"],
        ["model.groups=1", "model.groups=1"],
    ]
    assert first[4] == f"  {folder}"
    assert re.fullmatch(r"\[1/2\] model.groups=2,seed=1: test/top1 0\.\d{4}, \d+ s; about \d+ s left", first[5])
    assert re.fullmatch(r"\[2/2\] model.groups=1,seed=1: test/top1 0\.\d{4}, \d+ s", first[6])
    assert first[8].startswith("model.groups=1 against model.groups=2: no verdict: fewer than three pairs")
    assert first[-1] == f"report {folder / 'report.md'}"
    assert "epoch 1/1" in (folder / "model.groups=2,seed=1" / "train.log").read_text()
    written = (folder / "model.groups=2,seed=1" / "metrics.json").stat().st_mtime_ns

    interrupted = folder / "model.groups=1,seed=1"
    info = json.loads((interrupted / "run.json").read_text())
    (interrupted / "run.json").write_text(json.dumps(info | {"state": "running"}))
    (interrupted / "metrics.json").unlink()
    again = train_py(*LINE, "seed=1,2", "model.groups=1,2", "after=none", outputs).stdout
    assert "  4 jobs, 2 arms with 2 seeds, 1 done, 1 interrupted\n" in again
    assert f"done before: {folder / 'model.groups=2,seed=1'}\n" in again
    assert re.findall(r"^\[(\d/\d)\] (\S+):", again, re.M) == [
        ("1/3", "model.groups=1,seed=1"),
        ("2/3", "model.groups=1,seed=2"),
        ("3/3", "model.groups=2,seed=2"),
    ]
    assert (folder / "model.groups=2,seed=1" / "metrics.json").stat().st_mtime_ns == written


@slow
def test_a_study_is_refused_as_a_whole(tmp_path: Path) -> None:
    """A mistake that only its last job would meet."""
    for arguments, message in (
        (["seed=1,-1"], "seed=-1: must be a whole number of at least 0 and at most 4294967295"),
        (["model.groups=2,flase"], "model.groups=flase: must be a number, such as 2"),
        (
            ["model.width=0.125,0.02"],
            "model.groups=2: conv2 has 2 input and 5 output channels, and groups must divide both",
        ),
        (["augment.pca=0.1,-1"], "augment.pca=-1: must be a number of at least 0 and at most 100"),
        (["study.margin=-1"], "study.margin=-1: must be a number above 0, in the metric's unit"),
    ):
        done = train_py(*LINE, *arguments, f"outputs={tmp_path}/o", code=1)
        assert done.stderr == f"error: {message}\n"
        assert not (tmp_path / "o").exists()


class OwnNetwork(nn.Linear):
    """Needs the value of a weight, which the meta device has not."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, num_classes)
        self.first = self.weight[0, 0].item()


def test_what_only_the_run_can_find_out_refuses_no_study(config: Callable[..., DictConfig]) -> None:
    """How many classes there are, what a network of one's own needs, and which GPUs and files the machine has."""
    for arguments in (
        ["data=folder"],
        ["model.devices=[cuda:6,cuda:7]", "model.lrn_window=tower"],
        ["+model.weights=elsewhere.pt"],
    ):
        try_parts(config(*arguments))
    cfg = config()
    cfg.model = {"_target_": f"{__name__}.OwnNetwork", "num_classes": "${data.num_classes}"}
    with torch.device("meta"), pytest.raises(RuntimeError, match="meta"):
        OwnNetwork(10)
    try_parts(cfg)
    cfg.model = {"_target_": "torchvision.models.regnet_y_400mf"}  # copies numbers out of tensors
    try_parts(cfg)


def test_a_study_of_a_key_that_is_not_there(tmp_path: Path) -> None:
    study = {"question": "Does it?", "margin": 0.01}
    text = {
        "defaults": [{"/hydra/study": "base"}],
        "study": study,
        "hydra": {"sweeper": {"params": {"model.lnr": "1,2"}}},
    }
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "odd.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(text)}")
    done = train_py("--config-dir", str(tmp_path), "study=odd", f"outputs={tmp_path}/o", code=1)
    assert done.stderr == "error: model.lnr: no such key. Did you mean model.lrn?\n"
    assert not (tmp_path / "o").exists()


def state(*, jobs: int, ended: int, running: list[float], seconds: float = 0) -> StudyState:
    return StudyState([str(job) for job in range(jobs)], seconds, [Path(str(run)) for run in range(ended)], running)


def test_what_is_left_of_a_study() -> None:
    """Jobs of 10 s: one after another, and two at a time, of which one has just ended."""
    assert state(jobs=4, ended=1, running=[]).seconds_left(10, free=1) == 30
    assert state(jobs=9, ended=1, running=[10]).seconds_left(10, free=1) == 40
    assert state(jobs=9, ended=1, running=[4]).seconds_left(10, free=1) == 40
    assert state(jobs=9, ended=0, running=[2, 1]).seconds_left(10) == 48
    assert state(jobs=2, ended=1, running=[7]).seconds_left(10, free=1) == 3
    assert state(jobs=2, ended=2, running=[]).seconds_left(10, free=1) == 0


@pytest.mark.parametrize(
    ("first", "expected"), [(0, "epoch 1 of 60; about 20 min"), (30, "epoch 31 of 60; about 15 min")]
)
def test_the_first_estimate(
    first: int, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three jobs of 10 s an epoch, two of which run, begun or resumed at the same epoch."""
    monkeypatch.setattr(StudyState, "read", lambda _: state(jobs=3, ended=0, running=[0, 0]))
    monkeypatch.setattr("alexnet.sweeps.estimate.read_run_json", lambda _: {"config_digest": "0"})
    times = iter((100.0, 110.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    trainer = Mock(max_epochs=60, current_epoch=first, is_global_zero=True, default_root_dir="study/a,seed=1")
    estimate = FirstEstimate()
    estimate.on_train_start(trainer, Mock())
    estimate.on_train_epoch_end(trainer, Mock())
    assert capsys.readouterr().out == f"[0/3] a,seed=1: {expected} left\n"


def test_what_a_job_of_a_study_takes() -> None:
    assert state(jobs=4, ended=2, running=[], seconds=20).mean_seconds == 10
    assert state(jobs=9, ended=1, running=[9], seconds=10).mean_seconds == 10
    assert state(jobs=9, ended=3, running=[9], seconds=20).mean_seconds == 10


def test_duration() -> None:
    assert [duration(s) for s in (0.4, 99, 600, 12_600)] == ["0 s", "99 s", "10 min", "3.5 h"]


@slow
@digits
def test_a_study_that_is_interrupted_is_reported(tmp_path: Path) -> None:
    """Ctrl-C in its second job: what is done is told, and typed again it goes on."""
    line = [*LINE, "seed=1,2", f"outputs={tmp_path}", "trainer.max_epochs=1000", "+trainer.max_time={seconds: 3}"]
    study = subprocess.Popen(
        [sys.executable, "train.py", *line], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert study.stdout is not None
    said = []
    for text in study.stdout:
        said.append(text)
        if text.startswith("[1/4]"):
            break
    second = tmp_path / "study" / "groups-digits-alexnet" / "model.groups=1,seed=1"
    while not (second / "run.json").exists():
        time.sleep(0.05)
    study.send_signal(signal.SIGINT)
    out, err = study.communicate(timeout=300)
    assert study.returncode == 130
    said = [line for line in err.splitlines() if not line.startswith("Error executing job")]  # which is Hydra 1.4's own
    assert said == [f"interrupted; what is done is in {second}", "to resume, type the same command again"]
    assert json.loads((second / "run.json").read_text())["state"] == "interrupted"
    assert f"report {second.parent / 'report.md'}\n" in out
    assert "  ! model.groups=1, seed 1: interrupted\n" in out
    assert "  ! model.groups=2, seed 2: not run yet\n" in out
