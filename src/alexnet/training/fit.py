"""Trains in one process, alone or as one of several ranks: from the built parts to metrics.json."""

import logging
import os
import shutil
import traceback
from collections.abc import Sequence
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
from alexnet.data import ImageDataModule
from alexnet.errors import ArgumentError, ConfigError
from alexnet.training.build import Components, build_each, panels
from alexnet.training.callbacks import ProgressBar, RestoreSigtermHandler, StopAtNaN, TestImagesWriter, Throughput
from alexnet.training.checkpoint_io import WholeCheckpoints
from alexnet.training.hyperparameters import log_hyperparameters
from alexnet.training.loggers import identify_run
from alexnet.training.metadata import write_json
from alexnet.training.module import ImageModule
from alexnet.training.resume import LAST, ResumeCheckpoint, purge
from alexnet.training.trainer import strategy_arguments

log = logging.getLogger("alexnet")


def fit(
    cfg: DictConfig, components: Components, before: dict[str, Any] | None = None, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Trains, tests the best epoch or the last, and writes metrics.json into cfg.run_dir. Returns its content.

    Args:
        cfg: the run's config.
        components: what is built of it.
        before: the state to resume from, of resume.read_resume_state.
        callbacks: more than the config's.

    Raises:
        ConfigError: before the first step, for a trainer whose values do not suit each other or the data.
    """
    _set_backends(cfg)
    run_dir, data, names = Path(cfg.run_dir), components.data, components.metric_names
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    module = _make_module(cfg, components, config)
    if before:
        data.resume_position = before["epoch"], before["batches"]
        purge(cfg, before["global_step"])
    throughput = Throughput(compiles=cfg.compile)
    best = _best_checkpoint(cfg)
    identify_run(cfg)
    trainer = _make_trainer(cfg, components, [best, throughput, *_callbacks(cfg, throughput), *callbacks])

    checkpoint = run_dir / LAST if before else None
    _train(trainer, module, data, checkpoint)
    was_trained = before is not None and before["trained"]
    measured = before["metrics"] if before and was_trained else trainer.callback_metrics
    result: dict[str, Any] = _by_split(measured, names)
    best_epoch, measured = _choose_best(trainer, module, best, cfg, components)
    of_best = _by_split(measured, names)
    if "val" in of_best:
        result["val"] = of_best["val"]
    if data.has("test") and cfg.trainer.limit_test_batches != 0:
        trainer.test(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
        result |= _by_split(trainer.callback_metrics, names)
    result |= {
        "monitor": cfg.monitor,
        "best_epoch": best_epoch,
        "epochs": trainer.current_epoch,
        "parameters": components.summary.parameters,
        "flops_per_image": components.summary.flops,
        "seconds": round(throughput.seconds, 2),
        "images_per_second": throughput.images_per_second,
        "seed": cfg.seed,
    }
    if trainer.is_global_zero:
        log_hyperparameters(trainer, config, result, again=was_trained)
        write_json(run_dir / "metrics.json", result)
    return result


def validates(cfg: DictConfig, components: Components) -> bool:
    """Returns whether a run has validation images and uses them."""
    return components.data.has("val") and cfg.trainer.limit_val_batches != 0


def _set_backends(cfg: DictConfig) -> None:
    """Sets torch's global settings, which an earlier job of a sweep may have changed in this process."""
    # Of float32, TensorFloat-32 keeps 10 bits of 23; cuDNN takes it unless told not to.
    torch.backends.cudnn.allow_tf32 = not cfg.trainer.get("deterministic", False)
    torch.backends.cudnn.benchmark = bool(cfg.trainer.get("benchmark"))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _make_module(cfg: DictConfig, components: Components, config: dict[str, Any]) -> ImageModule:
    about = components.data.describe()
    own = {key: value for key, value in config["task"].items() if key != "_target_"}
    module = components.task(
        components.network,
        components.optimizer,
        components.scheduler,
        components.data.num_classes,
        monitor=cfg.monitor,
        mode=cfg.mode,
        seed=cfg.seed,
        record={"config": config, "data": about},
        loss=components.loss,
        metrics=components.metrics,
        channels_last=cfg.channels_last,
        data=about,
        **own,
    )
    if cfg.compile and _can_compile(components.trainer.strategy.root_device):
        module.network.compile()
        module.compiled = True
    return module


def _make_trainer(cfg: DictConfig, components: Components, callbacks: list[Callback]) -> Trainer:
    run_dir = Path(cfg.run_dir)
    trainer: Trainer = build(
        cfg,
        "trainer",
        logger=list(build_each(cfg, "logger", Logger).values()),
        callbacks=[
            RestoreSigtermHandler(),
            ResumeCheckpoint(run_dir, cfg.checkpoint_every),
            *callbacks,
            TestImagesWriter(run_dir),
        ],
        default_root_dir=str(run_dir),
        plugins=[WholeCheckpoints()],
        **strategy_arguments(cfg),
    )
    return trainer


def _train(trainer: Trainer, module: ImageModule, data: ImageDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except (MisconfigurationException, ValueError) as error:
        if trainer.global_step or not _of_lightning(error):
            raise
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def _choose_best(
    trainer: Trainer, module: ImageModule, best: ModelCheckpoint, cfg: DictConfig, components: Components
) -> tuple[int, dict[str, Any]]:
    """Returns the epoch to test, counted from 1, and its metrics. Its weights are at best.best_model_path."""
    data = components.data
    if best.best_model_path:
        chosen = read(best.best_model_path)
        epoch, metrics = chosen["epoch"] + 1, chosen["metrics"]
        if validates(cfg, components) and "val/loss" not in metrics:  # not of that epoch
            trainer.validate(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
            metrics = trainer.callback_metrics
        return epoch, metrics
    # the run ended before its first validation
    if validates(cfg, components):
        trainer.validate(module, datamodule=data, verbose=False)
    best.best_model_path = str(Path(cfg.run_dir, "checkpoints", "best.ckpt"))
    trainer.save_checkpoint(best.best_model_path, weights_only=True)
    return trainer.current_epoch, trainer.callback_metrics


def _of_lightning(error: Exception) -> bool:
    """Returns whether an error is about the trainer's arguments, and not a ValueError of the user's code."""
    if isinstance(error, MisconfigurationException | ArgumentError):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith(("pytorch_lightning.", "lightning_fabric."))


def _best_checkpoint(cfg: DictConfig) -> ModelCheckpoint:
    tests_last = cfg.test_epoch == "last"
    monitor = None if tests_last else cfg.monitor  # without one the latest epoch is kept
    return ModelCheckpoint(
        Path(cfg.run_dir, "checkpoints"),
        filename="best",
        monitor=monitor,
        mode=cfg.mode,
        save_weights_only=True,
        save_on_train_epoch_end=tests_last or _is_of_training(cfg),
        enable_version_counter=False,
    )


def _is_of_training(cfg: DictConfig) -> bool | None:
    """Returns True if the monitored metric is known only after the epoch; None leaves it to Lightning."""
    return cfg.monitor.startswith("train") or None


def _callbacks(cfg: DictConfig, throughput: Throughput) -> list[Callback]:
    callbacks: list[Callback] = [StopAtNaN()]
    if cfg.trainer.get("enable_progress_bar", True):
        callbacks.append(ProgressBar(throughput))
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
                check_on_train_epoch_end=_is_of_training(cfg),
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
    """Returns {"val/loss": 1.0, ...} as {"val": {"loss": 1.0}, ...}, for the metrics of a result."""
    found: dict[str, dict[str, float]] = {}
    for split in ("train", "val", "test"):
        for name in names:
            if f"{split}/loss" in metrics and f"{split}/{name}" in metrics:
                found.setdefault(split, {})[name] = float(metrics[f"{split}/{name}"])
    return found
