"""The figures that every run has, against torchmetrics'."""

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from alexnet.training.module import TopAccuracy


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
