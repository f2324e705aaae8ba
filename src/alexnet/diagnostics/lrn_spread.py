"""How much local response normalisation does: whether its factors differ, or are as good as one number."""

from pytorch_lightning import Trainer
from torch import Tensor, nn

from alexnet.diagnostics.first_batch import FirstValidationBatch
from alexnet.models.lrn import LocalResponseNorm

SOME = 16  # images of the first batch


class LrnSpread(FirstValidationBatch):
    """Logs, of every LRN layer and epoch, the standard deviation over the mean of the factors by which it multiplied
    some validation images' values. Where it is near 0 every value has the same factor, which the next layer's weights
    could as well hold: the layer does nothing. The paper's inputs are of -128 to 128, and its constants suit them;
    those of data.normalize=channels are a hundred times smaller.
    """

    kinds = (LocalResponseNorm,)

    def look(self, trainer: Trainer, name: str, layer: nn.Module, given: tuple[Tensor], values: Tensor) -> None:
        found = spread(layer, given[0][:SOME])
        trainer.lightning_module.log(
            f"lrn_spread/{name}", found.to(values.device), on_epoch=True, batch_size=1, sync_dist=True
        )


def spread(layer: nn.Module, x: Tensor) -> Tensor:
    """Of the factors by which `layer` multiplies the values of `x` that are not 0."""
    x = x.detach().float().cpu()  # bfloat16 would round the factors apart; a GPU would compile a kernel for this alone
    factors = (layer.forward(x) / x)[x.abs() > 1e-6]
    return factors.std() / factors.mean()
