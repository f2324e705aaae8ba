"""A program of the repository in a process whose imports are done: what a test waits for is the run, not torch.

The process is a fork of one that has imported what the programs import, and has the digits packed, as the second job of
a sweep has. It has its own arguments, environment, standard streams and exit code. For a copy of the repository there
is one that has imported only what comes from elsewhere.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
FROM_ELSEWHERE = ["hydra.main", "pytorch_lightning", "torchmetrics.classification", "torchvision.transforms.v2"]
FROM_ELSEWHERE += ["torch.utils.tensorboard", "sklearn.datasets"]  # imported by a run, once it needs them
PRELOADED = [
    "alexnet.training.run",
    "alexnet.sweeps.study",
    "alexnet.study_adapter.report",
    *FROM_ELSEWHERE,
    "tests.warm",
]
Done = subprocess.CompletedProcess[str]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def _main(command: tuple[str, ...], env: dict[str, str], cwd: Path, out: str, err: str) -> None:
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.stdin = os.fdopen(0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.set_start_method(None, force=True)  # of the program's own helpers: the platform's
    elsewhere = [path for path in sys.path[1:] if path != str(ROOT)]
    sys.path[:] = [str(cwd), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *elsewhere]
    if cwd != ROOT:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
    if command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")


def run(*command: str, timeout: float, env: dict[str, str], cwd: Path = ROOT) -> Done:
    """`python COMMAND...` in `cwd`, the repository's root. Raises subprocess.TimeoutExpired."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        process = _context.Process(target=_main, args=(command, env, cwd, out.name, err.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        return Done(command, process.exitcode, out.read(), err.read())


@contextmanager
def for_copies() -> Iterator[Callable[..., Done]]:
    """`run` for other folders than the repository, whose packages may have other names: out of a process that starts a
    server of its own.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _preload_from_elsewhere) as process:
        yield lambda *command, **given: process.submit(run, *command, **given).result()


def _preload_from_elsewhere() -> None:
    _context.set_forkserver_preload(FROM_ELSEWHERE)
