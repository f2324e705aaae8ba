"""Checks arguments of constructors. Each raises ArgumentError with the argument, its value and what is allowed."""

from collections import Counter
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from alexnet.errors import ArgumentError, suggest

MOST = 2**31 - 1  # whole numbers above it are mistakes, and overflow in one library or another


def check_bool(name: str, value: Any) -> bool:
    """Returns a value that is true or false. Raises ArgumentError for any other."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value}: must be true or false")
    return value


def check_choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Returns a value that is one of those allowed. Raises ArgumentError for any other."""
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name}={value}: must be one of {', '.join(allowed)}.{suggest(str(value), allowed)}")
    return value


def check_int(name: str, value: Any, low: int, high: int = MOST) -> int:
    """Returns a whole number in [low, high]. Raises ArgumentError for any other value."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        most = "" if high == MOST else f" and at most {high}"
        raise ArgumentError(f"{name}={value}: must be a whole number of at least {low}{most}")
    return int(value)


def check_float(
    name: str,
    value: Any,
    low: float,
    high: float = float("inf"),
    *,
    exclusive_min: bool = False,
    allow_false: bool = False,
) -> float:
    """Returns a finite number in [low, high], or (low, high] with `exclusive_min`. With `allow_false`, False is 0."""
    if allow_false and value is False:
        value = 0.0
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not low <= value <= high or abs(value) == float("inf") or (exclusive_min and value == low):
        raise ArgumentError(f"{name}={value}: must be a number {_interval(low, high, exclusive_min=exclusive_min)}")
    return float(value)


def check_test_fraction(name: str, value: Any) -> float:
    """Returns a share of test images that leaves some to train on, beside those for validation."""
    return check_float(name, value, 0, 0.8, exclusive_min=True)


def first_repeated(names: Sequence[str]) -> str | None:
    """Returns the first name that occurs more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def folder_path(name: str, value: Any) -> Path:
    """Returns the path of a folder, in which ~ is the home folder. Raises ArgumentError for a value that is none."""
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{name}={value}: must be the path of a folder")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # there is no home folder
        raise ArgumentError(f"{name}={value}: there is no home folder for ~; name another") from None


def _interval(low: float, high: float, *, exclusive_min: bool) -> str:
    least = f"above {low:g}" if exclusive_min else f"of at least {low:g}"
    return least if high == float("inf") else f"{least} and at most {high:g}"
