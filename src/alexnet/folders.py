"""Where runs lie: a folder for each, and one around those of a sweep. Nothing here imports torch."""

import csv
import io
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.checks import UserError, cause, printable, printable_lines
from alexnet.config import check_paths, explain, processes_started

Plain = TypeVar("Plain", list[str], dict[str, Any])
LOCK = ".lock"  # held while a run lasts, and gone with it
_SEED = re.compile(r"(?:^|(?<=,))seed=\d+(?:,|$)")  # in what is swept


def new_folder(cfg: DictConfig, asked: str | None = None) -> list[Path]:
    """Finds the run's folder, which no other run shares, and notes it in the config. Gives it, and what had to be made
    above it, for `discard`.

    outputs/<experiment or data-model>/<date_time>, or <overrides> inside a sweep's folder. There a run of the same
    settings (`asked`, of settings.digest) that never ended leaves its folder to this one.
    """
    if cfg.folder is not None and not in_sweep():
        made = _make(Path(cfg.folder), again=False)
    elif in_sweep():
        made = next(
            [folder] for folder in _numbered(job_folder(cfg))
            if (state := state_of(folder)) is None or (state != "done" and record(folder).get("asked", asked) == asked)
        )  # fmt: skip
        made[0].mkdir(exist_ok=True)
    else:
        made = _make(_dated(cfg.outputs, HydraConfig.get().runtime.choices))
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


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_yaml(path: Path, kind: type[Plain]) -> Plain:
    """Plain values. Raises UserError for a file that cannot be read, or holds something else than a `kind`."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(found, kind):
            raise ValueError(f"not the {path.stem} of a run")
        return found
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None


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
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


def part_of(path: Path) -> Path:
    """What is being written in place of `path`."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the file to write in place of `path`, whose name it then takes, so that nobody ever reads half a file. If
    it cannot be written an OSError names `path`: a full disk does not say in which file, and torch.save makes a
    RuntimeError of it.
    """
    beside = part_of(path)
    try:
        yield beside
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, Exception) and (found := cause(error, OSError)):
            raise OSError(found.errno, found.strerror, str(path)) from error
        raise


def write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_csv(path: Path, keys: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, keys)
    writer.writeheader()
    writer.writerows(rows)
    write(path, text.getvalue())


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2) + "\n")


def discard(made: list[Path]) -> None:
    """Takes back what `new_folder` made."""
    shutil.rmtree(made[0])
    for path in made[1:]:
        if not list(path.iterdir()):  # another run may have come meanwhile
            path.rmdir()


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN  # a rank has none


@contextmanager
def refusing() -> Iterator[None]:
    """Around what a callback of Hydra's checks before a sweep: Hydra makes a warning of an Exception, and goes on."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        SweepFolder.drop()
        print(f"error: {printable_lines(explain(error))}", file=sys.stderr)
        raise SystemExit(1) from None


