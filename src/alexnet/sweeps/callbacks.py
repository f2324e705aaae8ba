"""Callbacks of Hydra for a sweep: its directory, its jobs, and messages on those that failed."""

import itertools
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.cli import at_end
from alexnet.config import check_paths, processes_started
from alexnet.config_errors import format_error
from alexnet.config_keys import PRESETS
from alexnet.cores import available_cores
from alexnet.errors import UserError, escape_control_chars, escape_lines
from alexnet.overrides import SWEEP_FLAGS, quoted, typed_arguments
from alexnet.run_dir import dated_dir, make_dir, remove_run_dir, shown

IN_A_LINE = (UserError, HydraException, OmegaConfBaseException)  # errors that say enough without a trace


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Context manager that exits at an error before a sweep: Hydra turns a callback's Exception into a warning."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (a warning, and the jobs would go on without what the callback does)
        SweepDirectory.drop()
        if isinstance(error, IN_A_LINE):
            print(f"error: {escape_lines(format_error(error))}", file=sys.stderr)
        else:
            traceback.print_exception(error)
        raise SystemExit(1) from None


class UnusedHydraKeys(Callback):
    """Refuses keys of Hydra that have no effect here, or only half of it, as this project has its own for them."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            check_folders(config)

    on_multirun_start = on_run_start


def check_folders(config: DictConfig) -> None:
    """Raises UserError for a key of Hydra's folders whose value is not that of conf/train.yaml."""
    unused = {
        "hydra.run.dir": (".", "run_dir=FOLDER names a run's folder, outputs=FOLDER the folder of all runs"),
        "hydra.sweep.dir": (
            config.outputs,
            "outputs=FOLDER names the folder of all sweeps, run_dir=FOLDER a sweep to resume",
        ),
        "hydra.sweep.subdir": (".", "a job's folder is named after what the sweep varies"),
        "hydra.output_subdir": (None, "config.yaml and overrides.yaml lie in the run's folder"),
        "hydra.job.chdir": (None, "the working directory stays; the config's `run_dir` is the run's"),
    }
    for key, (value, instead) in unused.items():
        found = OmegaConf.select(config, key)
        if found != value and found is not False:
            raise UserError(f"{key}={found}: not used here; {instead}")


