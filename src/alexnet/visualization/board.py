"""Base class of the panels, which finds out that an epoch is the best so far."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from alexnet.training.loggers import tensorboard_writer


class PlotOnImprovement(Callback):
    """Draws the best epoch so far by the module's `monitor`.

    It does so as soon as `every` seconds have passed since the last time, and at the end: short epochs are not spent on
    drawing. `keep` gives what `draw` needs, or None. All ranks ask `keep`; the one that writes draws.
    """

    every = 30.0

    def __init__(self) -> None:
        self.best: float | None = None
        self.drawn = time.monotonic()
        self.waiting: tuple[Any, int] | None = None  # what keep has given, and the step

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._ask(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ask(trainer, pl_module, "train")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer)

    def _ask(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        monitor: Any = pl_module.monitor
        if monitor.startswith(split) and monitor in trainer.callback_metrics:
            value, sign = float(trainer.callback_metrics[monitor]), 1 if pl_module.mode == "max" else -1
            if self.best is None or sign * value > sign * self.best:
                self.best, self.waiting = value, (self.keep(trainer, pl_module), trainer.global_step)
        if time.monotonic() - self.drawn >= self.every:
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        board = tensorboard_writer(trainer)
        if self.waiting and self.waiting[0] is not None and board:
            self.draw(board, trainer.datamodule, *self.waiting)  # type: ignore[attr-defined]
            self.drawn = time.monotonic()
        self.waiting = None

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        raise NotImplementedError

    def draw(self, board: Any, data: Any, kept: Any, step: int) -> None:
        raise NotImplementedError
