"""The logger of metrics.csv, which a resumed run continues and no kill damages; and TensorBoard's writer."""

import csv
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from pytorch_lightning import Trainer, loggers
from pytorch_lightning.utilities import rank_zero_only

from alexnet.errors import UserError
from alexnet.io import write, write_csv
from alexnet.run_dir import in_sweep, read_run_json
from alexnet.validation import folder_path


def identify_run(cfg: DictConfig) -> None:
    """Sets the names that wandb and MLflow get for the run, if the user has not."""
    run_dir = Path(cfg.run_dir)
    for node in (cfg.logger or {}).values():
        kind = str(node.get("_target_")).rpartition(".")[2]
        if kind == "WandbLogger":
            wandb: Any = sys.modules.get("wandb")
            if wandb and wandb.run:  # of the sweep's job before, which Lightning would go on with
                wandb.finish()
            known = {"id": read_run_json(run_dir).get("id")}
            if in_sweep():
                known["group"] = run_dir.parent.name
        elif kind == "MLFlowLogger":
            tags = {"tags": ",".join(cfg.tags), "task_name": cfg.task_name}
            known = {"run_name": run_dir.name, "tags": {key: value for key, value in tags.items() if value}}
        else:
            continue
        for key, value in known.items():
            if key in node and node[key] is None:
                node[key] = value


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
        step = len(self.unwritten) if step is None else step
        if self.unwritten and self.unwritten[-1]["step"] == step:
            self.unwritten[-1] |= values
        else:
            self.unwritten.append(values | {"step": step})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        plain = vars(params) if isinstance(params, Namespace) else dict(params)
        write(self.folder / "hparams.yaml", yaml.safe_dump(plain, sort_keys=False))

    @rank_zero_only
    def save(self) -> None:
        """Appends the new rows. If they have a new column, the whole file is written again."""
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
        """Returns the columns of the file that is continued; none for a new file."""
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
    """Returns the SummaryWriter of a run's TensorBoard; None without one, and in every rank but the first."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, loggers.TensorBoardLogger):
                return logger.experiment
    return None


def _step(row: dict[str, str]) -> float:
    """Returns a row's step; infinite for a row that a kill cut off."""
    return float(row["step"]) if row.get("step") and None not in row.values() else float("inf")
