"""report.csv: a row for every run, and in it all that a report needs, so that it can be made again without the runs."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError, escape_control_chars
from alexnet.io import write_csv
from alexnet.study.gradients import PREFIX, first_epoch
from alexnet.study.metrics import EpochsToTarget, Metric
from alexnet.study.records import Arm, Run

TABLE = "report.csv"
BY_EPOCH, BOTH_RIGHT = " by epoch", " both right"  # columns with a list of numbers in each cell
LRN = "lrn_spread/"  # columns, of a layer each: see training.lrn_spread


@dataclass(frozen=True)
class Result:
    """A row of report.csv by column, and its number in the file."""

    row: Mapping[str, str]
    number: int = 0

    @property
    def seed(self) -> int:
        return int(self.numbers("seed")[0])

    def __getitem__(self, column: str) -> str:
        return self.row.get(column) or ""

    def value(self, column: str) -> float:
        """A number, of the best epoch where there is one for each; nan without."""
        return next(iter(self.numbers(column)), math.nan)

    def curve(self, figure: str) -> list[float]:
        return self.numbers(figure + BY_EPOCH)

    def numbers(self, column: str) -> list[float]:
        """Those of a cell. Raises UserError where it holds something else."""
        try:
            return [float(text) for text in self[column].split()]
        except ValueError:
            raise UserError(
                f"{TABLE}: {column} '{escape_control_chars(self[column])}', in row {self.number + 1}: not a number"
            ) from None

    @cached_property
    def gradients(self) -> dict[str, float]:
        """The mean norm of each layer's gradient in the first epoch."""
        return {k.removeprefix(PREFIX): self.value(k) for k, v in self.row.items() if k.startswith(PREFIX) and v}


def both_right(results: Sequence[Result], metric: Metric) -> NDArray[np.int64] | None:
    """How many test images two results both had right, of each two: (results, results). None unless it is known of
    all, for the same number of images, more than one.
    """
    counts = [result.numbers(metric.name + BOTH_RIGHT) for result in results]
    known = all(len(c) == result.number + 1 for c, result in zip(counts, results, strict=True))
    counts_of_images = {result["test_pictures"] for result in results}
    if not known or len(counts_of_images) != 1 or counts_of_images <= {"", "1"}:
        return None
    found = np.zeros((len(results),) * 2, np.int64)
    for i, a in enumerate(results):
        for j, b in enumerate(results):
            found[i, j] = counts[i][b.number] if b.number <= a.number else counts[j][a.number]
    return found


def rows_of(arms: Sequence[Arm[Run]], metric: Metric) -> list[dict[str, str]]:
    """A row for every run, finished or not, with what is compared by `metric`."""
    runs = [(arm.name, run) for arm in arms for run in (*arm.runs.values(), *arm.unfinished)]
    bits = [run.right(metric.name) for _, run in runs]
    rows = []
    for number, (arm, run) in enumerate(runs):
        row = row_of(arm, run, metric)
        if (own := bits[number]) is not None:
            same = [0 if b is None or b.shape != own.shape else int((own & b).sum()) for b in bits[: number + 1]]
            row[metric.name + BOTH_RIGHT] = " ".join(map(str, same))
            row["test_pictures"] = str(len(own))  # trainer.limit_test_batches leaves some out
        rows.append(row)
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """Raises UserError for a file that is not such a table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not rows or not {"arm", "seed", "state"} <= rows[0].keys():
        raise UserError(f"{path}: not a report's table, with columns arm, seed and state and a row for each run")
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    write_csv(path, list(dict.fromkeys(key for row in rows for key in row)), rows)


def arms_of_rows(rows: Sequence[Mapping[str, str]]) -> list[Arm[Result]]:
    """In the order of the rows."""
    arms: dict[str, Arm[Result]] = {}
    for number, row in enumerate(rows):
        arm, result = arms.setdefault(row["arm"], Arm(row["arm"])), Result(row, number)
        if row["state"] == "done":
            arm.runs[result.seed] = result
        else:
            arm.unfinished.append(result)
    return list(arms.values())


def row_of(arm: str, run: Run, metric: Metric) -> dict[str, str]:
    data, machine = run.record.get("data", {}), run.record.get("machine", {})
    row: dict[str, Any] = {"arm": arm, "seed": run.seed, "state": run.state}
    for split in ("train", "val", "test"):
        row |= {f"{split}/{figure}": value for figure, value in run.metrics.get(split, {}).items()}
    row |= {key: value for key, value in run.metrics.items() if not isinstance(value, dict) and key != "seed"}
    row |= {"monitor": run.config["monitor"], "mode": run.config.get("mode")}
    row |= {key: run.record.get(key) for key in ("reason", "started", "git_commit", "git_dirty")}
    row |= {"precision": run.config["trainer"]["precision"], "devices": ", ".join(machine.get("gpus", ())) or "CPU"}
    row |= {"threads": machine.get("threads"), "torch": run.record.get("packages", {}).get("torch")}
    row |= {key: data.get(key) for key in ("source", "files", "fingerprint")}
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
