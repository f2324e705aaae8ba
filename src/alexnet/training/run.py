"""One training run, from the composed config to the folder that tells everything."""

import logging
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Trainer

from alexnet.config import named
from alexnet.cores import limit_threads
from alexnet.errors import Refused, UserError
from alexnet.malloc import keep_freed_memory
from alexnet.models.summary import table
from alexnet.output import tolerant_output
from alexnet.run_dir import discard, in_sweep, new_folder, result_of, state_of
from alexnet.run_identity import digest
from alexnet.sweeps.gpus import take_gpus
from alexnet.sweeps.skip import done_before, stopped_before
from alexnet.training.build import build_parts, starts_ranks
from alexnet.training.fit import fit, validates
from alexnet.training.launch import fit_in_ranks
from alexnet.training.logging import endings, messages, quiet, report
from alexnet.training.metadata import note_done, recorded, write_origin
from alexnet.training.reproduce import agreement, check_same
from alexnet.training.resume import go_on, kept
from alexnet.training.slurm import requeued
from alexnet.validation import flag, integer

log = logging.getLogger("alexnet")

WAIT = timedelta(minutes=10)  # for the other nodes, before the run and at every exchange


def train(cfg: DictConfig) -> float:
    """Trains, tests the best epoch, and leaves a folder that tells everything. Gives `monitor` as metrics.json has it.

    Raises:
        UserError: for a value that does not suit; no folder is left for what is known before training.
    """
    quiet()
    limit_threads()
    with named(""):
        keeps = flag("keep_memory", cfg.keep_memory) and keep_freed_memory()
        if cfg.checkpoint_every is not None:
            integer("checkpoint_every", cfg.checkpoint_every, 1)
    if cfg.resume is not None and state_of(Path(cfg.resume)) == "done":
        note_done(Path(cfg.resume))
        print(f"resume={cfg.resume}: this run is done; nothing to go on with", flush=True)
        return monitored(result_of(Path(cfg.resume)))
    take_gpus(cfg)  # before anything asks what the GPU can do, and so begins to use it
    asked = digest(cfg)
    if in_sweep() and (before := done_before(cfg, asked)):
        return monitored(before)
    parts = build_parts(cfg)
    parts.data.setup()
    for key in ("reproduce", "resume"):
        if cfg[key] is not None:
            check_same(key, Path(cfg[key]), parts.data.about.fingerprint, parts.taken)
    if cfg.monitor.startswith("val") and not validates(cfg, parts):
        cfg.monitor, cfg.mode = "train/loss", "min"

    trainer, first = parts.trainer, True
    own = starts_ranks(trainer)
    shared = trainer.world_size > 1 and not own  # this process is one of several that torchrun or SLURM has started
    if shared:
        first = _meet(trainer)
    made = new_folder(cfg, asked) if first and cfg.resume is None else []
    if in_sweep() and stopped_before(cfg, parts.data):
        cfg.resume, made = cfg.folder, []
    if shared:
        _share_folder(cfg, trainer)
    state = kept(Path(cfg.folder)) if cfg.resume is not None else None
    folder, brief = Path(cfg.folder), cfg.study is not None  # which says a line of each of its jobs
    with (
        tolerant_output(),
        requeued(first),
        recorded(folder, keep=state is not None) if first else nullcontext(),
        messages(folder, first, brief),
        endings(folder),
    ):
        if not validates(cfg, parts):
            log.info("no validation images: %s says which epoch is best", cfg.monitor)
        if first and state:
            go_on(folder, state, keeps)
        elif first:
            if cfg.resume is not None:
                log.info("%s: had left nothing to go on with, and begins again", folder)
            write_origin(folder, cfg, parts, asked, keeps)
        log.info("%s", table(parts.layers))
        for note in parts.data.notes:
            log.warning("data: %s", note)
        for note in parts.notes:
            log.info("%s", note)
        log.info("precision %s on %s", cfg.trainer.precision, trainer.strategy.root_device.type)
        try:
            if own:
                fit_in_ranks(cfg, trainer.num_devices)
                result = result_of(folder)
            else:
                result = fit(cfg, parts, state)
        except Refused:
            if made:
                discard(made)
            raise
        if first:
            report(result, cfg)
            if cfg.reproduce is not None:
                lines, same = agreement(cfg, result)
                log.info("%s", "\n".join([f"{'':14} {'then':8}  now", *lines]))
                if not same:
                    raise UserError(f"not the same figures as {cfg.reproduce}")
    return monitored(result)


def monitored(result: dict[str, Any]) -> float:
    """What a sweeper compares, as metrics.json has it; nan where there is none."""
    split, figure = result["monitor"].split("/")
    return result.get(split, {}).get(figure, float("nan"))


def _meet(trainer: Trainer) -> bool:
    """Waits for the ranks that torchrun or SLURM has started. Gives whether this is the first."""
    trainer.strategy._timeout = WAIT  # type: ignore[attr-defined]  # public only where the strategy is made
    if trainer.num_nodes > 1:
        print(f"node {trainer.node_rank} of {trainer.num_nodes}: waiting for the others, up to {WAIT}", flush=True)
    try:
        trainer.strategy.setup_environment()
    except torch.distributed.DistError as error:
        raise UserError(f"the ranks did not meet: {str(error).splitlines()[0]:.200}") from error
    return trainer.is_global_zero


def _share_folder(cfg: DictConfig, trainer: Trainer) -> None:
    with open_dict(cfg):
        cfg.folder = trainer.strategy.broadcast(cfg.folder)
    if not Path(cfg.folder).is_dir():
        raise UserError(
            f"outputs: rank {trainer.global_rank} does not see {cfg.folder}; choose a folder that all share"
        )
