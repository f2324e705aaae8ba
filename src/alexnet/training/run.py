"""One training run, from the composed config to metrics.json."""

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from alexnet.checks import flag, integer, one_of
from alexnet.config import build, in_sweep, named, new_folder
from alexnet.data import PictureData
from alexnet.models.summary import summarize, table
from alexnet.training.callbacks import ProgressBar, Speed, StopAtNaN
from alexnet.training.checkpoint import read
from alexnet.training.module import ImageClassifier
from alexnet.training.provenance import git_diff, origin, write, write_json

log = logging.getLogger("alexnet")


def train(cfg: DictConfig) -> float:
    """Trains, tests the best epoch, and leaves a folder that tells everything. Gives the monitored metric's best.

    Raises:
        UserError: for a value that does not suit; no folder is left for what is known before training.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # the run says itself what matters of it
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Experiment logs directory|.*does not have many workers|.*LeafSpec")
    # Everything that the config describes is built before a picture is read or a folder made.
    with named(""):
        seed_everything(integer("seed", cfg.seed, 0, 2**32 - 1), verbose=False)
    data: PictureData = build(cfg, "data", augment=build(cfg, "augment"))
    cfg.data.num_classes = data.num_classes  # a folder's classes are counted
    network = build(cfg, "model")
    optimizer, scheduler = build(cfg, "optimizer"), build(cfg, "scheduler")
    with named("optimizer"):
        trial = optimizer(network)
    with named("scheduler"):
        scheduler(trial, 1, 1, cfg.monitor, cfg.mode)
    _check_monitor(cfg, data.num_classes)
    device = _settle_trainer(cfg)

    data.setup()
    validates = data.has("val") and cfg.trainer.limit_val_batches != 0
    if cfg.monitor.startswith("val") and not validates:
        cfg.monitor, cfg.mode = "train/loss", "min"

    folder = new_folder(cfg)
    try:
        loggers = [build(cfg, f"logger.{name}") for name in cfg.logger or ()]
    except BaseException:
        os.removedirs(folder)
        raise
    with _messages(folder / "train.log"):
        if not validates:
            log.info("no validation pictures: train/loss says which epoch is best")
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
        _write_origin(folder, cfg, data)

        layers = summarize(network, torch.zeros(1, data.channels, data.crop, data.crop))
        log.info("%s", table(layers))
        log.info("precision %s on %s", cfg.trainer.precision, device.type)
        network.to(memory_format=torch.channels_last)
        if cfg.compile and _can_compile(device):
            network.compile()

        record = {"config": config, "data": data.describe()}
        module = ImageClassifier(
            network, optimizer, scheduler, data.num_classes, cfg.monitor, cfg.mode, cfg.seed, record=record
        )
        keep = partial(ModelCheckpoint, folder / "checkpoints", enable_version_counter=False)
        best = keep(filename="best", monitor=cfg.monitor, mode=cfg.mode, save_weights_only=True)
        last = keep(filename="last")
        speed = Speed()
        callbacks: list[Callback] = [speed, ProgressBar(speed), StopAtNaN(), best, last]
        if loggers:
            callbacks.append(LearningRateMonitor())
        if cfg.early_stopping is not None:
            callbacks.append(EarlyStopping(cfg.monitor, mode=cfg.mode, patience=cfg.early_stopping, check_finite=False))
        trainer: Trainer = build(cfg, "trainer", logger=loggers, callbacks=callbacks, default_root_dir=str(folder))

        trainer.fit(module, datamodule=data)
        metrics = _by_split(trainer.callback_metrics)
        chosen = read(best.best_model_path) if best.best_model_path else None
        if chosen:
            metrics |= {k: v for k, v in _by_split(chosen["metrics"]).items() if k == "val"}
        if data.has("test"):
            trainer.test(module, datamodule=data, ckpt_path=best.best_model_path or None, verbose=False)
            metrics["test"] = _by_split(trainer.callback_metrics)["test"]
        result = {
            **metrics,
            "monitor": cfg.monitor,
            "best_epoch": chosen["epoch"] + 1 if chosen else None,
            "epochs": trainer.current_epoch,
            "parameters": sum(layer.parameters for layer in layers),
            "flops_per_image": sum(layer.flops for layer in layers),
            "seconds": round(speed.total_seconds, 2),
            "images_per_second": round(speed.total_images / speed.total_seconds, 2) if speed.total_seconds else None,
            "seed": cfg.seed,
        }
        write_json(folder / "metrics.json", result)
        _log_hyperparameters(trainer, config, result)
        _report(folder, result, cfg.outputs)
    value = best.best_model_score
    return float("nan") if value is None else value.item()


def _check_monitor(cfg: DictConfig, num_classes: int) -> None:
    figures = ("loss", "top1", "top5") if num_classes > 5 else ("loss", "top1")
    with named(""):
        one_of("monitor", cfg.monitor, [f"{split}/{figure}" for split in ("val", "train") for figure in figures])
        better = "min" if cfg.monitor.endswith("loss") else "max"
        if cfg.mode != better:
            raise ValueError(f"mode={cfg.mode}: the best {cfg.monitor} is the {better}imum, so mode={better}")
        if cfg.early_stopping is not None:
            integer("early_stopping", cfg.early_stopping, 0)
        flag("compile", cfg.compile)


def _settle_trainer(cfg: DictConfig) -> torch.device:
    """Tries the trainer's values on a trainer without loggers, and puts a precision in the place of `auto`."""
    auto = cfg.trainer.precision == "auto"
    cfg.trainer.precision = "32-true" if auto else cfg.trainer.precision
    device: torch.device = build(cfg, "trainer", logger=False, enable_checkpointing=False).strategy.root_device
    if auto and (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    ):
        cfg.trainer.precision = "bf16-mixed"
    return device


