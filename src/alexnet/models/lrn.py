"""Local response normalisation (paper, section 3.3), in all its definitions, exact, with an analytic gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from alexnet.errors import ArgumentError
from alexnet.models.lrn_operation import formula, lrn
from alexnet.validation import check_bool, check_choice, check_float, check_int

WINDOWS = ("channels", "own", "map")


class LocalResponseNorm(nn.Module):
    """b_c = a_c / (k + alpha * sum of a_j^2 over a window)^beta.

    Args:
        size: side of the window, which is cut off at the first and last channel, or at the edge of the map.
        alpha, beta, k: the constants of the formula.
        divide_alpha: divide alpha by the number of values in a whole window, as torch.nn.LocalResponseNorm and the 2012
            source (layer.py) do. The paper and the slides print the formula without that division.
        window: channels: `size` neighbouring channels at the same place. own: as many times the channel's own square
            in place of its neighbours', which is the slides' simplified form. map: size x size places in the same map,
            the 2012 source's second kind.
        groups: a window of channels never leaves its group: on two GPUs each normalised its own tower.

    Input and output: (N, C, H, W), or any (N, C, ...) but for map, floating point. With `divide_alpha` it equals
    torch.nn.LocalResponseNorm, whose defaults it shares. Whatever the type, it is computed in float32 at least.
    On the CPU, float32 and bfloat16 go through lrn.c where there is a C compiler; channels-last input is not copied.

    Raises:
        ArgumentError: for a constant out of range.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        divide_alpha: bool = True,
        window: str = "channels",
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.size = check_int("size", size, 1, 2**16)
        self.alpha = check_float("alpha", alpha, 0, 1000)
        self.beta = check_float("beta", beta, 0, 5)
        self.k = check_float("k", k, 1e-6, 1000)
        self.divide_alpha = check_bool("divide_alpha", divide_alpha)
        self.window = check_choice("window", window, WINDOWS)
        self.groups = check_int("groups", groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.groups:
            raise ArgumentError(f"groups={self.groups}: must divide the input's {x.shape[1]} channels")
        if self.window == "map" and x.ndim != 4:
            raise ArgumentError(f"window=map: needs images (N, C, H, W), and this is {tuple(x.shape)}")
        values = self.size**2 if self.window == "map" else self.size
        alpha = self.alpha / values if self.divide_alpha else self.alpha
        operation = formula if torch.compiler.is_exporting() else lrn  # no other program has lrn's own operations
        out: Tensor = operation(x, self.size, alpha, self.beta, self.k, self.groups, self.window)
        return out

    def extra_repr(self) -> str:
        constants = f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, divide_alpha={self.divide_alpha}"
        return f"{constants}, window={self.window}, groups={self.groups}"


def make_norm(**constants: Any) -> Callable[[], LocalResponseNorm]:
    """Returns a function that makes layers with these constants. Raises ArgumentError for one out of range."""
    norm = partial(LocalResponseNorm, **constants)
    try:
        norm()
    except ValueError as error:
        raise ArgumentError(f"lrn_{error}") from None
    return norm
