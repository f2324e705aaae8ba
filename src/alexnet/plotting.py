"""Writes figures, and prepares the names in them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.errors import escape_control_chars, truncate
from alexnet.fonts import choose_fonts
from alexnet.io import atomic_write

NAMED, NAMED_SMALL = 30, 12  # classes; more have no room for their names
# TensorBoard shows an image 350 pixels wide. A small figure has twice as many, and letters of 8 points 11 pixels there.
WIDTH, DPI = 3.5, 200  # inches; pixels of one


def save(figure: Figure, path: Path) -> None:
    """Writes path.png and path.svg."""
    for kind in ("png", "svg"):
        write(figure, path.with_name(f"{path.name}.{kind}"))


def write(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the file's suffix. The same figure makes the same file."""
    kind = path.suffix[1:].lower()
    meta = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    choose_fonts(figure)
    with matplotlib.rc_context({"svg.hashsalt": "alexnet"}), atomic_write(path) as beside:
        figure.savefig(beside, format=kind, dpi=150, bbox_inches="tight", metadata=meta)


def plain(name: str, length: int = 20) -> str:
    """Returns a name made short, printable, and free of what matplotlib reads as mathematics."""
    return escape_control_chars(truncate(name, length)).replace("$", r"\$")


def confusion(title: str, classes: Sequence[str], counts: NDArray[np.int64], *, small: bool = False) -> Figure:
    """Draws a confusion matrix: true classes by predicted ones, as shares of a row. small: for TensorBoard."""
    n = len(classes)
    side = 3 + 0.25 * min(n, NAMED)
    size = (WIDTH, WIDTH) if small else (side + 1, side)
    with _style(small=small):
        figure = Figure(size, layout="constrained")
        axes = figure.subplots()
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        if not small:
            figure.colorbar(image, ax=axes, label="share of the class's images", shrink=0.8)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title(title, fontsize="small", wrap=True)
        if n <= (NAMED_SMALL if small else NAMED):
            _name_classes(axes, classes, counts, shares)
    return figure


def _name_classes(axes: Axes, classes: Sequence[str], counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    names = [plain(name, 12) for name in classes]
    rotation = 90 if max(map(len, names)) > 2 else 0
    axes.set_xticks(range(len(names)), names, rotation=rotation)
    axes.set_yticks(range(len(names)), names)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "w" if shares[i, j] > 0.5 else "k"
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize="small", color=colour)


def bars(title: str, classes: Sequence[str], shares: NDArray[np.float64], label: str, *, small: bool = False) -> Figure:
    """Draws a share of each class, the smallest first; of many classes the NAMED smallest. small: for TensorBoard."""
    order = shares.argsort()[:NAMED]
    size = (WIDTH, 0.8 + 0.15 * len(order)) if small else (5, 1 + 0.22 * len(order))
    with _style(small=small):
        figure = Figure(size, layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(order)), shares[order], color="0.6")
        axes.set_yticks(range(len(order)), [plain(classes[i]) for i in order])
        axes.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5), xlabel=label)
        more = f"; the {NAMED} least of {len(shares)}" if len(shares) > NAMED else ""
        axes.set_title(f"{title}{more}", fontsize="small", wrap=True)
    return figure


def _style(*, small: bool) -> AbstractContextManager[None]:
    return matplotlib.rc_context({"font.size": 8, "figure.dpi": DPI}) if small else nullcontext()
