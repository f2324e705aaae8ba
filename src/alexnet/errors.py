"""The user's mistakes, and how they are said. Nothing here imports torch."""

import errno
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from typing import TypeVar

Caught = TypeVar("Caught", bound=BaseException)
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class UserError(Exception):
    """A mistake that the user can mend. Entry points print its text alone, without a stack trace, and exit with 1."""

    def __init__(self, text: str = "") -> None:
        if re.match(r"Caught \w+ in DataLoader worker", text):  # torch adds the worker's trace
            text = text.rpartition(f"{type(self).__name__}: ")[2].strip()
        super().__init__(text)


class ArgumentError(ValueError):
    """An argument of a class or function that does not suit, such as "dropout=2: must be ...".

    Where a config is built, config.named makes of it a UserError with the argument's full key. Every other error keeps
    its trace.
    """


class ConfigError(UserError):
    """A mistake that was found before the first step, so that nothing of the run is worth keeping."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as Ctrl-C is KeyboardInterrupt."""


def find_cause(error: BaseException | None, kind: type[Caught]) -> Caught | None:
    """`error`, or the first one of that kind that it came from: torch.save makes a RuntimeError of any other."""
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
    """Which file could not be written and why, if that is what `error` came from."""
    found = find_cause(error, OSError)
    if found is None or found.errno not in UNWRITABLE:
        return None
    return f"{found.filename or 'a file'}: cannot be written: {found.strerror}"


def suggest(name: str, known: Collection[str]) -> str:
    """' Did you mean X?' for the known name most like `name`, or nothing. Swapped letters count as none."""

    def likeness(other: str) -> float:
        pairs = ((name, other), ("".join(sorted(name)), "".join(sorted(other))))
        return max(SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    found = max(known, key=likeness, default=None)
    return f" Did you mean {found}?" if found and likeness(found) > 0.6 else ""


def escape_control_chars(text: str) -> str:
    """The text with what a terminal would obey, or cannot show, written out: names of files come from anywhere."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def escape_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(escape_control_chars, text.split("\n")))


def truncate(text: str, length: int = 20) -> str:
    """Returns a text, cut to a length, with … at its end where something was cut off."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
