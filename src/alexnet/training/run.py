"""One training run, from the composed config to the folder that tells everything."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Trainer

from alexnet.config import prefix_errors
from alexnet.cores import limit_threads
from alexnet.errors import ConfigError, UserError
from alexnet.malloc import keep_freed_memory
from alexnet.models.summary import table
from alexnet.output import tolerant_output
from alexnet.run_dir import create_run_dir, in_sweep, read_metrics, remove_run_dir, run_status
from alexnet.run_identity import digest
from alexnet.sweeps.gpus import take_gpus
from alexnet.sweeps.skip import can_resume, find_finished_run
from alexnet.training import build
from alexnet.training.build import build_components, starts_ranks
from alexnet.training.fit import fit, validates
from alexnet.training.launch import launch_ddp
from alexnet.training.logging import print_summary, run_logging, silence_lightning, translate_errors
from alexnet.training.metadata import mark_done, track_status, write_run_metadata
from alexnet.training.reproduce import check_same_inputs, compare_metrics
from alexnet.training.resume import log_resume, read_resume_state
from alexnet.training.slurm import requeued
from alexnet.validation import check_bool, check_int

log = logging.getLogger("alexnet")


def train(cfg: DictConfig) -> float:
    """Trains a model, tests the best epoch, and writes a run directory. Returns the monitored metric.

    Raises:
        UserError: for a value that does not suit; no folder is left for what is known before training.
    """
    silence_lightning()
    limit_threads()
    with prefix_errors(""):
        keeps = check_bool("keep_memory", cfg.keep_memory) and keep_freed_memory()
        if cfg.checkpoint_every is not None:
            check_int("checkpoint_every", cfg.checkpoint_every, 1)
    if cfg.resume is not None and run_status(Path(cfg.resume)) == "done":
        mark_done(Path(cfg.resume))
        print(f"resume={cfg.resume}: this run is done; nothing to resume", flush=True)
        return monitored_value(read_metrics(Path(cfg.resume)))
    take_gpus(cfg)  # before anything asks what the GPU can do, and so begins to use it
    config_digest = digest(cfg)
    if in_sweep() and (before := find_finished_run(cfg, config_digest)):
        return monitored_value(before)
    components = build_components(cfg)
    components.data.setup()
    for key in ("reproduce", "resume"):
        if cfg[key] is not None:
            check_same_inputs(key, Path(cfg[key]), components.data.info.fingerprint, components.weights_sha256)
    if cfg.monitor.startswith("val") and not validates(cfg, components):
        cfg.monitor, cfg.mode = "train/loss", "min"

    trainer, first = components.trainer, True
    own = starts_ranks(trainer)
    shared = trainer.world_size > 1 and not own  # this process is one of several that torchrun or SLURM has started
    if shared:
        first = _meet(trainer)
    made = create_run_dir(cfg, config_digest) if first and cfg.resume is None else []
    if in_sweep() and can_resume(cfg, components.data):
        cfg.resume, made = cfg.run_dir, []
    if shared:
        _share_folder(cfg, trainer)
    state = read_resume_state(Path(cfg.run_dir)) if cfg.resume is not None else None
    folder, brief = Path(cfg.run_dir), cfg.study is not None  # which says a line of each of its jobs
    with (
        tolerant_output(),
        requeued(first),
        track_status(folder, keep=state is not None) if first else nullcontext(),
        run_logging(folder, first, brief),
        translate_errors(folder),
    ):
        if not validates(cfg, components):
            log.info("no validation images: %s says which epoch is best", cfg.monitor)
        if first and state:
            log_resume(folder, state, keeps)
        elif first:
            if cfg.resume is not None:
                log.info("%s: has no state to resume from: it starts again", folder)
            write_run_metadata(folder, cfg, components, config_digest, keeps)
        log.info("%s", table(components.summary))
        for note in components.data.notes:
            log.warning("data: %s", note)
        for note in components.notes:
            log.info("%s", note)
        log.info("precision %s on %s", cfg.trainer.precision, trainer.strategy.root_device.type)
        try:
            if own:
                launch_ddp(cfg, trainer.num_devices)
                result = read_metrics(folder)
            else:
                result = fit(cfg, components, state)
        except ConfigError:
            if made:
                remove_run_dir(made)
            raise
        if first:
            print_summary(result, cfg)
            if cfg.reproduce is not None:
                lines, same = compare_metrics(cfg, result)
                log.info("%s", "\n".join([f"{'':14} {'then':8}  now", *lines]))
                if not same:
                    raise UserError(f"not the same figures as {cfg.reproduce}")
    return monitored_value(result)


def monitored_value(result: dict[str, Any]) -> float:
    """What a sweeper compares, as metrics.json has it; nan where there is none."""
    split, figure = result["monitor"].split("/")
    return result.get(split, {}).get(figure, float("nan"))


def _meet(trainer: Trainer) -> bool:
    """Waits for the ranks that torchrun or SLURM has started. Returns whether this is the first."""
    if trainer.num_nodes > 1:
        print(
            f"node {trainer.node_rank} of {trainer.num_nodes}: waiting for the others, up to {build.WAIT}", flush=True
        )
    try:
        trainer.strategy.setup_environment()
    except torch.distributed.DistError as error:
        raise UserError(f"the ranks did not meet: {str(error).splitlines()[0]:.200}") from error
    return trainer.is_global_zero


def _share_folder(cfg: DictConfig, trainer: Trainer) -> None:
    with open_dict(cfg):
        cfg.run_dir = trainer.strategy.broadcast(cfg.run_dir)
    if not Path(cfg.run_dir).is_dir():
        raise UserError(
            f"outputs: rank {trainer.global_rank} does not see {cfg.run_dir}; choose a folder that all share"
        )
