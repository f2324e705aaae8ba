"""Times two ways of doing the same thing against each other."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: of the comparison.
        ours, baseline: medians in `unit`, of which more is better.
        unit: such as images/s.
        ratio: of the medians.
        limit_share: ours over what the machine allows, where that is known.
        ours_range, baseline_range: the lowest and the highest.
    """

    name: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    limit_share: float | None
    ours_range: tuple[float, float]
    baseline_range: tuple[float, float]


def compare(
    name: str,
    unit: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    limit: float | None = None,
    rounds: int = 5,
    seconds: float = math.inf,
    *,
    warm: bool = True,
    timed: bool = False,
) -> Row:
    """Runs both sides in turn, and compares the medians of their rates.

    Args:
        name: of the comparison.
        unit: such as images/s.
        ours: does the work, and returns how many units it has done.
        baseline: does the same work another way.
        limit: units a second that the machine allows.
        rounds: of both, at most.
        seconds: no round begins once they are over.
        warm: whether a round comes first that does not count.
        timed: ours and baseline return units a second, which they have measured themselves.
    """
    rates: dict[str, list[float]] = {"ours": [], "baseline": []}
    start = time.perf_counter()
    for turn in range(rounds + warm):
        if turn > warm and time.perf_counter() - start > seconds:
            break
        for side, work in (("ours", ours), ("baseline", baseline)):
            begin = time.perf_counter()
            done = work()
            if turn or not warm:
                if not timed:
                    done /= time.perf_counter() - begin
                rates[side].append(done)
    a, b = statistics.median(rates["ours"]), statistics.median(rates["baseline"])
    ranges = {side: (min(values), max(values)) for side, values in rates.items()}
    return Row(name, a, b, unit, a / b, limit and a / limit, ranges["ours"], ranges["baseline"])


HEAD = f"{'':22}{'ours':>12}{'range':>22}{'baseline':>12}{'range':>20}{'ratio':>8}{'of limit':>10}  unit"


def line(row: Row) -> str:
    """Returns the row as a line of the table whose header is HEAD."""
    share = "" if row.limit_share is None else f"{row.limit_share:.2f}"
    ours, baseline = (f"{low:,.0f}..{high:,.0f}" for low, high in (row.ours_range, row.baseline_range))
    medians = f"{row.name:22}{row.ours:12,.0f}{ours:>22}{row.baseline:12,.0f}{baseline:>20}"
    return f"{medians}{row.ratio:8.2f}{share:>10}  {row.unit}"
