"""A table with a row for every run, and the arms of its rows.

Columns: arm, seed, and any metrics. Optional: state (done by default; rows with another are named and left out),
test_pictures, and `NAME by epoch`, `NAME both right` and `NAME products`, which hold a list of numbers in each cell
(see Result.curve and image_products).
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.study.errors import StudyError
from alexnet.study.metrics import Metric

NEEDED = ("arm", "seed")
BY_EPOCH, BOTH_RIGHT, PRODUCTS = " by epoch", " both right", " products"


@dataclass(frozen=True)
class Result:
    """A row by column, and its number, from 0."""

    row: Mapping[str, str]
    number: int = 0

    @property
    def seed(self) -> int:
        """The seed of the run. Raises StudyError if it is no whole number."""
        try:
            return int(self["seed"])
        except ValueError:
            raise StudyError(f"seed {self['seed']!r}, in row {self.number + 1}: not a whole number") from None

    @property
    def state(self) -> str:
        """The state of the run: done, failed, running or interrupted."""
        return self["state"] or "done"

    def __getitem__(self, column: str) -> str:
        return self.row.get(column) or ""

    def value(self, column: str) -> float:
        """Returns the first number of a cell; nan if it is empty."""
        return next(iter(self.numbers(column)), math.nan)

    def curve(self, metric: str) -> list[float]:
        """Returns a metric by epoch; an empty list where it was not recorded."""
        return self.numbers(metric + BY_EPOCH)

    def numbers(self, column: str) -> list[float]:
        """Returns the numbers of a cell, separated by spaces. Raises StudyError if it holds something else."""
        try:
            return [float(text) for text in self[column].split()]
        except ValueError:
            raise StudyError(f"{column} {self[column]!r}, in row {self.number + 1}: not a number") from None


@dataclass
class Arm:
    """Runs that differ in the seed alone: the finished ones by seed, and the others."""

    name: str
    runs: dict[int, Result] = field(default_factory=dict)
    unfinished: list[Result] = field(default_factory=list)

    def values(self, column: str) -> dict[int, float]:
        """Returns a column by seed, of the finished runs; nan where a cell is empty."""
        return {seed: run.value(column) for seed, run in sorted(self.runs.items())}

    def mean(self, column: str) -> float:
        """Returns the mean of a column over the finished runs; nan without any, or where a cell is empty."""
        values = self.values(column)
        return float(np.mean(list(values.values()))) if values else math.nan


def finished(arms: Iterable[Arm]) -> list[Result]:
    """Returns the finished runs of all arms."""
    return [run for arm in arms for run in arm.runs.values()]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file in UTF-8, with or without a byte order mark.

    Raises:
        StudyError: for a file that cannot be read, or that is no table with the columns arm and seed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file, strict=True)
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        why = "it is empty" if path.is_file() and not path.stat().st_size else why
        raise StudyError(f"{path}: cannot be read: {why}") from None
    _check_header(path, header)
    rows = [row for row in rows if row]
    if not rows:
        raise StudyError(f"{path}: has no rows; a row for every run is needed")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise StudyError(f"{path}: row {number} has {len(row)} cells, and the header {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [column for column in NEEDED if column not in header]
    if missing:
        raise StudyError(f"{path}: no column {' and no column '.join(missing)}; it has {', '.join(header)}")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise StudyError(f"{path}: more than one column {', '.join(twice)}")


def arms_of_rows(rows: Sequence[Mapping[str, str]]) -> list[Arm]:
    """Returns the arms in the order of the rows. Raises StudyError for two finished runs of one arm and seed."""
    arms: dict[str, Arm] = {}
    for number, row in enumerate(rows):
        result = Result(row, number)
        arm = arms.setdefault(row["arm"], Arm(row["arm"]))
        if result.state != "done":
            arm.unfinished.append(result)
        elif result.seed in arm.runs:
            first = arm.runs[result.seed].number + 1
            raise StudyError(f"rows {first} and {number + 1} are both of arm {arm.name!r} and seed {result.seed}")
        else:
            arm.runs[result.seed] = result
    return list(arms.values())


def image_products(results: Sequence[Result], metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns sums over the test images: of the products of each two results' values, and of each result's values.

    Their shapes are (results, results) and (results,).

    The cell `METRIC both right`, of images that are right or wrong, has for the rows above how many images both had
    right, and last its own number of right images. `METRIC products`, of any values, has these products for the rows
    above and for itself, and last the sum. None unless the cells are there for all results, of the same number of
    images, more than one.
    """
    cells = [result.numbers(metric.name + PRODUCTS) for result in results]
    if not any(cells):
        counts = [result.numbers(metric.name + BOTH_RIGHT) for result in results]
        cells = [[*count, *count[-1:]] for count in counts]
    known = all(len(cell) == result.number + 2 for cell, result in zip(cells, results, strict=True))
    counts_of_images = {result["test_pictures"] for result in results}
    if not known or len(counts_of_images) != 1 or counts_of_images <= {"", "1"}:
        return None
    found = np.zeros((len(results),) * 2)
    for i, a in enumerate(results):
        for j, b in enumerate(results):
            found[i, j] = cells[i][b.number] if b.number <= a.number else cells[j][a.number]
    return found, np.array([cell[-1] for cell in cells])
