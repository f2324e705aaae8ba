"""Tasks, which say what outputs mean: one class, several labels, or numbers."""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, Metric, R2Score
from torchmetrics.classification import MultilabelAccuracy, MultilabelAveragePrecision, MultilabelF1Score

from alexnet.data.splits import CLASS, LABELS, NUMBERS
from alexnet.data.transforms import log_mean_softmax
from alexnet.training.losses import CrossEntropy
from alexnet.training.metrics import accuracies, largest_share, top_k
from alexnet.training.module import ImageModule, Trial


class ImageClassifier(ImageModule):
    """One class for each image: logits (N, num_classes), labels int64 (N,) or soft labels (N, num_classes).

    Metrics: top1, and with more than five classes top5. Of a soft label, the class with the largest share counts.
    """

    kind = CLASS
    better = {"loss": "min", "top1": "max", "top5": "max"}  # noqa: RUF012

    @classmethod
    def make_metrics(cls, num_classes: int) -> dict[str, Metric]:
        return accuracies(num_classes)

    @classmethod
    def make_loss(cls) -> nn.Module:
        return CrossEntropy()

    @classmethod
    def trial(cls, num_classes: int) -> Trial:
        labels = torch.arange(num_classes)
        return torch.eye(num_classes), labels, labels

    def merge_views(self, views: list[Tensor]) -> Tensor:
        return log_mean_softmax(views)

    def metric_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, largest_share(labels)

    def by_image(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        ranks = top_k(outputs.shape[1])
        likeliest = outputs.topk(max(ranks.values())).indices == labels[:, None]
        return {name: outputs.argmax(1) == labels if k == 1 else likeliest[:, :k].any(1) for name, k in ranks.items()}


class MultilabelClassifier(ImageModule):
    """Any number of labels for each image: logits (N, num_classes), labels float32 (N, num_classes), 1 where one holds.

    Metrics: map, the mean over the labels of the average precision; f1, the mean over the labels; and label_accuracy,
    the share of all labels of all images that are right. A label is predicted where its sigmoid is above one half.
    """

    kind = LABELS
    better = {"loss": "min", "map": "max", "f1": "max", "label_accuracy": "max"}  # noqa: RUF012

    @classmethod
    def make_metrics(cls, num_classes: int) -> dict[str, Metric]:
        return {
            "map": MultilabelAveragePrecision(num_classes),
            "f1": MultilabelF1Score(num_classes),
            "label_accuracy": MultilabelAccuracy(num_classes, average="micro"),
        }

    @classmethod
    def make_loss(cls) -> nn.Module:
        return nn.BCEWithLogitsLoss()

    @classmethod
    def trial(cls, num_classes: int) -> Trial:
        labels = torch.eye(num_classes)
        return labels, labels, labels.long()

    def merge_views(self, views: list[Tensor]) -> Tensor:
        if len(views) == 1:
            return views[0]
        return torch.stack(views).sigmoid().mean(0).logit()

    def metric_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return outputs.sigmoid(), labels.round().long()

    def by_image(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"label_accuracy": ((outputs > 0) == (labels > 0.5)).float().mean(1)}


class ImageRegressor(ImageModule):
    """One number or more for each image: outputs and labels float32 (N, num_classes).

    The network learns the numbers less the mean of the training images', over their standard deviation, and the loss
    is of these; metrics are in the numbers' own unit, and so is what `alexnet.load` and export.py make of a checkpoint.
    They are mae, the mean absolute error, and r2, the mean of the numbers' coefficients of determination.
    """

    kind = NUMBERS
    better = {"loss": "min", "mae": "min", "r2": "max"}  # noqa: RUF012

    mean: Tensor
    std: Tensor

    def __init__(self, *arguments: Any, **others: Any) -> None:
        super().__init__(*arguments, **others)
        about = others.get("data") or {}
        self.register_buffer("mean", torch.tensor(about.get("label_mean", 0.0)), persistent=False)
        self.register_buffer("std", torch.tensor(about.get("label_std", 1.0)), persistent=False)
        self.record = {**self.record, "outputs": {"mean": self.mean.tolist(), "std": self.std.tolist()}}

    @classmethod
    def make_metrics(cls, num_classes: int) -> dict[str, Metric]:
        return {"mae": MeanAbsoluteError(), "r2": R2Score()}

    @classmethod
    def make_loss(cls) -> nn.Module:
        return nn.MSELoss()

    @classmethod
    def trial(cls, num_classes: int) -> Trial:
        labels = torch.arange(2.0 * num_classes).view(2, num_classes)
        return labels, labels, labels

    def loss_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, (labels - self.mean) / self.std

    def metric_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return outputs * self.std + self.mean, labels

    def by_image(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        predicted, labels = self.metric_inputs(outputs, labels)
        return {"mae": (predicted - labels).abs().mean(1)}
