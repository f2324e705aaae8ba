"""Logs how much local response normalisation does: whether its factors differ, or are nearly one number."""

import logging

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from alexnet.diagnostics.first_batch import FirstValidationBatch
from alexnet.models.lrn import LocalResponseNorm

SOME = 16  # images of the first batch
LITTLE = 0.01  # a spread below which the next layer's weights could as well hold the factor

log = logging.getLogger("alexnet")


class LrnSpread(FirstValidationBatch):
    """Logs how much the factors of every LRN layer differ, in every epoch.

    It is their standard deviation over their mean, on some validation images. Where it is near 0 every value has the
    same factor, which the next layer's weights could as well hold: the layer does nothing. The paper's inputs are of
    -128 to 128, and its constants suit them; those of data.normalize=channels are a hundred times smaller. A line at
    the end says how it was in the last epoch.
    """

    kinds = (LocalResponseNorm,)

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, tuple[float, float]] = {}  # of each layer, the factors' mean and spread

    def look(self, trainer: Trainer, name: str, layer: nn.Module, given: tuple[Tensor], values: Tensor) -> None:
        found = factors(layer, given[0][:SOME])
        spread = found.std() / found.mean()
        self.last[name] = float(found.mean()), float(spread)
        trainer.lightning_module.log(
            f"lrn_spread/{name}", spread.to(values.device), on_epoch=True, batch_size=1, sync_dist=True
        )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.last or not trainer.is_global_zero:
            return
        layers = []
        for name, (mean, spread) in self.last.items():
            layers.append(f"{name.rpartition('.')[2]} {mean:.3g}, spread {spread:.2%}")
        text = f"LRN's factors: {'; '.join(layers)}"
        if all(spread < LITTLE for _, spread in self.last.values()):
            text += ". Close to constants"
        log.info("%s", text)


def factors(layer: nn.Module, x: Tensor) -> Tensor:
    """Returns the factors by which `layer` multiplies the values of `x` that are not 0."""
    x = x.detach().float().cpu()  # bfloat16 would round the factors apart; a GPU would compile a kernel for this alone
    found: Tensor = (layer.forward(x) / x)[x.abs() > 1e-6]
    return found
