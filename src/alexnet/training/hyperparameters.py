"""Logs what a study varies beside the result, in TensorBoard's HPARAMS tab and the other loggers."""

from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import FileWriter  # type: ignore[attr-defined]
from torch.utils.tensorboard.summary import hparams


def log_hyperparameters(
    trainer: Trainer, config: dict[str, Any], result: dict[str, Any], *, again: bool = False
) -> None:
    """Sends a run's settings and its result to every logger.

    Args:
        trainer: whose loggers they are.
        config: the settings.
        result: as metrics.json has it.
        again: the run was killed after its training, perhaps when this was logged already; TensorBoard gets no figure
            twice.
    """
    groups = ("model", "data", "augment", "mix", "loss", "optimizer", "scheduler", "trainer")
    settings = {f"{g}.{k}": v for g in groups for k, v in config[g].items() if not k.startswith("_")}
    settings |= {g: config[g]["_target_"].rpartition(".")[2] for g in groups if config[g]}
    settings |= {key: config[key] for key in ("monitor", "early_stopping", "compile", "channels_last")}
    settings |= {"tags": ",".join(config["tags"])} if config["tags"] else {}
    settings |= {"task_name": config["task_name"]} if config["task_name"] else {}
    plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
    settings = {"seed": config["seed"]} | plain
    # The tab shows five metrics, in the order of ASCII: the capital letter puts these before all curves.
    metrics = {f"Final/{split}_{k}": v for split in ("train", "val", "test") for k, v in result.get(split, {}).items()}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            written = _scalars(logger.log_dir) if again else ()
            logger.log_metrics({name: value for name, value in metrics.items() if name not in written})
            _start_session(logger.log_dir, settings)
        else:
            logger.log_hyperparams(settings)
        logger.finalize("success")


def _start_session(folder: str, settings: dict[str, Any]) -> None:
    """Writes a run's settings for TensorBoard, without the summary of all runs that Lightning would add.

    Where there is none, TensorBoard makes it, and shows first the settings in which the runs differ.
    """
    _, start, end = hparams(settings, {})
    writer = FileWriter(folder, filename_suffix=".hparams")
    for summary in (start, end):
        writer.add_summary(summary)
    writer.close()


def _scalars(folder: str) -> list[str]:
    """Returns the names of the scalars in its event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    return EventAccumulator(folder).Reload().Tags()["scalars"]
