"""Local response normalisation, forward and backward, against torch's."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from alexnet.bench.limits import copy_rate
from alexnet.bench.measure import Row, compare
from alexnet.models.lrn import LocalResponseNorm

PASSES = 5  # over memory: x and y forward, x, the gradient of y and that of x backward


def measure(batch: int = 64, rounds: int = 5, side: int | None = None) -> Iterator[Row]:
    """At AlexNet's two places. torch's has the layout it is at its best in, NCHW; ours channels-last. The bf16 rows are
    against ours in float32, since torch's has no bfloat16 on the CPU.
    """
    bytes_a_second = copy_rate()
    for channels, place in ((96, 55), (256, 27)):
        x, grad = torch.randn(2, batch, channels, side or place, side or place).unbind(0)
        ours, peer = LocalResponseNorm(5, 5e-4, k=2.0), nn.LocalResponseNorm(5, 5e-4, k=2.0)
        last, last_grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
        single = partial(_both_ways, ours, last, last_grad)
        limit = bytes_a_second / (PASSES * x[0].numel() * 4)
        name = f"{channels}x{place}x{place}"
        yield compare(f"lrn_{name}", "images/s", single, partial(_both_ways, peer, x, grad), limit, rounds)
        half = partial(_both_ways, ours, last.bfloat16(), last_grad.bfloat16())
        yield compare(f"lrn_bf16_{name}", "images/s", half, single, 2 * limit, rounds)


def _both_ways(norm: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> int:
    norm(x.detach().requires_grad_()).backward(grad)
    return len(x)
