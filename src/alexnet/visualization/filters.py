"""Panel of the first layer's filters: Figure 3 of the paper."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torchvision.utils import make_grid

from alexnet.training.loggers import tensorboard_writer
from alexnet.visualization.board import PlotOnImprovement

SIDE = 77  # pixels of a filter at least; TensorBoard shows half of them


def grid(weight: Tensor, columns: int = 8) -> Tensor:
    """Draws filters (N, C, height, width) in rows.

    Zero is grey, and each filter's largest weight black or white. Where they see neither grey nor colour images it is
    the mean over C.

    Returns:
        uint8 (3, H, W).
    """
    shown = weight.detach().float().cpu()
    shown = shown if shown.shape[1] in (1, 3) else shown.mean(1, keepdim=True)
    shown = 0.5 + shown / (2 * shown.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12))
    times = -(-SIDE // shown.shape[-1])
    shown = shown.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return (255 * make_grid(shown, nrow=columns, padding=3, pad_value=1)).round().byte()


class Filters(PlotOnImprovement):
    """Draws the first convolution's filters at the start, and at each best epoch."""

    every = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        board, kept = tensorboard_writer(trainer), self.keep(trainer, pl_module)
        if board and kept is not None and trainer.ckpt_path is None:
            self.draw(board, None, kept, 0)

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> Tensor | None:
        first = next((layer for layer in pl_module.modules() if isinstance(layer, nn.Conv2d)), None)
        return None if first is None else first.weight.detach().clone()

    def draw(self, board: Any, data: Any, kept: Tensor, step: int) -> None:
        board.add_image("conv1_filters", grid(kept), step)
