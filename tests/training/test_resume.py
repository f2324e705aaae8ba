"""python train.py resume=RUN: a run that was killed ends as one that never was."""

import csv
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.plugins.io import TorchCheckpointIO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet.run_dir import run_status
from alexnet.training.resume import ResumeCheckpoint
from tests.conftest import ROOT, SMOKE, Once, first, needs, program, slow, train_py

RUN = (
    *("trainer=exact", *SMOKE, "trainer.max_epochs=3", "trainer.limit_train_batches=9", "data.batch_size=8"),
    *("trainer.accelerator=cpu", "augment.rescale=0.5", "checkpoint_every=4"),
    "+callbacks.kill._target_=tests.training.killer.Kill",
)
KINDS = {
    "plain": (),
    # A schedule that watches the validation, a stop before the last epoch, and batches that make a step together.
    "watched": (
        "scheduler=plateau",
        "early_stopping=0",
        "test_crops=5",
        "trainer.accumulate_grad_batches=2",
        "checkpoint_every=2",
    ),
    # Validated within epochs, and ended within one.
    "counted": ("+trainer.max_steps=22", "+trainer.val_check_interval=0.5", "mix=mixup_cutmix"),
    "two ranks": ("trainer.devices=2", "mix=cutmix"),
    "averaged": ("callbacks=swa", "callbacks.swa.start=0.4"),
}
TIMES = ("seconds", "images_per_second")
ENV = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture
def whole(once: Once, request: pytest.FixtureRequest) -> Path:
    """The folder of a run that nobody stopped."""
    kind = request.param

    def run(path: Path) -> None:
        train_py(*RUN, *KINDS[kind], f"run_dir={path}/run", **ENV)

    return once(f"whole_{kind.replace(' ', '_')}", run) / "run"


