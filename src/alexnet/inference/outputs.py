"""Metrics of each label or number, for tests with several of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_score, r2_score, recall_score
from torch import Tensor

from alexnet import plotting
from alexnet.data.splits import LABELS
from alexnet.training.module import ImageModule

SHOWN = 20  # rows that are printed
COLUMNS = 4  # plots beside one another


def measure_outputs(task: ImageModule, names: Sequence[str], outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    """Returns `outputs`, a row for each label or number, and the interval of each metric that is a mean over images.

    Args:
        task: says what the outputs mean.
        names: of the labels or numbers.
        outputs: of all test images, (N, num_classes).
        labels: likewise.
    """
    predicted, true = (values.double().numpy() for values in task.metric_inputs(outputs, labels))
    row_of = _row_of_label if task.kind == LABELS else _row_of_number
    rows = [{"output": name, **row_of(predicted[:, i], true[:, i])} for i, name in enumerate(names)]
    found: dict[str, Any] = {"outputs": rows}
    for name, values in task.by_image(outputs, labels).items():
        mean, half = float(values.mean()), 1.96 * float(values.double().std()) / len(values) ** 0.5
        most = 1.0 if task.kind == LABELS else np.inf
        found[f"{name}_interval"] = [max(mean - half, 0.0), min(mean + half, most)]
    return found


def _row_of_label(shares: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float | None]:
    """Returns average precision, and precision and recall of predictions above one half; None where undefined."""
    said, holds = shares > 0.5, true > 0.5
    return {
        "images": int(holds.sum()),
        "average_precision": float(average_precision_score(holds, shares)) if holds.any() else None,
        "precision": float(precision_score(holds, said)) if said.any() else None,
        "recall": float(recall_score(holds, said)) if holds.any() else None,
    }


def _row_of_number(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float | None]:
    """Returns the metrics of a number. bias: the mean of prediction less truth."""
    return {
        "images": len(true),
        "mae": float(np.abs(predicted - true).mean()),
        "rmse": float(((predicted - true) ** 2).mean() ** 0.5),
        "bias": float((predicted - true).mean()),
        "r2": float(r2_score(true, predicted)) if len(true) > 1 else None,
    }


def lines_of_outputs(found: Mapping[str, Any]) -> list[str]:
    """Returns the rows as they are printed."""
    rows: list[dict[str, Any]] = found["outputs"]
    columns = [column for column in rows[0] if column not in ("output", "images")]
    lines = ["", f"{'output':24}{'images':>10}" + "".join(f"{column:>19}" for column in columns)]
    for row in rows[:SHOWN]:
        cells = ("" if row[column] is None else f"{row[column]:.4g}" for column in columns)
        lines.append(f"{row['output'][:23]:24}{row['images']:10,}" + "".join(f"{cell:>19}" for cell in cells))
    if len(rows) > SHOWN:
        lines.append(f"{SHOWN} of {len(rows)}; outputs.csv has all")
    return lines


def draw_outputs(
    out: Path, title: str, task: ImageModule, rows: Sequence[Mapping[str, Any]], outputs: Tensor, labels: Tensor
) -> None:
    """Writes outputs.png and outputs.svg: average precision of labels; of numbers prediction against truth."""
    names = [row["output"] for row in rows]
    if task.kind == LABELS:
        shares = np.array([row["average_precision"] or 0.0 for row in rows])
        figure = plotting.bars(title, names, shares, "average precision")
    else:
        predicted, true = (values.double().numpy() for values in task.metric_inputs(outputs, labels))
        figure = _scatter(title, names, predicted, true)
    plotting.save(figure, out / "outputs")


def _scatter(title: str, names: Sequence[str], predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Figure:
    shown = range(min(len(names), SHOWN))
    columns = min(len(shown), COLUMNS)
    rows = -(-len(shown) // columns)
    figure = Figure((4 * columns, 3.8 * rows), layout="constrained")
    for i in shown:
        axes = figure.add_subplot(rows, columns, i + 1)
        low, high = float(true[:, i].min()), float(true[:, i].max())
        axes.plot([low, high], [low, high], color="0.6", linestyle="--")
        axes.scatter(true[:, i], predicted[:, i], 6, color="k", alpha=0.5)
        axes.set(xlabel=f"true {plotting.plain(names[i])}", ylabel=f"predicted {plotting.plain(names[i])}")
    figure.suptitle(title, fontsize="small", wrap=True)
    return figure
