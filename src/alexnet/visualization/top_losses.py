"""The images that a network is most wrong about."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy

from alexnet.data.splits import CLASS
from alexnet.errors import escape_control_chars
from alexnet.fonts import image_font
from alexnet.visualization.board import PlotOnImprovement
from alexnet.visualization.sheet import GAP, LINE, TEXT, cell, fit

COUNT, COLUMNS, SIDE = 16, 4, 172  # images; in a row; pixels of one
TITLE = "true class; below it, what was predicted"

Wrong = tuple[float, Tensor, int, int, float]  # loss, image, class, what was said, certainty


class TopLosses(PlotOnImprovement):
    """The wrong answers of the largest loss among the validation images (of the first rank), at each best epoch: the
    class, and what the network says with how much certainty.
    """

    kind = CLASS

    def __init__(self) -> None:
        super().__init__()
        self.worst: list[Wrong] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.worst = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        images, labels = batch
        sure, said = outputs.softmax(1).max(1)
        losses = cross_entropy(outputs, labels, reduction="none").where(said != labels, -1.0)
        least = self.worst[-1][0] if len(self.worst) == COUNT else 0.0
        worst = losses.topk(min(COUNT, len(losses)))
        for loss, i in zip(worst.values.tolist(), worst.indices.tolist(), strict=True):
            if loss > least:
                self.worst.append((loss, images[i].float().cpu(), int(labels[i]), int(said[i]), float(sure[i])))
        self.worst = sorted(self.worst, key=lambda one: -one[0])[:COUNT]

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> list[Wrong] | None:
        return self.worst or None

    def draw(self, board: Any, data: Any, kept: list[Wrong], step: int) -> None:
        images = [
            data.normalize.denormalize(image.to(data.normalize.mean.device)[None])[0].cpu() for _, image, *_ in kept
        ]
        classes = [escape_control_chars(name) for name in data.info.classes]
        names = [(classes[a], classes[b], f" {sure:.0%}") for _, _, a, b, sure in kept]
        board.add_image("val/top_losses", sheet(images, names), step, dataformats="HWC")


def sheet(images: list[Tensor], names: list[tuple[str, str, str]]) -> NDArray[np.uint8]:
    """Returns images (C, H, W) in [0, 1] in rows, each under its texts: uint8 (height, width, 3).

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
