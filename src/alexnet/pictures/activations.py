"""What the activation functions give, and which units never fire."""

from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alexnet.pictures.board import writer

KINDS = (nn.ReLU, nn.Tanh, nn.Sigmoid)
SAMPLE = 2**15  # values of a layer's histogram


class Activations(Callback):
    """After each epoch, of the first batch of validation pictures: a histogram of every activation function's values,
    and of ReLUs the share of units (of feature maps, where there are such) that are zero for all of them.
    """

    def __init__(self) -> None:
        self.hooks: list[RemovableHandle] = []

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx or trainer.sanity_checking or not writer(trainer):
            return
        layers = [(name, layer) for name, layer in pl_module.named_modules() if isinstance(layer, KINDS)]
        self.hooks = [
            layer.register_forward_hook(partial(_show, trainer, name.removeprefix("network.")))
            for name, layer in layers
        ]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        for hook in self.hooks:
            hook.remove()
        self.hooks = []


def _show(trainer: Trainer, name: str, layer: nn.Module, given: Any, values: Tensor) -> None:
    board, step, found = writer(trainer), trainer.global_step, values.detach()
    with trainer.profiler.profile("[Callback]Activations.forward"):  # type: ignore[attr-defined]
        board.add_histogram(f"activations/{name}", found.flatten()[:: -(-found.numel() // SAMPLE)].float().cpu(), step)
        if isinstance(layer, nn.ReLU):
            fires = (found > 0).flatten(2).any(2) if found.ndim > 2 else found > 0
            board.add_scalar(f"dead_units/{name}", 1 - fires.any(0).float().mean().item(), step)
