"""Builds and tries what the config describes, before an image is read or a directory is made."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from alexnet.checkpoint import check_trusted, network_class
from alexnet.config import build, check_arguments, target_class
from alexnet.config_errors import prefix_errors
from alexnet.data import ImageDataModule
from alexnet.data.loader import RANDOM_COLUMNS
from alexnet.data.splits import CLASS, LABELS, NUMBERS
from alexnet.data.transforms import check_crops
from alexnet.errors import ArgumentError, UserError
from alexnet.io import is_remote
from alexnet.models.init import with_named_seeds
from alexnet.models.summary import Summary, summarize
from alexnet.training.finetune import check_numbers_by_part, freeze, load_pretrained, normalize_like
from alexnet.training.losses import BALANCED, CrossEntropy, Focal, balanced_weights, total_loss
from alexnet.training.module import ImageModule
from alexnet.training.optim import make_optimizer, make_schedule
from alexnet.training.trainer import resolve_trainer
from alexnet.validation import check_bool, check_choice, check_int

LOSSES: dict[str, tuple[type[nn.Module], ...]] = {
    CLASS: (CrossEntropy, Focal, nn.CrossEntropyLoss),
    LABELS: (nn.BCEWithLogitsLoss,),
    NUMBERS: (nn.MSELoss, nn.HuberLoss, nn.L1Loss, nn.SmoothL1Loss),
}
NAMES = {CLASS: "one class", LABELS: "any number of labels", NUMBERS: "numbers"}


@dataclass
class Components:
    """The parts of a run.

    Attributes:
        task: the LightningModule's class.
        network: with the weights that it starts from.
        summary: what the network is, layer by layer.
        optimizer, scheduler: see training.optim; the optimizer knows lr_multipliers and weight_decays.
        loss: of logits and labels; balanced class weights are set by balance_loss.
        metrics: more figures than loss and accuracy, by name.
        metric_names: of all metrics of a split.
        trainer: a trial of the one that will train. It knows the device, the precision and the ranks.
        notes: what to say of the weights that the network starts from and of frozen parts.
        weights_sha256: the SHA-256 of weights that were trained before.
    """

    task: type[ImageModule]
    data: ImageDataModule
    network: nn.Module
    summary: Summary
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., Any]
    loss: nn.Module
    metrics: dict[str, Metric]
    metric_names: list[str]
    trainer: Trainer
    notes: list[str]
    weights_sha256: str | None


def build_components(cfg: DictConfig) -> Components:
    """Builds and tries every part, and sets in `cfg` what was left open: num_classes, precision, absolute paths.

    Raises:
        UserError: for a value that does not suit, by its key.
    """
    with prefix_errors(""):
        check_crops("test_crops", cfg.test_crops)
        seed_everything(check_int("seed", cfg.seed, 0, 2**32 - 1), verbose=False)
    _make_paths_absolute(cfg)
    task = _task(cfg)
    if isinstance(cfg.data.get("source"), DictConfig) and cfg.data.source.get("kind", "") is None:
        cfg.data.source.kind = task.kind
    mix = build(cfg, "mix") if cfg.mix else None
    data: ImageDataModule = build(cfg, "data", augment=build(cfg, "augment"), crops=cfg.test_crops, mix=mix)
    cfg.data.num_classes = data.num_classes  # a folder's classes are counted
    _check_kind(cfg, task, data)
    network = with_named_seeds(lambda: _build_network(cfg), cfg.seed)
    summary = _summarize(cfg, network, data)
    notes, weights_sha256 = [], None
    trained_on = vars(network).get("pretrained_statistics")  # of model.weights
    if cfg.init_from is not None and cfg.resume is None:
        note, weights_sha256, trained_on = load_pretrained(network, cfg.init_from, data.num_classes)
        notes.append(note)
    if trained_on and "mean" in cfg.data:  # a run of an earlier version that is repeated has its own images'
        notes += normalize_like(cfg, data, trained_on)
    with prefix_errors(""):
        if cfg.freeze is not None:
            notes.append(freeze(network, cfg.freeze))
        multipliers = check_numbers_by_part(network, "lr_multipliers", cfg.lr_multipliers)
        decays = check_numbers_by_part(network, "weight_decays", cfg.weight_decays)
    precision = cfg.trainer.precision
    trainer = resolve_trainer(cfg)
    if precision not in ("auto", cfg.trainer.precision):
        actual = cfg.trainer.precision
        notes.append(f"trainer.precision={precision}: the CPU has no float16 training, so this run is {actual}")
    _check_devices(trainer, data, network)
    optimizer = partial(make_optimizer, build(cfg, "optimizer", _partial_=True), times=multipliers, decays=decays)
    scheduler = build(cfg, "scheduler", _partial_=True)
    _try_optimizer(cfg, network, trainer, optimizer, scheduler)
    loss = _build_loss(cfg, task, data.num_classes, _try_mix(cfg, data))
    metrics = _build_metrics(cfg, task, data.num_classes)
    metric_names = ["loss", *task.make_metrics(data.num_classes), *metrics]
    _check_root(cfg, task, metric_names)
    _try_loggers_and_callbacks(cfg)
    return Components(
        task, data, network, summary, optimizer, scheduler, loss, metrics, metric_names, trainer, notes, weights_sha256
    )


def _task(cfg: DictConfig) -> type[ImageModule]:
    """Returns the class of the group `task`."""
    task = target_class(cfg, "task")
    if not (isinstance(task, type) and issubclass(task, ImageModule)):
        raise UserError(f"task._target_={cfg.task._target_}: must be a {ImageModule.__name__}")
    check_arguments("task", task, cfg.task)
    return task


def _check_kind(cfg: DictConfig, task: type[ImageModule], data: ImageDataModule) -> None:
    if data.kind != task.kind:
        raise UserError(
            f"task: {task.__name__} is for images whose label is {NAMES[task.kind]}, and those of {data.source} have "
            f"{NAMES[data.kind]}"
        )
    if data.kind != CLASS and "class_weights" in cfg.loss and cfg.loss.class_weights is not None:
        raise UserError(f"loss.class_weights={cfg.loss.class_weights}: are of classes")


def _build_network(cfg: DictConfig) -> nn.Module:
    """Builds the group `model`. Raises UserError for anything but a module all of whose sizes are known."""
    network = build(cfg, "model")
    if not isinstance(network, nn.Module):
        raise UserError(f"model: must be a torch.nn.Module, and is a {type(network).__name__}")
    for name, parameter in network.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise UserError(
                f"model: {name} has no size before the first batch, so it cannot be summarised or tried. Use a layer "
                "that is not lazy; ${data.channels} and ${data.crop} are the sizes of an image"
            )
    return network


def _summarize(cfg: DictConfig, network: nn.Module, data: ImageDataModule) -> Summary:
    """Runs the network on one image of zeros, and summarises it."""
    with prefix_errors(""):
        trusted = check_trusted(cfg.trusted)
    with prefix_errors("model", cfg.model):
        network_class(cfg.model._target_, trusted)
        summary = summarize(network, torch.zeros(1, data.channels, data.crop, data.crop))
        if summary.shape == (data.num_classes,):
            return summary
        if len(summary.shape) == 1 and "num_classes" in cfg.model:
            raise ArgumentError(f"num_classes={summary.shape[0]}: the data have {data.num_classes}; leave it to them")
        raise ArgumentError(
            f"gives {summary.shape} for an image; one number for each of {data.num_classes} classes is needed, "
            f"({data.num_classes},)"
        )


def _check_devices(trainer: Trainer, data: ImageDataModule, network: nn.Module) -> None:
    if data.batch_size % trainer.world_size:
        raise UserError(
            f"data.batch_size={data.batch_size}: {trainer.world_size} devices share every batch evenly, so it must be "
            f"a multiple of {trainer.world_size}"
        )
    devices = sorted({str(parameter.device) for parameter in network.parameters()})
    if trainer.world_size > 1 and len(devices) > 1:
        raise UserError(
            f"trainer.devices={trainer.world_size}: each process would need {', '.join(devices)}; with model.devices "
            "there is one process, trainer.devices=1"
        )


def _try_optimizer(
    cfg: DictConfig,
    network: nn.Module,
    trainer: Trainer,
    optimizer: Callable[..., Optimizer],
    scheduler: Callable[..., Any],
) -> None:
    with prefix_errors("optimizer", cfg.optimizer):
        trial = optimizer(network)
    with prefix_errors("scheduler", cfg.scheduler):
        is_endless = trainer.max_epochs == -1 and trainer.max_steps == -1
        total_steps = float("inf") if is_endless else 10**6
        make_schedule(scheduler, trial, 1, total_steps, cfg.monitor, cfg.mode)


def _try_mix(cfg: DictConfig, data: ImageDataModule) -> Tensor:
    """Returns a label of each class, (num_classes,), or as the group `mix` gives it, (num_classes, num_classes)."""
    n = data.num_classes
    images, rand = torch.zeros(n, data.channels, data.crop, data.crop), torch.full((n, len(RANDOM_COLUMNS)), 0.5)
    with prefix_errors("mix", cfg.mix):
        mixed, labels = data.mix_with_partners(images, torch.arange(n), rand, torch.arange(n).roll(1))
        if mixed.shape != images.shape or labels.shape not in ((n,), (n, n)):
            raise ArgumentError(
                f"must give as many images and soft labels as it gets, {tuple(images.shape)} and {(n, n)}, and gives "
                f"{tuple(mixed.shape)} and {tuple(labels.shape)}"
            )
    return labels


def _build_loss(cfg: DictConfig, task: type[ImageModule], num_classes: int, mixed: Tensor) -> nn.Module:
    """Returns the group `loss`, tried on a few outputs. mixed: labels as the group `mix` makes them."""
    loss = build(cfg, "loss")
    outputs, labels, _ = task.trial(num_classes)
    with prefix_errors("loss", cfg.loss):
        if not isinstance(loss, nn.Module):
            raise ArgumentError(f"must be a module of logits and labels, and is a {type(loss).__name__}")
        _check_loss_kind(loss, task)
        weight = getattr(loss, "weight", None)
        if isinstance(weight, torch.Tensor) and len(weight) != num_classes:
            raise ArgumentError(f"class_weights={weight.tolist()}: the data have {num_classes} classes")
        value = total_loss(loss, outputs, labels)
        if value.shape != ():
            raise ArgumentError("must give one number for a batch, or with reduction=none one for each image")
        if task.kind == CLASS and mixed.ndim == 2:
            _try_soft_labels(loss, mixed)
    return loss


def _check_loss_kind(loss: nn.Module, task: type[ImageModule]) -> None:
    """Refuses losses that would misread this task's labels without an error of their own."""
    for kind, losses in LOSSES.items():
        if kind != task.kind and isinstance(loss, losses):
            raise ArgumentError(
                f"{type(loss).__name__} is for images whose label is {NAMES[kind]}, and with {task.__name__} it is "
                f"{NAMES[task.kind]}"
            )


