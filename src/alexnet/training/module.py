"""The LightningModule: what one step of training, validation and testing is."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from alexnet.rng import stream

Batch = tuple[Tensor, Tensor]


class ImageClassifier(LightningModule):
    """Cross-entropy on a network's logits, with top-1 and (for more than five classes) top-5 accuracy.

    Args:
        network: (N, ...) images to (N, num_classes) logits.
        optimizer: makes the optimiser from the network.
        scheduler: makes Lightning's lr_scheduler dict, or None, from (optimizer, steps of an epoch, steps of the run,
            monitor, mode).
        num_classes: number of classes.
        monitor, mode: the metric that says which epoch is best, and whether `max` or `min` is better.
        seed: of the dropout masks, which are a function of (seed, epoch, batch, rank).
        record: plain values that every checkpoint shall hold, the run's config among them.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        scheduler: Callable[..., dict[str, Any] | None],
        num_classes: int,
        monitor: str = "val/top1",
        mode: str = "max",
        seed: int = 0,
        record: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimizer, self.scheduler = optimizer, scheduler
        self.monitor, self.mode, self.seed, self.record = monitor, mode, seed, record or {}
        self.train_accuracy = _accuracy("train", num_classes)
        self.val_accuracy = _accuracy("val", num_classes)
        self.test_accuracy = _accuracy("test", num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(stream(self.seed, f"step/{self.current_epoch}/{batch_idx}/{self.global_rank}").initial_seed())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._score("train", batch, self.train_accuracy)
        self.log("train/loss_step", loss.detach(), batch_size=len(batch[1]), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score("val", batch, self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score("test", batch, self.test_accuracy)

    def _score(self, stage: str, batch: Batch, accuracy: MetricCollection) -> Tensor:
        images, labels = batch
        logits = self.network(images).float()
        loss = cross_entropy(logits, labels)
        accuracy.update(logits.detach(), labels)
        n = len(labels)  # the epoch's loss is the mean over samples, not over batches
        self.log(f"{stage}/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
        self.log_dict(accuracy, on_step=False, on_epoch=True, batch_size=n)
        return loss

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's own refuses fused optimisers whatever the precision; only float16 scales its gradients."""
        if not gradient_clip_val or self.trainer.precision == "16-mixed":
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.network.parameters(), gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain values only: torch.load(weights_only=True) then reads the file without running anything from it."""
        checkpoint |= self.record
        checkpoint["metrics"] = {name: value.item() for name, value in self.trainer.callback_metrics.items()}

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network)
        steps = self.trainer.estimated_stepping_batches
        epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = self.scheduler(optimizer, epoch, steps, self.monitor, self.mode)
        if schedule and "monitor" in schedule:  # it has a value only after a validation
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer} | ({"lr_scheduler": schedule} if schedule else {})


def _accuracy(stage: str, num_classes: int) -> MetricCollection:
    ranks = {"top1": 1, "top5": 5} if num_classes > 5 else {"top1": 1}
    return MetricCollection(
        {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)
            for name, k in ranks.items()
        },
        prefix=f"{stage}/",
    )