class SweepDirectory(Callback):
    """Sets a sweep's directory, and removes it if no run was made.

    It is a new one, that of the study, or the one that `run_dir` names, which is then resumed.
    """

    path: ClassVar[Path | None] = None
    made: ClassVar[list[Path]] = []  # what was not there before
    after: ClassVar[list[Callable[[Path], None]]] = []  # what others want done with the folder at the end
    resume: ClassVar[str] = ""  # how it is resumed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        at_end.append(SweepDirectory.end)
        with exit_on_error():
            check_paths(config)
            _check_launcher(config)
            _check_presets(config)
            path, SweepDirectory.made = _sweep_folder(config)
            SweepDirectory.path = path
            (path / "failed.txt").unlink(missing_ok=True)
            if _is_study(config) or config.run_dir is not None:
                SweepDirectory.resume = "type the same command again"
            else:
                SweepDirectory.resume = f"add {shlex.quote(f'run_dir={shown(path)}')} to the command"
            with read_write(config.hydra), open_dict(config.hydra):
                _name_folders(config, path)
                _share_machine(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Logs at once that a job of a sweep has failed. The others go on."""
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        try:
            _ = job_return.return_value
        except Exception as error:  # noqa: BLE001 (it is told here, and the other jobs go on)
            known = isinstance(error, IN_A_LINE)
            if not known:
                traceback.print_exception(error)
            reason = (
                escape_lines(format_error(error)) if known else escape_control_chars(f"{type(error).__name__}: {error}")
            )
            job = f"job {config.hydra.job.num} ({' '.join(job_return.overrides or ())})"
            folder = OmegaConf.select(job_return.cfg, "run_dir") if job_return.cfg else None
            where = f" ({folder})" if folder and Path(folder).exists() else ""
            print(f"error: {job}: {reason}", file=sys.stderr, flush=True)
            with (Path(config.hydra.sweep.dir) / "failed.txt").open("a") as failed:  # jobs may be other processes
                failed.write(f"{job}: {reason}{where}\n")

    @classmethod
    def drop(cls) -> None:
        """Removes the directory if no run was made."""
        if cls.path and cls.made and not any(path.is_dir() and path.name[0] != "." for path in cls.path.iterdir()):
            remove_run_dir(cls.made)
            cls.path = None

    @classmethod
    def end(cls, *, interrupted: bool = False) -> None:
        """Does what follows a sweep, however it ended. Hydra calls nothing after a failed job.

        Ends the program where jobs have failed, with a list of them.
        """
        if cls.path is None:
            return
        failed = cls.path / "failed.txt"
        text = failed.read_text().rstrip() if failed.exists() else ""  # before drop takes the folder away
        cls.drop()
        path, cls.path = cls.path, None
        if path is not None:
            for then in cls.after:
                then(path)
            if interrupted:
                print(f"to resume, {cls.resume}", file=sys.stderr)
        cls.after.clear()
        if text and not interrupted:
            jobs = sum(line.startswith("job ") for line in text.splitlines())
            sys.exit(f"error: {jobs} of the sweep's jobs failed:\n{text}")


def _is_study(config: DictConfig) -> bool:
    return bool(config.hydra.runtime.choices.get("study"))


def _name_folders(config: DictConfig, path: Path) -> None:
    """Makes `path` the sweep's folder, and names a job's folder after what the sweep varies."""
    config.hydra.sweep.dir = str(path)
    typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    unnamed = [o.key_or_group for o in typed if not o.is_sweep_override()]
    if _is_study(config):  # its folders tell the arm, however it came to be
        unnamed = [key for key in unnamed if key not in config.hydra.sweeper.params] + ["seed", "study.arm"]
    unnamed = [quoted(key) for key in [*unnamed, "outputs", "run_dir"]]
    config.hydra.overrides.hydra += [  # the jobs compose their config again
        f"hydra.sweep.dir={quoted(str(path))}",
        f"hydra.job.config.override_dirname.exclude_keys=[{','.join(unnamed)}]",
    ]


def _share_machine(config: DictConfig) -> None:
    """Gives each job its share of the machine where the launcher does not."""
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if launcher == "ray" and config.hydra.launcher.ray.remote.num_gpus is None:
        config.hydra.launcher.ray.remote.num_gpus = _gpus_of_a_job(config)
    if launcher == "submitit_local":  # which starts all jobs at once
        share = available_cores() // len(jobs_of(config))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


def _gpus_of_a_job(config: DictConfig) -> int:
    """Returns the number of GPUs for ray to give a job: ray hides all from a job that asks for none."""
    import torch  # takes a second

    devices = config.trainer.devices
    found = torch.cuda.device_count() if config.trainer.accelerator != "cpu" else 0
    return min(found, devices) if isinstance(devices, int) and devices > 0 else found


def jobs_of(config: DictConfig, seed: int | None = None) -> list[list[str]]:
    """Returns the overrides of every job, as Hydra's BasicSweeper makes them: the first key varies slowest.

    seed: that of all jobs, in place of those that the config sweeps.
    """
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
    if seed is not None:
        values["seed"] = [f"seed={seed}"]
    return [list(job) for job in itertools.product(*values.values())]


def _sweep_folder(config: DictConfig) -> tuple[Path, list[Path]]:
    """Returns a sweep's directory, and the directories that were made for it."""
    choices, outputs = config.hydra.runtime.choices, Path(config.outputs).absolute()
    if config.run_dir is not None:
        path = Path(config.run_dir).absolute()
        if not (path / "multirun.yaml").is_file() and not any(path.glob("*/run.json")):
            raise UserError(f"run_dir={config.run_dir}: no sweep to resume; leave it out to start one")
        return path, []
    if _is_study(config):
        path = outputs / "study" / f"{choices['study']}-{choices['data']}-{choices['model']}"
        return (path, []) if path.is_dir() else (path, make_dir(path, again=False))
    made = make_dir(dated_dir(outputs, choices))
    return made[0], made


def _check_launcher(config: DictConfig) -> None:
    """Raises UserError for launcher settings on which Hydra's own errors are unclear or missing."""
    if (started := processes_started()) > 1:
        typed = shlex.join([a for a in typed_arguments() if a not in SWEEP_FLAGS])
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
    found = config.hydra.sweeper.get("direction")
    direction, better = str(getattr(found, "name", found)), f"{config.mode}imize"
    if found is not None and direction != better:
        raise UserError(f"hydra.sweeper.direction={direction}: mode={config.mode}, so hydra.sweeper.direction={better}")


def _check_presets(config: DictConfig) -> None:
    """Refuses a sweep over presets that each define a sweep: Hydra takes a sweep's keys from one config only."""
    typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    fixed = [str(override.input_line) for override in typed if not override.is_sweep_override()]
    for override in typed:
        if override.key_or_group not in PRESETS or not override.is_discrete_sweep():
            continue
        options = [f"{override.key_or_group}={option}" for option in override.sweep_string_iterator()]
        for option in options:
            composed = hydra.compose(config.hydra.job.config_name, [*fixed, option], return_hydra_config=True)
            if params := composed.hydra.sweeper.get("params"):
                each = " && ".join(f"python train.py -m {one}" for one in options)
                raise UserError(
                    f"{override.input_line}: {option} defines a sweep itself, over {', '.join(map(str, params))}; a "
                    f"sweep cannot run another. Run one after the other: {each}"
                )
