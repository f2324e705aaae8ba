"""Creates and finds run directories, and the directory of a sweep around its runs. Nothing here imports torch."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from alexnet.compat import upgrade_record
from alexnet.errors import UserError
from alexnet.io import read_json

LOCK = ".lock"  # held while a run lasts; the file stays, or two runs could hold what each takes for the same
_SEED = re.compile(r"(?:^|(?<=,))seed=\d+(?:,|$)")  # in what is swept


def create_run_dir(cfg: DictConfig, config_digest: str | None = None) -> list[Path]:
    """Creates a run's directory, which no other run shares, and sets cfg.run_dir.

    It is outputs/<experiment or data-model>/<date_time>, or <overrides> inside a sweep's directory. There a run of the
    same settings (`config_digest`, of run_identity.digest) that never ended leaves its directory to this one.

    Returns:
        The directory, and those that had to be made above it, for `remove_run_dir`.
    """
    if cfg.run_dir is not None and not in_sweep():
        made = make_dir(Path(cfg.run_dir), again=False)
    elif in_sweep():
        folder = free_job_dir(cfg, config_digest)
        folder.mkdir(exist_ok=True)
        made = [folder]
    else:
        made = make_dir(dated_dir(cfg.outputs, HydraConfig.get().runtime.choices))
    with open_dict(cfg):
        cfg.run_dir = str(made[0])
    return made


def free_job_dir(cfg: DictConfig, config_digest: str | None) -> Path:
    """Returns the directory for a job of a sweep: a new one, or that of a run with its settings that never ended."""
    return next(folder for folder in _numbered(job_dir(cfg)) if _is_free(folder, config_digest))


def job_dir(cfg: DictConfig) -> Path:
    """Returns the directory of a job of a sweep, named after its swept values, in a study after its arm and seed."""
    hydra, name = HydraConfig.get(), swept_values(cfg)
    if cfg.study is not None or _SEED.search(hydra.job.override_dirname):
        name = ",".join(filter(None, [name, f"seed={cfg.seed}"]))
    name = (name or f"job={hydra.job.num}").replace("/", "-").encode()[:200].decode(errors="ignore")
    return Path(hydra.sweep.dir) / name  # file systems allow names of 255 bytes


def swept_values(cfg: DictConfig) -> str:
    """Returns a job's values of the swept keys, without the seed, as typed; in a study its arm; '' outside a sweep."""
    if not in_sweep():
        return ""
    name = _SEED.sub("", HydraConfig.get().job.override_dirname).strip(",")
    name = re.sub(r"=(True|False)(?=,|$)", lambda value: value[0].lower(), name)
    name = re.sub(r"(?:^|(?<=,))\+", "", name)
    return ",".join(filter(None, [cfg.study.arm, name])) if cfg.study is not None else name


def shown(path: Path) -> Path:
    """Returns a path as it is printed: relative to the working directory if it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def runs_by_digest(folder: Path) -> dict[str, list[Path]]:
    """Returns the run directories of a sweep by the digest of their settings (run_identity.digest)."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/run.json")):
        if config_digest := read_run_json(path.parent).get("config_digest"):
            found.setdefault(config_digest, []).append(path.parent)
    return found


def read_run_json(folder: Path) -> dict[str, Any]:
    """Returns the run.json of a run directory; an empty object where none can be read."""
    return upgrade_record(read_json(folder / "run.json"))


def read_metrics(folder: Path) -> dict[str, Any]:
    """Returns the metrics.json of a finished run. Raises UserError where it is damaged."""
    if "monitor" not in (found := read_json(folder / "metrics.json")):
        raise UserError(f"{folder / 'metrics.json'}: not the figures of a run; the file is damaged")
    return found


def run_status(folder: Path) -> str | None:
    """Returns running, done, failed or interrupted, which includes killed; None without such a directory."""
    if not folder.is_dir():
        return None
    if (folder / "metrics.json").exists():
        return "done"
    lock = FileLock(folder / LOCK)
    if (folder / LOCK).exists():
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return "running"
        except (OSError, NotImplementedError):
            pass
        lock.release()
    return "failed" if read_run_json(folder).get("state") == "failed" else "interrupted"


@contextmanager
def lock_run_dir(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Holds the lock of a run's directory, by which other processes see that the run is active.

    What an earlier run, which never ended, left in the directory is removed, unless `keep`.

    Raises:
        UserError: where a run is active in this directory.
    """
    with hold_lock(folder / LOCK, f"run_dir={folder}: a run is active there, in another process"):
        for left in () if keep else folder.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield


@contextmanager
def hold_lock(file: Path, taken: str) -> Iterator[None]:
    """Holds a lock where the file system has locks. Raises UserError with the text `taken` if it is held."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=1)  # a look at a run's state takes its lock for a moment
    except Timeout:
        raise UserError(taken) from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


def remove_run_dir(made: list[Path]) -> None:
    """Removes what `create_run_dir` made."""
    for path in made[:1]:
        shutil.rmtree(path)
    for path in made[1:]:
        if not list(path.iterdir()):  # another run may have come meanwhile
            path.rmdir()


def in_sweep() -> bool:
    """Returns whether this process runs a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN  # a rank has none


def dated_dir(outputs: str | Path, choices: Mapping[str, Any]) -> Path:
    """Returns outputs/<experiment or data-model>/<date_time>, which may exist. choices: the options of groups."""
    name = choices.get("experiment") or f"{choices['data']}-{choices.get('model', 'prepare')}"
    return Path(outputs) / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _is_free(folder: Path, config_digest: str | None) -> bool:
    state = run_status(folder)
    if state is None:
        return True
    return state != "done" and read_run_json(folder).get("config_digest", config_digest) == config_digest


def _numbered(path: Path) -> Iterator[Path]:
    """Yields path, path_2, path_3 and so on."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}_{number}")
        number += 1


def make_dir(path: Path, *, again: bool = True) -> list[Path]:
    """Makes `path`, or path_2 and so on if it exists. Returns it and the parents made for it, the nearest first."""
    above = [parent for parent in path.parents if not parent.exists()]
    for candidate in _numbered(path):
        try:
            candidate.mkdir(parents=True)
            return [candidate, *above]
        except FileExistsError:
            if not again:
                raise UserError(f"run_dir={path}: exists already; name a new one, or leave it empty") from None
        except OSError as error:
            raise UserError(f"outputs: cannot make {candidate}: {error.strerror}. Choose outputs=FOLDER") from None
    raise AssertionError("there is always a next number")