def results(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in TIMES}


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the times."""
    with (run / "metrics.csv").open() as file:
        found = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return [row for row in found if any(row[key] for key in row if key not in ("step", "epoch"))]


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, without the times."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag not in TIMES]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same(run: Path, whole: Path) -> None:
    """Bit for bit, times aside."""
    assert results(run) == results(whole)
    assert rows(run) == rows(whole)
    assert curves(run) == curves(whole)
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = checkpoint(run, name), checkpoint(whole, name)
        assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"])
        assert same(ours["state_dict"], theirs["state_dict"])
        assert same(ours.get("optimizer_states"), theirs.get("optimizer_states"))
    assert (run / "test_right.npz").read_bytes() == (whole / "test_right.npz").read_bytes()
    assert json.loads((run / "run.json").read_text())["state"] == "done"


@first(2)
@pytest.mark.parametrize(
    ("whole", "kill", "reached", "more"),
    [
        ("plain", "on_before_optimizer_step:2", None, []),
        ("plain", "on_train_batch_end:7", "epoch 0 and 4 batches", ["data.num_workers=2"]),
        ("plain", "on_train_epoch_end:2", "epoch 1 and 7 batches", []),
        ("watched", "on_train_batch_end:8", "epoch 0 and 4 batches", []),
        ("counted", "on_train_batch_end:7", "epoch 0 and 5 batches", []),
        ("plain", "on_validation_batch_end:2", "epoch 0 and 8 batches", []),
        ("plain", "on_train_epoch_start:3", "epoch 2", ["data.num_workers=1", "logger=[csv,tensorboard]"]),
        ("plain", "on_train_end:1", "its training", []),
        ("plain", "on_test_batch_end:2", "its training", []),
        ("watched", "on_train_batch_start:13", "epoch 1 and 2 batches", []),
        ("watched", "on_test_start:1", "its training", []),
        ("counted", "on_train_batch_end:11", "epoch 1", []),
        ("averaged", "on_train_batch_end:15", "epoch 1 and 3 batches", []),
        pytest.param("two ranks", "on_train_batch_end:15", "epoch 1 and 3 batches", [], marks=slow),
    ],
    indirect=["whole"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    whole: Path, kill: str, reached: str | None, more: list[str], tmp_path: Path
) -> None:
    kind = whole.parent.name.removeprefix("whole_").replace("_", " ")
    run = tmp_path / "run"
    killed = train_py(*RUN, *KINDS[kind], f"run_dir={run}", code=None, KILL=kill, **ENV)
    assert killed.returncode == (1 if kind == "two ranks" else -9)
    assert not (run / "metrics.json").exists()
    moved = tmp_path / "moved"
    run.rename(moved)
    said = train_py(f"resume={moved}", *more, **ENV).stdout
    expected = f"resumes after {reached}\n" if reached else "has no state to resume from: it starts again\n"
    assert f"{moved}: {expected}" in said
    assert_same(moved, whole)


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
@pytest.mark.parametrize("seed", range(int(os.environ.get("KILLS", "3"))))
def test_killed_at_any_time_and_more_than_once(whole: Path, seed: int, tmp_path: Path) -> None:
    """From the outside, at a random moment of its training and testing."""
    draw, run, env = random.Random(seed), tmp_path / "run", os.environ | ENV
    command = [sys.executable, "train.py", *RUN, f"run_dir={run}"]
    for _ in range(2):
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (run / "run.json").exists():
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 4))
        process.kill()
        process.wait()
        command = [sys.executable, "train.py", f"resume={run}"]
    train_py(f"resume={run}", **ENV)
    assert_same(run, whole)


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_a_job_of_a_sweep_goes_on(whole: Path, tmp_path: Path) -> None:
    """When the sweep is typed again with its folder."""
    line = ("-m", *RUN, "seed=1", "after=none")
    train_py(*line, f"outputs={tmp_path}", code=-9, KILL="on_train_batch_end:15", **ENV)
    (sweep,) = (tmp_path / "smoke").iterdir()
    assert "job=0: resumes after epoch 1 and 3 batches" in train_py(*line, f"run_dir={sweep}", **ENV).stdout
    assert_same(sweep / "job=0", whole)


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_a_finished_run_is_left_alone(whole: Path) -> None:
    def states() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

    before = states()
    assert train_py(f"resume={whole}").stdout == f"resume={whole}: this run is done; nothing to resume\n"
    longer = train_py(f"resume={whole}", "trainer.max_epochs=8", code=1).stderr
    assert "error: trainer.max_epochs=8: " in longer
    new = shlex.split(longer.partition("python train.py ")[2])
    assert {"trainer.max_epochs=8", f"init_from={whole}"} <= set(new)
    train_py(*new, "--cfg", "job")
    assert states() == before


@pytest.mark.parametrize("whole", ["plain"], indirect=True)
@pytest.mark.parametrize("figures", [True, False])
def test_killed_at_the_very_end(whole: Path, figures: bool, tmp_path: Path) -> None:
    """After metrics.json was written, or just before, when loggers knew the final figures already."""
    shutil.copytree(whole, run := tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "running"}))
    if not figures:
        (run / "metrics.json").unlink()
    expected = "this run is done" if figures else "resumes after its training"
    assert expected in train_py(f"resume={run}", **ENV).stdout
    assert_same(run, whole)


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_what_cannot_go_on_is_one_line(whole: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    (stopped / "metrics.json").unlink()
    for arguments, message in (
        ([f"resume={tmp_path}/none"], f"resume={tmp_path}/none: not the folder of a run"),
        ([f"resume={tmp_path}"], f"resume={tmp_path}: not the folder of a run"),
        ([f"resume={stopped}", "seed=2"], "seed=2: the run says this itself; leave it out to resume it"),
        ([f"resume={stopped}", f"reproduce={whole}"], "resume and reproduce: one of them"),
        (["-m", f"resume={stopped},{whole}"], "not in a sweep"),
        (["checkpoint_every=0"], "checkpoint_every=0: must be a whole number of at least 1"),
    ):
        done = train_py(*arguments, f"outputs={tmp_path}/o", code=1, **ENV)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    info = json.loads((stopped / "run.json").read_text())
    info["data"]["fingerprint"] = 64 * "0"
    (stopped / "run.json").write_text(json.dumps(info))
    said = train_py(f"resume={stopped}", code=1, **ENV).stderr
    assert f"resume={stopped}: its images were others (SHA-256 000000000000, now " in said


@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_how_it_went_on_is_recorded(whole: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    (stopped / "metrics.json").unlink()
    (stopped / "git.diff").write_text("another\n")
    said = train_py(f"resume={stopped}", **ENV).stdout
    assert "this run was begun by another version of the code" in said
    python = Path(sys.executable)
    python = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    assert f"next   {python.parent}" in said
    assert "experiment=smoke" in said.partition("next")[2], "the recorded command, not resume="
    before, after = (json.loads((run / "run.json").read_text()) for run in (whole, stopped))
    (again,) = after.pop("resumed")
    assert {"command", "started", "machine", "packages"} <= again.keys()
    assert {**after, "state": "done"} == {**before, "state": "done"}
    assert (stopped / "overrides.yaml").read_text() == (whole / "overrides.yaml").read_text()


@first(1)
@pytest.mark.parametrize(
    ("whole", "at", "number", "reached"),
    [
        ("plain", "on_train_batch_end:6", signal.SIGTERM, "epoch 0 and 6 batches"),
        ("plain", "on_train_batch_end:9", signal.SIGTERM, "epoch 0 and 9 batches"),
        ("plain", "on_validation_batch_end:3", signal.SIGINT, "epoch 1 and 9 batches"),
        ("plain", "on_validation_end:1", signal.SIGINT, "epoch 1"),
        ("plain", "on_train_end:1", signal.SIGINT, "its training"),
        ("watched", "on_train_batch_end:5", signal.SIGINT, "epoch 0 and 6 batches"),
        ("counted", "on_validation_batch_end:1", signal.SIGTERM, "epoch 0 and 4 batches"),
        ("averaged", "on_validation_batch_end:3", signal.SIGTERM, "epoch 1 and 9 batches"),
        pytest.param("two ranks", "on_train_batch_end:4", signal.SIGTERM, "epoch [01]( and . batches)?", marks=slow),
    ],
    indirect=["whole"],
)
def test_a_signal_keeps_what_is_done(whole: Path, at: str, number: int, reached: str, tmp_path: Path) -> None:
    kind, run = whole.parent.name.removeprefix("whole_").replace("_", " "), tmp_path / "run"
    code = {signal.SIGTERM: 143, signal.SIGINT: 130}[signal.Signals(number)]
    line = (*RUN, *KINDS[kind], "checkpoint_every=null", f"run_dir={run}", "data.num_workers=1")
    stopped = train_py(*line, code=code, KILL=at, SIGNAL=str(int(number)), **ENV)
    assert stopped.stderr == f"interrupted; resume with python train.py resume={run}\n"
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    resumed = train_py(f"resume={run}", **ENV)
    assert re.search(f"{run}: resumes after {reached}\n", resumed.stdout)
    assert "was called before" not in resumed.stderr
    assert_same(run, whole)


@slow
@needs("hydra/launcher", "joblib")
def test_a_job_of_joblib_that_is_stopped_has_not_failed(tmp_path: Path) -> None:
    """There SIGTERM has no handler of the program's own, and Lightning's only takes note of it."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = (
        sys.executable,
        "train.py",
        "-m",
        *RUN,
        "hydra/launcher=joblib",
        "seed=1,2",
        "checkpoint_every=null",
        f"outputs={tmp_path}",
    )
    stopped = program(*line, code=143, KILL="on_train_batch_end:6", SIGNAL="15", **ENV)
    runs = [path.parent for path in tmp_path.rglob("run.json")]
    assert {run_status(run) for run in runs} == {"interrupted"}
    assert "interrupted" in [json.loads((run / "run.json").read_text())["state"] for run in runs]
    assert not list(tmp_path.rglob("failed.txt")), stopped.stderr
    said = program(*line, f"run_dir={runs[0].parent}", **ENV).stdout
    assert "resumes after epoch 0 and 6 batches" in said
    assert {run_status(run) for run in runs} == {"done"}


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_killed_in_the_middle_of_writing_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    """The third: after those of 4 and 8 batches comes the best one of the first epoch."""
    for number in (2, 3):
        run = tmp_path / str(number)
        train_py(*RUN, f"run_dir={run}", code=-9, KILL=f"write:{number}", **ENV)
        said = train_py(f"resume={run}", **ENV).stdout
        half = "a later state was only half written when it was stopped; the one before is taken"
        assert (half in said) == (number == 2)
        assert_same(run, whole)
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_a_full_disk_leaves_the_checkpoint_before(whole: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it, from the second epoch on."""
    run = tmp_path / "run"
    (tmp_path / "full.py").write_text(FULL)
    line = (*RUN, "+callbacks.full._target_=full.Full", f"run_dir={run}")
    said = train_py(*line, code=1, FULL="1", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}").stderr
    kept = f"checkpoints/last.ckpt is whole; make room, and resume with python train.py resume={run}\n"
    assert re.search(rf"error: {run}/checkpoints/\w+.ckpt: cannot be written: File too large; {kept}", said)
    assert "Traceback" not in said
    assert checkpoint(run, "last.ckpt")["epoch"] == 0
    assert (
        "resumes after epoch 0 and 8 batches"
        in train_py(f"resume={run}", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}").stdout
    )
    assert_same(run, whole)


FULL = """
import os, resource
from pytorch_lightning import Callback

class Full(Callback):
    def on_train_epoch_end(self, *_):
        if os.environ.get("FULL"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
"""


@slow
@pytest.mark.parametrize("whole", ["plain"], indirect=True)
def test_a_damaged_state_is_not_taken(whole: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    (stopped / "metrics.json").unlink()
    last = stopped / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    said = train_py(f"resume={stopped}", code=1, **ENV).stderr
    assert f"error: resume={stopped}: checkpoints/last.ckpt is damaged" in said
    assert "Traceback" not in said
    last.unlink()
    assert "has no state to resume from" in train_py(f"resume={stopped}", **ENV).stdout
    assert_same(stopped, whole)


class SlowDisk(TorchCheckpointIO):
    """Notes the epoch of each checkpoint, and takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.epochs = seconds, list[int]()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.epochs.append(checkpoint["epoch"])
        time.sleep(self.seconds)


@pytest.mark.parametrize(("seconds", "kept"), [(0.0, [1, 2, 3, 4]), (0.3, [1, 4])])
def test_short_epochs_are_passed_over_where_the_disk_is_slow(seconds: float, kept: list[int], tmp_path: Path) -> None:
    disk = SlowDisk(seconds)
    trainer = Trainer(
        max_epochs=4, limit_train_batches=1, limit_val_batches=0, accelerator="cpu", plugins=[disk],
        callbacks=[ResumeCheckpoint(tmp_path, None)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(BoringModel())
    assert disk.epochs == kept, "the last is of the end of training"
