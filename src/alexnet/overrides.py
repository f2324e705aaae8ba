"""Converts Hydra's overrides from what a user types, and back. Nothing here imports torch."""

import os
import re
import sys

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from alexnet.compat import upgrade_override
from alexnet.config_keys import PRESETS
from alexnet.run_identity import PATHS

_PATH = re.compile(rf"(\+{{0,2}}(?:{'|'.join(map(re.escape, PATHS))})=)(.+)", re.DOTALL)
_HOME = re.compile(r"([\w.+]+=)(~(?:/.*)?)", re.DOTALL)
_GIVEN_TO_HYDRA = re.compile(r"""null|'.*'|".*"|.*\$\{.*""", re.DOTALL)  # quoted, or an interpolation
SWEEP_FLAGS = ("-m", "--multirun")
STUDY_MODE = "hydra.mode=MULTIRUN"


def quoted(text: str) -> str:
    """Returns `text` as a quoted string of Hydra's override grammar, where a backslash counts only before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def for_hydra(arguments: list[str]) -> list[str]:
    """Returns the command line's arguments quoted as Hydra's grammar needs them.

    - A path that the grammar would read otherwise, such as init_from=outputs/model.lrn=true,seed=1, is quoted. In a
      sweep, init_from=a,b stays a choice of two, unless there is a file or folder of that name.
    - A ~ at the beginning of a value is replaced by the home directory.
    - experiment=null takes the preset away, ~experiment.
    - -m comes first: Hydra knows no override after it where others stand before it.
    - A study is a sweep, which to Hydra 1.4 the command line must say. Beside it: Hydra 1.3 takes overrides from one
      place of the command line only.
    """
    flags = [argument for argument in arguments if argument in SWEEP_FLAGS]
    arguments = [argument for argument in arguments if argument not in SWEEP_FLAGS]
    studies = [n for n, argument in enumerate(arguments) if re.match("study=(?!null$)", argument)]
    if studies and not flags:
        arguments.insert(studies[0], STUDY_MODE)
    sweep = bool(flags) or STUDY_MODE in arguments
    without = {f"{preset}=null": f"~{preset}" for preset in PRESETS}
    return flags + [without.get(argument) or _take_path(_expand_home(argument), sweep=sweep) for argument in arguments]


def typed_arguments() -> list[str]:
    """Returns the arguments of the command line without what `for_hydra` added to them."""
    return [argument for argument in sys.argv[1:] if argument != STUDY_MODE]


def with_keys_of_today(arguments: list[str]) -> list[str]:
    """Returns the arguments with today's keys in place of earlier spellings, and prints a note for each."""
    renamed = [upgrade_override(argument) for argument in arguments]
    for before, after in zip(arguments, renamed, strict=True):
        if before != after:
            print(f"note: {before} is {after} now", file=sys.stderr)
    return renamed


def as_typed(override: str) -> str:
    """Returns what a user would type for an override of Hydra's: a path without the quotes of `for_hydra`."""
    parsed = OverridesParser.create().parse_override(override)
    path = parsed.value()
    if parsed.key_or_group not in PATHS or not isinstance(path, str) or not os.path.exists(path):
        return override
    return f"{parsed.key_or_group}={path}"


def _expand_home(argument: str) -> str:
    found = _HOME.fullmatch(argument)
    return found[1] + quoted(os.path.expanduser(found[2])) if found else argument


def _take_path(argument: str, *, sweep: bool) -> str:
    found = _PATH.fullmatch(argument)
    if found is None or _GIVEN_TO_HYDRA.fullmatch(found[2]) or _hydra_takes(argument, found[2], sweep=sweep):
        return argument
    return found[1] + quoted(found[2])


def _hydra_takes(argument: str, path: str, *, sweep: bool) -> bool:
    """Returns whether Hydra reads the argument's value as this path, or as the choice that is meant."""
    try:
        parsed = OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    if parsed.is_sweep_override():
        return sweep and not os.path.exists(path)
    return bool(parsed.value() == path)
