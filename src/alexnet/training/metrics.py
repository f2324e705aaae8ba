"""The metrics of every run."""

import torch
from torch import Tensor
from torchmetrics import Metric

DISPLAY = {"top1": "top-1", "top5": "top-5"}  # metrics that are written otherwise than they are called


class MeanLoss(Metric):
    """The mean loss over an epoch's samples, of all ranks.

    Lightning's own rounds where ranks have unequal numbers of them, and torchmetrics' MeanMetric leaves out NaN, or all
    weights.
    """

    total: Tensor
    n: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("n", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, total: Tensor, n: int) -> None:
        """Adds a batch. total: the sum of n samples' losses."""
        self.total += total
        self.n += n

    def compute(self) -> Tensor:
        return self.total / self.n


class TopAccuracy(Metric):
    """The share of samples whose class is among the k most likely.

    torchmetrics' MulticlassAccuracy gives the same figures by 30 operations a batch, which a GPU waits for; this one
    takes 6.
    """

    correct: Tensor
    n: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("n", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch. logits: (N, num_classes). labels: int64 (N,)."""
        likeliest = logits.argmax(1, keepdim=True) if self.k == 1 else logits.topk(self.k).indices
        self.correct += (likeliest == labels[:, None]).sum()
        self.n += len(labels)

    def compute(self) -> Tensor:
        return self.correct / self.n


def largest_share(labels: Tensor) -> Tensor:
    """Returns the class with the largest share, int64 (N,), of soft labels (N, num_classes); others unchanged."""
    return labels.argmax(1) if labels.ndim == 2 else labels


def accuracies(num_classes: int) -> dict[str, Metric]:
    """Returns the accuracies of every run: top1, and top5 if there are more than five classes."""
    return {name: TopAccuracy(k) for name, k in top_k(num_classes).items()}


def top_k(num_classes: int) -> dict[str, int]:
    """Returns the k of top-k accuracies by their names."""
    return {"top1": 1, "top5": 5} if num_classes > 5 else {"top1": 1}
