"""metrics.csv, which a resumed run continues, and which no kill leaves half."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, loggers
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from alexnet.errors import UserError
from alexnet.io import write_csv
from alexnet.validation import folder_path


class CSVLogger(loggers.CSVLogger):
    """Lightning's starts a new file where there is one already, and empties the file for a moment when a new metric
    comes in. This one does neither.

    Args:
        purge_step: the rows of this step and later are dropped, and those before are kept, as in TensorBoardLogger.
            None starts a new file.
    """

    def __init__(self, save_dir: str, *args: Any, purge_step: int | None = None, **kwargs: Any) -> None:
        super().__init__(folder_path("save_dir", save_dir), *args, **kwargs)
        self.purge_step = purge_step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir, self.purge_step)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str, purge_step: int | None) -> None:
        self.purge_step = purge_step
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if self.purge_step is None or not path.exists():
            path.unlink(missing_ok=True)
            return
        try:
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if _step(row) < self.purge_step]
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path}: is damaged ({error}); without it the run starts a new one") from error
        self.metrics_keys = sorted({*rows[0]} if rows else ())
        self._write(rows)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            self._write(list(csv.DictReader(file)))

    def _write(self, rows: list[dict[str, str]]) -> None:
        write_csv(Path(self.metrics_file_path), self.metrics_keys, rows)


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
