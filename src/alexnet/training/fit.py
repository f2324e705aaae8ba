"""Training in one process, alone or as one of several ranks: from the built parts to metrics.json."""

import logging
import os
import shutil
import traceback
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from alexnet.checkpoint import read
from alexnet.config import build
from alexnet.errors import ArgumentError, ConfigError
from alexnet.training.build import Components, build_each, panels, strategy_arguments
from alexnet.training.callbacks import ProgressBar, RestoreSigtermHandler, StopAtNaN, TestCorrectnessWriter, Throughput
from alexnet.training.checkpoint_io import WholeCheckpoints
from alexnet.training.hyperparameters import log_hyperparameters
from alexnet.training.metadata import write_json
from alexnet.training.metrics import top_k
from alexnet.training.module import ImageClassifier
from alexnet.training.resume import LAST, ResumeCheckpoint, purge

log = logging.getLogger("alexnet")


def fit(cfg: DictConfig, components: Components, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Trains, tests the best epoch, writes metrics.json into cfg.run_dir. Returns what is written.

    before: the state to resume from, of resume.read_resume_state.

    Raises:
        Refused: before the first step, for a trainer whose values do not suit each other or the data.
    """
    folder, data, speed = Path(cfg.run_dir), components.data, Throughput(compiles=cfg.compile)
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    # Of float32, TensorFloat-32 keeps 10 bits of 23; cuDNN takes it unless told not to.
    torch.backends.cudnn.allow_tf32 = not cfg.trainer.get("deterministic", False)
    torch.backends.cudnn.benchmark = bool(cfg.trainer.get("benchmark"))  # a job of a sweep before may have set it
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    compiled = cfg.compile and _can_compile(components.trainer.strategy.root_device)
    if compiled:
        components.network.compile()
    module = ImageClassifier(
        components.network,
        components.optimizer,
        components.scheduler,
        data.num_classes,
        monitor=cfg.monitor,
        mode=cfg.mode,
        seed=cfg.seed,
        record={"config": config, "data": data.describe()},
        metrics=components.metrics,
        channels_last=cfg.channels_last,
    )
    module.compiled = compiled
    if before:
        data.resume_position = before["epoch"], before["batches"]
        purge(cfg, before["global_step"])
    best, *others = _callbacks(cfg, folder, speed)
    others += [TestCorrectnessWriter(folder, top_k(data.num_classes))]
    trainer: Trainer = build(
        cfg,
        "trainer",
        logger=list(build_each(cfg, "logger", Logger).values()),
        callbacks=[RestoreSigtermHandler(), ResumeCheckpoint(folder, cfg.checkpoint_every), best, *others],
        default_root_dir=str(folder),
        plugins=[WholeCheckpoints()],
        **strategy_arguments(cfg),
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=folder / LAST if before else None)
    except (MisconfigurationException, ValueError) as error:
        if trainer.global_step or not _of_lightning(error):
            raise
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error

    measured = before["metrics"] if before and before["trained"] else trainer.callback_metrics
    result: dict[str, Any] = _by_split(measured, components.metric_names)
    if best.best_model_path:
        chosen = read(best.best_model_path)
        epoch, measured = chosen["epoch"] + 1, chosen["metrics"]
        if validates(cfg, components) and "val/loss" not in measured:  # not of that epoch
            trainer.validate(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
            measured = trainer.callback_metrics
    else:  # the run ended before its first validation
        if validates(cfg, components):
            trainer.validate(module, datamodule=data, verbose=False)
        best.best_model_path = str(folder / "checkpoints" / "best.ckpt")
        trainer.save_checkpoint(best.best_model_path, weights_only=True)
        epoch, measured = trainer.current_epoch, trainer.callback_metrics
    result |= {
        split: values for split, values in _by_split(measured, components.metric_names).items() if split == "val"
    }
    if data.has("test") and cfg.trainer.limit_test_batches != 0:
        trainer.test(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
        result |= _by_split(trainer.callback_metrics, components.metric_names)
    result |= {
        "monitor": cfg.monitor,
        "best_epoch": epoch,
        "epochs": trainer.current_epoch,
        "parameters": components.summary.parameters,
        "flops_per_image": components.summary.flops,
        "seconds": round(speed.seconds, 2),
        "images_per_second": round(speed.images / speed.seconds, 2) if speed.seconds else None,
        "seed": cfg.seed,
    }
    if trainer.is_global_zero:
        log_hyperparameters(trainer, config, result, again=bool(before and before["trained"]))
        write_json(folder / "metrics.json", result)
    return result


def _of_lightning(error: Exception) -> bool:
    """Whether an error is about the trainer's arguments; a ValueError of the user's own code is none of these."""
    if isinstance(error, MisconfigurationException | ArgumentError):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith(("pytorch_lightning.", "lightning_fabric."))


def validates(cfg: DictConfig, components: Components) -> bool:
    return components.data.has("val") and cfg.trainer.limit_val_batches != 0


def _callbacks(cfg: DictConfig, folder: Path, speed: Throughput) -> list[Any]:
    """The checkpoint of the best epoch comes first."""
    keep = partial(ModelCheckpoint, folder / "checkpoints", enable_version_counter=False)
    of_training = cfg.monitor.startswith("train") or None  # known only once the epoch is over
    best = keep(
        filename="best", monitor=cfg.monitor, mode=cfg.mode, save_weights_only=True, save_on_train_epoch_end=of_training
    )
    callbacks: list[Callback] = [best, speed, StopAtNaN()]
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks.append(ProgressBar(speed))
    callbacks += [*build_each(cfg, "callbacks", Callback).values(), *panels(cfg)]
    if cfg.logger:
        callbacks.append(LearningRateMonitor())
    if cfg.early_stopping is not None:
        callbacks.append(
            EarlyStopping(
                cfg.monitor,
                mode=cfg.mode,
                patience=cfg.early_stopping,
                check_finite=False,
                check_on_train_epoch_end=of_training,
            )
        )
    return callbacks


def _can_compile(device: torch.device) -> bool:
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        log.warning("compile=true needs g++ or clang++ on the CPU, and finds neither: not compiled")
        return False
    return True


def _by_split(metrics: dict[str, Any], names: list[str]) -> dict[str, dict[str, float]]:
    """{"val/loss": 1.0, ...} as {"val": {"loss": 1.0}, ...}, for the figures that a result is made of."""
    return {
        split: {name: float(metrics[f"{split}/{name}"]) for name in names if f"{split}/{name}" in metrics}
        for split in ("train", "val", "test")
        if f"{split}/loss" in metrics
    }
