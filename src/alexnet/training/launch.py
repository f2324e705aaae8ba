"""Many processes, one run: torch's own launcher starts a rank for every device, and watches them all."""

import faulthandler
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
import uuid
import warnings
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from alexnet.errors import ConfigError, Terminated, UserError
from alexnet.malloc import keep_freed_memory
from alexnet.output import tolerant_output
from alexnet.training.build import build_components
from alexnet.training.fit import fit
from alexnet.training.logging import run_logging, silence_lightning, translate_errors
from alexnet.training.resume import read_resume_state

log = logging.getLogger("alexnet")
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # by the launcher
BLOCKED = (*HANDLED, signal.SIGUSR1)
LAUNCHERS = re.compile(r"(\w+_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$|TORCHELASTIC")  # what it sets for each rank
NOISY = ("torch.distributed.elastic.agent.server.api", "torch.distributed.elastic.multiprocessing.api",
         "torch.multiprocessing.spawn")  # fmt: skip


class Localhost(StaticTCPRendezvous):
    """Where the ranks find each other, for the processes of this machine alone: torch's own listens to all networks."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        super().__init__("localhost", port, rank=0, world_size=1, run_id=parameters.run_id, timeout=600)
        self._store = TCPStore(
            "localhost", port, is_master=True, timeout=self.timeout, master_listen_fd=listening.detach()
        )

    def get_backend(self) -> str:
        return "localhost"


rendezvous_handler_registry.register("localhost", Localhost)


def launch_ddp(cfg: DictConfig, ranks: int) -> None:
    """Runs `fit` in so many processes of this machine, which share its cores. Rank 0 leaves metrics.json.

    Raises:
        UserError: with the error of the rank that failed first; its trace is in train.log.
        KeyboardInterrupt: on Ctrl-C, and Terminated on SIGTERM. No rank is left in any case.
    """
    done = Path(cfg.run_dir) / "metrics.json"
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)  # joblib's workers have one that ranks could not find
    for name in NOISY:  # what failed is said here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = max(1, torch.get_num_threads() // ranks)
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="localhost",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(logs),
            start_method="forkserver",
        )
        try:
            _start_server()
            elastic_launch(config, _rank)(OmegaConf.to_container(cfg, resolve=True), threads, dict(os.environ))
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            said = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            kind, _, text = said.partition(": ")
            if done.exists():
                log.warning("rank %d ended with an error after the run was done: %s", rank, said)
            elif kind == "Refused":
                raise ConfigError(text) from None
            else:
                raise UserError(f"rank {rank}: {text if kind == 'UserError' else said}") from None
        except SignalException as error:  # a terminal that is closed counts as Ctrl-C
            raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
        finally:
            multiprocessing.set_start_method(method, force=True)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _start_server() -> None:
    """Ranks are forks of a process that has imported everything, once for all of them and for all jobs of a sweep.
    It outlives the signals that end the ranks, which it has blocked.
    """
    multiprocessing.set_forkserver_preload([__name__])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _rank(config: dict[str, Any], threads: int, environment: dict[str, str]) -> None:
    """One of the processes: what they need to find each other is in its own environment, as under torchrun."""
    os.environ.update({key: value for key, value in environment.items() if not LAUNCHERS.match(key)})
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    multiprocessing.set_start_method(None, force=True)
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        signal.signal(number, _once(kind))
    if "lo" in (name for _, name in socket.if_nameindex()):  # else gloo's listens where the machine's name leads
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # SLURM's, which is for the program that started it
    torch.set_num_threads(threads)
    first = os.environ["RANK"] == "0"
    if not first:
        warnings.simplefilter("ignore")  # rank 0 says the same
    silence_lightning()
    if config["keep_memory"]:
        keep_freed_memory()
    folder = Path(config["run_dir"])
    with (folder / "train.log").open("a") as aborted:
        faulthandler.enable(aborted)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
            cfg = OmegaConf.create(config)
            components = build_components(cfg)
            components.data.setup()
            with tolerant_output(), run_logging(folder, first, cfg.study is not None), translate_errors(folder):
                fit(cfg, components, read_resume_state(folder) if cfg.resume is not None else None)
        except KeyboardInterrupt:  # the launcher takes the end of a rank by this, or by sys.exit(0), for success
            sys.exit(130)
        except SystemExit as error:
            raise RuntimeError(f"sys.exit({error.code})") from error
        except RuntimeError as error:
            if "by peer" in str(error):
                time.sleep(5)  # what became of the other rank must be seen first
            raise
        finally:
            faulthandler.disable()


def _end_with_the_program() -> None:
    program = multiprocessing.parent_process()
    assert program is not None
    program.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _once(kind: type[BaseException]) -> Any:
    """A handler that stops the rank, and then lets it end: Ctrl-C comes from the terminal and from the launcher."""

    def handler(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        end = threading.Timer(10, os._exit, [130])  # it may wait for a rank that waits for it
        end.daemon = True
        end.start()
        raise kind

    return handler
