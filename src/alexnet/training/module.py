"""The LightningModule: one step of training, validation and testing. Tasks are its subclasses, in tasks.py."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from lightning_fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection

from alexnet.errors import UserError
from alexnet.rng import generator
from alexnet.training.averaging import save_average
from alexnet.training.callbacks import is_logging_step
from alexnet.training.losses import total_loss
from alexnet.training.metrics import MeanLoss
from alexnet.training.optim import make_schedule, unfused

Batch = tuple[Tensor | list[Tensor], Tensor]  # images, or several windows of each; labels, or soft ones
Trial = tuple[Tensor, Tensor, Tensor]


class ImageModule(LightningModule):
    """A loss on a network's outputs, and metrics. A subclass is a task, which says what the outputs mean.

    Attributes:
        kind: what a label is, of alexnet.data.splits.KINDS.
        better: of each metric that every run of the task has, whether `max` or `min` is better.

    Args:
        network: (N, ...) images to (N, num_classes) outputs.
        optimizer: of the network, as optim.make_optimizer makes it.
        scheduler: see optim.make_schedule.
        num_classes: number of outputs.
        monitor, mode: the metric that says which epoch is best, and whether `max` or `min` is better.
        seed: of the dropout masks, which are a function of (seed, epoch, batch, rank).
        record: plain values that every checkpoint holds, the run's config among them.
        loss: of outputs and labels, see losses.py; None: the task's own.
        metrics: more figures, of what `metric_inputs` gives, by name, beside those of `make_metrics`.
        channels_last: the memory layout of network and images.
        data: what a checkpoint's "data" says of images and labels.
    """

    kind: ClassVar[str]
    better: ClassVar[dict[str, str]]

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any],
        num_classes: int,
        monitor: str = "val/top1",
        mode: str = "max",
        seed: int = 0,
        record: dict[str, Any] | None = None,
        loss: nn.Module | None = None,
        metrics: dict[str, Metric] | None = None,
        *,
        channels_last: bool = True,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.loss = loss or self.make_loss()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.monitor, self.mode, self.seed, self.record = monitor, mode, seed, record or {}
        self.compiled = False  # whether the network is, by torch.compile
        self.validated = -1  # the last epoch that was
        self.resumed_mid_epoch = False  # within an epoch, without a step so far
        self.step_loss = torch.tensor(0.0)  # of the last step, the mean over the samples of all ranks
        # Groups would make one metric of those whose counts are the same after a batch, as top1's and top5's may be.
        every: Any = self.make_metrics(num_classes) | (metrics or {})
        collection = MetricCollection(every, compute_groups=False)
        self.train_metrics = collection.clone(prefix="train/")
        self.val_metrics = collection.clone(prefix="val/")
        self.test_metrics = collection.clone(prefix="test/")
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()

    @classmethod
    def make_metrics(cls, num_classes: int) -> dict[str, Metric]:
        """Returns the metrics of every run of this task."""
        raise NotImplementedError

    @classmethod
    def make_loss(cls) -> nn.Module:
        """Returns the loss if none is given."""
        raise NotImplementedError

    @classmethod
    def trial(cls, num_classes: int) -> Trial:
        """Returns outputs (num_classes, num_classes), labels and metric targets, to try a loss and metrics on."""
        raise NotImplementedError

    def merge_views(self, views: list[Tensor]) -> Tensor:
        """Returns the outputs (N, num_classes) of images from those of their windows."""
        return torch.stack(views).mean(0)

    def loss_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the loss takes."""
        return outputs, labels

    def metric_inputs(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what metrics take."""
        return outputs, labels

    def by_image(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns metrics of each image, (N,), whose mean is the run's, for intervals that hold for new test images.

        Bool where an image is right or wrong.
        """
        return {}

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.network(images.contiguous(memory_format=self.memory_format))
        if not isinstance(outputs, Tensor):  # which build.py cannot see: it tries the network in eval mode
            raise UserError(f"model: gives a {type(outputs).__name__} in training; a tensor of logits is needed")
        return outputs

    def on_train_start(self) -> None:
        """Finds the GPUs that the network is on: with model.devices there are two."""
        self.devices = sorted({p.device for p in self.network.parameters() if p.device.type != "cpu"}, key=str)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seed = generator(self.seed, f"step/{self.current_epoch}/{batch_idx}/{self.global_rank}").initial_seed()
        torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every kind of device, up to a ms
        for device in self.devices:
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            else:
                torch.get_device_module(device).manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.resumed_mid_epoch = False
        loss, _ = self._score("train", batch, self.train_metrics, self.train_loss)
        self.step_loss = loss.detach()
        ranks, shown = self.trainer.world_size, is_logging_step(self.trainer)  # telling it takes a ms each time
        if ranks == 1:
            if shown:
                self.log("train/loss_step", self.step_loss, prog_bar=True)
            return loss
        # Ranks step with the mean of their gradients; the weights make of it the mean over the samples of them all.
        n = torch.full((), float(len(batch[1])), device=self.device)
        total = torch.stack((n, n * loss.detach()))
        torch.distributed.all_reduce(total)
        self.step_loss = total[1] / total[0]
        if shown:
            self.log("train/loss_step", self.step_loss, prog_bar=True)
        return loss * (n * ranks / total[0])

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._score("val", batch, self.val_metrics, self.val_loss)[1]

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._score("test", batch, self.test_metrics, self.test_loss)[1]

    def _score(self, stage: str, batch: Batch, metrics: MetricCollection, mean: MeanLoss) -> tuple[Tensor, Tensor]:
        images, labels = batch
        n = len(labels)  # a rank may have none of a batch's samples, and still takes part in the step
        views = images if isinstance(images, list) else [images]
        if n == 0:
            views = [view.new_zeros(2, *view.shape[1:]) for view in views]
        outputs = self.merge_views([self(view)[:n].float() for view in views])
        total = total_loss(self.loss, *self.loss_inputs(outputs, labels))
        if not mean.update_called:  # once an epoch: Lightning asks them at its end, and telling it takes 1 ms each
            self.log(f"{stage}/loss", mean, on_step=False, on_epoch=True)
            self.log_dict(metrics, on_step=False, on_epoch=True)
        if n:
            metrics.update(*self.metric_inputs(outputs.detach(), labels))
            mean.update(total.detach(), n)
        return total / max(n, 1), outputs

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips gradients. Lightning refuses fused optimisers in any precision, but only float16 scales gradients."""
        if not gradient_clip_val or self.trainer.precision == "16-mixed":
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.network.parameters(), gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.validated = self.current_epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds plain values only, so that torch.load(weights_only=True) reads the file without running code."""
        checkpoint |= self.record
        if "callbacks" not in checkpoint:
            save_average(self.trainer, self, checkpoint)
        if checkpoint.get("batches"):  # within an epoch
            mine = move_data_to_device({name: metric.metric_state for name, metric in self._counting()}, "cpu")
            ranks: list[Any] = [mine] * self.trainer.world_size
            if self.trainer.world_size > 1:
                torch.distributed.all_gather_object(ranks, mine)
            checkpoint["counted"] = ranks
        is_stale = self.validated != self.current_epoch  # Lightning keeps the metrics of the last validation
        checkpoint["metrics"] = {}
        for name, value in self.trainer.callback_metrics.items():
            if not (is_stale and name.startswith("val/")):
                checkpoint["metrics"][name] = value.item()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what each rank has counted of the epoch so far."""
        if "counted" in checkpoint:
            self.resumed_mid_epoch = True
            mine = checkpoint["counted"][self.global_rank]
            for name, metric in self._counting():
                state = mine[name]
                if "tp" in state:  # of versions that counted by torchmetrics' MulticlassAccuracy
                    state = {"correct": state["tp"].sum(), "n": (state["tp"] + state["fn"]).sum()}
                for key, value in state.items():
                    setattr(metric, key, apply_to_collection(value, Tensor, lambda x: x.to(self.device)))

    def on_train_epoch_end(self) -> None:
        """Logs the metrics of an epoch that was resumed in its validation, where no step has logged them."""
        if self.resumed_mid_epoch:
            with warnings.catch_warnings():  # torchmetrics misses the updates, of which on_load_checkpoint has the sums
                warnings.filterwarnings("ignore", "The ``compute`` method of metric")
                self.log("train/loss", self.train_loss.compute())
                self.log_dict(self.train_metrics.compute())
            for _, metric in self._counting():
                metric.reset()
        self.resumed_mid_epoch = False

    def _counting(self) -> list[tuple[str, Metric]]:
        metrics = [("loss", self.train_loss), *self.train_metrics.items(keep_base=True, copy_state=False)]
        return [(name, metric) for name, metric in metrics if isinstance(metric, Metric)]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network)
        if self.trainer.precision == "16-mixed":
            optimizer = unfused(optimizer)
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = make_schedule(self.scheduler, optimizer, steps_per_epoch, total_steps, self.monitor, self.mode)
        if schedule and schedule.get("monitor", "").startswith("val"):  # it has a value only after a validation
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}
