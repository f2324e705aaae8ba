"""Averaged weights: what is validated is what best.ckpt holds and what is tested."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from alexnet import load
from alexnet.data import ImageDataModule
from alexnet.training.averaging import EMA, SWA
from tests.conftest import SMOKE, digits, first, needs, train_py

LIGHTNINGS = "+callbacks.ema={_target_: pytorch_lightning.callbacks.EMAWeightAveraging, decay: 0.9}"


@first(1)
@digits
@needs("model", "lenet")
@pytest.mark.parametrize("callback", ["callbacks=ema", "callbacks=swa callbacks.swa.start=0", LIGHTNINGS])
def test_one_set_of_weights_is_validated_kept_and_tested(callback: str, tmp_path: Path) -> None:
    line = ("experiment=smoke", "panels=none", "model=lenet", "trainer.precision=32-true", "trainer.max_epochs=2")
    arguments = [callback] if callback == LIGHTNINGS else callback.split()
    whole = ("trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0")
    train_py(*line, *whole, "data=digits", "trainer.accelerator=cpu", *arguments, f"run_dir={tmp_path}/run")
    run, metrics = load(tmp_path / "run"), json.loads((tmp_path / "run" / "metrics.json").read_text())
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    raw = {name: last["current_model_state"][f"network.{name}"] for name in run.state_dict()}
    data = ImageDataModule("digits", channels=1, size=32, crop=32)
    data.setup()
    losses = {}
    for split in ("val", "test"):
        images, labels, _ = (torch.cat(parts) for parts in zip(*data.loader(split), strict=True))
        with torch.no_grad():
            losses[split] = cross_entropy(run(data.normalize(images)), labels).item()
            network = load(tmp_path / "run")
            network.load_state_dict(raw)
            of_raw = cross_entropy(network(data.normalize(images)), labels).item()
        assert losses[split] == pytest.approx(metrics[split]["loss"], abs=1e-5)
        assert abs(of_raw - losses[split]) > 1e-4, "these are other weights"


def averages(callback: EMA | SWA, weights: list[float]) -> list[float]:
    """The average after each step, by torch's own AveragedModel."""
    layer = torch.nn.Linear(1, 1, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(layer, avg_fn=callback._add)
    found = []
    for step, weight in enumerate(weights):
        layer.weight.data.fill_(weight)
        if callback.should_update(step_idx=step):
            averaged.update_parameters(layer)
        found.append(averaged.module.weight.item())
    return found


def test_the_exponential_average() -> None:
    expected, average = [], 3.0
    for step, weight in enumerate([3.0, 1.0, 4.0, 1.0, 5.0]):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        expected.append(average)
    assert averages(EMA(decay=0.3), [3.0, 1.0, 4.0, 1.0, 5.0]) == pytest.approx(expected)


def test_the_mean_of_the_last_epochs() -> None:
    swa = SWA(start=0.5)
    swa.steps, swa.first = 2, 2  # of four epochs
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0]
    assert averages(swa, weights) == [1, 2, 3, 4, 4, 6, 6, 7.5]


@pytest.mark.parametrize(("key", "value"), [("ema.decay", "1"), ("ema.decay", "-0.1"), ("swa.start", "1.5")])
def test_values_that_do_not_suit(key: str, value: str, tmp_path: Path) -> None:
    done = train_py(*SMOKE, f"callbacks={key[:3]}", f"callbacks.{key}={value}", f"outputs={tmp_path}", code=1)
    assert f"callbacks.{key}={float(value):g}" in done.stderr or f"callbacks.{key}={value}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_average_that_is_never_validated_is_refused(tmp_path: Path) -> None:
    swa = "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}"
    done = train_py(*SMOKE, swa, f"outputs={tmp_path}", code=1)
    assert "callbacks.swa:" in done.stderr
    assert "callbacks=swa" in done.stderr
    assert not list(tmp_path.iterdir())
