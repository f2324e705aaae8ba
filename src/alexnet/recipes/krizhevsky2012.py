"""The learning rates of the 2012 log."""

import fnmatch
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from alexnet.errors import ArgumentError
from alexnet.training.optim import Schedule, split_groups
from alexnet.validation import MOST, check_float, check_int


def piecewise(
    optimizer: Optimizer,
    steps_per_epoch: int,
    total_steps: float,
    monitor: str,
    mode: str,
    changes: Sequence[Mapping[str, Any]],
) -> Schedule:
    """Multiplies rates as a log has it: after so many epochs, of the parameters with such names, by a number.

    changes: {after, of, times} of each. `of` is a pattern as fnmatch has them: "*.weight", "*conv1*", "*".
    """
    if not isinstance(changes, list | tuple) or not changes:
        raise ArgumentError(f"changes={changes}: must be a list of {{after: EPOCHS, of: PATTERN, times: FACTOR}}")
    names = [name for group in optimizer.param_groups for name in group.get("param_names", ())]
    for i, change in enumerate(changes):
        if not isinstance(change, Mapping) or set(change) != {"after", "of", "times"}:
            raise ArgumentError(f"changes.{i}={change}: must be {{after: EPOCHS, of: PATTERN, times: FACTOR}}")
        if not isinstance(change["of"], str):
            raise ArgumentError(f"changes.{i}.of={change['of']}: must be a pattern, such as '*.weight'")
        check_int(f"changes.{i}.after", change["after"], 0)
        check_float(f"changes.{i}.times", change["times"], 0, MOST)
        if not any(fnmatch.fnmatchcase(name, change["of"]) for name in names):
            raise ArgumentError(f"changes.{i}.of={change['of']}: fits none of {', '.join(names)}")

    def fits(name: str) -> tuple[int, ...]:
        return tuple(k for k, change in enumerate(changes) if fnmatch.fnmatchcase(name, change["of"]))

    def scale(mine: tuple[int, ...], done: int) -> float:
        return math.prod(changes[k]["times"] for k in mine if changes[k]["after"] <= done)

    rates: list[Callable[[int], float]] = [functools.partial(scale, mine) for mine, _ in split_groups(optimizer, fits)]
    return {"scheduler": LambdaLR(optimizer, rates), "interval": "epoch"}
