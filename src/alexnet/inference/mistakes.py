"""Draws the wrong answers with the largest loss."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alexnet.mistakes import Mistake
from alexnet.plotting import plain, save

COLUMNS = 8


def draw_mistakes(path: Path, title: str, classes: Sequence[str], mistakes: Sequence[Mistake]) -> None:
    """Writes path.png and path.svg: each image under its class, with the predicted class and its confidence."""
    rows = -(-len(mistakes) // COLUMNS)
    figure = Figure((1.2 * COLUMNS, 1.65 * rows + 0.4), layout="constrained")
    figure.suptitle(f"{plain(title, 200)}\ntrue class; below it, what was predicted", fontsize="small")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, mistake in zip(grid.flat, mistakes, strict=False):
        axes.imshow(mistake.image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
        true, predicted = (plain(classes[label], 12) for label in (mistake.true, mistake.predicted))
        axes.set_title(f"{true}\n{predicted} {mistake.confidence:.0%}", fontsize="small")
    save(figure, path)
