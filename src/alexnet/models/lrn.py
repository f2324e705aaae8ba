"""Local response normalisation (paper, section 3.3) by every definition of it, exact, with an analytic gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from alexnet.checks import flag, integer, number, one_of

# Positions (pixels of all pictures together) worked on at a time, so that the intermediates stay in the cache.
# On two AVX-512 cores 1,024 to 4,096 are alike, and half the time of the whole batch at once.
CHUNK = 2048


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
    torch.nn.LocalResponseNorm, whose defaults it shares. In bfloat16 the sum is kept in that precision, and everything
    after it is computed in float32; in float16 the sum is float32 too, since squares overflow there above 256.

    Raises:
        ValueError: for a constant out of range.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        divide_alpha: bool = True,
        window: str = "channels",
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.size = integer("size", size, 1, 2**16)
        self.alpha = number("alpha", alpha, 0, 1000)
        self.beta = number("beta", beta, 0, 5)
        self.k = number("k", k, 1e-6, 1000)
        self.divide_alpha = flag("divide_alpha", divide_alpha)
        self.window = one_of("window", window, WINDOWS)
        self.groups = integer("groups", groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.groups:
            raise ValueError(f"groups={self.groups}: must divide the input's {x.shape[1]} channels")
        values = self.size**2 if self.window == "map" else self.size
        alpha = self.alpha / values if self.divide_alpha else self.alpha
        with torch.autocast(x.device.type, enabled=False):  # it would round the sums of float32 input to bfloat16
            if self.window == "map":
                return _over_map(x, self.size, alpha, self.beta, self.k)
            band = _band(x, self.size, self.groups, self.window == "own")
            return _LRN.apply(x, band, alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        constants = f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, divide_alpha={self.divide_alpha}"
        return f"{constants}, window={self.window}, groups={self.groups}"


def make_norm(*constants: Any) -> Callable[[], LocalResponseNorm]:
    """What makes layers with these constants. Raises ValueError for one that is out of range, as a network's lrn_*."""
    norm = partial(LocalResponseNorm, *constants)
    try:
        norm()
    except ValueError as error:
        raise ValueError(f"lrn_{error}") from None
    return norm


def _over_map(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    squares = x.to(torch.promote_types(x.dtype, torch.float32)).square()
    before, after = size // 2, (size - 1) // 2
    total = avg_pool2d(pad(squares, (before, after, before, after)), size, stride=1, divisor_override=1)
    return (x * (k + alpha * total).pow(-beta)).to(x.dtype)


class _LRN(torch.autograd.Function):
    """With d = k + alpha * (window sum of x^2):  y = x d^-beta,  and for the gradient g of y

        dx_i = g_i d_i^-beta - 2 alpha beta x_i * sum over windows j that hold i of g_j x_j d_j^(-beta - 1).

    Only x is saved; d is computed again in the backward pass, which is cheaper than keeping it.
    The window sum is a product with a C x C matrix that holds a band of ones: over channels-last memory that is one
    matrix multiplication, which needs no compiler and costs 1% of AlexNet's arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor, alpha: float, beta: float, k: float) -> Tensor:
        ctx.save_for_backward(x, band)
        ctx.constants = alpha, beta, k
        rows = _rows(x)
        y = torch.empty_like(rows)
        for a, out in zip(_pieces(rows), _pieces(y), strict=True):
            scale, _ = _scale(a, band, alpha, beta, k)
            torch.mul(a, scale, out=out) if a.dtype == scale.dtype else out.copy_(scale.mul_(a))
        return _unrows(y, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, band = ctx.saved_tensors
        alpha, beta, k = ctx.constants
        rows, grad_rows = _rows(x), _rows(grad)
        grad_x = torch.empty_like(rows)
        for a, g, out in zip(_pieces(rows), _pieces(grad_rows), _pieces(grad_x), strict=True):
            scale, d = _scale(a, band, alpha, beta, k)
            scale = scale.mul_(g)
            inner = (scale * a).div_(d).to(band.dtype) @ band.T
            out.copy_(scale.addcmul_(inner.to(d.dtype), a.to(d.dtype), value=-2 * alpha * beta))
        return _unrows(grad_x, x), None, None, None, None


def _scale(a: Tensor, band: Tensor, alpha: float, beta: float, k: float) -> tuple[Tensor, Tensor]:
    """d^-beta and d for rows of channels, in float32 at least."""
    d = (a.to(band.dtype).square() @ band).to(torch.promote_types(a.dtype, torch.float32)).mul_(alpha).add_(k)
    if beta == 0.75:  # two roots cost a fifth of a power
        r = d.rsqrt()
        return r.sqrt().mul_(r), d
    return d.pow(-beta), d


def _band(x: Tensor, size: int, groups: int, own: bool) -> Tensor:
    """(C, C) of ones where channel j (row) lies in the window of channel c (column), as torch places an even one. With
    `own` they are all moved to c itself.
    """
    c = torch.arange(x.shape[1], device=x.device)
    distance, group = c[:, None] - c[None, :], c // (x.shape[1] // groups)
    inside = (distance >= -(size // 2)) & (distance <= (size - 1) // 2) & (group[:, None] == group[None, :])
    return (inside.sum(0).diag() if own else inside).to(torch.float32 if x.dtype == torch.float16 else x.dtype)


def _rows(x: Tensor) -> Tensor:
    """(N, C, ...) as rows of channels, (positions, C): a view where x is channels-last."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _unrows(rows: Tensor, like: Tensor) -> Tensor:
    n, c, *space = like.shape
    return rows.view(n, *space, c).movedim(-1, 1)


def _pieces(rows: Tensor) -> tuple[Tensor, ...]:
    whole = rows.device.type != "cpu" or torch.compiler.is_compiling()
    return (rows,) if whole else rows.split(CHUNK)
