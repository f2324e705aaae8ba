"""Checks of constructor arguments. Each raises a ValueError that names the argument, its value and what is allowed."""

import errno
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

Caught = TypeVar("Caught", bound=BaseException)
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
MOST = 2**31 - 1  # whole numbers above it are mistakes, and overflow in one library or another


class UserError(Exception):
    """A mistake that the user can mend. The doors print its text alone, without a stack trace, and exit with 1."""

    def __init__(self, text: str = "") -> None:
        if re.match(r"Caught \w+ in DataLoader worker", text):  # torch adds the worker's trace
            text = text.rpartition(f"{type(self).__name__}: ")[2].strip()
        super().__init__(text)


class Refused(UserError):
    """A mistake that was found before the first step, so that nothing of the run is worth keeping."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as Ctrl-C is KeyboardInterrupt."""


def cause(error: BaseException | None, kind: type[Caught]) -> Caught | None:
    """`error`, or the first one of that kind that it came from: torch.save makes a RuntimeError of any other."""
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error


def unwritable(error: BaseException) -> str | None:
    """Which file could not be written and why, if that is what `error` came from."""
    found = cause(error, OSError)
    if found is None or found.errno not in UNWRITABLE:
        return None
    return f"{found.filename or 'a file'}: cannot be written: {found.strerror}"


def nearest(name: str, known: Collection[str]) -> str:
    """' Did you mean X?' for the known name most like `name`, or nothing. Swapped letters count as none."""

    def likeness(other: str) -> float:
        pairs = ((name, other), ("".join(sorted(name)), "".join(sorted(other))))
        return max(SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    found = max(known, key=likeness, default=None)
    return f" Did you mean {found}?" if found and likeness(found) > 0.6 else ""


def printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot show, written out: names of files come from anywhere."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def short(text: str, length: int = 20) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value}: must be true or false")
    return value


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value}: must be one of {', '.join(allowed)}.{nearest(str(value), allowed)}")
    return value


def integer(name: str, value: Any, low: int, high: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise ValueError(f"{name}={value}: must be a whole number of at least {low} and at most {high}")
    return int(value)


def number(
    name: str, value: Any, low: float, high: float = float("inf"), *, above: bool = False, off: bool = False
) -> float:
    """A finite real number in [low, high], or in (low, high] with `above`. With `off`, False counts as 0."""
    if off and value is False:
        value = 0.0
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not low <= value <= high or abs(value) == float("inf") or (above and value == low):
        raise ValueError(f"{name}={value}: must be a number {_interval(low, high, above)}")
    return float(value)


def folder_path(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value}: must be the path of a folder")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # there is no home folder
        raise ValueError(f"{name}={value}: there is no home folder for ~; name another") from None


def _interval(low: float, high: float, above: bool = False) -> str:
    least = f"above {low:g}" if above else f"of at least {low:g}"
    return least if high == float("inf") else f"{least} and at most {high:g}"
