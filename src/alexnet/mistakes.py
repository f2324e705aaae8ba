"""Finds the wrong answers with the largest loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

COUNT = 16


@dataclass
class Mistake:
    """A wrong answer. image: (C, H, W), as given. true, predicted: classes. confidence: softmax of `predicted`."""

    loss: float
    image: Tensor
    true: int
    predicted: int
    confidence: float


def worst_of(known: Sequence[Mistake], images: Tensor, scores: Tensor, labels: Tensor) -> list[Mistake]:
    """Returns the COUNT worst of the known mistakes and those of a batch, the worst first.

    Args:
        known: the worst of the batches before.
        images: (N, C, H, W).
        scores: logits (N, num_classes).
        labels: int64 (N,).
    """
    confidence, predicted = scores.softmax(1).max(1)
    losses = cross_entropy(scores, labels, reduction="none").where(predicted != labels, -1.0)
    least = known[-1].loss if len(known) == COUNT else 0.0
    worst, found = losses.topk(min(COUNT, len(losses))), list(known)
    for loss, i in zip(worst.values.tolist(), worst.indices.tolist(), strict=True):
        if loss > least:
            found.append(Mistake(loss, images[i].cpu(), int(labels[i]), int(predicted[i]), float(confidence[i])))
    return sorted(found, key=lambda mistake: -mistake.loss)[:COUNT]
