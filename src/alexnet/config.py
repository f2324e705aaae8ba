"""From what the user typed to checked objects. Nothing here imports torch: a typing mistake is answered at once."""

import inspect
import logging
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from alexnet.checks import Terminated, UserError, nearest

# That a launcher's plugin knows the keys of its preset, which is right. Here, since its workers import this too.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/")

FREE = ("trainer.devices", "trainer.deterministic")  # a number, a list or auto; true, false or warn
PRESETS = ("experiment", "study")  # groups that only change what the other groups declare
ROOT = {  # what the programs read of their own file, beside the groups
    "train": ("seed", "study", "monitor", "mode", "early_stopping", "compile", "channels_last", "outputs", "folder"),
    "prepare": ("seed", "show", "outputs", "folder"),
}
GROUPS = ("model", "data", "augment", "optimizer", "scheduler", "metrics", "callbacks", "trainer", "logger")
NAMED = ("metrics.", "callbacks.", "logger.")  # groups of objects under names that the user chooses


@contextmanager
def door() -> Iterator[None]:
    """Around a program: the user's mistakes end in one or two lines and exit code 1, without a stack trace.

    HYDRA_FULL_ERROR=1 shows the trace all the same.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra shall raise its errors, so that they can be put more shortly here
    pid = os.getpid()

    def terminate(number: int, _: Any) -> None:
        if os.getpid() != pid:  # a forked helper
            os._exit(143)
        raise Terminated

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if in_main else None
    try:
        # ~ is no character of Hydra's grammar, and shells leave it as it is in data.root=~/pictures
        sys.argv[1:] = [re.sub(r"^([\w.+]+=)(~(?:/.*)?)$", _at_home, argument) for argument in sys.argv[1:]]
        _check_group_lists(sys.argv[1:])
        yield
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(143 if isinstance(interrupt, Terminated) else 130)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        SweepFolder.end()
        # ValueErrors of Hydra's: model=null, and -m with --cfg
        hydras = not isinstance(error, ValueError) or re.match(
            "Config group override must be|Only one of --", str(error)
        )
        if full or not hydras:
            raise
        sys.exit(f"error: {explain(error)}")
    except Exception:
        SweepFolder.end()
        raise
    finally:
        if not full:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        if in_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _check_group_lists(arguments: list[str]) -> None:
    """Refuses model=[1], where a list holds something else than options' names: Hydra itself ends in a TypeError."""
    for argument in arguments:
        group, _, value = argument.partition("=")
        if group in (*GROUPS, *PRESETS) and "[" in value:
            asked = OverridesParser.create().parse_override(argument).value()
            for one in asked.list if isinstance(asked, ChoiceSweep) else [asked]:
                if isinstance(one, list) and not all(isinstance(name, str) for name in one):
                    raise UserError(f"{argument}: must be the name of an option, or several, {group}=[NAME,NAME]")


