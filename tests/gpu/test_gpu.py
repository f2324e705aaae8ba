"""What only a GPU does: python -m pytest -m gpu. GPU_TESTS_ON=cpu tries the tests themselves without one."""

import csv
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from alexnet.data import ImageDataModule
from alexnet.data.loader import RANDOM_COLUMNS
from alexnet.data.transforms import Augment
from alexnet.models.lrn import LocalResponseNorm
from alexnet.training.metrics import MeanLoss, TopAccuracy
from tests.conftest import SMOKE, has, program
from tests.training.test_resume import ENV, assert_same

DEVICE = torch.device(os.environ.get("GPU_TESTS_ON", "cuda"))
LINE = (*SMOKE, f"trainer.accelerator={'gpu' if DEVICE.type == 'cuda' else 'cpu'}", "logger=csv", "after=none")
EXACT = ("trainer=exact", "data.batch_size=16", "trainer.limit_train_batches=6")

pytestmark = pytest.mark.gpu


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Trains in a process of its own, and gives metrics.json."""
    program(sys.executable, "train.py", *LINE, *arguments, f"run_dir={folder}")
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("window", ["channels", "own", "map"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lrn(window: str, dtype: torch.dtype) -> None:
    for size in (1, 4, 5, 17):
        x, upstream = torch.randn(2, 3, 32, 19, 19).to(dtype).unbind(0)
        found = []
        for device in (torch.device("cpu"), DEVICE):
            a = x.to(device).requires_grad_()
            y = LocalResponseNorm(size, 0.1, k=2.0, window=window)(a)
            y.backward(upstream.to(device))
            assert a.grad is not None
            found.append((y.detach().cpu(), a.grad.cpu()))
        for here, there in zip(*found, strict=True):
            torch.testing.assert_close(here, there)


@pytest.mark.parametrize(
    "arguments",
    [{"flip": 0.5}, {"vertical_flip": 0.5}, {"rescale": 0.4}, {"color_jitter": 0.4}, {"hue": 0.2}, {"pca": 0.1}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_augmentation_is_that_of_the_cpu_and_never_waits(arguments: dict[str, float]) -> None:
    data = ImageDataModule("fake", num_classes=10, size=80, crop=67, augment=Augment(**arguments))
    data.setup()
    rand = torch.rand(8, len(RANDOM_COLUMNS))
    side = 80 if "rescale" in arguments else 67
    images = torch.randint(0, 256, (8, 3, side, side), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    here = data.preprocess(images, rand)
    there = data.preprocess(images.to(DEVICE), rand.to(DEVICE))  # once, since constants are copied at first
    torch.testing.assert_close(there.cpu(), here, atol=2e-3, rtol=1e-3)
    moved, numbers = images.to(DEVICE), rand.to(DEVICE)
    with waiting_is_an_error():
        data.preprocess(moved, numbers)


def test_metrics_never_wait() -> None:
    logits, labels = torch.randn(64, 10, device=DEVICE), torch.randint(10, (64,), device=DEVICE)
    metrics = [TopAccuracy(1).to(DEVICE), TopAccuracy(5).to(DEVICE)]
    loss = MeanLoss().to(DEVICE)
    with waiting_is_an_error():
        for metric in metrics:
            metric.update(logits, labels)
        loss.update(nn.functional.cross_entropy(logits, labels, reduction="sum"), 64)


class waiting_is_an_error:  # used as a function
    """Within it an operation for which the host waits for the GPU is an error."""

    def __enter__(self) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not has("inference"), reason="inference is gone")
def test_a_run_and_its_evaluation(tmp_path: Path) -> None:
    """The run's own test again, to the last digit, and what can be done with it."""
    folder = tmp_path / "run"
    metrics = run(folder, "panels=all", "logger=default", "trainer.limit_test_batches=1.0")
    assert math.isfinite(metrics["test"]["loss"])
    assert metrics["images_per_second"] > 0
    info = json.loads((folder / "run.json").read_text())
    if DEVICE.type == "cuda":
        assert info["precision"] == "bf16-mixed"
        assert info["machine"]["gpus"]
    program(sys.executable, "evaluate.py", str(folder))
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert evaluation["as_in_training"] is True
    Image.new("L", (40, 40), 90).save(tmp_path / "grey.png")
    program(sys.executable, "predict.py", str(folder), str(tmp_path / "grey.png"), "--neighbours")
    program(sys.executable, "export.py", str(folder), "--format", "safetensors")


