"""Averages the weights of many steps. The average is validated, kept and tested in place of the last step's weights.

Lightning's WeightAveraging swaps the average in for each validation and keeps both sets of weights in last.ckpt.
"""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from alexnet.errors import ArgumentError
from alexnet.validation import check_float

WARM_UP = 10  # steps, as TensorFlow's ExponentialMovingAverage has it


class StepAverage(WeightAveraging):
    """Base class of averages to which each step adds its weights.

    The share depends on the step's number alone, so that a resumed run needs no other state.
    """

    def __init__(self) -> None:
        super().__init__(avg_fn=self._add)
        self.share = 1.0  # of the weights that are added next

    def share_of(self, step: int) -> float:
        """Returns the weight of optimiser step `step`, counted from 0, in the average; 0 leaves it as it is."""
        raise NotImplementedError

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is None:
            return False
        self.share = self.share_of(step_idx)
        return self.share > 0

    def _add(self, averaged: Tensor, current: Tensor, _: Tensor | int) -> Tensor:
        return averaged + (current - averaged) * self.share


class EMA(StepAverage):
    """Exponential moving average of the weights.

    Args:
        decay: what is left of the average after a step, in [0, 1). In the first steps it is less,
            (1 + step) / (10 + step), so that short runs do not average their initial weights.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = check_float("decay", decay, 0, 1)
        if self.decay == 1:
            raise ArgumentError("decay=1: must be less than 1, or the average never changes")

    def share_of(self, step: int) -> float:
        return 1 - min(self.decay, (1 + step) / (WARM_UP + step))


class SWA(StepAverage):
    """Stochastic weight averaging (Izmailov et al., 2018).

    It is the mean of the weights at the end of each of the last epochs. Until then the average is the weights
    themselves. It wants a learning rate that stays up, such as scheduler=constant.

    Args:
        start: the share of the epochs after which the mean begins, in [0, 1).
    """

    def __init__(self, start: float = 0.75) -> None:
        super().__init__()
        self.start = check_float("start", start, 0, 1)
        if self.start == 1:
            raise ArgumentError("start=1: must be less than 1, or nothing is averaged")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            raise ArgumentError("callbacks.swa.start: is a share of trainer.max_epochs, which must be set")
        self.steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)  # of an epoch
        self.first = min(int(self.start * trainer.max_epochs), trainer.max_epochs - 1)

    def share_of(self, step: int) -> float:
        epoch, place = divmod(step, self.steps)
        if epoch < self.first:
            return 1.0
        return 1 / (epoch - self.first + 1) if place == self.steps - 1 else 0.0


def save_average(trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Puts averaged weights, if a callback has some, into a checkpoint that holds weights alone.

    Lightning does not ask callbacks for these.
    """
    for callback in _averages(trainer):
        callback.on_save_checkpoint(trainer, pl_module, checkpoint)
        for key in ("current_model_state", "averaging_state"):
            checkpoint.pop(key, None)


def restore_last_weights(trainer: Trainer, pl_module: LightningModule) -> None:
    """Puts the last step's weights back into the module if a validation is interrupted."""
    for callback in _averages(trainer):
        callback.on_validation_epoch_end(trainer, pl_module)


def _averages(trainer: Trainer) -> list[WeightAveraging]:
    return [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
