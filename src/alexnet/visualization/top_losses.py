"""Panel of the images that a network is most wrong about."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from alexnet.data.splits import CLASS
from alexnet.errors import escape_control_chars
from alexnet.fonts import image_font
from alexnet.mistakes import Mistake, worst_of
from alexnet.visualization.board import PlotOnImprovement
from alexnet.visualization.sheet import GAP, LINE, TEXT, cell, fit

COLUMNS, SIDE = 4, 172  # images in a row; pixels of one
TITLE = "true class; below it, what was predicted"


class TopLosses(PlotOnImprovement):
    """Draws the wrong validation answers with the largest loss, of the first rank, at each best epoch.

    Each has its class, and what the network says with how much certainty.
    """

    kind = CLASS

    def __init__(self) -> None:
        super().__init__()
        self.worst: list[Mistake] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.worst = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images, labels = batch
        self.worst = worst_of(self.worst, images, outputs, labels)

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> list[Mistake] | None:
        return self.worst or None

    def draw(self, board: Any, data: Any, kept: list[Mistake], step: int) -> None:
        normalize = data.normalize
        images = [normalize.denormalize(one.image.float().to(normalize.mean.device)[None])[0].cpu() for one in kept]
        classes = [escape_control_chars(name) for name in data.info.classes]
        names = [(classes[one.true], classes[one.predicted], f" {one.confidence:.0%}") for one in kept]
        board.add_image("val/top_losses", sheet(images, names), step, dataformats="HWC")


def sheet(images: list[Tensor], names: list[tuple[str, str, str]]) -> NDArray[np.uint8]:
    """Returns images (C, H, W) in [0, 1] in rows, each under its texts, as uint8 (height, width, 3).

    names: of each the true class, the predicted one, and with which confidence.
    """
    rows = -(-len(images) // COLUMNS)
    height = 2 * LINE + SIDE + GAP
    drawn = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, LINE + rows * height), "white")
    draw = ImageDraw.Draw(drawn)
    font = image_font([text for texts in names for text in texts], TEXT)
    draw.text((0, 0), fit(TITLE, font, drawn.width), "gray", font)
    for i, (image, (true, predicted, confidence)) in enumerate(zip(images, names, strict=True)):
        left, top = i % COLUMNS * (SIDE + GAP), LINE + i // COLUMNS * height
        draw.text((left, top), fit(true, font, SIDE), "black", font)
        room = SIDE - font.getlength(confidence)
        draw.text((left, top + LINE), fit(predicted, font, room) + confidence, "firebrick", font)
        drawn.paste(cell(image.permute(1, 2, 0), SIDE), (left, top + 2 * LINE))
    return np.asarray(drawn)