def explain(error: Exception) -> str:
    """What to say of an error: of Hydra or OmegaConf in one or two lines, with the nearest known name."""
    if isinstance(error, UserError):  # a loader worker's comes with the worker's trace
        text = str(error)
        return text.rpartition("UserError: ")[2].strip() if text.startswith("Caught UserError") else text
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option}: must be one of {', '.join(error.options)}.{nearest(option, error.options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        known = {*GROUPS, *PRESETS}
        parent = getattr(error.__cause__, "parent_node", None)
        if isinstance(parent, DictConfig):
            prefix = parent._get_full_key(None)
            known = {f"{prefix}.{name!s}" if prefix else str(name) for name in parent}
        return f"{key}: no such key.{nearest(key, known) or ' Known are ' + ', '.join(sorted(known))}"
    if "mismatched input" in text or "LexerNoViableAlt" in text or "missing EQUAL" in text:
        return f"{text.split(' See https')[0]}. Write KEY=VALUE, and quote what has commas, brackets or spaces"
    return text


def check(cfg: DictConfig) -> None:
    """Refuses keys that nothing reads, and values of the wrong type, wherever they were written.

    Hydra itself refuses an unknown key on the command line, but not in a file. What is declared is what the root
    file and the chosen option of every group say without any preset.
    """
    hydra_config = HydraConfig.get()
    name, choices = str(hydra_config.job.config_name), hydra_config.runtime.choices
    groups = [group for group in GROUPS if group in choices]
    declared = hydra.compose(name, [f"{group}={choices[group]}" for group in groups])
    for key in map(str, declared):
        if key not in (*ROOT[name], *groups):
            raise UserError(f"{key}: no such key, in {name}.yaml.{nearest(key, [*ROOT[name], *groups])}")
    _compare(cfg, declared, "")
    _check_paths(cfg)


def _check_paths(cfg: DictConfig) -> None:
    for key in ("outputs", "folder"):
        if not ((isinstance(cfg[key], str) and cfg[key]) or (key == "folder" and cfg[key] is None)):
            raise UserError(f"{key}={cfg[key]}: must be the path of a folder")
        if cfg[key]:
            cfg[key] = os.path.expanduser(cfg[key])


def _compare(node: DictConfig, declared: DictConfig, path: str) -> None:
    target, defaults = node.get("_target_"), cast(dict[str, Any], OmegaConf.to_container(declared))
    for key in map(str, node):
        full = f"{path}{key}"
        if key not in declared:
            if path in NAMED and isinstance(node[key], DictConfig) and "_target_" in node[key]:
                continue
            if target and (not target.startswith("alexnet.") or target != declared.get("_target_")):
                continue  # its own class will judge: `build`
            raise UserError(f"{full}: no such key.{nearest(full, [f'{path}{name!s}' for name in declared])}")
        if OmegaConf.is_missing(node, key):
            raise UserError(f"{full} has no value: pass {full}=VALUE")
        if OmegaConf.is_interpolation(node, key):
            continue
        value, default = node[key], defaults[key]
        if isinstance(default, dict) != isinstance(value, DictConfig) and default is not None:
            raise UserError(
                f"{full}={value}: must be {'a group of keys' if isinstance(default, dict) else 'one value'}"
            )
        if full in FREE:
            continue
        if isinstance(value, DictConfig) and isinstance(declared[key], DictConfig):
            _compare(value, declared[key], f"{full}.")
        elif isinstance(value, ListConfig) and isinstance(default, bool | int | float | str):
            raise UserError(f"{full}={value}: must be one value, such as {default}")
        elif isinstance(default, bool) and not isinstance(value, bool):
            raise UserError(f"{full}={value}: must be true or false")
        elif isinstance(default, int | float) and isinstance(value, str):
            raise UserError(f"{full}={value}: must be a number, such as {default}")
        elif OmegaConf.is_interpolation(declared, key):
            continue  # what it stands for may be a number
        elif isinstance(default, str) and isinstance(value, bool | int | float):
            such_as = f", such as {default}" if default else f"; in quotes it is: {full}='\"{value}\"'"
            raise UserError(f"{full}={value}: must be text{such_as}")


def build(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """The object that the config node `key` describes. Raises UserError with the key of whatever does not suit it."""
    node = OmegaConf.select(cfg, key)
    with named(key, node):
        target = _class(node.get("_target_"))
        known = inspect.signature(target).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            for name in node:
                if name not in known and name not in ("_target_", "_partial_"):
                    raise UserError(f"{key}.{name}: {target.__name__} has no such argument.{nearest(name, known)}")
        return instantiate(node, _convert_="all", **arguments)


def _class(name: Any) -> Any:
    if not isinstance(name, str):
        raise ValueError(f"_target_={name}: must be the name of a class or function, such as torch.optim.RMSprop")
    quiet = logging.getLogger("hydra.utils")  # it prints what is raised as well
    quiet.disabled = True
    try:
        return get_object(name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"_target_={name}: {' '.join(str(error).split())}") from error
    finally:
        quiet.disabled = False


@contextmanager
def named(key: str, node: DictConfig | None = None) -> Iterator[None]:
    """Turns what a class says of its arguments into a UserError that says their full key, `model.dropout=2: ...`.

    An argument that `node` takes from another key, as image_size from data.crop, is called by that key.
    """
    try:
        yield
    except (InstantiationException, ValueError, TypeError, RuntimeError, ImportError, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        text = " ".join(str(cause).split())
        if isinstance(cause, ModuleNotFoundError):
            quoted = re.search(r"'([\w-]+)", text)  # No module named 'x.y', Requirement 'x>=1.0' not met
            package = quoted[1] if quoted else text
            raise UserError(f"{key} needs a package that is not installed: pip install {package}") from error
        if isinstance(cause, RuntimeError):
            text += " (HYDRA_FULL_ERROR=1 shows where)"
        names_argument = re.match(r"(\w+)(=| is missing)", text)
        if names_argument and node is not None and OmegaConf.is_interpolation(node, names_argument[1]):
            written = str(OmegaConf.to_container(node, resolve=False)[names_argument[1]])  # type: ignore[call-overload,index]
            if taken_from := re.fullmatch(r"\$\{([\w.]+)\}", written):
                raise UserError(taken_from[1] + text.removeprefix(names_argument[1])) from error
        raise UserError(f"{key}{'.' if names_argument else ': '}{text}" if key else text) from error


def new_folder(cfg: DictConfig) -> list[Path]:
    """Makes the run's folder, which no other run shares, and notes it in the config. Gives it, and what had to be made
    above it, for `discard`.

    outputs/<experiment or data-model>/<date_time>, or <number>_<overrides> inside a sweep's folder.
    """
    hydra_config = HydraConfig.get()
    if cfg.folder is not None:
        path = Path(cfg.folder)
    elif in_sweep():
        name = f"{hydra_config.job.num}_{hydra_config.job.override_dirname}".replace("/", "-")
        name = name.rstrip("_").encode()[:200].decode(errors="ignore")  # file systems allow 255 bytes
        path = Path(hydra_config.sweep.dir) / name
    else:
        path = _dated(cfg.outputs, hydra_config.runtime.choices)
    made = _make(path, again=cfg.folder is None)
    with open_dict(cfg):
        cfg.folder = str(made[0])
    return made


def discard(made: list[Path]) -> None:
    """Takes back what `new_folder` made."""
    shutil.rmtree(made[0])
    for path in made[1:]:
        if not list(path.iterdir()):  # another run may have come meanwhile
            path.rmdir()


def in_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


@contextmanager
def refusing() -> Iterator[None]:
    """Around what a callback of Hydra's checks before a sweep: Hydra makes a warning of an Exception, and goes on."""
    try:
        yield
    except (UserError, HydraException) as error:
        SweepFolder.end()
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(1) from None


class SweepFolder(Callback):
    """Gives every sweep a folder of its own, and takes it away if no run came to be."""

    made: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with refusing():
            _check_paths(config)
            if config.folder is not None:
                raise UserError(f"folder={config.folder}: cannot hold all the runs of a sweep; leave it out")
            _check_launcher(config)
            SweepFolder.made = _make(_dated(Path(config.outputs).absolute(), config.hydra.runtime.choices))
        path = str(SweepFolder.made[0])
        typed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = path
            fixed = [o.key_or_group for o in typed if not o.is_sweep_override()]
            config.hydra.overrides.hydra += [  # the jobs compose their config anew
                f"hydra.sweep.dir={_quoted(path)}",
                # a job's folder is named after what the sweep varies
                f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(_quoted, [*fixed, 'outputs']))}]",
            ]
        if config.hydra.runtime.choices["hydra/launcher"] == "submitit_local":  # which starts all jobs at once
            jobs = math.prod(len(list(o.sweep_iterator())) for o in typed if o.is_sweep_override())
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))

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
            reason = explain(error) if known else f"{type(error).__name__}: {error}"
            job = f"job {config.hydra.job.num} ({' '.join(job_return.overrides or ())})"
            folder = OmegaConf.select(job_return.cfg, "folder") if job_return.cfg else None
            where = f" ({folder})" if folder and Path(folder).exists() else ""
            print(f"error: {job}: {reason}", file=sys.stderr, flush=True)
            with (Path(config.hydra.sweep.dir) / "failed.txt").open("a") as failed:  # jobs may be other processes
                failed.write(f"{job}: {reason}{where}\n")

    @classmethod
    def end(cls) -> None:
        """Ends the program where jobs of its sweep have failed, with a list of them. Without any run, takes the folder
        away.
        """
        if not cls.made:
            return
        failed = cls.made[0] / "failed.txt"
        text = failed.read_text().rstrip() if failed.exists() else ""
        if not any(path.is_dir() and path.name[0] != "." for path in cls.made[0].iterdir()):
            discard(cls.made)
        cls.made = []
        if text:
            jobs = sum(line.startswith("job ") for line in text.splitlines())
            sys.exit(f"error: {jobs} of the sweep's jobs failed:\n{text}")


