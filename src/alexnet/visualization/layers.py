"""Draws a network's layers side by side."""

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import nn

from alexnet.models.summary import Row, summarize
from alexnet.plotting import plain

COLORS = {"input": "0.92", "Conv2d": "#9ecae1", "Linear": "#a1d99b"}  # of all others: grey
DEPTH = 0.105  # how far a box goes back, times its height


def draw_layers(network: nn.Module, input_shape: Sequence[int]) -> Figure:
    """Draws a box for each layer with weights, or whose output has another shape than its input.

    A box is as high as the root of the maps' side, and as deep as the logarithm of their number; a fully connected
    layer is as high as the logarithm of its units.

    Args:
        network: any module that gives one tensor.
        input_shape: of one image, (C, H, W).
    """
    rows = summarize(network, torch.zeros(1, *input_shape)).rows
    boxes = [("input", "input", tuple(input_shape))]
    for row in rows:
        if _is_drawn(row, boxes[-1][2]):
            boxes.append((row.name.rpartition(".")[2], row.kind, row.shape))
    figure = Figure((max(6.0, 1.05 * len(boxes)), 3.4), layout="constrained")
    axes = figure.subplots()
    right = 0.0
    for name, kind, shape in boxes:
        right = _draw_box(axes, right, plain(name), kind, shape)
    axes.set(xlim=(-0.2, right), aspect="equal")
    axes.autoscale(axis="y")
    axes.axis("off")
    return figure


def _is_drawn(row: Row, before: tuple[int, ...]) -> bool:
    if row.kind == "Flatten" or not row.shape:
        return False
    return row.parameters > 0 or row.shape != before


def _draw_box(axes: Axes, left: float, name: str, kind: str, shape: tuple[int, ...]) -> float:
    """Draws a layer from `left` on. Returns where the next one begins."""
    high, wide = _size(shape)
    back = DEPTH * high
    color = COLORS.get(kind, "0.8")
    bottom = -high / 2
    front = [(left, bottom), (left + wide, bottom), (left + wide, bottom + high), (left, bottom + high)]
    top = [front[3], (left + back, front[3][1] + back), (left + wide + back, front[3][1] + back), front[2]]
    side = [front[1], front[2], top[2], (left + wide + back, bottom + back)]
    for corners in (front, top, side):
        axes.add_patch(Polygon(corners, facecolor=color, edgecolor="0.3", linewidth=0.8))
    below = -1.75
    middle = left + (wide + back) / 2
    axes.text(middle, below, f"{name}\n{' x '.join(map(str, shape))}", ha="center", va="top", fontsize=7.5)
    return left + max(wide + back + 0.25, 1.3)


def _size(shape: tuple[int, ...]) -> tuple[float, float]:
    """Returns height and width of the front of a box."""
    if len(shape) == 1:
        return 0.3 + 0.3 * math.log10(shape[0] + 1), 0.15
    side = shape[-1]
    return 0.2 + 0.2 * math.sqrt(side), 0.1 + 0.12 * math.log2(shape[0] + 1)
