"""Reports how much of the error arrives at each layer, by the norms that callbacks=gradients logs."""

from collections.abc import Mapping, Sequence

import numpy as np

from alexnet.study.figures import Drawing, line_look, new_axes
from alexnet.study.formatting import table
from alexnet.study.table import Arm, Result

WORTH = 3.0  # times as much shrinking in one arm as in another is worth showing
PREFIX = "gradients/"

Norms = dict[str, dict[str, float]]  # arm: layer: norm


def gradient_norms(arms: Sequence[Arm]) -> Norms:
    """Returns for every arm the mean norm of each layer's gradient, from the input to the output.

    It is the mean over the logged steps of the first epoch and over seeds. Empty where the arms do not differ in it.
    """
    found: Norms = {}
    for arm in arms:
        runs = [norms for norms in map(_norms_of, arm.runs.values()) if norms]
        if runs:
            found[arm.name] = {layer: _mean(layer, runs) for layer in runs[0]}
    shares = [share(norms) for norms in found.values()]
    differ = len(shares) > 1 and max(shares) > WORTH * min(shares)
    return found if differ else {}


def _mean(layer: str, runs: Sequence[Mapping[str, float]]) -> float:
    return float(np.mean([norms.get(layer, np.nan) for norms in runs]))


def _norms_of(result: Result) -> dict[str, float]:
    """Returns the mean norm of each layer's gradient in the first epoch of a run."""
    columns = [column for column, text in result.row.items() if column.startswith(PREFIX) and text]
    return {column.removeprefix(PREFIX): result.value(column) for column in columns}


def share(norms: dict[str, float]) -> float:
    """Returns the gradient norm at the first layer over that at the last."""
    first, *_, last = norms.values()
    return first / last


def lines(found: Norms) -> list[str]:
    """Returns the table of a report, or nothing."""
    if not found:
        return []
    layers = list(dict.fromkeys(layer for norms in found.values() for layer in norms))
    rows = []
    for arm, norms in found.items():
        cells = [f"{norms[layer]:.2g}" if layer in norms else "" for layer in layers]
        rows.append([arm, *cells, f"{share(norms):.2g}"])
    said = "Norm of each layer's gradient in the first epoch; the last column is the first layer's over the last's."
    return ["", said, "", *table(["arm", *layers, "first / last"], rows)]


def drawings(found: Norms) -> list[Drawing]:
    """Returns the figure of the norms, or nothing."""
    if not found:
        return []
    figure, axes = new_axes(7, 4)
    for number, (arm, layers) in enumerate(found.items()):
        axes.plot(list(layers), list(layers.values()), marker="o", label=arm, **line_look(number))
    axes.set_yscale("log")
    axes.set_ylabel("norm of the gradient of its weights")
    axes.tick_params("x", rotation=20)
    axes.legend(frameon=False, fontsize="small")
    text = "What arrives of the error at each layer, mean over the first epoch and seeds"
    return [Drawing("gradients", figure, text)]


def first_epoch(logged: Sequence[dict[str, str]]) -> dict[str, float]:
    """Returns the mean norm of each layer's gradient in metrics.csv's first epoch; nothing without two layers."""
    values: dict[str, list[float]] = {}
    for row in logged:
        if row.get("epoch") != "0":
            continue
        for key, text in row.items():
            if key.startswith(PREFIX) and text:
                values.setdefault(key, []).append(float(text))
    if len(values) < 2:
        return {}
    return {key.partition("_")[2]: float(np.mean(values[key])) for key in sorted(values)}
