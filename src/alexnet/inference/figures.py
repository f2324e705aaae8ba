"""The figures of an evaluation, each as PNG and SVG, in grey, so that they can be printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.figures import plain, save

NAMED = 30  # classes; more have no room for their names


def draw(
    out: Path, title: str, classes: Sequence[str], confusion: NDArray[np.int64], calibration: Mapping[str, Any]
) -> None:
    """confusion.png and calibration.png into `out`, and the same as SVG."""
    save(_confusion(title, classes, confusion), out / "confusion")
    save(_calibration(title, calibration), out / "calibration")


def _confusion(title: str, classes: Sequence[str], confusion: NDArray[np.int64]) -> Figure:
    """Rows are what the pictures are, columns what the network says, as shares of a row."""
    n = len(classes)
    side = 3 + 0.25 * min(n, NAMED)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the class's pictures", shrink=0.8)
    axes.set(xlabel="what the network says", ylabel="what it is")
    axes.set_title(title, fontsize="x-small", wrap=True)
    if n <= NAMED:
        names = [plain(name) for name in classes]
        axes.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(n), names)
        for i, j in zip(*np.nonzero(confusion), strict=True):
            colour = "w" if shares[i, j] > 0.5 else "k"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", fontsize="x-small", color=colour)
    return figure


def _calibration(title: str, calibration: Mapping[str, Any]) -> Figure:
    """How often the network is right, by how sure it is; the size of a point is that of its bin."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    sure, right, n = (np.array([row[key] for row in calibration["bins"]]) for key in ("sure", "right", "pictures"))
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as sure as right")
    axes.plot(sure, right, color="k", linewidth=1)
    axes.scatter(sure, right, 10 + 190 * n / n.max(), color="k", label=f"the network, error {calibration['error']:.3f}")
    axes.set(
        xlabel="how sure it is (largest softmax)", ylabel="how often it is right", xlim=(0, 1.02), ylim=(-0.02, 1.02)
    )
    axes.set_title(title, fontsize="x-small", wrap=True)
    axes.legend(frameon=False, loc="upper left")
    return figure
