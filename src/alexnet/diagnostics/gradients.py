"""Logs how much of the error arrives at each layer."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.linalg import vector_norm
from torch.optim import Optimizer

from alexnet.training.callbacks import is_logging_step, layer_name, log_figures


class GradientNorms(Callback):
    """Logs the L2 norm of the gradient of every layer's weights, at every step that is logged.

    It says how much of the error arrives at each layer. It is of the whole batch, as the optimiser gets it, before any
    clipping. The names have a number, gradients/01_features.conv1, since loggers sort them.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not is_logging_step(trainer):
            return
        weights = [(name, p.grad) for name, p in pl_module.named_parameters() if p.ndim > 1 and p.grad is not None]
        norms = {f"gradients/{i:02}_{layer_name(name)}": vector_norm(grad) for i, (name, grad) in enumerate(weights, 1)}
        log_figures(trainer, norms, trainer.global_step)
