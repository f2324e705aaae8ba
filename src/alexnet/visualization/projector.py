"""Panel of the last hidden layer, for TensorBoard's projector."""

from contextlib import ExitStack
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import interpolate

from alexnet.errors import escape_control_chars
from alexnet.models.features import capture_features
from alexnet.training.loggers import tensorboard_writer

IMAGES, DIMENSIONS, SIDE = 500, 50, 32  # at most; of the principal components; pixels of a thumbnail


class Projector(Callback):
    """Writes the last layer's inputs (AlexNet's fc7) for test images, in the directions of the largest variance.

    The projector takes them for its own start, and a file of 4,096 numbers an image would be a hundred times as large.
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []  # activations, thumbnails, labels
        self.hooks = ExitStack()
        self.now: list[Tensor] = []  # of this batch, for each of its windows
        if tensorboard_writer(trainer):
            network: Any = pl_module.network
            self.now = self.hooks.enter_context(capture_features(network))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images, labels = batch
        if self.now and sum(len(labels) for _, _, labels in self.seen) < IMAGES:
            data = trainer.datamodule  # type: ignore[attr-defined]
            shown = data.normalize.denormalize((images[0] if isinstance(images, list) else images).float())
            small = interpolate(shown, size=(SIDE, SIDE), mode="area").clamp(0, 1).expand(-1, 3, -1, -1)
            self.seen.append((self.now[0].cpu(), small.cpu(), labels.cpu()))
        self.now.clear()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hooks.close()
        board = tensorboard_writer(trainer)
        if not board or not self.seen:
            return
        activations, thumbnails, labels = (torch.cat(parts)[:IMAGES] for parts in zip(*self.seen, strict=True))
        centred = activations - activations.mean(0)
        _, _, directions = torch.linalg.svd(centred, full_matrices=False)
        info = trainer.datamodule.info  # type: ignore[attr-defined]
        board.add_embedding(
            centred @ directions[:DIMENSIONS].T,
            [escape_control_chars(info.label_text(label)) for label in labels.tolist()],
            thumbnails,
            "projector",
            "last hidden layer",
        )