def _try_soft_labels(loss: nn.Module, labels: Tensor) -> None:
    try:
        total_loss(loss, torch.eye(len(labels)), labels)
    except Exception as error:  # of whatever kind the module raises for labels that it does not take
        raise ArgumentError(
            f"takes no soft labels {tuple(labels.shape)}, which this run's mix gives ({error}); use mix=none"
        ) from error


def balance_loss(cfg: DictConfig, components: Components) -> None:
    """Replaces loss.class_weights=balanced in `cfg` by its numbers. The data must be set up."""
    if cfg.loss.get("class_weights") != BALANCED:
        return
    train = components.data.splits["train"]
    counts = np.bincount(train.labels, minlength=components.data.num_classes)
    cfg.loss.class_weights = balanced_weights(counts.tolist())
    components.loss = build(cfg, "loss")


def check_last_batch(components: Components) -> None:
    """Raises UserError if a batch norm gets one value of each channel in some step, which has no spread.

    It is that of an epoch's last batch, of which a rank may get one image alone. The data must be set up.
    """
    trainer, images, batch_size = components.trainer, len(components.data.splits["train"]), components.data.batch_size
    batches = -(-images // batch_size)
    limit = trainer.limit_train_batches  # type: ignore[attr-defined]
    trained = int(limit * batches) if isinstance(limit, float) else min(limit, batches)

    def smallest(size: int) -> int:
        return (images % size or size) if trained == batches else size

    enough = 2 * trainer.world_size
    if smallest(batch_size) >= enough:
        return
    for row in components.summary.rows:
        layer = components.network.get_submodule(row.name)
        is_batch_norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        if is_batch_norm and layer.training and math.prod(row.shape[1:]) == 1:
            larger = count(batch_size + trainer.world_size, trainer.world_size)
            other = next(size for size in larger if smallest(size) >= enough or size > images)
            raise UserError(
                f"data.batch_size={batch_size}: a step would have one of {images} training images alone on a device, "
                f"and model.{row.name}, a {row.kind}, needs two. Choose another, such as data.batch_size={other}"
            )


def _build_metrics(cfg: DictConfig, task: type[ImageModule], num_classes: int) -> dict[str, Metric]:
    """Returns the group `metrics`, each tried on a few outputs."""
    metrics = build_each(cfg, "metrics", Metric)
    outputs, _, targets = task.trial(num_classes)
    for name, metric in metrics.items():
        if name in task.better:
            raise UserError(f"metrics.{name}: every run of {task.__name__} has a metric of this name")
        with prefix_errors(f"metrics.{name}", cfg.metrics[name]):
            value = metric.clone()(outputs, targets)
            if getattr(value, "shape", None) != ():
                raise ArgumentError("must give one number, as with average=macro")
    return metrics


def _try_loggers_and_callbacks(cfg: DictConfig) -> None:
    build_each(cfg, "logger", Logger, folder=cfg.outputs)
    for name, callback in build_each(cfg, "callbacks", Callback, folder=cfg.outputs).items():
        if isinstance(callback, StochasticWeightAveraging):
            raise UserError(
                f"callbacks.{name}: StochasticWeightAveraging never validates its average, so best.ckpt and the test "
                "would be without it. Use callbacks=swa"
            )
    panels(cfg)


def _make_paths_absolute(cfg: DictConfig) -> None:
    """Makes paths absolute, so that the record holds in another working directory."""
    for key in ("data.root", "data.cache_dir", "init_from"):
        path = OmegaConf.select(cfg, key)
        if isinstance(path, str) and path and not is_remote(path):
            OmegaConf.update(cfg, key, os.path.abspath(os.path.expanduser(path)))


def build_each(cfg: DictConfig, group: str, kind: Any, folder: str | None = None) -> dict[str, Any]:
    """Builds the named objects of a group, loggers so that they write into `folder`. Writes nothing yet."""
    if folder:
        cfg = cfg.copy()
        cfg.run_dir = folder
    made = {name: build(cfg, f"{group}.{name}") for name in map(str, cfg[group] or ())}
    for name, thing in made.items():
        if not isinstance(thing, kind):
            raise UserError(f"{group}.{name}: must be a {kind.__name__}, and is a {type(thing).__name__}")
        if group == "metrics" and (not name.isidentifier() or name == "loss"):
            raise UserError(f"metrics.{name}: not a name for a metric: letters, digits and _, but not loss")
    return made


def panels(cfg: DictConfig) -> list[Callback]:
    """Returns TensorBoard's panels for this task; none with panels=none, or if the package was deleted."""
    if not cfg.get("panels"):
        return []
    kind = _task(cfg).kind
    return [panel for panel in build(cfg, "panels") if getattr(panel, "kind", kind) == kind]


def check_tags(cfg: DictConfig) -> None:
    """Makes a list of cfg.tags. Raises ArgumentError for anything but words."""
    tags = [cfg.tags] if isinstance(cfg.tags, str) else cfg.tags
    if not isinstance(tags, Sequence) or not all(isinstance(tag, str) for tag in tags):
        raise ArgumentError(f"tags={cfg.tags}: must be words, such as [baseline,thesis]")
    cfg.tags = list(tags)
    if cfg.task_name is not None and not isinstance(cfg.task_name, str):
        raise ArgumentError(f"task_name={cfg.task_name}: must be text")


def _check_root(cfg: DictConfig, task: type[ImageModule], metric_names: list[str]) -> None:
    with prefix_errors(""):
        check_choice("monitor", cfg.monitor, [f"{split}/{name}" for split in ("val", "train") for name in metric_names])
        better = task.better.get(cfg.monitor.split("/")[1])
        check_choice("headline", cfg.headline, metric_names)
        check_choice("mode", cfg.mode, ("min", "max"))
        if better and cfg.mode != better:
            raise ArgumentError(f"mode={cfg.mode}: the best {cfg.monitor} is the {better}imum, so mode={better}")
        check_choice("test_epoch", cfg.test_epoch, ("best", "last"))
        if cfg.early_stopping is not None:
            check_int("early_stopping", cfg.early_stopping, 0)
        check_bool("compile", cfg.compile)
        check_tags(cfg)
        check_bool("channels_last", cfg.channels_last)
