"""Checks the composed config, and builds the objects that it describes. Nothing here imports torch."""

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from alexnet.compat import RENAMED_KEYS, RENAMED_TARGETS
from alexnet.config_errors import prefix_errors, suggest_key
from alexnet.config_keys import FREE, GROUPS, NAMED, ROOT
from alexnet.errors import ArgumentError, UserError, suggest

# That a launcher's plugin knows the keys of its preset, which is right. Here, since its workers import this too.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/")
# Hydra 1.4 deprecates what 1.3 needs, and configs that may name any class, as a user's own config may.
warnings.filterwarnings("ignore", "The version_base parameter is deprecated")
warnings.filterwarnings("ignore", r"hydra\.utils\.instantiate\(\) resolved _target_")


def check(cfg: DictConfig) -> None:
    """Checks the config. Raises UserError for keys that nothing reads and values of the wrong type.

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
    search = choices.get("search")
    if search and hydra_config.mode != RunMode.MULTIRUN:
        raise UserError(f"search={search}: needs -m, python train.py -m search={search}")


def _rename_keys(cfg: DictConfig) -> None:
    """Moves the values of keys with an earlier name, as a user's file may have, to today's name, and prints a note."""
    for old, new in RENAMED_KEYS.items():
        group, _, old_key = old.rpartition(".")
        node = OmegaConf.select(cfg, group) if group else cfg
        if isinstance(node, DictConfig) and old_key in node:
            print(f"note: {old} is {new} now", file=sys.stderr)
            with open_dict(node):
                node[new.rpartition(".")[2]] = node.pop(old_key)


@cache
def _declared(name: str, groups: tuple[str, ...], places: tuple[str, ...]) -> DictConfig:
    """Composes the config as the files declare it, once for all jobs with these groups. places: where the files are."""
    return hydra.compose(name, list(groups))


def check_paths(cfg: DictConfig) -> None:
    """Replaces ~ in `outputs` and `run_dir` by the home folder. Raises UserError for a value that is no path."""
    for key in ("outputs", "run_dir"):
        if not ((isinstance(cfg[key], str) and cfg[key]) or (key == "run_dir" and cfg[key] is None)):
            raise UserError(f"{key}={cfg[key]}: must be the path of a folder")
        if cfg[key]:
            cfg[key] = os.path.expanduser(cfg[key])


def _compare(node: DictConfig, declared: DictConfig, path: str) -> None:
    """Compares a group of keys with the same group as the files declare it, and the groups in it.

    A number becomes text where text is declared: a name of digits alone, such as model.init=2012.

    Raises:
        UserError: for a key that is not declared, without a value, or with a value of another type.
    """
    defaults = cast(dict[str, Any], OmegaConf.to_container(declared))
    for key in map(str, node):
        full = f"{path}{key}"
        if key not in declared:
            _check_undeclared(node, declared, key, path)
            continue
        if OmegaConf.is_missing(node, key):
            raise UserError(f"{full} has no value: pass {full}=VALUE")
        if OmegaConf.is_interpolation(node, key):
            continue
        value, default = node[key], defaults[key]
        if isinstance(default, dict) != isinstance(value, DictConfig) and default is not None:
            expected = "a group of keys" if isinstance(default, dict) else "one value"
            raise UserError(f"{full}={value}: must be {expected}")
        if full in FREE:
            continue
        if isinstance(value, DictConfig) and isinstance(declared[key], DictConfig):
            _compare(value, declared[key], f"{full}.")
            continue
        _check_type(full, value, default)
        if isinstance(default, str) and not OmegaConf.is_interpolation(declared, key):  # which may stand for a number
            node[key] = _text(full, value, default)


def _check_undeclared(node: DictConfig, declared: DictConfig, key: str, path: str) -> None:
    """Raises UserError for a key that nothing reads. Arguments of a class are checked by that class."""
    if path in NAMED and isinstance(node[key], DictConfig) and "_target_" in node[key]:
        return
    target = node.get("_target_")
    if target and (not target.startswith("alexnet.") or target != declared.get("_target_")):
        return
    raise UserError(f"{path}{key}: no such key.{suggest_key(key, declared, path)}")


def _text(key: str, value: Any, default: str) -> Any:
    """Returns the value of a key that is declared as text. Raises UserError for anything but text and whole numbers."""
    if type(value) is int and key.rpartition(".")[2] != "_target_":
        return str(value)
    if isinstance(value, bool | int | float):
        such_as = f", such as {default}" if default else f"; in quotes it is: {key}='\"{value}\"'"
        raise UserError(f"{key}={value}: must be text{such_as}")
    return value


def _check_type(key: str, value: Any, default: Any) -> None:
    """Raises UserError for a list in place of a single value, and for what is not the declared number or boolean."""
    if isinstance(value, ListConfig) and isinstance(default, bool | int | float | str):
        raise UserError(f"{key}={value}: must be one value, such as {default}")
    if isinstance(default, bool) and not isinstance(value, bool):
        raise UserError(f"{key}={value}: must be true or false")
    if isinstance(default, int | float) and isinstance(value, str):
        raise UserError(f"{key}={value}: must be a number, such as {default}")


def replace_config(cfg: DictConfig, other: DictConfig, choices: DictConfig) -> None:
    """Replaces the content of `cfg` by that of `other`, in place, since Hydra keeps a reference to it.

    Args:
        cfg: is changed.
        other: is left as it is.
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
    """Builds the object that the config node `key` describes, and before it those that its own keys describe.

    Raises:
        UserError: with the key of whatever does not suit it.
        Exception: of a class outside the known libraries, as it was raised, with the key as a note.
    """
    node = OmegaConf.select(cfg, key)
    nested = [name for name in map(str, node) if _is_object(node, name)]
    arguments = {name: build(cfg, f"{key}.{name}") for name in nested} | arguments
    with prefix_errors(key, node):
        target = _class(node.get("_target_"))
        check_arguments(key, target, node)
        _check_missing(key, target, node, arguments)
        return instantiate(node, _convert_="all", **arguments)


def target_class(cfg: DictConfig, key: str) -> Any:
    """Returns the class or function that the config node `key` names. Raises UserError where there is none."""
    node = OmegaConf.select(cfg, key)
    with prefix_errors(key, node):
        return _class(node.get("_target_"))


def _is_object(node: DictConfig, name: str) -> bool:
    """Whether a key's value describes an object by itself."""
    if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
        return False
    return isinstance(node[name], DictConfig) and "_target_" in node[name]


def check_arguments(key: str, target: Any, node: DictConfig) -> None:
    """Raises UserError for a key that is no argument of the class or function `target`."""
    known = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in map(str, node):
        if name not in known and name not in ("_target_", "_partial_"):
            raise UserError(f"{key}.{name}: {target.__name__} has no such argument.{suggest(name, known)}")


def _check_missing(key: str, target: Any, node: DictConfig, arguments: Mapping[str, Any]) -> None:
    if "_partial_" in arguments or node.get("_partial_"):
        return
    for name, parameter in inspect.signature(target).parameters.items():
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
    """Returns whether a part of the dotted name is not a module, as the import error says."""
    return isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")


def processes_started() -> int:
    """Returns how many processes torchrun or SLURM has started for this run, including this one."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    variable = "WORLD_SIZE" if by_torchrun else "SLURM_NTASKS"
    return int(os.environ.get(variable, 1))
