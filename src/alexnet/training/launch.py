"""Starts a process for every device of this machine, each a rank of one run, and watches them."""

import faulthandler
import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import distributed
from torch import multiprocessing as torch_multiprocessing
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from alexnet.errors import ConfigError, Terminated, UserError
from alexnet.malloc import keep_freed_memory
from alexnet.output import tolerant_output
from alexnet.training.build import build_components
from alexnet.training.fit import fit
from alexnet.training.logging import run_logging, silence_lightning, translate_errors
from alexnet.training.resume import is_off, read_resume_state, set_handler

log = logging.getLogger("alexnet")
CLOSED_TERMINAL = (signal.SIGHUP, signal.SIGQUIT)  # count as Ctrl-C
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, *CLOSED_TERMINAL)
LAUNCHERS = re.compile(r"(\w+_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$|TORCHELASTIC")  # what another one may have set
RankError = ProcessExitedException | ProcessRaisedException
GRACE = 30  # seconds that ranks have to end after a signal


def launch_ddp(cfg: DictConfig, world_size: int) -> None:
    """Runs `fit` in `world_size` processes of this machine, which share its cores. Rank 0 writes metrics.json.

    Raises:
        UserError: with the error of the rank that failed first; its trace is in train.log.
        KeyboardInterrupt: on Ctrl-C, and Terminated on SIGTERM. No rank is left in any case.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)  # the error is raised here
    threads = max(1, torch.get_num_threads() // world_size)
    config = OmegaConf.to_container(cfg, resolve=True)
    no_interrupt = is_off(signal.SIGINT)
    with tempfile.TemporaryDirectory() as errors, _local_store() as port, _interruptible():
        arguments = (world_size, port, config, threads, dict(os.environ), errors, no_interrupt)
        context = _start(arguments, world_size)
        try:
            while not context.join():
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            _raise_error_of_rank(error, Path(errors), finished=Path(cfg.run_dir, "metrics.json").exists())
        except KeyboardInterrupt as interrupt:
            number = signal.SIGTERM if isinstance(interrupt, Terminated) or no_interrupt else signal.SIGINT
            _stop(context, number)
            raise


def _start(arguments: tuple[Any, ...], world_size: int) -> Any:
    """Starts the ranks as forks of a server process that has imported everything.

    It does so once for all of them and for all jobs of a sweep. The server keeps the signals blocked that end the
    ranks.
    """
    torch_multiprocessing.set_forkserver_preload([__name__])
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)  # joblib's workers have one that ranks could not find
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        return torch_multiprocessing.start_processes(
            _run_rank, arguments, world_size, join=False, start_method="forkserver"
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        multiprocessing.set_start_method(method, force=True)


@contextmanager
def _local_store() -> Iterator[int]:
    """Serves the store by which the ranks find each other, to this machine alone. Yields its port.

    The one that torch.distributed would start in rank 0 listens to all networks.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    store = distributed.TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        timeout=timedelta(minutes=10),
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
    yield port
    del store


@contextmanager
def _interruptible() -> Iterator[None]:
    """While the ranks run, a closed terminal counts as Ctrl-C, except under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = set_handler(CLOSED_TERMINAL, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _raise_error_of_rank(error: RankError, errors: Path, *, finished: bool) -> None:
    rank = error.error_index
    file = errors / str(rank)
    kind, text = json.loads(file.read_text()) if file.exists() else ("", _describe_exit(error))
    message = text if kind in ("", "UserError", "ConfigError") else f"{kind}: {text}"
    if finished:
        log.warning("rank %d ended with an error after the run was done: %s", rank, message)
    elif kind == "ConfigError":
        raise ConfigError(text) from None
    else:
        raise UserError(f"rank {rank}: {message}") from None


def _describe_exit(error: RankError) -> str:
    code = getattr(error, "exit_code", 1)
    signal_name = getattr(error, "signal_name", None)
    return f"exit code {code}" if signal_name is None else f"Signal {-code} ({signal_name}) received"


def _stop(context: Any, number: signal.Signals) -> None:
    """Sends a signal to the ranks, and kills those that have not ended after GRACE seconds, or at a second Ctrl-C."""
    try:
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)
        end = time.monotonic() + GRACE
        for process in context.processes:
            process.join(max(0, end - time.monotonic()))
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _run_rank(
    rank: int,
    world_size: int,
    port: int,
    config: dict[str, Any],
    threads: int,
    environment: dict[str, str],
    errors: str,
    no_interrupt: bool,  # noqa: FBT001 (torch.multiprocessing passes arguments by position)
) -> None:
    """Runs one rank. What the ranks need to find each other is in its environment, as under torchrun.

    Args:
        rank: which of them it is.
        world_size: how many there are.
        port: of the store by which they find each other.
        config: the run's, as plain values.
        threads: of torch.
        environment: of the program that starts the ranks.
        errors: the directory for a file with what ended this rank.
        no_interrupt: SIGINT is switched off.
    """
    os.environ.update({key: value for key, value in environment.items() if not LAUNCHERS.match(key)})
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        GROUP_RANK="0",
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="local",
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    multiprocessing.set_start_method(None, force=True)
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        signal.signal(number, _once(kind))
    if no_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "lo" in (name for _, name in socket.if_nameindex()):  # else gloo's listens where the machine's name leads
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # SLURM's, which is for the program that started it
    torch.set_num_threads(threads)
    if rank:
        warnings.simplefilter("ignore")  # rank 0 prints the same
    silence_lightning()
    if config["keep_memory"]:
        keep_freed_memory()
    try:
        _fit_rank(config, first=rank == 0)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as error:  # of code 0 it would count as success
        raise RuntimeError(f"sys.exit({error.code})") from error
    finally:
        for number in BLOCKED:  # one that comes now would end in a trace of multiprocessing
            signal.signal(number, signal.SIG_IGN)  # not blocked, which would leave it to the other threads
        _note_error(sys.exc_info()[1], Path(errors, str(rank)))
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _note_error(error: BaseException | None, file: Path) -> None:
    """Writes the error that ends a rank into a file for the program that started it."""
    if not isinstance(error, Exception):
        return
    file.write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
    if "by peer" in str(error):
        time.sleep(5)  # the other rank's end must be seen first


def _fit_rank(config: dict[str, Any], *, first: bool) -> None:
    folder = Path(config["run_dir"])
    with (folder / "train.log").open("a") as aborted:
        faulthandler.enable(aborted)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
            cfg = OmegaConf.create(config)
            components = build_components(cfg)
            components.data.setup()
            state = read_resume_state(folder) if cfg.resume is not None else None
            logged = run_logging(folder, shown=first, brief=cfg.study is not None)
            with tolerant_output(), logged, translate_errors(folder):
                fit(cfg, components, state)
        finally:
            faulthandler.disable()


def _end_with_the_program() -> None:
    program = multiprocessing.parent_process()
    assert program is not None
    program.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _once(kind: type[BaseException]) -> Any:
    """Returns a handler that stops the rank once: Ctrl-C comes from the terminal and from the launcher."""

    def handler(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        end = threading.Timer(10, os._exit, [130])  # it may wait for a rank that waits for it
        end.daemon = True
        end.start()
        raise kind

    return handler
