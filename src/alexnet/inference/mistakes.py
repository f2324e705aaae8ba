"""The wrong answers of the largest loss: the images that a network is most wrong about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from alexnet.plotting import plain, save

COUNT, COLUMNS = 16, 8


@dataclass
class Mistake:
    """image: uint8 (H, W, C). true, predicted: classes. confidence: the softmax of the predicted one."""

    loss: float
    image: NDArray[np.uint8]
    true: int
    predicted: int
    confidence: float


def worst_of(known: Sequence[Mistake], images: Tensor, scores: Tensor, labels: Tensor) -> list[Mistake]:
    """The COUNT worst of those that are known and of a batch.

    Args:
        known: the worst of the batches before.
        images: uint8 (N, C, H, W).
        scores: logits (N, num_classes).
        labels: int64 (N,).
    """
    confidence, predicted = scores.softmax(1).max(1)
    losses = cross_entropy(scores, labels, reduction="none").where(predicted != labels, -1.0)
    found = list(known)
    for i in losses.topk(min(COUNT, len(losses))).indices.tolist():
        if losses[i] >= 0:
            image = images[i].permute(1, 2, 0).cpu().numpy()
            found.append(Mistake(float(losses[i]), image, int(labels[i]), int(predicted[i]), float(confidence[i])))
    return sorted(found, key=lambda mistake: -mistake.loss)[:COUNT]


def draw_mistakes(path: Path, title: str, classes: Sequence[str], mistakes: Sequence[Mistake]) -> None:
    """Writes path.png and path.svg: each image under its class, and what was predicted with which confidence."""
    rows = -(-len(mistakes) // COLUMNS)
    figure = Figure((1.2 * COLUMNS, 1.65 * rows + 0.4), layout="constrained")
    figure.suptitle(f"{plain(title, 200)}\ntrue class; below it, what was predicted", fontsize="small")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, mistake in zip(grid.flat, mistakes, strict=False):
        axes.imshow(mistake.image, cmap="gray", vmin=0, vmax=255)
        true, predicted = (plain(classes[label], 12) for label in (mistake.true, mistake.predicted))
        axes.set_title(f"{true}\n{predicted} {mistake.confidence:.0%}", fontsize="small")
    save(figure, path)
