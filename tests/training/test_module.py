"""The figures that every run has, against torchmetrics'."""

from typing import Any

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from alexnet.training.metrics import TopAccuracy
from alexnet.training.tasks import ImageClassifier


@pytest.mark.parametrize("k", [1, 5])
def test_accuracies_are_those_of_torchmetrics(k: int) -> None:
    ours, theirs = TopAccuracy(k), MulticlassAccuracy(9, top_k=k, average="micro")
    for seed, n in enumerate((32, 1, 7)):
        torch.manual_seed(seed)
        logits, labels = torch.randn(n, 9), torch.randint(9, (n,))
        ours.update(logits, labels)
        theirs.update(logits, labels)
    assert float(ours.compute()) == float(theirs.compute())
    assert 0 < float(ours.compute()) < 1


def test_counts_of_older_checkpoints_are_understood() -> None:
    """Within an epoch they hold what torchmetrics' accuracy had counted so far."""
    theirs = MulticlassAccuracy(9, average="micro")
    logits, labels = torch.randn(20, 9), torch.randint(9, (20,))
    theirs.update(logits, labels)
    none: Any = None
    module = ImageClassifier(nn.Linear(2, 9), none, none, 9)
    loss = {"total": torch.tensor(3.0), "n": torch.tensor(20.0)}
    counted = {"loss": loss, "top1": theirs.metric_state, "top5": theirs.metric_state}
    module.on_load_checkpoint({"counted": [counted]})
    assert float(module.train_metrics["top1"].compute()) == float(theirs.compute())
    assert module.train_loss.n == 20


def test_accuracies_that_are_the_same_at_first_are_counted_apart() -> None:
    none: Any = None
    module = ImageClassifier(nn.Linear(2, 9), none, none, 9)
    logits = torch.eye(9)
    module.train_metrics.update(logits, torch.arange(9))
    module.train_metrics.update(logits.flip(0), torch.arange(9))
    found = {name: float(value) for name, value in module.train_metrics.compute().items()}
    assert found["train/top1"] == pytest.approx(10 / 18)
    assert found["train/top5"] > found["train/top1"]
