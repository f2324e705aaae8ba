"""From what the user typed to checked objects. Nothing here imports torch: a typing mistake is answered at once."""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.checks import UserError, nearest

PRESETS = ("experiment",)  # groups that only change what the other groups declare
ROOT = ("seed", "monitor", "mode", "early_stopping", "compile", "outputs", "folder")  # what the code reads
GROUPS = ("model", "data", "augment", "optimizer", "scheduler", "trainer", "logger")


@contextmanager
def door() -> Iterator[None]:
    """Around a program: the user's mistakes end in one or two lines and exit code 1, without a stack trace.

    HYDRA_FULL_ERROR=1 shows the trace all the same.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra shall raise its errors, so that they can be put more shortly here
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException, ValueError) as error:
        SweepFolder.remove_if_empty()
        hydras = not isinstance(error, ValueError) or "Config group override must be" in str(error)  # for model=null
        if full or not hydras:
            raise
        sys.exit(f"error: {error if isinstance(error, UserError) else explain(error)}")


def explain(error: Exception) -> str:
    """An error of Hydra or OmegaConf in one or two lines, with the nearest known name."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option}: must be one of {', '.join(error.options)}.{nearest(option, error.options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        known = {*ROOT, *GROUPS, *PRESETS}
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
    choices = hydra_config.runtime.choices
    declared = hydra.compose(hydra_config.job.config_name, [f"{group}={choices[group]}" for group in GROUPS])
    for key in map(str, declared):
        if key not in (*ROOT, *GROUPS):
            raise UserError(f"{key}: no such key, in {hydra_config.job.config_name}.yaml.{nearest(key, ROOT + GROUPS)}")
    _compare(cfg, declared, "")


def _compare(node: DictConfig, declared: DictConfig, path: str) -> None:
    target = node.get("_target_")
    for key in map(str, node):
        full = f"{path}{key}"
        if key not in declared:
            if target and (not target.startswith("alexnet.") or target != declared.get("_target_")):
                continue  # its own class will judge: `build`
            raise UserError(f"{full}: no such key.{nearest(full, [f'{path}{name!s}' for name in declared])}")
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value, default = node[key], OmegaConf.to_container(declared)[key]  # type: ignore[call-overload, index]
        if isinstance(value, DictConfig):
            if isinstance(declared[key], DictConfig):
                _compare(value, declared[key], f"{full}.")
        elif isinstance(default, bool) and not isinstance(value, bool):
            raise UserError(f"{full}={value}: must be true or false")
        elif isinstance(default, int | float) and isinstance(value, str):
            raise UserError(f"{full}={value}: must be a number, such as {default}")


def build(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """The object that the config node `key` describes. Raises UserError with the key of whatever does not suit it."""
    node = OmegaConf.select(cfg, key)
    with named(key):
        target = get_object(node["_target_"])
        known = inspect.signature(target).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            for name in node:
                if name not in known and name not in ("_target_", "_partial_"):
                    raise UserError(f"{key}.{name}: {target.__name__} has no such argument.{nearest(name, known)}")
        return instantiate(node, _convert_="all", **arguments)


@contextmanager
def named(key: str) -> Iterator[None]:
    """Turns what a class says of its arguments into a UserError that says their full key, `model.dropout=2: ...`."""
    try:
        yield
    except (InstantiationException, ValueError, TypeError, ImportError, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        text = " ".join(str(cause).split())
        if isinstance(cause, ModuleNotFoundError):
            quoted = re.search(r"'([\w-]+)", text)  # No module named 'x.y', Requirement 'x>=1.0' not met
            package = quoted[1] if quoted else text
            raise UserError(f"{key} needs a package that is not installed: pip install {package}") from error
        names_argument = re.match(r"\w+(=| is missing)", text)
        raise UserError(f"{key}{'.' if names_argument else ': '}{text}" if key else text) from error


def new_folder(cfg: DictConfig) -> Path:
    """Makes the run's folder, which no other run shares, and notes it in the config.

    outputs/<experiment or data-model>/<date_time>, or <number>_<overrides> inside a sweep's folder.
    """
    hydra_config = HydraConfig.get()
    if cfg.folder is not None:
        path = Path(cfg.folder)
    elif in_sweep():
        name = f"{hydra_config.job.num}_{hydra_config.job.override_dirname}".replace("/", "-")
        path = Path(hydra_config.sweep.dir) / name[:120]
    else:
        path = _dated(cfg.outputs, hydra_config.runtime.choices)
    path = _make(path, again=cfg.folder is None)
    with open_dict(cfg):
        cfg.folder = str(path)
    return path


def in_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


class SweepFolder(Callback):
    """Gives every sweep a folder of its own, and takes it away if no run came to be."""

    made: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        path = _make(_dated(config.outputs, config.hydra.runtime.choices))
        SweepFolder.made = path
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(path)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{path}'")  # the jobs compose their config anew

    @classmethod
    def remove_if_empty(cls) -> None:
        if cls.made and all(p.name == "multirun.yaml" for p in cls.made.iterdir()):
            (cls.made / "multirun.yaml").unlink(missing_ok=True)
            os.removedirs(cls.made)


def _dated(outputs: str, choices: Mapping[str, Any]) -> Path:
    name = choices.get("experiment") or f"{choices['data']}-{choices['model']}"
    return Path(outputs) / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _make(path: Path, again: bool = True) -> Path:
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}_{number}")
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            if not again:
                raise UserError(f"folder={path}: exists already; name a new one, or leave it empty") from None
            number += 1
        except OSError as error:
            raise UserError(f"outputs: cannot make {candidate}: {error.strerror}. Choose outputs=FOLDER") from None
