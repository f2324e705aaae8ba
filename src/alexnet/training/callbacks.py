"""Callbacks of a run: progress, speed, and a loss that becomes NaN."""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from alexnet.errors import UserError
from alexnet.training.metrics import DISPLAY

log = logging.getLogger(__name__)


def is_logging_step(trainer: Trainer) -> bool:
    """Returns whether the present step is one of those that are logged."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(every) and (trainer.global_step + 1) % every == 0


def layer_name(parameter: str) -> str:
    """Returns the name for a curve of a layer, or of its weights."""
    return parameter.removeprefix("network.").removesuffix(".weight")


def log_figures(trainer: Trainer, figures: Mapping[str, Tensor], step: int) -> None:
    """Sends many metrics of a step to the loggers in one call.

    LightningModule.log also keeps each for the epoch, which takes longer than a small network's layer.
    """
    values = {name: float(value) for name, value in figures.items()}
    for logger in trainer.loggers:
        logger.log_metrics({"epoch": trainer.current_epoch} | values, step)


class Throughput(Callback):
    """Logs images per second of the training steps, and one line per epoch with the time left.

    The first step of a process is not counted on an accelerator, or with `compiles`: kernels are compiled in it.
    """

    KEPT = ("images", "seconds", "epoch_images", "epoch_seconds")  # in a checkpoint

    def __init__(self, *, compiles: bool = False) -> None:
        self.compiles = compiles
        self.images, self.seconds = 0, 0.0  # of all epochs so far, and of all ranks
        self.epoch_images, self.epoch_seconds = 0, 0.0  # of this rank

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin, self.first = time.perf_counter(), trainer.current_epoch
        self.last = self.begin  # within an epoch, where a run is resumed
        self.warm = not self.compiles and pl_module.device.type == "cpu"

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in self.KEPT:
            setattr(self, name, state_dict[name])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_images, self.epoch_seconds, self.last = 0, 0.0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        measured = not self.warm or batch_idx + 1 == trainer.num_training_batches
        if measured and torch.accelerator.is_available():
            torch.accelerator.synchronize()  # it may still be at work on what was asked of it
        now = time.perf_counter()
        if self.warm:
            self.epoch_images += len(batch[1])
            self.epoch_seconds += now - self.last
        self.last, self.warm = now, True

    @property
    def images_per_second(self) -> float | None:
        """Over all epochs so far and all ranks."""
        return round(self.images / self.seconds, 2) if self.seconds else None

    @property
    def rate(self) -> float:
        """Of this epoch on this rank."""
        return self.epoch_images / self.epoch_seconds if self.epoch_seconds else 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        counted = torch.tensor(self.epoch_images, device=pl_module.device)
        images = int(trainer.strategy.reduce(counted, reduce_op="sum"))
        rate = images / self.epoch_seconds if self.epoch_seconds else 0.0
        self.images, self.seconds = self.images + images, self.seconds + self.epoch_seconds
        pl_module.log("images_per_second", rate, sync_dist=True)
        metrics, epoch, epochs = trainer.callback_metrics, trainer.current_epoch + 1, trainer.max_epochs
        stages = ("train", "val") if getattr(pl_module, "validated", epoch - 1) == epoch - 1 else ("train",)
        parts = [
            f"{stage} loss {metrics[f'{stage}/loss']:.4f}{_others(metrics, stage, pl_module)}"
            for stage in stages
            if f"{stage}/loss" in metrics
        ]
        each = (time.perf_counter() - self.begin) / (epoch - self.first)
        left = f", {each * (epochs - epoch):.0f} s left" if epochs and epochs > 0 else ""
        log.info("epoch %d/%s: %s, %.1f images/s%s", epoch, epochs, ", ".join(parts), rate, left)


def _others(metrics: Mapping[str, Tensor], stage: str, module: LightningModule) -> str:
    """Returns the metrics of a stage other than its loss and top5."""
    names = [name for name in getattr(module, "better", ("top1",)) if name not in ("loss", "top5")]
    known = [name for name in names if f"{stage}/{name}" in metrics]
    return "".join(f" {DISPLAY.get(name, name)} {metrics[f'{stage}/{name}']:.4f}" for name in known)


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar, with the time left and images per second."""

    def __init__(self, speed: Throughput) -> None:
        super().__init__(leave=False)
        self.speed = speed
        self.read, self.shown = 0.0, dict[str, Any]()
        beside_others = current_process().name.startswith("Loky")  # of joblib, whose jobs have one screen
        cannot_move = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"
        if beside_others or cannot_move:
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns the bar's metrics. On a GPU the loss is read twice a second: reading it waits for the step."""
        now = time.perf_counter()
        if now - self.read > 0.5:
            self.read, loss = now, super().get_metrics(trainer, pl_module).get("train/loss_step", "")
            self.shown = {"loss": loss, "images/s": f"{self.speed.rate * trainer.world_size:.0f}"}
        return self.shown


