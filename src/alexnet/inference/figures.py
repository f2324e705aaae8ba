"""Draws the figures of an evaluation as PNG and SVG, in grey for printing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet import plotting


def draw(
    out: Path, title: str, classes: Sequence[str], counts: NDArray[np.int64], calibration: Mapping[str, Any]
) -> None:
    """Writes confusion.png and calibration.png into `out`, and both as SVG."""
    plotting.save(plotting.confusion(title, classes, counts), out / "confusion")
    plotting.save(_calibration(title, calibration), out / "calibration")


def _calibration(title: str, calibration: Mapping[str, Any]) -> Figure:
    """Draws a reliability diagram: accuracy by confidence. A point's size is that of its bin."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    bins = calibration["bins"]
    confidence = np.array([row["confidence"] for row in bins])
    accuracy = np.array([row["accuracy"] for row in bins])
    n = np.array([row["pictures"] for row in bins])
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect calibration")
    axes.plot(confidence, accuracy, color="k", linewidth=1)
    axes.scatter(
        confidence, accuracy, 10 + 190 * n / n.max(), color="k", label=f"the network, error {calibration['error']:.3f}"
    )
    axes.set(xlabel="confidence (largest softmax)", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.set_title(title, fontsize="x-small", wrap=True)
    axes.legend(frameon=False, loc="upper left")
    return figure
