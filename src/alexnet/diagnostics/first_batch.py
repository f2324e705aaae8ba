"""Calls a method with the layers' inputs and outputs in the first batch of each validation."""

from functools import partial
from typing import Any, ClassVar

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alexnet.training.callbacks import layer_name


class FirstValidationBatch(Callback):
    """Base class that sees every layer of `kinds` in the first batch of each validation."""

    kinds: ClassVar[tuple[type[nn.Module], ...]]

    def __init__(self) -> None:
        self.hooks: list[RemovableHandle] = []

    def look(self, trainer: Trainer, name: str, layer: nn.Module, given: tuple[Tensor], values: Tensor) -> None:
        """Called for each layer. name: the layer's, in the network. given, values: its input and output."""
        raise NotImplementedError

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx or trainer.sanity_checking:
            return
        layers = [
            (layer_name(name), layer) for name, layer in pl_module.named_modules() if isinstance(layer, self.kinds)
        ]
        self.hooks = [layer.register_forward_hook(partial(self.look, trainer, name)) for name, layer in layers]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
