"""Checks of constructor arguments. Each raises an ArgumentError with the argument, its value and what is allowed."""

from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from alexnet.errors import ArgumentError, nearest

MOST = 2**31 - 1  # whole numbers above it are mistakes, and overflow in one library or another


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value}: must be true or false")
    return value


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(f"{name}={value}: must be one of {', '.join(allowed)}.{nearest(str(value), allowed)}")
    return value


def integer(name: str, value: Any, low: int, high: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise ArgumentError(f"{name}={value}: must be a whole number of at least {low} and at most {high}")
    return int(value)


def number(
    name: str, value: Any, low: float, high: float = float("inf"), *, above: bool = False, off: bool = False
) -> float:
    """A finite real number in [low, high], or in (low, high] with `above`. With `off`, False counts as 0."""
    if off and value is False:
        value = 0.0
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not low <= value <= high or abs(value) == float("inf") or (above and value == low):
        raise ArgumentError(f"{name}={value}: must be a number {_interval(low, high, above)}")
    return float(value)


def folder_path(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{name}={value}: must be the path of a folder")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # there is no home folder
        raise ArgumentError(f"{name}={value}: there is no home folder for ~; name another") from None


def _interval(low: float, high: float, above: bool = False) -> str:
    least = f"above {low:g}" if above else f"of at least {low:g}"
    return least if high == float("inf") else f"{least} and at most {high:g}"
