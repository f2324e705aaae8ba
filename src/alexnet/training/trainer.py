"""Lightning's Trainer: checks its values, chooses the precision, and decides who starts the ranks."""

import os
import re
from datetime import timedelta
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy

from alexnet.config import build, processes_started
from alexnet.config_errors import prefix_errors
from alexnet.cores import has_bfloat16
from alexnet.errors import ArgumentError
from alexnet.validation import check_choice, check_float, check_int

# Arguments of Lightning's Trainer that the run gives itself, or that would change which samples it sees.
OWN = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "barebones", "plugins")
LEAST = {
    "max_epochs": -1,
    "accumulate_grad_batches": 1,
    "num_nodes": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,  # all of them
}
WAIT = timedelta(minutes=10)  # of processes for each other, before the run and at every exchange
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def resolve_trainer(cfg: DictConfig) -> Trainer:
    """Tries the trainer's values, and replaces precision=auto in `cfg`. Returns the trial.

    Raises:
        UserError: for a value that does not suit, by its key.
    """
    with prefix_errors("trainer"):
        _check_values(cfg.trainer)
    is_auto = cfg.trainer.precision == "auto"
    if is_auto:
        cfg.trainer.precision = "32-true"
    # An allocation of one SLURM task, a submitit job among them, holds one process: its ranks are the run's to start.
    alone = not TorchElasticEnvironment.detect() and SLURMEnvironment.detect() and os.environ["SLURM_NTASKS"] == "1"
    plugins = [LightningEnvironment()] if alone else []
    trainer: Trainer = build(
        cfg, "trainer", logger=False, enable_checkpointing=False, plugins=plugins, **strategy_arguments(cfg)
    )
    with prefix_errors("trainer"):
        _check_ranks(trainer)
    device = trainer.strategy.root_device
    if cfg.trainer.precision == "16-mixed" and device.type == "cpu":  # what Lightning does there is recorded
        cfg.trainer.precision = "bf16-mixed"
    if is_auto and _has_bfloat16(device):
        cfg.trainer.precision = "bf16-mixed"
    return trainer


def _check_values(values: DictConfig) -> None:
    for name in OWN:
        if name in values:
            raise ArgumentError(f"{name}={values[name]}: the run sets this itself; leave it out")
    for name, least in LEAST.items():
        if name in values:
            check_int(name, values[name], least)
    if isinstance(values.devices, int):
        check_int("devices", values.devices, -1)
    _check_share_or_count("limit_train_batches", values.limit_train_batches, or_none=False)
    _check_share_or_count("limit_val_batches", values.limit_val_batches, or_none=True)
    _check_share_or_count("limit_test_batches", values.limit_test_batches, or_none=True)
    if values.get("deterministic", False) not in (True, False, "warn"):
        raise ArgumentError(f"deterministic={values.deterministic}: must be true, false or warn")
    if values.gradient_clip_val is not None:
        check_float("gradient_clip_val", values.gradient_clip_val, 0)
    check_choice("precision", values.precision, PRECISIONS)
    if re.search("spawn|fork|notebook", str(values.strategy)):
        raise ArgumentError(f"strategy={values.strategy}: the run starts its ranks itself, so ddp is enough")


def strategy_arguments(cfg: DictConfig) -> dict[str, DDPStrategy]:
    """Returns a DDP strategy with a time limit for processes that torchrun or SLURM has started."""
    if processes_started() > 1 and cfg.trainer.strategy in ("auto", "ddp"):
        return {"strategy": DDPStrategy(timeout=WAIT)}
    return {}


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_bfloat16()


def _check_ranks(trainer: Trainer) -> None:
    """Raises ArgumentError if nobody starts the ranks of several nodes, or not as many as are asked for."""
    nodes, devices = trainer.num_nodes, trainer.num_devices
    if starts_ranks(trainer):
        if nodes > 1:
            raise ArgumentError(
                f"num_nodes={nodes}: start the run on every node, with torchrun --nnodes={nodes} or srun"
            )
        return
    if (started := processes_started()) not in (1, nodes * devices):
        raise ArgumentError(
            f"devices={devices}: {started} processes were started for {nodes * devices}; pass "
            f"trainer.devices={started // nodes}"
        )


def starts_ranks(trainer: Trainer) -> bool:
    """Returns whether the run starts its own ranks, which neither torchrun nor SLURM has."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is not None and not environment.creates_processes_externally


def _check_share_or_count(name: str, value: Any, *, or_none: bool) -> None:
    """Checks a limit of batches: Lightning reads a float as a share, a whole number as a count."""
    try:
        if isinstance(value, float):
            check_float(name, value, 0, 1, exclusive_min=not or_none)
        else:
            check_int(name, value, int(not or_none))
    except ValueError:
        least = "0, a share" if or_none else "a share above 0"
        raise ArgumentError(f"{name}={value}: must be {least} up to 1.0, or a whole number of batches") from None
