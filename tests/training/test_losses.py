"""The group `loss`: against formulas by hand, in a run, and when the run is evaluated."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from scipy.special import log_softmax
from torch import nn

from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.run_identity import digest
from alexnet.training.losses import CrossEntropy, Focal, balanced_weights, total_loss
from alexnet.training.run import train
from tests.training.test_run import TINY, scored

DRAW = np.random.default_rng(0)
LOGITS, LABELS = DRAW.normal(0, 2, (7, 4)), DRAW.integers(0, 4, 7)
WEIGHTS = [0.5, 1.0, 2.0, 3.0]


Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def run(config: Callable[..., Any], tmp_path: Path) -> Run:
    """A small run's folder and its metrics.json."""

    def go(*overrides: str, target: str | None = None) -> tuple[Path, dict[str, Any]]:
        cfg = config(*TINY, f"outputs={tmp_path}/outputs", *overrides)
        if target is not None:  # as a file in conf/loss has it
            cfg.loss = OmegaConf.create({"_target_": f"tests.training.test_losses.{target}"})
        train(cfg)
        return Path(cfg.run_dir), json.loads((Path(cfg.run_dir) / "metrics.json").read_text())

    return go


def smoothed(logits: np.ndarray, labels: np.ndarray, smoothing: float, weights: list[float]) -> np.ndarray:
    """Of each image: the share of a label that is spread is each class's own weight's."""
    target = np.eye(logits.shape[1])[labels] * (1 - smoothing) + smoothing / logits.shape[1]
    return -(target * np.array(weights) * log_softmax(logits, 1)).sum(1)


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(LOGITS), torch.tensor(LABELS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_by_hand(smoothing: float, weights: list[float] | None) -> None:
    expected = smoothed(LOGITS, LABELS, smoothing, weights or [1] * 4).sum()
    found = CrossEntropy(smoothing, weights).double()(*tensors())
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_by_hand(gamma: float) -> None:
    log_p = log_softmax(LOGITS, 1)[range(7), LABELS]
    expected = -(np.array(WEIGHTS)[LABELS] * (1 - np.exp(log_p)) ** gamma * log_p).sum()
    assert Focal(gamma, WEIGHTS).double()(*tensors()).item() == pytest.approx(expected)


def test_focal_of_an_image_that_is_surely_right_has_a_gradient() -> None:
    logits = torch.tensor([[100.0, 0.0]], requires_grad=True)
    Focal(0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_any_loss_of_torch_serves(reduction: str) -> None:
    logits, labels = tensors()
    logits.requires_grad_()
    found = total_loss(nn.CrossEntropyLoss(reduction=reduction), logits, labels)
    assert found.item() == pytest.approx(smoothed(LOGITS, LABELS, 0, [1] * 4).sum())
    empty = total_loss(nn.CrossEntropyLoss(reduction=reduction), logits[:0], labels[:0])
    empty.backward()
    assert empty.item() == 0
    assert (logits.grad == 0).all()


def test_balanced_classes_count_the_same() -> None:
    counts = [10, 30, 0, 60]
    weights = balanced_weights(counts)
    assert np.multiply(weights, counts)[[0, 1, 3]] == pytest.approx([100 / 3] * 3)


def test_a_run_is_scored_by_its_loss(run: Run) -> None:
    """Training, validation and test; evaluate.py finds the same; the numbers that `balanced` stands for are kept."""
    folder, metrics = run(
        "loss.label_smoothing=0.2", "loss.class_weights=balanced", "trainer.limit_val_batches=1.0",
        "trainer.limit_test_batches=1.0", "trainer.precision=32-true",
    )  # fmt: skip
    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = ImageDataModule("fake", num_classes=10, size=80, crop=67)
    data.setup()
    weights = config["loss"]["class_weights"]
    assert weights == balanced_weights(np.bincount(data.splits["train"].labels, minlength=10).tolist())
    for split in ("val", "test"):
        logits, labels = scored(folder, data, split)
        expected = smoothed(logits.numpy(), labels.numpy(), 0.2, weights).mean()
        assert metrics[split]["loss"] == pytest.approx(expected, abs=1e-5)
    evaluate = pytest.importorskip("alexnet.inference.evaluate").evaluate
    out, _ = evaluate(folder, {})
    assert yaml.safe_load((out / "evaluation.json").read_text())["as_in_training"] is True


class Margin(nn.Module):
    """A loss of one's own: the mean over the batch."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.multi_margin_loss(logits, labels)


def no_module() -> int:
    return 1


class Matrix(nn.Module):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits


def test_a_loss_of_ones_own(run: Run) -> None:
    """evaluate.py runs no code that a checkpoint names, unless it is trusted: it says so."""
    folder, metrics = run("trainer.precision=32-true", "trainer.limit_test_batches=1.0", target="Margin")
    data = ImageDataModule("fake", num_classes=10, size=80, crop=67)
    data.setup()
    expected = nn.functional.multi_margin_loss(*scored(folder, data, "test")).item()
    assert metrics["test"]["loss"] == pytest.approx(expected, abs=1e-5)
    evaluate = pytest.importorskip("alexnet.inference.evaluate").evaluate
    _, said = evaluate(folder, {})
    assert "loss: _target_=tests.training.test_losses.Margin" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss.label_smoothing=1.5"], "loss.label_smoothing=1.5: must be a number"),
        (["loss.class_weights=[1,2]"], r"loss.class_weights=\[1.0, 2.0\]: the data have 10 classes"),
        (["loss.class_weights=[1,2,3,4,5,6,7,8,9,-1]"], r"loss.class_weights=.*: must be numbers above 0"),
        (["loss.class_weights=balance"], "loss.class_weights=balance: must be a number for each class, or balanced"),
        (["loss=focal", "loss.gamma=-1"], "loss.gamma=-1: must be a number"),
    ],
)
def test_mistakes(arguments: list[str], message: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(*arguments)
    assert not list(tmp_path.rglob("config.yaml"))


class OneLayer(nn.Sequential):
    def __init__(self, last: str) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * 67 * 67, 10), getattr(nn, last)(1))


@pytest.mark.parametrize(
    ("loss", "last", "named"),
    [
        ("alexnet.training.losses.CrossEntropy", "Softmax", "model"),
        ("alexnet.training.losses.CrossEntropy", "LogSoftmax", None),
        ("alexnet.training.losses.CrossEntropy", "Flatten", None),
        ("alexnet.training.losses.Focal", "Softmax", "model"),
        ("torch.nn.NLLLoss", "Flatten", "loss"),
        ("torch.nn.NLLLoss", "LogSoftmax", None),
    ],
)
def test_outputs_that_the_loss_does_not_take(
    loss: str, last: str, named: str | None, config: Callable[..., Any], tmp_path: Path
) -> None:
    cfg = config(*(word for word in TINY if not word.startswith("model")), f"outputs={tmp_path}")
    cfg.model = OmegaConf.create({"_target_": "tests.training.test_losses.OneLayer", "last": last})
    cfg.trusted, cfg.loss = ["tests"], OmegaConf.create({"_target_": loss})
    train(cfg)
    log = (Path(cfg.run_dir) / "train.log").read_text()
    assert re.findall(r"WARNING (model|loss): ", log) == ([named] if named else [])


def test_what_is_no_loss(run: Run) -> None:
    with pytest.raises(UserError, match="loss: must give one number for a batch"):
        run(target="Matrix")
    with pytest.raises(UserError, match="loss: must be a module of logits and labels, and is a int"):
        run(target="no_module")


def test_earlier_runs_are_the_same_settings(config: Callable[..., Any]) -> None:
    """Those without these keys: so a study of an earlier version is resumed."""
    now = config()
    earlier = OmegaConf.to_container(now, resolve=True)
    assert isinstance(earlier, dict)
    del earlier["loss"], earlier["test_epoch"], earlier["mix"]
    for key in ("rand_augment", "rand_augment_magnitude", "erase"):
        del earlier["augment"][key]
    assert digest(earlier) == digest(now)
    assert digest(config("loss.label_smoothing=0.1")) != digest(now)
