"""A run that goes on where it stopped: what is kept of it while it runs, and how it is taken up again."""

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict
from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.checks import UserError
from alexnet.folders import record, state_of
from alexnet.training.checkpoint import read
from alexnet.training.provenance import code_now, code_of
from alexnet.training.reproduce import recorded_config

log = logging.getLogger("alexnet")
LAST = Path("checkpoints", "last.ckpt")


def take_interrupted(cfg: DictConfig) -> None:
    """Makes `cfg` the config of the run cfg.resume, in its own folder. What does not decide a result may be typed
    besides.

    Raises:
        UserError: for a folder that holds no run of this program, or one that still goes on.
    """
    folder = Path(cfg.resume)
    state = state_of(folder)
    if state is None or not record(folder):
        raise UserError(f"resume={folder}: not the folder of a run")
    if state == "running":
        raise UserError(f"resume={folder}: it still runs, in another process")
    recorded_config(cfg, "resume", folder)
    cfg.folder = str(folder)


def finished(folder: Path) -> dict[str, Any] | None:
    """metrics.json of a run that ended; None of any other."""
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else None


def kept(folder: Path) -> dict[str, Any] | None:
    """The state that the run in `folder` has left; None if it was stopped before it left one."""
    if not (folder / LAST).is_file():
        return None
    state = read(folder / LAST)
    if "batches" not in state:
        raise UserError(f"resume={folder}: {LAST} is of a version of the code that could not go on with a run")
    return state


def check_code(folder: Path) -> None:
    """Warns where the run in `folder` was begun by another version of the code."""
    if code_of(folder) != code_now():
        commit = record(folder).get("git_commit")
        log.warning("this run was begun by another version of the code (%.7s); the result may be neither's", commit)


class LastState(Callback):
    """Keeps checkpoints/last.ckpt, from which a run goes on as if it had never stopped: at the start of every epoch but
    the first, every `every` optimiser steps, and at the end of training.

    Each time everything before is done, logged and counted, and nothing of what comes has begun. So it must be the
    first of a trainer's callbacks.
    """

    def __init__(self, folder: Path, every: int | None, trained: bool = False) -> None:
        self.path, self.every = folder / LAST, every
        self.batches, self.trained = 0, trained

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.trained:  # what is kept is read, and nothing trained: early stopping leaves no other sign
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch:
            self._save(trainer, 0, trainer.fit_loop.epoch_progress)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        stepped = batch_idx and batch_idx % trainer.accumulate_grad_batches == 0
        if self.every and stepped and trainer.global_step % self.every == 0:
            self._save(trainer, batch_idx, trainer.fit_loop.epoch_loop.batch_progress)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.batches, self.trained = 0, True
        trainer.save_checkpoint(self.path)

    def _save(self, trainer: Trainer, batches: int, begun: Any) -> None:
        """begun: Lightning's count of epochs, or of batches, which already holds the one to come."""
        self.batches = batches
        for count in (begun.total, begun.current):
            count.ready -= 1
        try:
            trainer.save_checkpoint(self.path)
        finally:
            for count in (begun.total, begun.current):
                count.ready += 1

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Batches of its epoch that are done; whether training is over."""
        checkpoint |= {"batches": self.batches, "trained": self.trained}


def purge(cfg: DictConfig, step: int) -> None:
    """Tells the loggers that write into the run's folder that the curves go on with `step`."""
    for node in (cfg.logger or {}).values():
        if node.get("_target_", "").endswith((".TensorBoardLogger", "curves.CSVLogger")):
            with open_dict(node):
                node.purge_step = step