def _can_compile(device: torch.device) -> bool:
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        log.warning("compile=true needs g++ or clang++ on the CPU, and finds neither: going on without")
        return False
    return True


@contextmanager
def _messages(path: Path) -> Iterator[None]:
    """Shows messages as they are, and writes them to `path` with their time, and what ended the run if it failed."""
    show, keep = logging.Handler(), logging.FileHandler(path, encoding="utf-8")
    show.emit = lambda record: print(record.getMessage(), flush=True)  # type: ignore[method-assign]  # above a live bar
    keep.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [show, keep]
    try:
        yield
    except BaseException as error:
        keep.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "%s: %s", (type(error).__name__, error), None))
        raise
    finally:
        log.handlers = [show]
        keep.close()


def _write_origin(folder: Path, cfg: DictConfig, data: PictureData) -> None:
    """config.yaml, overrides.yaml, run.json and git.diff: what is needed to repeat the run."""
    write(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write(folder / "overrides.yaml", OmegaConf.to_yaml(HydraConfig.get().overrides.task))
    splits = {name: len(pictures) for name, pictures in data.splits.items()}
    pictures = {"source": data.source, "fingerprint": data.fingerprint(), "pictures": splits}
    write_json(folder / "run.json", origin() | {"seed": cfg.seed, "data": pictures})
    if diff := git_diff():
        write(folder / "git.diff", diff + "\n")


def _by_split(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """{"val/loss": 1.0, ...} as {"val": {"loss": 1.0}, ...}, for the figures that a result is made of."""
    return {
        split: {f: float(metrics[f"{split}/{f}"]) for f in ("loss", "top1", "top5") if f"{split}/{f}" in metrics}
        for split in ("train", "val", "test")
        if f"{split}/loss" in metrics
    }


def _log_hyperparameters(trainer: Trainer, config: dict[str, Any], result: dict[str, Any]) -> None:
    """What a study varies, beside the final figures: TensorBoard's HPARAMS tab."""
    groups = ("model", "data", "augment", "optimizer", "scheduler")
    settings = {f"{g}.{k}": v for g in groups for k, v in config[g].items() if not k.startswith("_")}
    plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
    settings = {"seed": config["seed"]} | plain
    figures = {f"final/{split}_{k}": v for split in ("train", "val", "test") for k, v in result.get(split, {}).items()}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings, figures)
        else:
            logger.log_hyperparams(settings)
        logger.finalize("success")


def _report(folder: Path, result: dict[str, Any], outputs: str) -> None:
    log.info("%.0f s of training, %s images/s", result["seconds"], result["images_per_second"])
    if "test" in result:
        best = f", of epoch {result['best_epoch']} (best {result['monitor']})" if result["best_epoch"] else ""
        log.info("test top-1 accuracy %.4f%s", result["test"]["top1"], best)
    log.info("run    %s", folder)
    if not in_sweep():
        python = Path(sys.executable)
        python = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
        log.info("next   %s --logdir %s", python.with_name("tensorboard"), outputs)
        log.info("       %s train.py model.lrn=false", python)
        log.info("       %s train.py -m model.lrn=true,false seed=1,2,3", python)
