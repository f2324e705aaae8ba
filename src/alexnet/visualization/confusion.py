"""Panel of the confusion matrix and the accuracy of each class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from torchmetrics.classification import MulticlassConfusionMatrix

from alexnet.data.splits import CLASS
from alexnet.fonts import choose_fonts
from alexnet.plotting import bars, confusion
from alexnet.visualization.board import PlotOnImprovement


class Confusion(PlotOnImprovement):
    """Draws the confusion matrix of the validation images, and each class's accuracy, at each best epoch."""

    kind = CLASS

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classes = trainer.datamodule.num_classes  # type: ignore[attr-defined]
        self.matrix = MulticlassConfusionMatrix(classes, validate_args=False).to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.matrix.update(outputs, batch[1])

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> tuple[NDArray[np.int64], int] | None:
        if not hasattr(self, "matrix"):  # there are no validation images
            return None
        return self.matrix.compute().cpu().numpy(), trainer.current_epoch + 1  # of all ranks

    def draw(self, board: Any, data: Any, kept: tuple[NDArray[np.int64], int], step: int) -> None:
        (counts, epoch), classes = kept, data.info.classes
        title, shares = f"validation images, epoch {epoch}", counts.diagonal() / np.maximum(counts.sum(1), 1)
        matrix = confusion(title, classes, counts, small=True)
        by_class = bars(title, classes, shares, "accuracy", small=True)
        for name, figure in (("confusion_matrix", matrix), ("per_class_accuracy", by_class)):
            choose_fonts(figure)
            board.add_figure(f"val/{name}", figure, step)
