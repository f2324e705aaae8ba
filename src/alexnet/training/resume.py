"""Keeps the state of a run while it runs, and resumes it."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from alexnet.checkpoint import read
from alexnet.errors import Terminated, UserError
from alexnet.io import TEMP_GLOB, temp_paths
from alexnet.run_dir import LOCK, in_sweep, read_run_json, run_status
from alexnet.training.averaging import restore_last_weights
from alexnet.training.callbacks import StopAtNaN
from alexnet.training.loggers import CSVLogger
from alexnet.training.metadata import current_code, recorded_code, write_resumed
from alexnet.training.reproduce import named_folder, use_recorded_config

log = logging.getLogger("alexnet")
LAST = Path("checkpoints", "last.ckpt")
OWN_LOGGERS = (".TensorBoardLogger", f"{CSVLogger.__module__}.CSVLogger")  # that can continue their files
FIRST_FILES = {LOCK, "train.log", "config.yaml", "overrides.yaml"}  # which a run writes before its run.json
GRACE = 10  # seconds that a batch may take after a signal
SHARE = 0.02  # of a run's time, at most, for keeping its state at the start of epochs
FREE = 0.2  # seconds that it may take at every one


def resolve_auto(cfg: DictConfig) -> None:
    """Replaces resume=auto by cfg.run_dir, where that is the directory of a run, else by null: the run starts there.

    Raises:
        UserError: without run_dir, in a sweep, and where the directory holds something else.
    """
    if in_sweep():
        raise UserError("resume=auto: not in a sweep; a sweep is resumed with run_dir=SWEEP")
    if cfg.run_dir is None:
        raise UserError("resume=auto: needs the directory of the run, run_dir=FOLDER")
    folder = Path(cfg.run_dir).expanduser()
    cfg.resume = str(folder) if read_run_json(folder) else None
    if cfg.resume is None and folder.is_dir():
        if {path.name for path in folder.iterdir()} - FIRST_FILES:
            raise UserError(f"resume=auto: run_dir={folder} is neither a run's directory nor empty")
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed at its very start


def load_interrupted_config(cfg: DictConfig) -> None:
    """Makes `cfg` the config of the run cfg.resume, in its own folder.

    What does not decide a result may be typed too.

    Raises:
        UserError: for a folder that holds no run of this program, or one that is still running.
    """
    folder = named_folder(cfg, "resume")
    state = run_status(folder)
    if state is None or not read_run_json(folder):
        raise UserError(f"resume={folder}: not the folder of a run")
    if state == "running":
        raise UserError(f"resume={folder}: it still runs, in another process")
    use_recorded_config(cfg, "resume", folder)
    cfg.run_dir = str(folder)


def read_resume_state(folder: Path) -> dict[str, Any] | None:
    """Returns the state that the run in `folder` has left; None if it was stopped before it left one."""
    if not (folder / LAST).is_file():
        return None
    try:
        state = read(folder / LAST)
    except UserError as error:
        reason = str(error).partition(": ")[2]
        raise UserError(f"resume={folder}: {LAST} is damaged ({reason}); without it the run starts again") from None
    if "batches" not in state:
        raise UserError(f"resume={folder}: {LAST} is of a version of the code that could not resume a run")
    return state


def log_resume(folder: Path, state: dict[str, Any], *, keeps_memory: bool) -> None:
    """Notes in run.json that the run in `folder` is resumed, and logs where it goes on.

    Warns where it was begun by another version of the code.
    """
    write_resumed(folder, keeps_memory=keeps_memory)
    if recorded_code(folder) != current_code():
        commit = read_run_json(folder).get("git_commit")
        log.warning("this run was begun by another version of the code (%.7s); the result may be neither's", commit)
    if temp_paths(folder / LAST):
        log.info("a later state was only half written when it was stopped; the one before is taken")
    for half in folder.rglob(TEMP_GLOB):
        half.unlink()
    reached = f"epoch {state['epoch']}"
    if state["batches"]:
        reached += f" and {state['batches']} batches"
    if state["trained"]:
        reached = "its training"
    log.info("%s: resumes after %s", folder, reached)


class ResumeCheckpoint(Callback):
    """Writes checkpoints/last.ckpt, from which a run is resumed as if it had never stopped.

    It does so at the start of every epoch but the first, every `every` optimiser steps, and at the end of training.
    Epochs that are short beside the writing are passed over, so that it takes SHARE of the time.

    Each time everything before is done, logged and counted, and nothing of what comes has begun. So it must be the
    first of a trainer's callbacks that have a state. SIGTERM and Ctrl-C are put off until then, for GRACE seconds at
    most, and the state is kept before they end the run; a second one ends it at once. Several ranks agree between which
    batches they stop, and take no second one.
    """

    def __init__(self, folder: Path, every: int | None) -> None:
        self.path, self.every = folder / LAST, every
        self.batches, self.trained = 0, False
        self.saved_at = 0  # optimiser steps
        self.saved_when, self.save_took = 0.0, 0.0  # seconds, of time.perf_counter
        self.asked: int | None = None  # by which signal
        self.handlers: dict[signal.Signals, Any] = {}
        self.ranks = 1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.trained:  # what is kept is read, and nothing trained: early stopping leaves no other sign
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ranks = trainer.world_size
        for optimizer in trainer.optimizers:
            put_beside_parameters(optimizer)
        if threading.current_thread() is threading.main_thread():
            self.handlers = set_handler((signal.SIGINT, signal.SIGTERM, signal.SIGALRM), self._ask)
        if not self.batches:
            # With max_steps Lightning takes any start for one within an epoch, and would skip this one.
            trainer.fit_loop.epoch_loop.restarting = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.batches, self.trained = checkpoint.get("batches", 0), checkpoint.get("trained", False)
        self.saved_at = checkpoint["global_step"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch and self._is_affordable(trainer):
            self._save(trainer, 0, trainer.fit_loop.epoch_progress)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        stops = self._stops(trainer, batch_idx // trainer.accumulate_grad_batches)
        if batch_idx:
            if trainer.val_check_batch and batch_idx % trainer.val_check_batch == 0:
                return  # a validation has just ended: resumed here, Lightning would log with a step too many
            if stops or self._is_due(trainer):
                self._save(trainer, batch_idx, trainer.fit_loop.epoch_loop.batch_progress)
        if stops:
            self._end()

    def _is_affordable(self, trainer: Trainer) -> bool:
        since = time.perf_counter() - self.saved_when
        return trainer.strategy.broadcast(self.save_took <= max(FREE, SHARE * since))  # the ranks' clocks may differ

    def _is_due(self, trainer: Trainer) -> bool:
        return self.every is not None and trainer.global_step // self.every > self.saved_at // self.every

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stops between two batches of a validation. A resumed run does that validation again."""
        if not self._stops(trainer, batch_idx):
            return
        loop: Any = trainer.fit_loop.epoch_loop
        for count in (loop.val_loop.batch_progress.total, loop.val_loop.batch_progress.current):
            count.ready, count.started, count.processed, count.completed = 1, 1, 0, 0  # Lightning's sign for it
        self.batches = loop.batch_progress.current.completed
        restore_last_weights(trainer, pl_module)
        trainer.save_checkpoint(self.path)
        self._end()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.batches, self.trained = 0, True
        trainer.save_checkpoint(self.path)
        if self._stops(trainer, 0):
            self._end()
        self._listen_no_more()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._listen_no_more()

    def _ask(self, number: int, _: Any) -> None:
        if self.asked is None:
            self.asked = number
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        elif self.ranks == 1 or number == signal.SIGALRM:  # of several, the launcher sends another after Ctrl-C
            self._end()

    def _stops(self, trainer: Trainer, number: int) -> bool:
        """Returns whether one of the ranks was asked to stop.

        GPUs, which must end their work before they can say, are asked at every tenth batch alone.

        Args:
            trainer: of the run.
            number: of the batch or step, in which all ranks come here.
        """
        if self.ranks == 1:
            return self.asked is not None
        if not self.handlers or (number % 10 and trainer.strategy.root_device.type != "cpu"):
            return False
        return trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False)

    def _end(self) -> NoReturn:
        """Ends the run by the signal that was put off."""
        self._listen_no_more()
        signal.raise_signal(self.asked or signal.SIGTERM)
        raise Terminated  # in a job of joblib, where only Lightning has a handler, which takes note of it

    def _listen_no_more(self) -> None:
        if self.handlers:
            signal.setitimer(signal.ITIMER_REAL, 0)
        while self.handlers:
            signal.signal(*self.handlers.popitem())

    def _save(self, trainer: Trainer, batches: int, begun: Any) -> None:
        """Writes last.ckpt. begun: Lightning's progress of epochs or batches, which already counts the next one."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StopAtNaN):
                callback.stop_if_bad(trainer)
        self.batches, self.saved_at = batches, trainer.global_step
        for count in (begun.total, begun.current):
            count.ready -= 1
        began = time.perf_counter()
        try:
            trainer.save_checkpoint(self.path)
        finally:
            for count in (begun.total, begun.current):
                count.ready += 1
        self.saved_when = time.perf_counter()
        self.save_took = self.saved_when - began

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds how many batches of the epoch are done, and whether training is over."""
        checkpoint |= {"batches": self.batches, "trained": self.trained}


