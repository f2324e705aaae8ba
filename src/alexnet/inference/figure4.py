"""Predictions drawn in the style of the paper's Figure 4."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.data import ImageDataModule
from alexnet.inference.prediction import Prediction
from alexnet.plotting import plain, write

COLUMNS = 4
RIGHT, OTHER = "tab:red", "0.8"  # in grey print the one is dark, the other light


def draw(path: Path, title: str, predictions: Sequence[Prediction], data: ImageDataModule | None) -> None:
    """Draws each image with its class, if known, and its likeliest classes as bars, the right one dark.

    With `data` each has a row, and the training images that are most alike follow.
    """
    beside = len(predictions[0].nearest)
    columns, rows = (2 + beside, len(predictions)) if beside else (COLUMNS, math.ceil(len(predictions) / COLUMNS))
    bars = 0.16 * len(predictions[0].top)  # inches
    figure = Figure(figsize=(1.8 * columns, rows * (1.9 if beside else 2.1 + bars) + 0.4), layout="constrained")
    figure.suptitle(plain(title, 200), fontsize="small", wrap=True)
    if data:
        edge = (data.size - data.crop) // 2
        axes = figure.subplots(rows, columns, squeeze=False)
        for one, row in zip(predictions, axes, strict=True):
            _image(row[0], one.image, one.true or one.file.name)
            _bars(row[1], one)
            for there, place in zip(one.nearest, row[2:], strict=False):
                window = slice(edge, edge + data.crop)
                _image(place, data.splits["train"].images[there["row"], window, window], there["class"])
    else:
        axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[1.8, bars] * rows)
        for axis in axes.flat:
            axis.set_axis_off()
        for i, one in enumerate(predictions):
            row, column = divmod(i, columns)
            _image(axes[2 * row, column], one.image, one.true or one.file.name)
            _bars(axes[2 * row + 1, column], one)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(figure, path)


def _image(axes: Axes, image: Any, name: str) -> None:
    shown = np.asarray(image)
    if shown.shape[2] == 1:
        shown = shown[..., 0]
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255)
    axes.set_title(plain(name), fontsize="small")
    axes.set_axis_off()


def _bars(axes: Axes, one: Prediction) -> None:
    places = range(len(one.top))
    colours = [RIGHT if name == one.true else OTHER for name, _ in one.top]
    axes.barh(places, [share for _, share in one.top], color=colours, height=0.9)
    for place, (name, share) in zip(places, one.top, strict=True):
        axes.text(0.02, place, f"{plain(name)}  {share:.0%}", va="center", fontsize="x-small")
    axes.set(xlim=(0, 1), ylim=(len(one.top) - 0.5, -0.5))
    axes.set_axis_off()
