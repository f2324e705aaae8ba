"""How much local response normalisation does: whether its factors differ, or are as good as one number."""

from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alexnet.models.lrn import LocalResponseNorm

SOME = 16  # pictures of the first batch


class LrnSpread(Callback):
    """Logs, of every LRN layer and epoch, the standard deviation over the mean of the factors by which it multiplied
    some validation pictures' values. Where it is near 0 every value has the same factor, which the next layer's weights
    could as well hold: the layer does nothing. The paper's inputs are of -128 to 128, and its constants suit them;
    those of data.normalize=channels are a hundred times smaller.
    """

    def __init__(self) -> None:
        self.hooks: list[RemovableHandle] = []
        self.found: dict[str, Tensor] = {}

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0 and not trainer.sanity_checking:
            norms = [(name, layer) for name, layer in pl_module.named_modules() if isinstance(layer, LocalResponseNorm)]
            self.hooks = [layer.register_forward_hook(partial(self._look, name)) for name, layer in norms]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        for hook in self.hooks:
            hook.remove()
        for name, spread in self.found.items():
            called = f"lrn_spread/{name.removeprefix('network.')}"
            pl_module.log(called, spread, on_epoch=True, batch_size=1, sync_dist=True)
        self.hooks, self.found = [], {}

    def _look(self, name: str, layer: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        self.found[name] = spread(layer, given[0][:SOME])


def spread(layer: nn.Module, x: Tensor) -> Tensor:
    """Of the factors by which `layer` multiplies the values of `x` that are not 0."""
    x = x.detach().float()  # bfloat16 would round the factors apart
    factors = (layer.forward(x) / x)[x.abs() > 1e-6]
    return factors.std() / factors.mean()