def set_handler(numbers: Iterable[signal.Signals], handler: Any) -> dict[signal.Signals, Any]:
    """Sets the handler of signals, but of those that nohup or a shell's & has switched off.

    Returns:
        The handlers that they had, by the signals' numbers.
    """
    return {number: signal.signal(number, handler) for number in numbers if not is_off(number)}


def is_off(number: signal.Signals) -> bool:
    """Returns whether a signal is ignored, as nohup and a shell's & set some."""
    return signal.getsignal(number) == signal.SIG_IGN


def put_beside_parameters(optimizer: Optimizer) -> None:
    """Moves an optimiser's states to the devices of their parameters.

    Lightning has put all that a checkpoint holds on the run's first device, and with model.devices half of the network
    is on the second.
    """
    for parameter, state in optimizer.state.items():
        optimizer.state[parameter] = apply_to_collection(state, Tensor, partial(_beside, parameter.device))


def _beside(device: torch.device, value: Tensor) -> Tensor:
    """Returns the state moved to the parameter's device, except for step counts, which torch keeps on the CPU."""
    return value if value.ndim == 0 and value.device.type == "cpu" else value.to(device)


def purge(cfg: DictConfig, step: int) -> None:
    """Tells the loggers that write into the run's directory that the curves continue at `step`."""
    for node in (cfg.logger or {}).values():
        if node.get("_target_", "").endswith(OWN_LOGGERS):
            with open_dict(node):
                node.purge_step = step
