"""Makes report.csv: a row for every run, with all that a report needs, so that it can be made without the runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.io import write_csv
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.table import BOTH_RIGHT, BY_EPOCH, PRODUCTS
from alexnet.study_adapter.checks import LRN
from alexnet.study_adapter.gradients import PREFIX, first_epoch
from alexnet.study_adapter.records import Run, RunArm

TABLE = "report.csv"


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a CSV file with every column that any row has."""
    write_csv(path, list(dict.fromkeys(key for row in rows for key in row)), rows)


def rows_of(arms: Sequence[RunArm], metric: Metric) -> list[dict[str, str]]:
    """Returns a row for every run, finished or not, with the values of `metric`."""
    runs = [(arm.name, run) for arm in arms for run in arm.all_runs]
    images = [run.by_image(metric.name) for _, run in runs]
    rows = []
    for number, (arm, run) in enumerate(runs):
        row = row_of(arm, run, metric)
        if (own := images[number]) is not None:
            products = [_product(own, other) for other in images[: number + 1]]
            if own.dtype == bool:
                row[metric.name + BOTH_RIGHT] = " ".join(map(str, products))
            else:
                row[metric.name + PRODUCTS] = " ".join(map(str, [*products, float(own.sum())]))
            row["test_pictures"] = str(len(own))  # trainer.limit_test_batches leaves some out
        rows.append(row)
    return rows


def _product(values: NDArray[Any], others: NDArray[Any] | None) -> float:
    """Returns the sum over images of the products; for right and wrong, how many are right in both.

    It is 0 without `others`, and where they have another shape.
    """
    if others is None or others.shape != values.shape:
        return 0
    return (values * others).sum().item()


def row_of(arm: str, run: Run, metric: Metric) -> dict[str, str]:
    """Returns the row of report.csv for a run: what its files hold, and the values of `metric`."""
    data, machine = run.record.get("data", {}), run.record.get("machine", {})
    row: dict[str, Any] = {"arm": arm, "seed": run.seed, "state": run.state}
    for split in ("train", "val", "test"):
        row |= {f"{split}/{figure}": value for figure, value in run.metrics.get(split, {}).items()}
    row |= {key: value for key, value in run.metrics.items() if not isinstance(value, dict) and key != "seed"}
    row |= {"monitor": run.config["monitor"], "mode": run.config.get("mode")}
    row["test_epoch"] = run.config.get("test_epoch", "best")
    row |= {key: run.record.get(key) for key in ("reason", "started", "git_commit", "git_dirty")}
    row |= {"precision": run.config["trainer"]["precision"], "devices": ", ".join(machine.get("gpus", ())) or "CPU"}
    row |= {key: machine.get(key) for key in ("threads", "instructions")}
    row |= {"torch": run.record.get("packages", {}).get("torch")}
    row |= {key: data.get(key) for key in ("source", "files", "fingerprint")}
    row["test_repeated"] = data.get("repeated", {}).get("test")
    row |= {"test_pictures": data.get("pictures", {}).get("test"), "classes": run.config["data"]["num_classes"]}
    row["folder"] = run.folder.name
    row |= {f"{PREFIX}{layer}": norm for layer, norm in first_epoch(run.logged).items()}
    row |= {key: float(value) for each in run.logged for key, value in each.items() if key.startswith(LRN) and value}
    curve = [float(text) for each in run.logged if (text := each.get(metric.curve))]
    if isinstance(metric, EpochsToTarget):
        row[metric.name] = metric.epochs(curve)
    row[metric.curve + BY_EPOCH] = " ".join(map(_cell, curve))
    return {column: _cell(value) for column, value in row.items()}


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "true" if value else ""
    return str(np.float32(value)) if isinstance(value, float) else str(value)  # no digits that a float32 has not
