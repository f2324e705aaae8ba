"""How much of the error arrives at each layer, by the gradient norms that callbacks=gradients logs."""

from collections.abc import Sequence

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
            found[arm.name] = {layer: float(np.mean([norms.get(layer, np.nan) for norms in runs])) for layer in runs[0]}
    shares = [share(norms) for norms in found.values()]
    return found if len(shares) > 1 and max(shares) > WORTH * min(shares) else {}


def _norms_of(result: Result) -> dict[str, float]:
    """The mean norm of each layer's gradient in the first epoch of a run."""
    columns = [column for column, text in result.row.items() if column.startswith(PREFIX) and text]
    return {column.removeprefix(PREFIX): result.value(column) for column in columns}


def share(norms: dict[str, float]) -> float:
    """Returns what arrives at the first layer, of what the last one gets."""
    first, *_, last = norms.values()
    return first / last


def lines(found: Norms) -> list[str]:
    """Returns the table of a report, or nothing."""
    if not found:
        return []
    layers = list(dict.fromkeys(layer for norms in found.values() for layer in norms))
    rows = [
        [arm, *(f"{norms[layer]:.2g}" if layer in norms else "" for layer in layers), f"{share(norms):.2g}"]
        for arm, norms in found.items()
    ]
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
    """The mean norm of each layer's gradient over the first epoch's rows of metrics.csv; nothing without two layers."""
    rows = [row for row in logged if row.get("epoch") == "0"]
    keys = sorted(key for key in (rows[0] if rows else ()) if key.startswith(PREFIX))
    values = {key: [float(row[key]) for row in rows if row[key]] for key in keys}
    norms = {key.partition("_")[2]: float(np.mean(seen)) for key, seen in values.items() if seen}
    return norms if len(norms) > 1 else {}
