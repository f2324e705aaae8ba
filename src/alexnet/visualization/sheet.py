"""A contact sheet: images as they are stored and as training sees them."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.data import ImageDataModule
from alexnet.errors import escape_control_chars
from alexnet.fonts import image_font
from alexnet.training.loggers import tensorboard_writer

CELL, GAP, NAME = 96, 4, 110  # pixels


def contact_sheet(data: ImageDataModule, classes: int = 10, variants: int = 6) -> NDArray[np.uint8]:
    """One row per class, its name before it: a training image as stored, then as augmented in `variants` epochs.

    Returns uint8 (height, width, 3). `data` must have been set up.
    """
    train = data.splits["train"]
    first = [int(np.flatnonzero(train.labels == label)[0]) for label in np.unique(train.labels)[:classes]]
    width, height = NAME + (1 + variants) * (CELL + GAP) + 2 * GAP, 20 + len(first) * (CELL + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((NAME, 4), "stored", "black")
    draw.text((NAME + CELL + 3 * GAP, 4), "augmented, each in another epoch", "black")
    names = [escape_control_chars(data.info.classes[train.labels[index]])[:17] for index in first]
    font = image_font(names)
    cutter = data.loader("train", training=True).dataset
    for row, index in enumerate(first):
        top = 20 + row * (CELL + GAP)
        draw.text((GAP, top + CELL // 2 - 6), names[row], "black", font)
        shown = [cell(torch.from_numpy(train.images[train.rows[index]] / 255.0))]
        for epoch in range(variants):
            images, _, rand = cutter.__getitems__([(epoch, index)])  # type: ignore[attr-defined]
            x = data.normalize.denormalize(data.preprocess(images, rand, epoch=epoch))[0]
            shown.append(cell(x.permute(1, 2, 0).cpu()))
        for column, one in enumerate(shown):
            sheet.paste(one, (NAME + column * (CELL + GAP) + (2 * GAP if column else 0), top))
    return np.asarray(sheet)


class Inputs(Callback):
    """The contact sheet, at the start of a run."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        board = tensorboard_writer(trainer)
        if board and trainer.ckpt_path is None:
            board.add_image("train/augmented", contact_sheet(trainer.datamodule), dataformats="HWC")  # type: ignore[attr-defined]


def cell(x: torch.Tensor) -> Image.Image:
    """(H, W, C) in [0, 1] as an image of CELL x CELL."""
    array = (x.clamp(0, 1) * 255).round().byte().expand(-1, -1, 3).numpy()
    return Image.fromarray(array).resize((CELL, CELL), Image.Resampling.BILINEAR)
