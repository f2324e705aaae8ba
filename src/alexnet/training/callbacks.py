"""What watches a run: progress, speed, and a loss that is no number any more."""

import logging
import sys
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor

from alexnet.checks import UserError

log = logging.getLogger(__name__)


class Speed(Callback):
    """Images per second of the training steps, and one line per epoch with the time that is left."""

    def __init__(self) -> None:
        self.images = self.total_images = 0
        self.seconds = self.total_seconds = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.images, self.start = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size
        self.seconds = time.perf_counter() - self.start
        if batch_idx + 1 == trainer.num_training_batches:  # the device may still be at work on what was asked of it
            torch.accelerator.synchronize() if torch.accelerator.is_available() else None
            self.seconds = time.perf_counter() - self.start
            self.total_images, self.total_seconds = self.total_images + self.images, self.total_seconds + self.seconds

    @property
    def rate(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("images_per_second", self.rate)
        metrics, epoch, epochs = trainer.callback_metrics, trainer.current_epoch + 1, trainer.max_epochs
        parts = [f"{stage} loss {metrics[f'{stage}/loss']:.4f} top-1 {metrics[f'{stage}/top1']:.4f}"
                 for stage in ("train", "val") if f"{stage}/loss" in metrics]  # fmt: skip
        each = (time.perf_counter() - self.begin) / epoch
        left = f", {each * (epochs - epoch):.0f} s left" if epochs and epochs > 0 else ""
        log.info("epoch %d/%s: %s, %.1f images/s%s", epoch, epochs, ", ".join(parts), self.rate, left)


class ProgressBar(RichProgressBar):
    """Lightning's rich bar with the time left, and images per second."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(leave=False)
        self.speed = speed
        if not sys.stdout.isatty():
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        loss = super().get_metrics(trainer, pl_module).get("train/loss_step", "")
        return {"loss": loss, "images/s": f"{self.speed.rate:.0f}"}


class StopAtNaN(Callback):
    """Stops when the loss is NaN or infinite, before a checkpoint of such weights replaces a good one.

    The check of each step stays on the device; it is read every `every` steps on an accelerator, every step on the CPU.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.first: Tensor | None = None  # the first bad step, or -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss, step = outputs["loss"].detach(), trainer.global_step
        if self.first is None:
            self.first = torch.full((), -1, device=loss.device)
        self.first = torch.where((self.first < 0) & ~loss.isfinite(), step, self.first)
        if loss.device.type == "cpu" or step % self.every == 0:
            self._raise_if_bad(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if not trainer.sanity_checking and loss is not None and not loss.isfinite():
            self._stop(trainer, "validation", trainer.global_step, float(loss))

    def _raise_if_bad(self, trainer: Trainer) -> None:
        if self.first is not None and self.first >= 0:
            self._stop(trainer, "training", int(self.first), float("nan"))

    def _stop(self, trainer: Trainer, which: str, step: int, loss: float) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        kept = getattr(trainer.checkpoint_callback, "best_model_path", "")
        raise UserError(
            f"the {which} loss is {loss} at step {step} (epoch {trainer.current_epoch + 1}), learning rate {rate:g}: "
            f"lower optimizer.lr.\n{f'Last good checkpoint: {kept}' if kept else 'No checkpoint was written before.'}"
        )
