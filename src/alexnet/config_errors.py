"""Turns errors that the config caused into one line with the key. Nothing here imports torch."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

from hydra.errors import InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet.compat import RENAMED_KEYS
from alexnet.config_keys import GROUPS, PRESETS
from alexnet.errors import ArgumentError, UserError, nearest, suggest
from alexnet.run_identity import flat

LIBRARIES = ("torch", "torchvision", "torchmetrics", "pytorch_lightning")


def format_error(error: Exception) -> str:
    """Returns the message for an error; one of Hydra or OmegaConf in one or two lines, with the nearest known name."""
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    if "'hydra/sweeper/optuna'" in text and isinstance(error, MissingConfigException):  # hydra/sweeper=search needs it
        return "hydra/sweeper=optuna needs a package that is not installed: pip install hydra-optuna-sweeper"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option}: must be one of {', '.join(error.options)}.{suggest(option, error.options)}"
    unknown = re.search(r"Could not override '([^']+)'", text)  # Hydra's error has the key in its text alone
    if unknown:
        return _format_unknown_key(unknown[1], error.__cause__)
    if isinstance(error, OverrideParseException):
        reason = text.partition(" See https")[0].removeprefix(f"Error parsing override '{error.override}' ")
        advice = "Write KEY=VALUE, and quote what has commas, brackets or spaces"
        return f"Error parsing override '{error.override}': {reason}. {advice}"
    return text


def _format_unknown_key(key: str, cause: BaseException | None) -> str:
    """Returns the message for an override of a key that does not exist."""
    if key in RENAMED_KEYS:
        return f"{key}: is {RENAMED_KEYS[key]} now"
    group = getattr(cause, "parent_node", None)
    if not isinstance(group, DictConfig):
        group = OmegaConf.create(dict.fromkeys((*GROUPS, *PRESETS)))
    prefix = "".join(str(getattr(cause, "full_key", "")).rpartition(".")[:2])
    name = key.removeprefix(prefix).partition(".")[0]
    if name in group:
        return f"{key}: {os.path.basename(sys.argv[0])} has no such key"
    near = suggest_key(key.rpartition(".")[2], group, prefix) or suggest_key(name, group, prefix)
    known = sorted(prefix + str(other) for other in group if other != "_target_")
    target = str(group.get("_target_", "alexnet."))
    if not target.startswith("alexnet."):
        near += f" Any other argument of {target} is added with a plus: +{key}=VALUE"
    elif not near and known:
        near = f" Known are {', '.join(known)}"
    return f"{key}: no such key.{near}"


def suggest_key(name: str, group: DictConfig, prefix: str) -> str:
    """Returns ' Did you mean X?' for a key that a group does not have, with the nearest there or below; '' without one.

    Args:
        name: the key in the group.
        group: where it was looked for.
        prefix: of the full keys there, such as `model.`; '' for the whole config.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(group))
    below = sorted((key for key, _ in flat(values)), key=lambda key: -key.count("."))  # a key with fewer parts wins
    keys = {key.rpartition(".")[2]: key for key in (*below, *values) if not key.startswith("hydra.")}
    found = nearest(name, keys.keys() - {"_target_"})
    return f" Did you mean {prefix}{keys[found]}?" if found else ""


@contextmanager
def prefix_errors(key: str, node: DictConfig | None = None) -> Iterator[None]:
    """Context manager that turns an ArgumentError into a UserError with the full key, `model.dropout=2: ...`.

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
    """Returns the message for an error that an argument in the config has caused; None for any other error."""
    text = " ".join(str(error).split())
    library = node is not None and str(node.get("_target_")).partition(".")[0] in LIBRARIES
    if isinstance(error, ModuleNotFoundError):
        package = _not_installed(error)
        if package:
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
    """Returns the package that an import did not find; None for a module of an installed package, which is a bug."""
    if error.name is None:  # Lightning's: Requirement 'x>=1.0' not met
        quoted = re.search(r"'([\w-]+)", str(error))
        return quoted[1] if quoted else str(error)
    package = error.name.partition(".")[0]
    return None if find_spec(package) else package
