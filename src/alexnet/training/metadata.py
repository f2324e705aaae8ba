"""Records what is needed to repeat a run: its command, code, machine and packages."""

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from alexnet.config_errors import format_error
from alexnet.cores import available_cores
from alexnet.errors import UserError
from alexnet.io import write, write_json
from alexnet.overrides import typed_arguments
from alexnet.run_dir import lock_run_dir, read_run_json, swept_values
from alexnet.training.build import Components

log = logging.getLogger("alexnet")
HERE = Path(__file__).parent
SOURCE = {".py", ".yaml", ".yml", ".toml", ".cfg", ".sh"}


def environment_info(*, keeps_memory: bool) -> dict[str, Any]:
    """Returns the command, the state of the code, the machine and every package's version, as plain values."""
    cuda = torch.cuda.is_available()
    return {
        "command": _command(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if (status := _git("status", "--porcelain")) is None else bool(status),
        "python": platform.python_version(),
        "machine": {
            "platform": platform.platform(),
            "cores": available_cores(),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "keeps_freed_memory": keeps_memory,
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        },
        "packages": dict(sorted((d.metadata["Name"], d.version) for d in distributions())),
    } | ({"slurm_job": os.environ["SLURM_JOB_ID"]} if "SLURM_JOB_ID" in os.environ else {})


def _command() -> list[str]:
    """Returns the command as typed; for a job of a sweep that runs elsewhere, the command for it alone."""
    hydra, program = HydraConfig.get(), Path(sys.argv[0])
    if program.stem == hydra.job.name:
        return [program.name, *typed_arguments()]
    return [f"{hydra.job.name}.py", *hydra.overrides.task]


def write_run_metadata(
    folder: Path, cfg: DictConfig, components: Components, config_digest: str, *, keeps_memory: bool
) -> None:
    """Writes config.yaml, overrides.yaml, run.json and git.diff: what is needed to repeat the run.

    Args:
        folder: the run's.
        cfg: its config.
        components: what is built of it.
        config_digest: of the settings, before the run settled what they leave open.
        keeps_memory: whether freed memory is kept.
    """
    _warn_of_git()
    write(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write(folder / "overrides.yaml", OmegaConf.to_yaml(HydraConfig.get().overrides.task))
    data = components.data
    splits = {name: len(split) for name, split in data.splits.items()}
    assert data.packed
    files = Path(data.packed.names["train"][0]).suffix[1:].lower()  # such as jpg; nothing where they come as one array
    known = {"source": data.source, "files": files, "fingerprint": data.info.fingerprint, "pictures": splits}
    known["repeated"] = data.info.repeated
    info: dict[str, Any] = {"state": "running", "config_digest": config_digest, "arm": swept_values(cfg)}
    info |= environment_info(keeps_memory=keeps_memory)
    info |= {"id": uuid4().hex[:8], "tags": list(cfg.tags), "task_name": cfg.task_name}
    info |= {"seed": cfg.seed, "precision": cfg.trainer.precision, "data": known, "weights": components.weights_sha256}
    write_json(folder / "run.json", info)
    if diff := git_diff():
        write(folder / "git.diff", diff + "\n")


def write_resumed(folder: Path, *, keeps_memory: bool) -> None:
    """Notes in run.json when, where and how the run was resumed."""
    info = read_run_json(folder)
    again = {"precision": info["precision"]} | environment_info(keeps_memory=keeps_memory)
    write_json(folder / "run.json", info | {"state": "running", "resumed": [*info.get("resumed", []), again]})


@contextmanager
def track_status(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Keeps a run's status in run.json while it runs, and how it ended: done, interrupted, or failed and why.

    Args:
        folder: the run's.
        keep: what lies in the folder already.

    Raises:
        UserError: where a run is active in the folder.
    """
    with lock_run_dir(folder, keep=keep), _noting(folder):
        yield


@contextmanager
def _noting(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        with suppress(OSError):
            _note(folder, state="interrupted")
        raise
    except BaseException as error:
        text = format_error(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):  # the disk may be full
            _note(folder, state="failed", reason=text)
        raise
    _note(folder, state="done")


def mark_done(folder: Path) -> None:
    """Marks a run with metrics as done: it may have been killed just before it could."""
    if read_run_json(folder).get("state") != "done":
        _note(folder, state="done")


def _note(folder: Path, **values: str) -> None:
    if known := read_run_json(folder):
        write_json(folder / "run.json", {**values, **{k: v for k, v in known.items() if k not in values}})


def git_diff() -> str | None:
    """Returns the changes of the working tree since the commit, as a patch for git apply.

    It has changed files, and new ones that are source and small. Other new files are named.
    """
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--src-prefix=a/", "--dst-prefix=b/")
    root = _git("rev-parse", "--show-toplevel")
    if root is None:
        return None
    parts = [_git("diff", "HEAD", *plain, cwd=root) or ""]
    for name in filter(None, (_git("ls-files", "--others", "--exclude-standard", "-z", cwd=root) or "").split("\0")):
        path = Path(root, name)
        if path.suffix in SOURCE and path.is_file() and path.stat().st_size <= 1_000_000:
            parts.append(_git("diff", "--no-index", *plain, "--", os.devnull, name, cwd=root, codes=(0, 1)) or "")
        else:
            parts.append(f"# not in git: {name}")
    return "\n".join(filter(None, parts)) or None


@cache
def current_code() -> tuple[str | None, str | None]:
    """Returns the commit, and the changes of the working tree since."""
    return _git("rev-parse", "HEAD"), git_diff()


def recorded_code(folder: Path) -> tuple[str | None, str | None]:
    """Returns the same from a run's record."""
    diff = folder / "git.diff"
    text = diff.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n") if diff.exists() else None
    return read_run_json(folder).get("git_commit"), text


@cache
def _warn_of_git() -> None:
    """Warns once why the commit of a git repository is not recorded, with git's own advice."""
    if refusal := git_refusal():
        log.warning("the commit of this code is not recorded: %s", refusal)


def git_refusal() -> str | None:
    """Returns why git refuses to read this code's repository, such as another owner.

    It is None where there is no repository, or no commit in it yet.
    """
    if not any((above / ".git").exists() for above in HERE.parents):
        return None
    try:
        done = _run_git("rev-parse", "--git-dir")
    except (OSError, subprocess.SubprocessError) as error:
        return f"git cannot be run: {error}"
    return " ".join(done.stderr.removeprefix("fatal: ").split()) if done.returncode else None


def _git(*arguments: str, cwd: str | None = None, codes: tuple[int, ...] = (0,)) -> str | None:
    """Returns git's output on this code's repository; None without git, or outside a repository."""
    try:
        done = _run_git(*arguments, cwd=cwd)
        return done.stdout.removesuffix("\n") if done.returncode in codes else None
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(*arguments: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],
        cwd=cwd or HERE,
        capture_output=True,
        timeout=30,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
