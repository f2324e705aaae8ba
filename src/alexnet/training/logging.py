"""Logs a run's messages, on the screen and in train.log, also when it is interrupted."""

import logging
import multiprocessing
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from alexnet.errors import UserError, describe_write_error, escape_lines, find_cause
from alexnet.overrides import as_typed
from alexnet.run_dir import in_sweep, read_run_json, shown
from alexnet.training.resume import LAST

log = logging.getLogger("alexnet")
PROFILERS = "pytorch_lightning.profilers"  # their reports are messages
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory|Caught MemoryError in DataLoader worker"


def _readable(record: logging.LogRecord) -> bool:
    record.msg, record.args = escape_lines(record.getMessage()), ()
    return True


log.addFilter(_readable)  # of names that come from anywhere


def silence_lightning() -> None:
    """Hides Lightning's messages that the run logs itself."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(PROFILERS).setLevel(logging.INFO)
    warnings.filterwarnings("ignore", "Checkpoint directory|.*does not have many workers|.*LeafSpec")
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")  # frozen, which has been said
    warnings.filterwarnings("ignore", "The number of training batches .* than the logging")  # counted across epochs
    warnings.filterwarnings("ignore", "You're using the WeightAveraging callback, but loading")  # to test it
    # best.ckpt has the average.
    warnings.filterwarnings("ignore", "The checkpoint was not created with WeightAveraging")
    # ImageDataModule.resume_position takes care of it.
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint")


@contextmanager
def run_logging(folder: Path, *, shown: bool = True, brief: bool = False) -> Iterator[None]:
    """Writes messages to train.log in `folder` with their time, and the error that ended the run.

    Args:
        folder: the run's.
        shown: messages are printed too; if not, only errors are written.
        brief: only warnings are printed.
    """
    show, keep = logging.Handler(), logging.FileHandler(folder / "train.log", encoding="utf-8")
    show.emit = lambda record: print(record.getMessage(), flush=True)  # type: ignore[method-assign]  # above a live bar
    if brief:
        show.setLevel(logging.WARNING)
    keep.handleError = lambda record: None  # type: ignore[method-assign]  # where the disk is full, more than this fails
    keep.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logging.INFO if shown else logging.ERROR
    log.setLevel(level)
    propagated, log.propagate = log.propagate, False
    log.handlers = [show, keep] if shown else [keep]
    profilers = logging.getLogger(PROFILERS)
    profilers.propagate, profilers.handlers = False, log.handlers
    try:
        yield
    except BaseException as error:
        trace = None if isinstance(error, UserError | KeyboardInterrupt) else sys.exc_info()
        text = escape_lines(f"{type(error).__name__}: {error}")
        keep.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "%s", (text,), trace))
        raise
    finally:
        log.handlers = [show] if shown else []
        profilers.handlers = []
        log.propagate = propagated
        with suppress(OSError):
            keep.close()


def _worker_died(error: BaseException) -> bool:
    """Returns whether a worker of a DataLoader has died, by PyTorch's messages."""
    if isinstance(error, ConnectionError | EOFError):
        return any(frame.f_code.co_name == "_try_get_data" for frame, _ in traceback.walk_tb(error.__traceback__))
    return bool(re.match(r"DataLoader worker .*(exited unexpectedly|is killed)", str(error)))


@contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Turns errors that are no fault of the program into a line that says how to resume.

    In a sweep it says where things are. These are Ctrl-C and SIGTERM, a full disk, no memory. TensorBoard's thread
    leaves it to this one to say.
    """
    hook = threading.excepthook
    threading.excepthook = lambda thread: None if describe_write_error(thread.exc_value or OSError()) else hook(thread)
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        go_on = f"resume with python train.py {shlex.quote(f'resume={folder}')}"
        go_on = f"what is done is in {folder}" if in_sweep() else go_on
        if began := find_cause(error, KeyboardInterrupt):  # Lightning makes a SystemExit of it
            if multiprocessing.parent_process() is None:  # a rank that ends takes no further one
                signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it switched off
            raise type(began)(f"interrupted; {go_on}") from error
        if full := describe_write_error(error):
            make_room = f"make room, and {go_on}" if read_run_json(folder) else "make room"
            if (folder / LAST).exists():
                make_room = f"{LAST} is whole; {make_room}"
            raise UserError(f"{full}; {make_room}") from error
        text = " ".join(str(error).split())[:200]
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or re.search(NO_MEMORY, str(error)):
            raise UserError(
                f"out of memory: {text}. A smaller data.batch_size or data.num_workers needs less"
            ) from error
        if _worker_died(error):
            text = text.rstrip(". ") or type(error).__name__
            less = f"It is what happens where memory runs out; fewer workers need less: {go_on} data.num_workers=0"
            raise UserError(f"a process that loads images has died ({text}). {less}") from error
        raise
    finally:
        threading.excepthook = hook


def print_summary(result: dict[str, Any], cfg: DictConfig) -> None:
    """Prints the last lines of a run, with commands to try next with the same model and data."""
    log.info("%.0f s of training, %s images/s", result["seconds"], result["images_per_second"])
    if "test" in result:
        chosen = "last" if cfg.test_epoch == "last" else f"best {result['monitor']}"
        of_epoch = f", of epoch {result['best_epoch']} ({chosen})" if result["best_epoch"] else ""
        figures = {name: value for name, value in result["test"].items() if name != "loss"}
        if "top1" in figures:
            figures = {"top-1 accuracy": figures["top1"]}
        log.info("test %s%s", ", ".join(f"{name} {value:.4f}" for name, value in figures.items()), of_epoch)
    log.info("run    %s", shlex.quote(cfg.run_dir))
    if not in_sweep():
        python = shown(Path(sys.executable))
        log.info("next   %s", shlex.join([str(python.with_name("tensorboard")), "--logdir", cfg.outputs]))
        toggles = (key for key, value in cfg.model.items() if isinstance(value, bool) and key != "new_head")
        toggle = None if cfg.init_from is not None else next(toggles, None)  # other variants' weights are refused
        left_out = ("seed", "run_dir", "resume", f"model.{toggle}")
        same = [as_typed(o) for o in HydraConfig.get().overrides.task if o.lstrip("+~").split("=")[0] not in left_out]
        if toggle:
            other = [*same, f"model.{toggle}={str(not cfg.model[toggle]).lower()}"]
            log.info("       %s", shlex.join([str(python), "train.py", *other]))
            same.append(f"model.{toggle}=true,false")
        log.info("       %s", shlex.join([str(python), "train.py", "-m", *same, "seed=1,2,3"]))