class SweepFolder(Callback):
    """Gives a sweep its folder: a new one, that of the study, or the one that `folder` names, to go on with. Takes it
    away if no run came to be.
    """

    path: ClassVar[Path | None] = None
    made: ClassVar[list[Path]] = []  # what was not there before
    after: ClassVar[list[Callable[[Path], None]]] = []  # what others want done with the folder at the end

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with refusing():
            check_paths(config)
            _check_launcher(config)
            SweepFolder.path, SweepFolder.made = _sweep_folder(config)
        path = SweepFolder.path
        (path / "failed.txt").unlink(missing_ok=True)
        typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(path)
            unnamed = [o.key_or_group for o in typed if not o.is_sweep_override()]
            if config.hydra.runtime.choices.get("study"):  # its folders tell the arm, however it came to be
                unnamed = [key for key in unnamed if key not in config.hydra.sweeper.params] + ["seed", "study.arm"]
            config.hydra.overrides.hydra += [  # the jobs compose their config anew
                f"hydra.sweep.dir={quoted(str(path))}",
                # a job's folder is named after what the sweep varies
                "hydra.job.config.override_dirname.exclude_keys="
                f"[{','.join(map(quoted, [*unnamed, 'outputs', 'folder']))}]",
            ]
        if config.hydra.runtime.choices["hydra/launcher"] == "submitit_local":  # which starts all jobs at once
            share = (os.cpu_count() or 1) // len(jobs_of(config))
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Says at once that a job of a sweep has failed; the others go on."""
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        try:
            _ = job_return.return_value
        except Exception as error:
            known = isinstance(error, UserError | HydraException | OmegaConfBaseException)
            if not known:
                traceback.print_exception(error)
            reason = printable_lines(explain(error)) if known else printable(f"{type(error).__name__}: {error}")
            job = f"job {config.hydra.job.num} ({' '.join(job_return.overrides or ())})"
            folder = OmegaConf.select(job_return.cfg, "folder") if job_return.cfg else None
            where = f" ({folder})" if folder and Path(folder).exists() else ""
            print(f"error: {job}: {reason}", file=sys.stderr, flush=True)
            with (Path(config.hydra.sweep.dir) / "failed.txt").open("a") as failed:  # jobs may be other processes
                failed.write(f"{job}: {reason}{where}\n")

    @classmethod
    def drop(cls) -> None:
        """Takes the folder away if no run came to be."""
        if cls.path and cls.made and not any(path.is_dir() and path.name[0] != "." for path in cls.path.iterdir()):
            discard(cls.made)
            cls.path = None

    @classmethod
    def end(cls, interrupted: bool = False) -> None:
        """Does what shall be done after a sweep, however it ended; Hydra calls nothing once a job has failed. Ends the
        program where jobs have failed, with a list of them.
        """
        cls.drop()
        if cls.path is None:
            return
        path, cls.path = cls.path, None
        for then in cls.after:
            then(path)
        cls.after.clear()
        failed = path / "failed.txt"
        if failed.exists() and not interrupted:
            text = failed.read_text().rstrip()
            jobs = sum(line.startswith("job ") for line in text.splitlines())
            sys.exit(f"error: {jobs} of the sweep's jobs failed:\n{text}")


def jobs_of(config: DictConfig) -> list[list[str]]:
    """The overrides of every job, as Hydra's BasicSweeper makes them: the first key varies slowest."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [list(job) for job in itertools.product(*values.values())]


def _sweep_folder(config: DictConfig) -> tuple[Path, list[Path]]:
    """A sweep's folder, and which folders were made for it."""
    choices, outputs = config.hydra.runtime.choices, Path(config.outputs).absolute()
    if config.folder is not None:
        path = Path(config.folder).absolute()
        if not (path / "multirun.yaml").is_file() and not any(path.glob("*/run.json")):
            raise UserError(f"folder={config.folder}: no sweep to go on with; leave it out to begin one")
        return path, []
    if choices.get("study"):
        path = outputs / "study" / f"{choices['study']}-{choices['data']}-{choices['model']}"
        return (path, []) if path.is_dir() else (path, _make(path, again=False))
    made = _make(_dated(outputs, choices))
    return made[0], made


def _check_launcher(config: DictConfig) -> None:
    """What Hydra's own errors do not say well, or not at all."""
    if (started := processes_started()) > 1:
        typed = shlex.join([a for a in sys.argv[1:] if a not in ("-m", "--multirun")])
        raise UserError(
            f"a sweep in each of {started} processes: start it in one, which starts the ranks of every job itself: "
            f"python {sys.argv[0]} -m {typed}"
        )
    for part in ("launcher", "sweeper"):
        package, name = config.hydra[part]._target_.split(".")[1], config.hydra.runtime.choices[f"hydra/{part}"]
        if package.startswith("hydra_") and not find_spec(f"hydra_plugins.{package}"):
            raise UserError(
                f"hydra/{part}={name} needs a package that is not installed: pip install {package.replace('_', '-')}"
            )
    direction = str(getattr(found := config.hydra.sweeper.get("direction"), "name", found))
    if found is not None and direction != (better := f"{config.mode}imize"):
        raise UserError(f"hydra.sweeper.direction={direction}: mode={config.mode}, so hydra.sweeper.direction={better}")


def quoted(text: str) -> str:
    """As a string of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _dated(outputs: str | Path, choices: Mapping[str, Any]) -> Path:
    name = choices.get("experiment") or f"{choices['data']}-{choices.get('model', 'prepare')}"
    return Path(outputs) / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _numbered(path: Path) -> Iterator[Path]:
    """path, path_2, path_3 and so on."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}_{number}")
        number += 1


def _make(path: Path, again: bool = True) -> list[Path]:
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
