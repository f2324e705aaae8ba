"""Logs how far a step moves each layer's weights."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer

from alexnet.training.callbacks import is_logging_step, layer_name, log_figures

SAMPLE = 2**16  # weights of a layer at most: the norm of so many is that of all to half a percent


class Updates(Callback):
    """Logs the norm of a step's update over the norm of the weights, of every layer, at every step that is logged.

    About 0.001 is usual; far more is a rate too high, far less one too low. callbacks=gradients logs the gradients.
    """

    def __init__(self) -> None:
        self.before: dict[str, Tensor] = {}  # while a step is made that is logged

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if is_logging_step(trainer):
            self.before = {name: weights.clone() for name, weights in _some(pl_module)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.before:
            return
        ratios = {}
        for i, (name, weights) in enumerate(_some(pl_module), 1):
            moved = vector_norm(weights - self.before[name])
            ratios[f"update_to_weight/{i:02}_{name}"] = moved / vector_norm(self.before[name])
        log_figures(trainer, ratios, trainer.global_step - 1)  # which counts the step already
        self.before = {}


def _some(module: LightningModule) -> list[tuple[str, Tensor]]:
    """Returns equally spaced weights of each trained layer, an odd number apart so that every column is among them."""
    weights = [(name, p.detach()) for name, p in module.named_parameters() if p.ndim > 1 and p.requires_grad]
    return [(layer_name(name), p.flatten()[:: -(-p.numel() // SAMPLE) | 1]) for name, p in weights]
