"""A program of the repository in a process whose imports are done: what a test waits for is the run, not torch.

The process is a fork of one that has imported what the programs import, and has the digits packed, as the second job of
a sweep has. It has its own arguments, environment, standard streams and exit code.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRELOADED = ["alexnet.training.run", "alexnet.studies.study", "alexnet.studies.report"]
PRELOADED += ["torch.utils.tensorboard", "sklearn.datasets"]  # imported by a run, once it needs them
PRELOADED += ["tests.warm"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def _main(command: tuple[str, ...], env: dict[str, str], out: str, err: str) -> None:
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.stdin = os.fdopen(0)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.set_start_method(None, force=True)  # of the program's own helpers: the platform's
    sys.argv = list(command)
    sys.path[:1] = [str(ROOT), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(command[0], run_name="__main__")


def run(*command: str, timeout: float, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python COMMAND...` in the repository's root. Raises subprocess.TimeoutExpired."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        process = _context.Process(target=_main, args=(command, env, out.name, err.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, process.exitcode, out.read(), err.read())