class RestoreSigtermHandler(Callback):
    """Puts back the program's own handler of SIGTERM.

    Lightning's speaks to the other ranks from within the signal, and waits for ever where they are in another exchange.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self.handler)

    on_sanity_check_start = on_test_start = on_train_start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":  # ResumeCheckpoint answers while a run trains
            self.on_train_start(trainer, pl_module)


class TestImagesWriter(Callback):
    """Writes the module's `by_image` values of every test image, in their order.

    A comparison of two runs then knows which images they differ in. Where images are right or wrong this is
    test_right.npz: `pictures`, their number, and for each of top1 and top5 an array of packed bits,
    np.unpackbits(file["top1"], count=file["pictures"]). Else it is test_values.npz, with an array float32 for each
    metric.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        labels, loader = batch[1], trainer.test_dataloaders
        index = torch.as_tensor(loader.batch_sampler.positions(batch_idx, len(labels)), device=labels.device)  # type: ignore[union-attr]
        module: Any = pl_module
        self.seen.append({"index": index, **module.by_image(outputs, labels)})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seen = _joined(self.seen)
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, seen)
            seen = _joined(parts)
        order = seen.pop("index").argsort()
        found = {name: values[order].numpy() for name, values in seen.items()}
        if not trainer.is_global_zero or not found:
            return
        if all(values.dtype == bool for values in found.values()):
            bits = {name: np.packbits(values) for name, values in found.items()}
            np.savez(self.folder / "test_right.npz", pictures=len(order), **bits)  # type: ignore[arg-type]
        else:
            np.savez(self.folder / "test_values.npz", **found)  # type: ignore[arg-type]


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenates tensors of the same names, on the CPU."""
    joined = {}
    for name in parts[0]:
        joined[name] = torch.cat([part[name] for part in parts]).cpu()
    return joined


class StopAtNaN(Callback):
    """Stops when the loss is NaN or infinite, before a checkpoint of such weights replaces a good one.

    What each step finds stays on the device; it is read every `every` steps on an accelerator, every step on the CPU.
    The loss is that of all ranks (ImageModule.step_loss), so that they stop in the same step.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.first: Tensor | None = None  # (step, loss) of the first bad step; a step of -1 while there is none

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss, step = getattr(pl_module, "step_loss", outputs["loss"]).detach(), trainer.global_step
        if loss.device.type == "cpu":
            if not math.isfinite(loss):
                self._stop(trainer, "training", step, float(loss))
            return
        if self.first is None:
            self.first = torch.full((2,), -1.0, device=loss.device)
        found = torch.stack((torch.full_like(loss, step), loss)).float()
        self.first = torch.where((self.first[0] < 0) & ~loss.isfinite(), found, self.first)
        if step % self.every == 0:
            self.stop_if_bad(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop_if_bad(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop_if_bad(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn == TrainerFn.FITTING and loss is not None and not loss.isfinite():
            self._stop(trainer, "validation", trainer.global_step, float(loss))

    def stop_if_bad(self, trainer: Trainer) -> None:
        """Called before validation, at the end of an epoch, and before a state is kept."""
        if self.first is not None and self.first[0] >= 0:
            self._stop(trainer, "training", int(self.first[0]), float(self.first[1]))

    def _stop(self, trainer: Trainer, which: str, step: int, loss: float) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        kept = getattr(trainer.checkpoint_callback, "best_model_path", "")
        left = f"No checkpoint was written before: {trainer.default_root_dir} holds only the log."
        if kept:
            left = f"Last good checkpoint: {kept}"
        raise UserError(
            f"the {which} loss is {loss} at step {step} (epoch {trainer.current_epoch + 1}), learning rate {rate:g}: "
            f"lower optimizer.lr.\n{left}"
        )
