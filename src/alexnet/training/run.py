"""One training run, from the composed config to metrics.json."""

import logging
import os
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torchmetrics import Metric

from alexnet.checks import UserError, flag, integer, number, one_of
from alexnet.config import build, discard, in_sweep, named, new_folder
from alexnet.data import PictureData
from alexnet.models.init import paired
from alexnet.models.summary import summarize, table
from alexnet.pictures.sheet import InputSheet
from alexnet.training.callbacks import ProgressBar, Speed, StopAtNaN
from alexnet.training.checkpoint import network_class, read
from alexnet.training.checkpoint_io import WholeCheckpoints
from alexnet.training.module import ImageClassifier, accuracies
from alexnet.training.optim import make_optimizer, make_schedule
from alexnet.training.provenance import git_diff, origin, write, write_json

log = logging.getLogger("alexnet")


# Arguments of Lightning's Trainer that the run gives itself, or that would change which samples it sees.
OWN = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "barebones", "overfit_batches", "plugins")
WAIT = timedelta(minutes=10)  # for the other nodes, before the run and at every exchange
LEAST = {
    "max_epochs": -1,
    "accumulate_grad_batches": 1,
    "num_nodes": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,  # all of them
}
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def train(cfg: DictConfig) -> float:
    """Trains, tests the best epoch, and leaves a folder that tells everything. Gives `monitor` as metrics.json has it.

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
    network = paired(lambda: build(cfg, "model"), cfg.seed)
    with named("model"):
        network_class(cfg.model._target_)
        layers = summarize(network, torch.zeros(1, data.channels, data.crop, data.crop))
        if layers.shape != (data.num_classes,):
            if len(layers.shape) == 1 and "num_classes" in cfg.model:
                raise ValueError(f"num_classes={layers.shape[0]}: the data have {data.num_classes}; leave it to them")
            raise ValueError(
                f"gives {layers.shape} for a picture; one number for each of {data.num_classes} classes "
                f"is needed, ({data.num_classes},)"
            )
    device, endless = _settle_trainer(cfg)
    optimizer, scheduler = build(cfg, "optimizer", _partial_=True), build(cfg, "scheduler", _partial_=True)
    with named("optimizer"):
        trial = make_optimizer(optimizer, network)
    with named("scheduler"):
        make_schedule(scheduler, trial, 1, float("inf") if endless else 10**6, cfg.monitor, cfg.mode)
    metrics = _build_each(cfg, "metrics", Metric)
    figures = ["loss", *accuracies(data.num_classes), *metrics]
    _check_root(cfg, figures)
    _build_each(cfg, "logger", Logger, folder=cfg.outputs)
    _build_each(cfg, "callbacks", Callback, folder=cfg.outputs)

    data.setup()
    validates = data.has("val") and cfg.trainer.limit_val_batches != 0
    if cfg.monitor.startswith("val") and not validates:
        cfg.monitor, cfg.mode = "train/loss", "min"

    made = new_folder(cfg)
    folder = made[0]
    with _messages(folder / "train.log"), _interrupts(folder):
        if not validates:
            log.info("no validation pictures: %s says which epoch is best", cfg.monitor)
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
        _write_origin(folder, cfg, data)
        log.info("%s", table(layers))
        log.info("precision %s on %s", cfg.trainer.precision, device.type)

        if cfg.compile and _can_compile(device):
            network.compile()
        record = {"config": config, "data": data.describe()}
        module = ImageClassifier(
            network, optimizer, scheduler, data.num_classes, cfg.monitor, cfg.mode, cfg.seed, record, metrics,
            cfg.channels_last,
        )  # fmt: skip
        keep = partial(ModelCheckpoint, folder / "checkpoints", enable_version_counter=False)
        of_training = cfg.monitor.startswith("train") or None  # known only once the epoch is over
        best = keep(
            filename="best", monitor=cfg.monitor, mode=cfg.mode, save_weights_only=True,
            save_on_train_epoch_end=of_training,
        )  # fmt: skip
        last = keep(filename="last")
        speed = Speed()
        callbacks: list[Callback] = [speed, StopAtNaN(), InputSheet(data), best, last]
        if cfg.trainer.get("enable_progress_bar", True):
            callbacks.append(ProgressBar(speed))
        callbacks += _build_each(cfg, "callbacks", Callback).values()
        loggers = list(_build_each(cfg, "logger", Logger).values())
        if loggers:
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
        trainer: Trainer = build(
            cfg,
            "trainer",
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=str(folder),
            plugins=[WholeCheckpoints()],
        )
        if trainer.num_nodes > 1:
            trainer.strategy._timeout = WAIT  # type: ignore[attr-defined]  # public only where the strategy is made
            log.info("node %d of %d: waiting for the others, up to %s", trainer.node_rank, trainer.num_nodes, WAIT)

        try:
            trainer.fit(module, datamodule=data)
        except torch.distributed.DistError as error:
            if speed.images:
                raise
            discard(made)
            nodes = f"trainer.num_nodes={trainer.num_nodes}: the nodes did not meet within {WAIT}"
            raise UserError(f"{nodes}: {str(error).splitlines()[0]:.200}") from error
        except (MisconfigurationException, ValueError) as error:
            if speed.images:
                raise
            discard(made)  # Lightning found the trainer's values not to suit each other or the data
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        result: dict[str, Any] = _by_split(trainer.callback_metrics, figures)
        if best.best_model_path:
            chosen = read(best.best_model_path)
            epoch, measured = chosen["epoch"] + 1, chosen["metrics"]
            if validates and "val/loss" not in measured:  # not of that epoch
                trainer.validate(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
                measured = trainer.callback_metrics
        else:  # the run ended before its first validation
            if validates:
                trainer.validate(module, datamodule=data, verbose=False)
            best.best_model_path = str(folder / "checkpoints" / "best.ckpt")
            trainer.save_checkpoint(best.best_model_path, weights_only=True)
            epoch, measured = trainer.current_epoch, trainer.callback_metrics
        result |= {split: values for split, values in _by_split(measured, figures).items() if split == "val"}
        if data.has("test") and cfg.trainer.limit_test_batches != 0:
            trainer.test(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)
            result |= _by_split(trainer.callback_metrics, figures)
        result |= {
            "monitor": cfg.monitor,
            "best_epoch": epoch,
            "epochs": trainer.current_epoch,
            "parameters": layers.parameters,
            "flops_per_image": layers.flops,
            "seconds": round(speed.seconds, 2),
            "images_per_second": round(speed.images / speed.seconds, 2) if speed.seconds else None,
            "seed": cfg.seed,
        }
        write_json(folder / "metrics.json", result)
        _log_hyperparameters(trainer, config, result)
        _report(folder, result, cfg)
    split, figure = cfg.monitor.split("/")
    return result.get(split, {}).get(figure, float("nan"))


def _check_root(cfg: DictConfig, figures: list[str]) -> None:
    with named(""):
        one_of("monitor", cfg.monitor, [f"{split}/{figure}" for split in ("val", "train") for figure in figures])
        better = {"loss": "min", "top1": "max", "top5": "max"}.get(cfg.monitor.split("/")[1])
        one_of("mode", cfg.mode, ("min", "max"))
        if better and cfg.mode != better:
            raise ValueError(f"mode={cfg.mode}: the best {cfg.monitor} is the {better}imum, so mode={better}")
        if cfg.early_stopping is not None:
            integer("early_stopping", cfg.early_stopping, 0)
        flag("compile", cfg.compile)
        flag("channels_last", cfg.channels_last)


def _settle_trainer(cfg: DictConfig) -> tuple[torch.device, bool]:
    """Tries the trainer's values, and puts a precision in the place of `auto`. Gives the device it will run on, and
    whether the run has no end.
    """
    with named("trainer"):
        for name in OWN:
            if name in cfg.trainer:
                raise ValueError(f"{name}={cfg.trainer[name]}: the run sets this itself; leave it out")
        for name, least in LEAST.items():
            if name in cfg.trainer:
                integer(name, cfg.trainer[name], least)
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
            _share_or_count(name, cfg.trainer[name], none=name != "limit_train_batches")
        if cfg.trainer.get("deterministic", False) not in (True, False, "warn"):
            raise ValueError(f"deterministic={cfg.trainer.deterministic}: must be true, false or warn")
        if cfg.trainer.gradient_clip_val is not None:
            number("gradient_clip_val", cfg.trainer.gradient_clip_val, 0)
        auto = one_of("precision", cfg.trainer.precision, PRECISIONS) == "auto"
    cfg.trainer.precision = "32-true" if auto else cfg.trainer.precision
    trainer: Trainer = build(cfg, "trainer", logger=False, enable_checkpointing=False)
    with named("trainer"):
        _check_nodes(trainer)
    device = trainer.strategy.root_device
    if auto and (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    ):
        cfg.trainer.precision = "bf16-mixed"
    return device, trainer.max_epochs == -1 and trainer.max_steps == -1


def _check_nodes(trainer: Trainer) -> None:
    """More than one node needs somebody who starts the run on each, and says where they meet."""
    nodes, environment = trainer.num_nodes, getattr(trainer.strategy, "cluster_environment", None)
    started = environment is not None and environment.creates_processes_externally
    if nodes > 1 and not started and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
        raise ValueError(
            f"num_nodes={nodes}: start the run on every node with torchrun --nnodes={nodes} or srun, or set "
            f"MASTER_ADDR, MASTER_PORT and NODE_RANK on each"
        )


def _share_or_count(name: str, value: Any, none: bool) -> None:
    """Lightning takes a float as a share of an epoch's batches, and a whole number as so many of them."""
    try:
        number(name, value, 0, 1, above=not none) if isinstance(value, float) else integer(name, value, 1 - none)
    except ValueError:
        least = "0, a share" if none else "a share above 0"
        raise ValueError(f"{name}={value}: must be {least} up to 1.0, or a whole number of batches") from None


