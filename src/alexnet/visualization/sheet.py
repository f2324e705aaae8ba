"""Draws a contact sheet: images as they are stored, and as training sees them.

TensorBoard shows an image 350 pixels wide. Those here are about 700, so that their text is half as high there as here.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.data import ImageDataModule
from alexnet.errors import escape_control_chars
from alexnet.fonts import image_font
from alexnet.training.loggers import tensorboard_writer

CELL, GAP = 96, 4  # pixels
TEXT, LINE = 22, 28  # pixels: height of letters, and of a line of text


def contact_sheet(data: ImageDataModule, classes: int = 10, variants: int = 6) -> NDArray[np.uint8]:
    """Returns a row per class: a training image as stored, then as augmented in `variants` epochs.

    Where images have no class, the first ones are shown, with their labels. Where the run mixes
    images, each is mixed with that of another row.

    Returns uint8 (height, width, 3). `data` must have been set up.
    """
    train = data.splits["train"]
    first = list(range(min(classes, len(train))))
    if train.labels.ndim == 1:
        first = [int(np.flatnonzero(train.labels == label)[0]) for label in np.unique(train.labels)[:classes]]
    names = [escape_control_chars(data.info.label_text(train.labels[index])) for index in first]
    height = LINE + CELL + GAP
    sheet = Image.new("RGB", ((1 + variants) * (CELL + GAP) + 2 * GAP, LINE + len(first) * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = image_font(names, TEXT)
    draw.text((0, 0), "stored", "gray", image_font("", TEXT))
    title = f"augmented{' and mixed' if data.mix else ''}, each in another epoch"
    draw.text((_left(1), 0), fit(title, font, sheet.width - _left(1)), "gray", font)
    columns = [[torch.from_numpy(train.images[train.rows[index]] / 255.0) for index in first]]
    for epoch in range(variants):
        inputs = data.normalize.denormalize(data.training_inputs(epoch, first))
        columns.append([*inputs.permute(0, 2, 3, 1).cpu()])
    for row, name in enumerate(names):
        top = LINE + row * height
        draw.text((0, top), fit(name, font, sheet.width), "black", font)
        for column, images in enumerate(columns):
            sheet.paste(cell(images[row], CELL), (_left(column), top + LINE))
    return np.asarray(sheet)


def _left(column: int) -> int:
    """Returns where a column begins. The stored images have a gap after them."""
    return column * (CELL + GAP) + (2 * GAP if column else 0)


def fit(text: str, font: Any, width: float) -> str:
    """Returns as much of the text as `width` pixels hold."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


class Inputs(Callback):
    """Draws the contact sheet at the start of a run."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        board = tensorboard_writer(trainer)
        if board and trainer.ckpt_path is None:
            board.add_image("train/augmented", contact_sheet(trainer.datamodule), dataformats="HWC")  # type: ignore[attr-defined]


def cell(x: torch.Tensor, side: int) -> Image.Image:
    """Returns (H, W, C) in [0, 1] as an image of side x side."""
    array = (x.clamp(0, 1) * 255).round().byte().expand(-1, -1, 3).numpy()
    return Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR)