def processes_started() -> int:
    """How many processes torchrun or SLURM has started for this run, this one among them."""
    return int(os.environ.get("WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_NTASKS", 1))


def _check_launcher(config: DictConfig) -> None:
    """What Hydra's own errors do not say well: a plugin that is not installed, and a sweep in every rank."""
    if (started := processes_started()) > 1:
        typed = shlex.join([a for a in sys.argv[1:] if a not in ("-m", "--multirun")])
        raise UserError(
            f"a sweep in each of {started} processes: start it in one, which starts the ranks of every job itself: "
            f"python {sys.argv[0]} -m {typed}"
        )
    package = config.hydra.launcher._target_.split(".")[1]
    if package.startswith("hydra_") and not find_spec(f"hydra_plugins.{package}"):
        name = config.hydra.runtime.choices["hydra/launcher"]
        raise UserError(
            f"hydra/launcher={name} needs a package that is not installed: pip install {package.replace('_', '-')}"
        )


def _at_home(path: re.Match[str]) -> str:
    return path[1] + _quoted(os.path.expanduser(path[2]))


def _quoted(text: str) -> str:
    """As a string of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _dated(outputs: str | Path, choices: Mapping[str, Any]) -> Path:
    name = choices.get("experiment") or f"{choices['data']}-{choices.get('model', 'prepare')}"
    name = f"study/{choices['study']}-{name}" if choices.get("study") else name
    return Path(outputs) / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _make(path: Path, again: bool = True) -> list[Path]:
    """Makes `path`, or path_2 and so on while it exists. Gives it and what had to be made above it, upwards."""
    number, above = 1, [parent for parent in path.parents if not parent.exists()]
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}_{number}")
        try:
            candidate.mkdir(parents=True)
            return [candidate, *above]
        except FileExistsError:
            if not again:
                raise UserError(f"folder={path}: exists already; name a new one, or leave it empty") from None
            number += 1
        except OSError as error:
            raise UserError(f"outputs: cannot make {candidate}: {error.strerror}. Choose outputs=FOLDER") from None
