"""Where runs lie: a folder for each, and one around those of a sweep. Nothing here imports torch."""

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

from alexnet.errors import UserError
from alexnet.io import read_json

LOCK = ".lock"  # held while a run lasts; the file stays, or two runs could hold what each takes for the same
_SEED = re.compile(r"(?:^|(?<=,))seed=\d+(?:,|$)")  # in what is swept


def new_folder(cfg: DictConfig, asked: str | None = None) -> list[Path]:
    """Finds the run's folder, which no other run shares, and notes it in the config. Gives it, and what had to be made
    above it, for `discard`.

    outputs/<experiment or data-model>/<date_time>, or <overrides> inside a sweep's folder. There a run of the same
    settings (`asked`, of settings.digest) that never ended leaves its folder to this one.
    """
    if cfg.folder is not None and not in_sweep():
        made = make_folder(Path(cfg.folder), again=False)
    elif in_sweep():
        made = next(
            [folder] for folder in _numbered(job_folder(cfg))
            if (state := state_of(folder)) is None or (state != "done" and record(folder).get("asked", asked) == asked)
        )  # fmt: skip
        made[0].mkdir(exist_ok=True)
    else:
        made = make_folder(dated_folder(cfg.outputs, HydraConfig.get().runtime.choices))
    with open_dict(cfg):
        cfg.folder = str(made[0])
    return made


def job_folder(cfg: DictConfig) -> Path:
    """Of a job of a sweep: named after what is swept, in a study after its arm and seed."""
    hydra, name = HydraConfig.get(), swept(cfg)
    if cfg.study is not None or _SEED.search(hydra.job.override_dirname):
        name = ",".join(filter(None, [name, f"seed={cfg.seed}"]))
    name = (name or f"job={hydra.job.num}").replace("/", "-").encode()[:200].decode(errors="ignore")
    return Path(hydra.sweep.dir) / name  # file systems allow names of 255 bytes


def swept(cfg: DictConfig) -> str:
    """A job's values of the swept keys, but the seed, as typed; in a study its arm. Nothing outside a sweep."""
    if not in_sweep():
        return ""
    name = _SEED.sub("", HydraConfig.get().job.override_dirname).strip(",")
    name = re.sub(r"=(True|False)(?=,|$)", lambda value: value[0].lower(), name)
    name = re.sub(r"(?:^|(?<=,))\+", "", name)
    return ",".join(filter(None, [cfg.study.arm, name])) if cfg.study is not None else name


def same_settings(asked: str) -> Iterator[Path]:
    """The folders of runs of this sweep that were asked the same, by settings.digest."""
    for path in sorted(Path(HydraConfig.get().sweep.dir).glob("*/run.json")):
        if record(path.parent).get("asked") == asked:
            yield path.parent


def record(folder: Path) -> dict[str, Any]:
    """run.json of a run's folder; nothing where there is none that can be read."""
    return read_json(folder / "run.json")


def result_of(folder: Path) -> dict[str, Any]:
    """metrics.json of a run that is done. Raises UserError where it has been damaged."""
    if "monitor" not in (found := read_json(folder / "metrics.json")):
        raise UserError(f"{folder / 'metrics.json'}: not the figures of a run; the file is damaged")
    return found


def state_of(folder: Path) -> str | None:
    """running, done, failed or interrupted; None where there is no such folder. What was killed was interrupted."""
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
    return "failed" if record(folder).get("state") == "failed" else "interrupted"


@contextmanager
def held(folder: Path, keep: bool = False) -> Iterator[None]:
    """Around a run: others see that it goes on. What an earlier one, which never ended, left in the folder goes, or is
    kept for this one to go on with.

    Raises:
        UserError: where a run goes on in this folder.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=1)  # a look at its state takes it for a moment
    except Timeout:
        raise UserError(f"folder={folder}: a run goes on there, in another process") from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        for left in () if keep else folder.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield
    finally:
        lock.release()


def discard(made: list[Path]) -> None:
    """Takes back what `new_folder` made."""
    shutil.rmtree(made[0])
    for path in made[1:]:
        if not list(path.iterdir()):  # another run may have come meanwhile
            path.rmdir()


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN  # a rank has none


def dated_folder(outputs: str | Path, choices: Mapping[str, Any]) -> Path:
    """outputs/<experiment or data-model>/<date_time>, which may be there already. choices: the options of groups."""
    name = choices.get("experiment") or f"{choices['data']}-{choices.get('model', 'prepare')}"
    return Path(outputs) / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _numbered(path: Path) -> Iterator[Path]:
    """path, path_2, path_3 and so on."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}_{number}")
        number += 1


def make_folder(path: Path, again: bool = True) -> list[Path]:
    """Makes `path`, or path_2 and so on while it exists. Gives it and what had to be made above it, upwards."""
    above = [parent for parent in path.parents if not parent.exists()]
    for candidate in _numbered(path):
        try:
            candidate.mkdir(parents=True)
            return [candidate, *above]
        except FileExistsError:
            if not again:
                raise UserError(f"folder={path}: exists already; name a new one, or leave it empty") from None
        except OSError as error:
            raise UserError(f"outputs: cannot make {candidate}: {error.strerror}. Choose outputs=FOLDER") from None
    raise AssertionError("there is always a next number")
