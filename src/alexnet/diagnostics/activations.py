"""Logs the outputs of the activation functions, and which units never fire."""

from pytorch_lightning import Trainer
from torch import Tensor, nn

from alexnet.diagnostics.first_batch import FirstValidationBatch
from alexnet.training.loggers import tensorboard_writer

SAMPLE = 2**15  # values of a layer's histogram


class Activations(FirstValidationBatch):
    """Logs the activations of the first batch of validation images, after each epoch.

    They are a histogram of every activation function's values, and of ReLUs the share of units (of feature maps, where
    there are such) that are zero for all of them.
    """

    kinds = (nn.ReLU, nn.Tanh, nn.Sigmoid)

    def look(self, trainer: Trainer, name: str, layer: nn.Module, given: tuple[Tensor], values: Tensor) -> None:
        if not (board := tensorboard_writer(trainer)):
            return
        step, found = trainer.global_step, values.detach()
        with trainer.profiler.profile("[Callback]Activations.forward"):  # type: ignore[attr-defined]
            shown = found.flatten()[:: -(-found.numel() // SAMPLE)].float().cpu()
            board.add_histogram(f"activations/{name}", shown, step)
            if isinstance(layer, nn.ReLU):
                fires = (found > 0).flatten(2).any(2) if found.ndim > 2 else found > 0
                board.add_scalar(f"dead_units/{name}", 1 - fires.any(0).float().mean().item(), step)