def _build_each(cfg: DictConfig, group: str, kind: Any, folder: str | None = None) -> dict[str, Any]:
    """The named objects of a group, loggers writing into `folder`. Building them writes nothing."""
    if folder:
        cfg = cfg.copy()
        cfg.folder = folder
    made = {name: build(cfg, f"{group}.{name}") for name in map(str, cfg[group] or ())}
    for name, thing in made.items():
        if not isinstance(thing, kind):
            raise UserError(f"{group}.{name}: must be a {kind.__name__}, and is a {type(thing).__name__}")
        if group == "metrics" and (not name.isidentifier() or name in ("loss", "top1", "top5")):
            raise UserError(
                f"metrics.{name}: not a name for a metric: letters, digits and _, but not loss, top1 or top5"
            )
    return made


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


@contextmanager
def _interrupts(folder: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM in any phase: one line that says where things are."""
    try:
        yield
    except BaseException as error:
        began: BaseException | None = error  # Lightning makes a SystemExit of it, and torch.save a RuntimeError
        while began is not None and not isinstance(began, KeyboardInterrupt):
            began = began.__context__
        if began is None:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it switched off
        raise KeyboardInterrupt(f"interrupted; what is done is in {folder}") from error


def _write_origin(folder: Path, cfg: DictConfig, data: PictureData) -> None:
    """config.yaml, overrides.yaml, run.json and git.diff: what is needed to repeat the run."""
    write(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write(folder / "overrides.yaml", OmegaConf.to_yaml(HydraConfig.get().overrides.task))
    splits = {name: len(pictures) for name, pictures in data.splits.items()}
    pictures = {"source": data.source, "fingerprint": data.about.fingerprint, "pictures": splits}
    write_json(folder / "run.json", origin() | {"seed": cfg.seed, "data": pictures})
    if diff := git_diff():
        write(folder / "git.diff", diff + "\n")


def _by_split(metrics: dict[str, Any], figures: list[str]) -> dict[str, dict[str, float]]:
    """{"val/loss": 1.0, ...} as {"val": {"loss": 1.0}, ...}, for the figures that a result is made of."""
    return {
        split: {f: float(metrics[f"{split}/{f}"]) for f in figures if f"{split}/{f}" in metrics}
        for split in ("train", "val", "test")
        if f"{split}/loss" in metrics
    }


def _log_hyperparameters(trainer: Trainer, config: dict[str, Any], result: dict[str, Any]) -> None:
    """What a study varies, beside the final figures: TensorBoard's HPARAMS tab."""
    groups = ("model", "data", "augment", "optimizer", "scheduler", "trainer")
    settings = {f"{g}.{k}": v for g in groups for k, v in config[g].items() if not k.startswith("_")}
    settings |= {g: config[g]["_target_"].rpartition(".")[2] for g in groups}
    settings |= {key: config[key] for key in ("monitor", "early_stopping", "compile", "channels_last")}
    plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
    settings = {"seed": config["seed"]} | plain
    figures = {f"final/{split}_{k}": v for split in ("train", "val", "test") for k, v in result.get(split, {}).items()}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings, figures)
        else:
            logger.log_hyperparams(settings)
        logger.finalize("success")


def _report(folder: Path, result: dict[str, Any], cfg: DictConfig) -> None:
    """The last lines of a run, among them what to try next with the same model and data."""
    log.info("%.0f s of training, %s images/s", result["seconds"], result["images_per_second"])
    if "test" in result:
        best = f", of epoch {result['best_epoch']} (best {result['monitor']})" if result["best_epoch"] else ""
        log.info("test top-1 accuracy %.4f%s", result["test"]["top1"], best)
    log.info("run    %s", folder)
    if not in_sweep():
        python = Path(sys.executable)
        python = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
        log.info("next   %s --logdir %s", python.with_name("tensorboard"), cfg.outputs)
        toggle = next((key for key, value in cfg.model.items() if isinstance(value, bool)), None)
        left_out = ("seed", "folder", f"model.{toggle}")
        same = [o for o in HydraConfig.get().overrides.task if o.lstrip("+~").split("=")[0] not in left_out]
        if toggle:
            other = [*same, f"model.{toggle}={str(not cfg.model[toggle]).lower()}"]
            log.info("       %s train.py %s", python, shlex.join(other))
            same.append(f"model.{toggle}=true,false")
        log.info("       %s train.py -m %s", python, shlex.join([*same, "seed=1,2,3"]))
