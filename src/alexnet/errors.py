"""Errors that are the user's mistakes, and their messages. Nothing here imports torch."""

import errno
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from typing import TypeVar

Caught = TypeVar("Caught", bound=BaseException)
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class UserError(Exception):
    """A mistake that the user can correct. Entry points print its text without a trace, and exit with 1."""

    def __init__(self, text: str = "") -> None:
        if re.match(r"Caught \w+ in DataLoader worker", text):  # torch adds the worker's trace
            text = text.rpartition(f"{type(self).__name__}: ")[2].strip()
        super().__init__(text)


class ArgumentError(ValueError):
    """A wrong argument of a class or function, such as "dropout=2: must be ...".

    Where a config is built, config.named makes of it a UserError with the argument's full key. Every other error keeps
    its trace.
    """


class ConfigError(UserError):
    """A mistake found before the first step, so that nothing of the run is worth keeping."""


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM, as KeyboardInterrupt is at Ctrl-C."""


def find_cause(error: BaseException | None, kind: type[Caught]) -> Caught | None:
    """Returns `error`, or the first error of that kind in its chain: torch.save turns any error into a RuntimeError."""
    seen, waiting = list[BaseException](), [error]
    while waiting:
        found = waiting.pop(0)
        if found is None or any(found is other for other in seen):  # causes may form a ring
            continue
        if isinstance(found, kind):
            return found
        seen.append(found)
        waiting += [found.__cause__, found.__context__]
    return None


def describe_write_error(error: BaseException) -> str | None:
    """Returns which file could not be written and why, if that is where `error` came from; else None."""
    found = find_cause(error, OSError)
    if found is None or found.errno not in UNWRITABLE:
        return None
    return f"{found.filename or 'a file'}: cannot be written: {found.strerror}"


def nearest(name: str, known: Collection[str]) -> str | None:
    """Returns the known name nearest to `name`, if it is near. Swapped letters count as none."""

    def likeness(other: str) -> float:
        swapped = sorted(name) == sorted(other)
        return 1.0 if swapped else SequenceMatcher(None, name, other).ratio()

    found = max(sorted(known), key=likeness, default=None)
    return found if found and likeness(found) > 0.6 else None


def suggest(name: str, known: Collection[str]) -> str:
    """Returns ' Did you mean X?' with the known name nearest to `name`, or ''."""
    found = nearest(name, known)
    return f" Did you mean {found}?" if found else ""


def escape_control_chars(text: str) -> str:
    """Returns the text with control characters escaped: names of files may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def escape_lines(text: str) -> str:
    """Escapes control characters in a text of several lines."""
    return "\n".join(map(escape_control_chars, text.split("\n")))


def truncate(text: str, length: int = 20) -> str:
    """Returns a text cut to a length, with … at its end where something was cut off."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
