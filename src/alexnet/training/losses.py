"""Losses: modules of logits and labels.

One of torch.nn or of one's own serves as well; where images are mixed (mix=mixup), it must take soft labels. Its
`reduction` says what it gives: the mean over the images of a batch, as without one, their sum, or with `none` a loss
for each.
"""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from alexnet.errors import ArgumentError
from alexnet.validation import check_float

Weights = Sequence[float] | str | None
BALANCED = "balanced"


class _WeightedLoss(nn.Module):
    """Keeps the class weights on the device, but not in checkpoints."""

    reduction = "sum"
    weight: Tensor | None

    def __init__(self, class_weights: Weights) -> None:
        super().__init__()
        weight = None
        if class_weights is not None and class_weights != BALANCED:
            weight = _checked(class_weights)
        self.register_buffer("weight", weight, persistent=False)


class CrossEntropy(_WeightedLoss):
    """Cross-entropy of the softmax, summed, each image weighted by its class.

    Args:
        label_smoothing: the share of a label that goes to all classes alike (Szegedy et al., CVPR 2016, section 7).
        class_weights: a number above 0 for each class; `balanced` must be replaced by balanced_weights before training.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Weights = None) -> None:
        super().__init__(class_weights)
        self.label_smoothing = check_float("label_smoothing", label_smoothing, 0, 1)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits: (N, num_classes). labels: int64 (N,) or soft (N, num_classes). Returns a scalar."""
        return cross_entropy(logits, labels, self.weight, reduction="sum", label_smoothing=self.label_smoothing)


class Focal(_WeightedLoss):
    """Cross-entropy times (1 - p)^gamma, p being the probability of the right class; summed.

    Of a soft label, the mean of its classes' losses, each class counted by its share.

    Args:
        gamma: how much less an image counts that is right already (Lin et al., ICCV 2017, section 3.2).
        class_weights: as of CrossEntropy.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Weights = None) -> None:
        super().__init__(class_weights)
        self.gamma = check_float("gamma", gamma, 0)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits: (N, num_classes). labels: int64 (N,) or soft (N, num_classes). Returns a scalar."""
        log_p = log_softmax(logits, 1)
        easy = (-torch.expm1(log_p)).clamp(min=1e-12)  # 1 - p; of 0 a power below 1 has no gradient
        losses = -(easy**self.gamma) * log_p
        if self.weight is not None:
            losses = losses * self.weight
        if labels.ndim == 1:
            labels = one_hot(labels, logits.shape[1])
        return (losses * labels).sum()


def total_loss(loss: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the sum of a batch's losses, whatever the module's `reduction`; 0 for an empty batch."""
    if not len(labels):
        return logits.sum()  # a rank without an image still takes part in the step
    value: Tensor = loss(logits, labels)
    reduction = getattr(loss, "reduction", "mean")
    return value * len(labels) if reduction == "mean" else value.sum()


def output_warning(loss: nn.Module, outputs: Tensor) -> str | None:
    """Returns a warning if a network's outputs, (N, num_classes), are not what a loss of classes takes."""
    if isinstance(loss, CrossEntropy | Focal | nn.CrossEntropyLoss):
        sums = outputs.sum(1)
        if bool((outputs >= 0).all()) and sums.allclose(torch.ones_like(sums), atol=1e-4):
            return (
                "model: its outputs sum to 1, as after a softmax. The loss takes the softmax itself: leave out the last"
            )
    if isinstance(loss, nn.NLLLoss):
        logs = outputs.logsumexp(1)
        if not logs.allclose(torch.zeros_like(logs), atol=1e-4):
            return "loss: NLLLoss takes the log of probabilities, and the model gives logits: use loss=cross_entropy"
    return None


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Returns class weights by which every class counts the same; their mean over the training images is 1.

    counts: of the training images of each class. A class without any has the weight 1.
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def _checked(weights: Weights) -> Tensor:
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise ArgumentError(f"class_weights={weights}: must be a number for each class, or balanced")
    if not all(isinstance(weight, Real) and 0 < weight < math.inf for weight in weights):
        raise ArgumentError(f"class_weights={list(weights)}: must be numbers above 0")
    return torch.tensor([float(weight) for weight in weights])
