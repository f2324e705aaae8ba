"""One training run, from the composed config to a complete run directory."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Callback, Trainer

from alexnet.config_errors import prefix_errors
from alexnet.cores import limit_threads
from alexnet.errors import ConfigError, UserError
from alexnet.malloc import keep_freed_memory
from alexnet.models.summary import table
from alexnet.output import tolerant_output
from alexnet.run_dir import create_run_dir, read_metrics, remove_run_dir, run_status
from alexnet.run_identity import digest
from alexnet.training import trainer as trainers
from alexnet.training.build import Components, balance_loss, build_components, check_last_batch
from alexnet.training.fit import fit, validates
from alexnet.training.launch import launch_ddp
from alexnet.training.logging import print_summary, run_logging, silence_lightning, translate_errors
from alexnet.training.losses import output_warning
from alexnet.training.metadata import mark_done, track_status, write_run_metadata
from alexnet.training.reproduce import check_reproduced, check_same_inputs
from alexnet.training.resume import log_resume, read_resume_state
from alexnet.training.slurm import requeued
from alexnet.training.trainer import starts_ranks
from alexnet.validation import check_bool, check_int

log = logging.getLogger("alexnet")


def train(cfg: DictConfig, *, callbacks: Sequence[Callback] = ()) -> float:
    """Trains a model, tests the best epoch, and writes a run directory. Returns the monitored metric.

    Args:
        cfg: the run's config. What it leaves open, such as run_dir, is set.
        callbacks: more than the config's; not in ranks that this process starts.

    Raises:
        UserError: for a value that does not suit; no directory is left for what is known before training.
    """
    keeps_memory = set_up_process(cfg)
    if cfg.resume is not None and run_status(Path(cfg.resume)) == "done":
        return monitored_value(_read_finished(Path(cfg.resume)))
    config_digest = digest(cfg)
    components = build_components(cfg)  # every error that the config can cause is raised here
    components.data.setup()
    balance_loss(cfg, components)
    check_last_batch(components)
    check_same_inputs(cfg, components.data.info.fingerprint, components.weights_sha256)
    if cfg.monitor.startswith("val") and not validates(cfg, components):
        cfg.monitor, cfg.mode = "train/loss", "min"

    is_first = _meet_other_ranks(components.trainer)
    created = _set_run_dir(cfg, components.trainer, config_digest, is_first=is_first)  # nothing is written before this
    run_dir = Path(cfg.run_dir)
    state = read_resume_state(run_dir) if cfg.resume is not None else None
    with _active_run(cfg, is_first=is_first, keep=state is not None):
        if is_first and state:
            log_resume(run_dir, state, keeps_memory=keeps_memory)
        elif is_first:
            write_run_metadata(run_dir, cfg, components, config_digest, keeps_memory=keeps_memory)
        _log_components(cfg, components)
        try:
            if starts_ranks(components.trainer):
                launch_ddp(cfg, components.trainer.num_devices)
                result = read_metrics(run_dir)
            else:
                result = fit(cfg, components, state, callbacks)
        except ConfigError:
            remove_run_dir(created)
            raise
        if is_first:
            print_summary(result, cfg)
        if is_first and cfg.reproduce is not None:
            check_reproduced(cfg, result)
    return monitored_value(result)


def set_up_process(cfg: DictConfig) -> bool:
    """Sets threads, messages and memory for the whole process. Returns whether freed memory is kept."""
    silence_lightning()
    limit_threads()
    with prefix_errors(""):
        if cfg.checkpoint_every is not None:
            check_int("checkpoint_every", cfg.checkpoint_every, 1)
        return check_bool("keep_memory", cfg.keep_memory) and keep_freed_memory()


def monitored_value(result: dict[str, Any]) -> float:
    """Returns the value that a sweeper compares, from metrics.json; nan if there is none."""
    split, figure = result["monitor"].split("/")
    return result.get(split, {}).get(figure, float("nan"))


def _read_finished(run_dir: Path) -> dict[str, Any]:
    mark_done(run_dir)
    print(f"resume={run_dir}: this run is done; nothing to resume", flush=True)
    return read_metrics(run_dir)


def _meet_other_ranks(trainer: Trainer) -> bool:
    """Waits for the ranks that torchrun or SLURM has started. Returns whether this is the first, or the only one."""
    if not _is_one_of_several(trainer):
        return True
    if trainer.num_nodes > 1:
        node = f"node {trainer.node_rank} of {trainer.num_nodes}"
        print(f"{node}: waiting for the others, up to {trainers.WAIT}", flush=True)
    try:
        trainer.strategy.setup_environment()
    except torch.distributed.DistError as error:
        raise UserError(f"the ranks did not meet: {str(error).splitlines()[0]:.200}") from error
    return trainer.is_global_zero


def _is_one_of_several(trainer: Trainer) -> bool:
    """Returns whether torchrun or SLURM has started this process as one of several."""
    return trainer.world_size > 1 and not starts_ranks(trainer)


def _set_run_dir(cfg: DictConfig, trainer: Trainer, config_digest: str, *, is_first: bool) -> list[Path]:
    """Sets cfg.run_dir, to the same in every rank. Returns the directories that were created."""
    created = []
    if cfg.resume is not None:
        cfg.run_dir = cfg.resume
    elif is_first:
        created = create_run_dir(cfg, config_digest)
    if _is_one_of_several(trainer):
        with open_dict(cfg):
            cfg.run_dir = trainer.strategy.broadcast(cfg.run_dir)
        if not Path(cfg.run_dir).is_dir():
            raise UserError(
                f"outputs: rank {trainer.global_rank} does not see {cfg.run_dir}; choose a folder that all share"
            )
    return created


@contextmanager
def _active_run(cfg: DictConfig, *, is_first: bool, keep: bool) -> Iterator[None]:
    """Holds what an active run has: its lock, status, log, and the message when it is interrupted.

    Args:
        cfg: the run's config.
        is_first: whether this is the first rank.
        keep: what is in the directory already.
    """
    run_dir = Path(cfg.run_dir)
    only_warnings = cfg.study is not None  # a study prints a line for each of its jobs
    with (
        tolerant_output(),
        requeued(is_first=is_first),
        track_status(run_dir, keep=keep) if is_first else nullcontext(),
        run_logging(run_dir, shown=is_first, brief=only_warnings),
        translate_errors(run_dir),
    ):
        if cfg.resume is not None and not keep:
            log.info("%s: has no state to resume from: it starts again", run_dir)
        yield


def _log_components(cfg: DictConfig, components: Components) -> None:
    if not validates(cfg, components):
        log.info("no validation images: %s says which epoch is best", cfg.monitor)
    log.info("%s", table(components.summary))
    for note in components.data.notes:
        log.warning("data: %s", note)
    for note in components.notes:
        log.info("%s", note)
    if warning := output_warning(components.loss, components.summary.output):
        log.warning("%s", warning)
    log.info("precision %s on %s", cfg.trainer.precision, components.trainer.strategy.root_device.type)