def test_exact_runs_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    run(tmp_path / "first", *EXACT)
    for name, how in {
        "second": (),
        "on_device": ("data.on_device=true",),
        "from_disk": ("data.on_device=false",),
        "at_once": ("data.on_device=false", "data.prefetch=false"),
        "workers": ("data.on_device=false", "data.num_workers=2"),
    }.items():
        run(tmp_path / name, *EXACT, *how)
        assert_same(tmp_path / name, tmp_path / "first")


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    line = (*LINE, *EXACT, "checkpoint_every=4", "+callbacks.kill._target_=tests.training.killer.Kill")
    for name, kill, code in (("whole", "", 0), ("killed", "on_train_batch_end:9", -9)):
        program(sys.executable, "train.py", *line, f"run_dir={tmp_path}/{name}", code=code, **ENV, KILL=kill)
    program(sys.executable, "train.py", f"resume={tmp_path}/killed", **ENV)
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.skipif(DEVICE.type == "cuda" and torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices_have_the_loss_of_one(tmp_path: Path) -> None:
    line = ("trainer.precision=32-true", "model.dropout=0", "model.activation=tanh", "optimizer.lr=0.001")
    one, two = (run(tmp_path / str(n), *line, f"trainer.devices={n}") for n in (1, 2))
    assert two["test"]["loss"] == pytest.approx(one["test"]["loss"], rel=1e-3)


@pytest.mark.skipif(not has("inference"), reason="inference is gone")
def test_an_exact_run_is_evaluated_to_the_last_digit(tmp_path: Path) -> None:
    run(tmp_path / "run", *EXACT, "trainer.limit_test_batches=1.0")
    program(sys.executable, "evaluate.py", str(tmp_path / "run"))
    evaluation = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert evaluation["as_in_training"] is True


@pytest.mark.skipif(DEVICE.type != "cuda", reason="the CPU has no float16 training")
def test_float16_has_the_gradients_of_float32(tmp_path: Path) -> None:
    """As logged and as clipped: not times the scale of the loss."""
    norms = []
    for precision in ("32-true", "16-mixed"):
        folder = tmp_path / precision
        run(folder, f"trainer.precision={precision}", "trainer.gradient_clip_val=1", "trainer.log_every_n_steps=1",
            "model.dropout=0", "augment=none", "trainer.max_epochs=1")  # fmt: skip
        rows = [row for row in csv.DictReader((folder / "metrics.csv").open()) if row["gradients/01_features.conv1"]]
        norms.append([float(value) for key, value in rows[0].items() if key.startswith("gradients/")])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


@pytest.mark.parametrize(
    "how",
    [
        ("compile=true",),
        ("trainer=fast",),
        ("trainer.strategy=ddp",),
        ("model.lrn=false", "model.batch_norm=true", "callbacks=ema"),
        ("data.normalize=mean_image", "optimizer.lr=1e-5", "test_crops=10"),
        ("augment.rand_augment=2", "augment.erase=0.5", "mix=mixup_cutmix"),
        ("model.lrn_window=tower", f"model.devices=[cpu,{DEVICE.type}]"),
    ],
)
def test_other_ways(how: tuple[str, ...], tmp_path: Path) -> None:
    assert math.isfinite(run(tmp_path / "run", *how)["test"]["loss"])


def test_it_is_measured() -> None:
    bench = pytest.importorskip("alexnet.benchmarks.gpu")
    rows = list(bench.measure(DEVICE, batches=(4,), images=16, width=1 / 16, matrix=64, rounds=1, compiled=False))
    assert all(row.ours > 0 and row.baseline > 0 for row in rows)
