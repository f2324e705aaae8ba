"""Local response normalisation as one operation of torch: its formula, its gradient, and fast kernels.

Only models/lrn.py uses it. The compiled kernel (ops/lrn) is optional.
"""

import logging
import math
from collections.abc import Callable
from functools import cache
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, library
from torch.nn.functional import pad

from alexnet.ops.lrn import kernel

log = logging.getLogger("alexnet")

NUMBERS = count()
# Positions (pixels of all images together) worked on at a time, so that the intermediates stay in the cache.
CHUNK = 2048

# With d = k + alpha * (window sum of x^2):  y = x d^-beta,  and for the gradient g of y
#
#     dx_i = g_i d_i^-beta - 2 alpha beta x_i * sum over windows j that hold i of g_j x_j d_j^(-beta - 1).
#
# Only x is saved; d is computed again in the backward pass, which is cheaper than keeping it.


@library.custom_op("alexnet::lrn", mutates_args=())
def lrn(x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int, window: str) -> Tensor:
    """Returns y of x (N, C, ...). alpha multiplies the sum. torch.compile and autocast see one operation."""
    rows = _rows(x, groups, window)
    if window != "own" and kernel.is_supported(rows, size):
        return _unrows(kernel.run(rows, None, size, alpha, beta, k), x)
    return _unrows(_formula(_forward, (rows,), size, alpha, beta, k, window), x)


@library.custom_op("alexnet::lrn_backward", mutates_args=())
def lrn_backward(
    grad: Tensor, x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int, window: str
) -> Tensor:
    """Returns the gradient of x, (N, C, ...), from that of y."""
    rows, grads = _rows(x, groups, window), _rows(grad, groups, window)
    if window != "own" and kernel.is_supported(rows, size):
        return _unrows(kernel.run(rows, grads, size, alpha, beta, k), x)
    return _unrows(_formula(_backward, (rows, grads), size, alpha, beta, k, window), x)


@lrn.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return _unrows(x.new_empty(x.numel() // x.shape[1], x.shape[1]), x)


@lrn_backward.register_fake
def _(grad: Tensor, x: Tensor, *_: Any) -> Tensor:
    return _unrows(x.new_empty(x.numel() // x.shape[1], x.shape[1]), x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    return lrn_backward(grad, x, *ctx.constants), *(None for _ in ctx.constants)


lrn.register_autograd(_gradient, setup_context=_keep)


def formula(x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int, window: str) -> Tensor:
    """Returns y of x (N, C, ...) by operations that other programs have, for torch.export."""
    return _unrows(_forward(_rows(x, groups, window), size, alpha, beta, k, window), x)


def _formula(
    of: Callable[..., Tensor], rows: tuple[Tensor, ...], size: int, alpha: float, beta: float, k: float, window: str
) -> Tensor:
    """Computes the formula in plain PyTorch, for any type and device.

    On a GPU compiled into one kernel; on the CPU by pieces, so that what lies between stays in the cache.
    """
    with torch.autocast(rows[0].device.type, enabled=False):
        if rows[0].device.type == "cuda":
            return _fused(of, size, alpha, beta, k, window)(*rows)
        out = torch.empty_like(rows[0])
        positions = math.prod(out.shape[1:-1])  # of one row: 1, or those of a map
        for *pieces, to in zip(*(r.split(max(1, CHUNK // positions)) for r in (*rows, out)), strict=True):
            to.copy_(of(*pieces, size, alpha, beta, k, window))
        return out


class Fused:
    """The formula and its constants, compiled by torch.compile into one kernel.

    Where torch cannot compile, for want of Triton or of a C compiler, a line says so once, and the formula is computed
    operation by operation.
    """

    cannot = False  # in this process

    def __init__(self, of: Callable[..., Tensor], constants: tuple[Any, ...]) -> None:
        def plain(*rows: Tensor) -> Tensor:
            return of(*rows, *constants)

        # torch.compile keeps 8 variants of a code object, and computes any further one operation by operation, without
        # a word. A study of lrn_size or lrn_alpha has as many, so each has a code object of its own.
        code = plain.__code__.replace(co_name=f"lrn_{next(NUMBERS)}")
        own = FunctionType(code, plain.__globals__, code.co_name, None, plain.__closure__)
        self.plain, self.compiled, self.worked = plain, torch.compile(own, dynamic=True), False

    def __call__(self, *rows: Tensor) -> Tensor:
        if not Fused.cannot:
            try:
                out: Tensor = self.compiled(*rows)
                self.worked = True
                return out
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of each part of the compiler a kind of its own
                if self.worked:
                    raise
                Fused.cannot = True
                why = " ".join(str(error).split())[:200]
                log.warning("LRN is not compiled on this GPU (%s), and takes several times as long", why)
        return self.plain(*rows)


@cache
def _fused(of: Callable[..., Tensor], *constants: Any) -> Fused:
    return Fused(of, constants)


def _forward(x: Tensor, size: int, alpha: float, beta: float, k: float, window: str) -> Tensor:
    a = x.to(torch.promote_types(x.dtype, torch.float32))
    d = k + alpha * _sum(a.square(), size, window, size // 2)
    return (a * _power(d, beta)).to(x.dtype)


def _backward(x: Tensor, grad: Tensor, size: int, alpha: float, beta: float, k: float, window: str) -> Tensor:
    a, g = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (x, grad))
    d = k + alpha * _sum(a.square(), size, window, size // 2)
    scaled = g * _power(d, beta)
    others = _sum(scaled * a / d, size, window, size - 1 - size // 2)
    return (scaled - 2 * alpha * beta * a * others).to(x.dtype)


def _power(d: Tensor, beta: float) -> Tensor:
    """Returns d^-beta; for the paper's beta by square roots, which are several times faster."""
    if beta != 0.75:
        return d.pow(-beta)
    root = d.rsqrt()
    return root * root.sqrt()


def _sum(values: Tensor, size: int, window: str, before: int) -> Tensor:
    """Sums the window of every value. It begins `before` the value and is cut off at the ends.

    Values are (positions, C), or for windows of a map (N, H, W, C). With own, the sum is the channel's own value as
    many times as its window, as torch places an even one, has values.
    """
    if window == "map":
        return _slide(_slide(values, size, before, 1), size, before, 2)
    if window == "channels":
        return _slide(values, size, before, 1)
    c = values.shape[1]
    first = torch.arange(c, device=values.device) - size // 2
    return values * ((first + size).clamp(max=c) - first.clamp(min=0))


def _slide(values: Tensor, size: int, before: int, axis: int) -> Tensor:
    """Sums windows along one axis."""
    n, behind = values.shape[axis], values.ndim - 1 - axis
    wide = pad(values, (*(0, 0) * behind, before, size - 1 - before))
    if size > 16:
        return wide.unfold(axis, size, 1).sum(-1)
    total = wide.narrow(axis, 0, n)
    for j in range(1, size):
        total = total + wide.narrow(axis, j, n)
    return total


def _rows(x: Tensor, groups: int, window: str) -> Tensor:
    """Returns (N, C, ...) as contiguous rows of a group's channels; for windows of a map as (N, H, W, C).

    It is a view where x is channels-last.
    """
    last = x.movedim(1, -1)
    if window != "map":
        last = last.reshape(-1, x.shape[1] // groups)
    return last.contiguous()


def _unrows(rows: Tensor, like: Tensor) -> Tensor:
    n, c, *space = like.shape
    return rows.view(n, *space, c).movedim(-1, 1)
