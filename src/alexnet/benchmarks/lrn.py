"""Compares local response normalisation, forward and backward, with torch's."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from alexnet.benchmarks.limits import CPU, copy_rate, wait
from alexnet.benchmarks.measure import Row, compare
from alexnet.models.lrn import LocalResponseNorm

PLACES = ((96, 55), (256, 27))  # channels, and side
PASSES = 5  # over memory: x and y forward, x, the gradient of y and that of x backward


def measure(
    batch: int = 64,
    rounds: int = 5,
    side: int | None = None,
    places: Sequence[tuple[int, int]] = PLACES,
    *,
    half: bool = True,
    device: torch.device = CPU,
) -> Iterator[Row]:
    """Yields rows of AlexNet's two LRN layers.

    torch's layer has the layout it is at its best in, NCHW; ours has channels-last. The bf16 rows are against ours in
    float32, since torch's has no bfloat16 on the CPU.
    """
    bytes_a_second = copy_rate(device=device)
    for channels, place in places:
        x, grad = torch.randn(2, batch, channels, side or place, side or place, device=device).unbind(0)
        ours, baseline = LocalResponseNorm(5, 5e-4, k=2.0), nn.LocalResponseNorm(5, 5e-4, k=2.0)
        last, last_grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
        single = partial(_both_ways, ours, last, last_grad)
        limit = bytes_a_second / (PASSES * x[0].numel() * 4)
        name = f"{channels}x{place}x{place}"
        yield compare(f"lrn_{name}", "images/s", single, partial(_both_ways, baseline, x, grad), limit, rounds)
        if half:
            bf16 = partial(_both_ways, ours, last.bfloat16(), last_grad.bfloat16())
            yield compare(f"lrn_bf16_{name}", "images/s", bf16, single, 2 * limit, rounds)


def measure_map(batch: int = 64, rounds: int = 5, channels: int = 32, side: int = 16) -> Iterator[Row]:
    """Yields a row for windows of a map in bfloat16, at the size of model=cifar, against torch's average pooling."""
    x, grad = torch.randn(2, batch, channels, side, side, dtype=torch.bfloat16).unbind(0)
    last, last_grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    ours = partial(_both_ways, LocalResponseNorm(3, 5e-5, window="map"), last, last_grad)
    baseline = partial(_both_ways, _over_map, last, last_grad)
    limit = copy_rate() / (PASSES * x[0].numel() * 2)
    yield compare(f"lrn_map_{channels}x{side}x{side}", "images/s", ours, baseline, limit, rounds)


def _over_map(x: Tensor) -> Tensor:
    sums = avg_pool2d(x.float().square(), 3, stride=1, padding=1)
    return (x * (1 + 5e-5 * sums).pow(-0.75)).to(x.dtype)


def measure_beside(batch: int = 64, rounds: int = 3, side: int = 55, width: float = 1.0) -> Iterator[Row]:
    """Yields the first row again while another process trains AlexNet, as two jobs of a sweep do."""
    code = f"from alexnet.benchmarks.step import ours\nstep = ours({batch}, {width})\nwhile step(): print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout
            other.stdout.readline()  # it has made its first step
            for row in measure(batch, rounds, side, places=((96, 55),), half=False):
                yield replace(row, name=f"{row.name}_beside")
        finally:
            other.kill()


def _both_ways(norm: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> int:
    norm(x.detach().requires_grad_()).backward(grad)
    wait(x.device)
    return len(x)
