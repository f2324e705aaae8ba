"""metrics.csv, which a resumed run continues, and which no kill leaves half; and TensorBoard's writer."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer, loggers
from pytorch_lightning.utilities import rank_zero_only

from alexnet.errors import UserError
from alexnet.io import write, write_csv
from alexnet.validation import folder_path


class CSVLogger(loggers.Logger):
    """Writes metrics.csv, a row for every logged step, and hparams.yaml.

    Lightning's CSVLogger starts a new file where there is one already, and empties the file for a moment when a new
    metric comes in. This one does neither.

    Args:
        save_dir, name, version: the files are in save_dir/name/version.
        purge_step: the rows of this step and later are dropped, and those before are kept, as in TensorBoardLogger.
            None starts a new file.
    """

    def __init__(self, save_dir: str, name: str = "", version: str = "", purge_step: int | None = None) -> None:
        super().__init__()
        self._name, self._version = name, version
        self.folder = folder_path("save_dir", save_dir) / name / version
        self.purge_step = purge_step
        self.columns: list[str] | None = None  # of the file; None until it is opened
        self.unwritten: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._version

    @property
    def file(self) -> Path:
        return self.folder / "metrics.csv"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        if "epoch" in values:
            values["epoch"] = int(values["epoch"])
        self.unwritten.append(values | {"step": len(self.unwritten) if step is None else step})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        plain = vars(params) if isinstance(params, Namespace) else dict(params)
        write(self.folder / "hparams.yaml", yaml.safe_dump(plain, sort_keys=False))

    @rank_zero_only
    def save(self) -> None:
        """Appends the new rows; where they have a new column, the file is written again as a whole."""
        if self.columns is None:
            self.columns = self._open()
        if not self.unwritten:
            return
        columns = sorted({*self.columns, *(name for row in self.unwritten for name in row)})
        if columns == self.columns:
            with self.file.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerows(self.unwritten)
        else:
            write_csv(self.file, columns, [*self._read(), *self.unwritten])
            self.columns = columns
        self.unwritten = []

    def _open(self) -> list[str]:
        """Returns the columns of the file that is continued; none where a new one is started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.purge_step is None:
            self.file.unlink(missing_ok=True)
        rows = [row for row in self._read() if _step(row) < (self.purge_step or 0)]
        columns = sorted(rows[0]) if rows else []
        if rows:
            write_csv(self.file, columns, rows)
        else:
            self.file.unlink(missing_ok=True)
        return columns

    def _read(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        try:
            with self.file.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                _step(row)
            return rows
        except (ValueError, csv.Error) as error:
            raise UserError(f"{self.file}: is damaged ({error}); without it the run starts a new one") from error


def tensorboard_writer(trainer: Trainer) -> Any:
    """The SummaryWriter of a run's TensorBoard; None where there is none, and in every rank but the first."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, loggers.TensorBoardLogger):
                return logger.experiment
    return None


def _step(row: dict[str, str]) -> float:
    """Infinite of a row that a kill cut off."""
    return float(row["step"]) if row.get("step") and None not in row.values() else float("inf")
