"""From what the user typed to checked objects. Nothing here imports torch: a typing mistake is answered at once."""

import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.compat import RENAMED_KEYS, RENAMED_TARGETS
from alexnet.errors import ArgumentError, UserError, suggest

# That a launcher's plugin knows the keys of its preset, which is right. Here, since its workers import this too.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/")

FREE = ("trainer.devices", "trainer.deterministic")  # a number, a list or auto; true, false or warn
PRESETS = ("experiment", "study", "after")  # groups that only change what the other groups declare
ROOT = {  # what the programs read of their own file, beside the groups
    "train": (
        *("seed", "init_from", "freeze", "lr_multipliers", "study", "monitor", "mode", "test_crops", "early_stopping"),
        *("compile", "channels_last", "keep_memory", "trusted"),
        *("outputs", "run_dir", "reproduce", "resume", "checkpoint_every"),
    ),
    "prepare": ("seed", "show", "stream", "jpeg", "outputs", "run_dir"),
}
GROUPS = ("model", "data", "augment", "optimizer", "scheduler", "metrics", "callbacks", "panels", "trainer", "logger")
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pytorch_lightning")
NAMED = ("metrics.", "callbacks.", "logger.")  # groups of objects under names that the user chooses


def format_error(error: Exception) -> str:
    """What to say of an error: of Hydra or OmegaConf in one or two lines, with the nearest known name."""
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option}: must be one of {', '.join(error.options)}.{suggest(option, error.options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        known = {*GROUPS, *PRESETS}
        parent = getattr(error.__cause__, "parent_node", None)
        if isinstance(parent, DictConfig):
            prefix = str(getattr(error.__cause__, "full_key", "")).rpartition(".")[0]
            known = {f"{prefix}.{name!s}" if prefix else str(name) for name in parent}
        if key in RENAMED_KEYS:
            return f"{key}: is {RENAMED_KEYS[key]} now"
        if key in known:
            return f"{key}: {os.path.basename(sys.argv[0])} has no such key"
        name = key if "." in next(iter(known), "") else key.partition(".")[0]
        return f"{key}: no such key.{suggest(name, known) or ' Known are ' + ', '.join(sorted(known))}"
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
    places = tuple(source.path for source in hydra_config.runtime.config_sources)
    declared = _declared(name, tuple(f"{group}={choices[group]}" for group in groups), places)
    for config in (cfg, declared):
        _rename_keys(config)
    for key in map(str, declared):
        if key not in (*ROOT[name], *groups):
            raise UserError(f"{key}: no such key, in {name}.yaml.{suggest(key, [*ROOT[name], *groups])}")
    _compare(cfg, declared, "")
    check_paths(cfg)


def _rename_keys(cfg: DictConfig) -> None:
    """Moves values under a key's earlier name, as a file of the user's may have it, to that of today, with a note."""
    for old, new in RENAMED_KEYS.items():
        group, _, old_key = old.rpartition(".")
        node = OmegaConf.select(cfg, group) if group else cfg
        if isinstance(node, DictConfig) and old_key in node:
            print(f"note: {old} is {new} now", file=sys.stderr)
            with open_dict(node):
                node[new.rpartition(".")[2]] = node.pop(old_key)


@cache
def _declared(name: str, groups: tuple[str, ...], places: tuple[str, ...]) -> DictConfig:
    """Composed once for the jobs of a sweep that have these groups. places: where the files lie."""
    return hydra.compose(name, list(groups))


def check_paths(cfg: DictConfig) -> None:
    for key in ("outputs", "run_dir"):
        if not ((isinstance(cfg[key], str) and cfg[key]) or (key == "run_dir" and cfg[key] is None)):
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
            raise UserError(f"{full}: no such key.{suggest(full, [f'{path}{name!s}' for name in declared])}")
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
        elif isinstance(default, str) and type(value) is int and key != "_target_":
            node[key] = str(value)  # a name of digits alone, such as model.init=2012
        elif isinstance(default, str) and isinstance(value, bool | int | float):
            such_as = f", such as {default}" if default else f"; in quotes it is: {full}='\"{value}\"'"
            raise UserError(f"{full}={value}: must be text{such_as}")


def replace_config(cfg: DictConfig, other: DictConfig, choices: DictConfig) -> None:
    """Replaces the content of `cfg` by that of `other`, in place: Hydra keeps a reference to it.

    Args:
        choices: the options of groups that `other` was composed of.
    """
    hydra_config: Any = HydraConfig.get()
    with read_write(hydra_config), open_dict(hydra_config):
        hydra_config.runtime.choices = choices
    with open_dict(cfg):
        for key in list(cfg):
            del cfg[key]
        cfg.update(other)


def build(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """The object that the config node `key` describes.

    Raises:
        UserError: with the key of whatever does not suit it.
        Exception: of a class outside the known libraries, as it was raised, with the key as a note.
    """
    node = OmegaConf.select(cfg, key)
    with prefix_errors(key, node):
        target = _class(node.get("_target_"))
        _check_arguments(key, target, node, arguments)
        return instantiate(node, _convert_="all", **arguments)


def _check_arguments(key: str, target: Any, node: DictConfig, arguments: Mapping[str, Any]) -> None:
    known = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for name in map(str, node):
            if name not in known and name not in ("_target_", "_partial_"):
                raise UserError(f"{key}.{name}: {target.__name__} has no such argument.{suggest(name, known)}")
    if "_partial_" in arguments or node.get("_partial_"):
        return
    for name, parameter in known.items():
        plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if plain and parameter.default is parameter.empty and name not in (*node, *arguments):
            raise UserError(f"{key}.{name} is missing: {target.__name__} needs it")


def _class(name: Any) -> Any:
    if not isinstance(name, str):
        raise ArgumentError(f"_target_={name}: must be the name of a class or function, such as torch.optim.RMSprop")
    if name in RENAMED_TARGETS:
        raise ArgumentError(f"_target_={name}: is {RENAMED_TARGETS[name]} now")
    quiet = logging.getLogger("hydra.utils")  # it prints what is raised as well
    quiet.disabled = True
    try:
        return get_object(name)
    except (ImportError, ValueError) as error:
        bug = error.__cause__
        if bug is None or isinstance(bug, AttributeError) or _of_the_name(bug, name):
            raise ArgumentError(f"_target_={name}: {' '.join(str(error).split())}") from error
    finally:
        quiet.disabled = False
    raise bug  # of the module that holds it


def _of_the_name(error: BaseException, name: str) -> bool:
    """Whether a part of a dotted name is no module."""
    return isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")


@contextmanager
def prefix_errors(key: str, node: DictConfig | None = None) -> Iterator[None]:
    """Turns what is wrong with an argument into a UserError that says its full key, `model.dropout=2: ...`.

    Arguments are wrong where an ArgumentError says so, and where a class of a library (LIBRARIES) refuses them. Any
    other error may be a bug in the user's own class: it keeps its trace, and gets the key as a note.

    An argument that `node` takes from another key, as image_size from data.crop, is called by that key.
    """
    try:
        yield
        return
    except UserError:
        raise
    except Exception as error:
        found = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if text := _mistake(found, key, node):
            raise UserError(text) from error
    if key:
        found.add_note(f"while {key} was built from the config")
    raise found


def _mistake(error: BaseException, key: str, node: DictConfig | None) -> str | None:
    """What to say of an error that an argument in the config has caused; None of any other."""
    text = " ".join(str(error).split())
    library = node is not None and str(node.get("_target_")).partition(".")[0] in LIBRARIES
    if isinstance(error, ModuleNotFoundError) and (package := _not_installed(error)):
        return f"{key} needs a package that is not installed: pip install {package}"
    if not isinstance(error, ArgumentError | InstantiationException | OmegaConfBaseException) and not library:
        return None
    if isinstance(error, RuntimeError):
        text += " (HYDRA_FULL_ERROR=1 shows where)"
    names_argument = re.match(r"(\w+)(=| is missing)", text)
    if names_argument and node is not None and OmegaConf.is_interpolation(node, names_argument[1]):
        written = str(OmegaConf.to_container(node, resolve=False)[names_argument[1]])  # type: ignore[call-overload,index]
        if taken_from := re.fullmatch(r"\$\{([\w.]+)\}", written):
            return taken_from[1] + text.removeprefix(names_argument[1])
    return f"{key}{'.' if names_argument else ': '}{text}" if key else text


def _not_installed(error: ModuleNotFoundError) -> str | None:
    """The package that an import did not find; None where it is a module of an installed one, which is a bug."""
    if error.name is None:  # Lightning's: Requirement 'x>=1.0' not met
        quoted = re.search(r"'([\w-]+)", str(error))
        return quoted[1] if quoted else str(error)
    package = error.name.partition(".")[0]
    return None if find_spec(package) else package


def processes_started() -> int:
    """How many processes torchrun or SLURM has started for this run, this one among them."""
    return int(os.environ.get("WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_NTASKS", 1))
