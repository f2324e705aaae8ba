"""What every entry point runs in: a user's mistake ends in one line, and a signal in an exit code."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dotenv import load_dotenv
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from alexnet.config_errors import format_error
from alexnet.config_keys import GROUPS, PRESETS, ROOT
from alexnet.errors import Terminated, UserError, describe_write_error, escape_lines
from alexnet.output import tolerant_output
from alexnet.overrides import for_hydra, with_keys_of_today

# What optional packages do when a program ends, however it does. Each is told whether it was interrupted.
at_end: list[Callable[..., None]] = []


@contextmanager
def handle_errors() -> Iterator[None]:
    """Context manager around an entry point: a user's mistake ends in a line or two and exit code 1, without a trace.

    HYDRA_FULL_ERROR=1 shows the trace all the same.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    load_dotenv(Path(".env"))  # such as WANDB_API_KEY; what is set already stays
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra must raise its errors, so that they can be put more shortly here
    pid = os.getpid()

    def terminate(number: int, _: Any) -> None:
        if os.getpid() != pid:  # a forked helper
            os._exit(143)
        raise Terminated

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if in_main else None
    try:
        sys.argv[1:] = _prepare_arguments(sys.argv[1:])
        with tolerant_output():
            yield
            _end()
        _end_rank()
    except KeyboardInterrupt as interrupt:
        print(escape_lines(str(interrupt)) or "interrupted", file=sys.stderr, flush=True)
        _end(interrupted=True)
        code = 143 if isinstance(interrupt, Terminated) else 130
        sys.exit(code)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        _end()
        # ValueErrors of Hydra's: model=null, and -m with --cfg
        hydras = not isinstance(error, ValueError) or re.match(
            "Config group override must be|Only one of --", str(error)
        )
        if full or not hydras:
            raise
        sys.exit(f"error: {escape_lines(format_error(error))}")
    except Exception as error:
        _end()
        text = describe_write_error(error)
        if full or text is None:
            raise
        sys.exit(f"error: {escape_lines(text)}")
    finally:
        if not full:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        if in_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _prepare_arguments(arguments: list[str]) -> list[str]:
    if Path(sys.argv[0]).stem in ROOT:
        arguments = with_keys_of_today(arguments)
    arguments = for_hydra(arguments)
    _check_groups(arguments)
    return arguments


def run_or_checkpoint(text: str) -> Path:
    """Converts an argument of argparse to the path of a run directory or checkpoint."""
    if not (path := Path(text)).exists():
        raise UserError(f"{path}: no such run or checkpoint")
    return path


def keys_and_values(arguments: list[str]) -> dict[str, Any]:
    """Parses KEY=VALUE arguments as Hydra does, for an entry point that composes no config."""
    return {found.key_or_group: found.value() for found in OverridesParser.create().parse_overrides(arguments)}


def _end(*, interrupted: bool = False) -> None:
    while at_end:
        at_end.pop()(interrupted=interrupted)


def _end_rank() -> None:
    """Destroys the process group of a run with several processes, whose threads may abort the process at exit."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _check_groups(arguments: list[str]) -> None:
    """Refuses model=1 and model=[1], which are no options' names.

    Hydra's own error does not say of which group it speaks, or is a TypeError.
    """
    for argument in arguments:
        group, equals, _ = argument.partition("=")
        if equals and group in (*GROUPS, *PRESETS):
            asked = OverridesParser.create().parse_override(argument).value()
            for one in asked.list if isinstance(asked, ChoiceSweep) else [asked]:
                if not all(isinstance(name, str | QuotedString) for name in (one if isinstance(one, list) else [one])):
                    raise UserError(f"{argument}: must be the name of an option, or several, {group}=[NAME,NAME]")
