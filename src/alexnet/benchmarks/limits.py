"""Measures what the machine can do at most: matrix products and memory copies."""

import statistics
import time
from collections.abc import Callable

import torch

CPU = torch.device("cpu")


def matmul_rate(dtype: torch.dtype, size: int = 2048, device: torch.device = CPU) -> float:
    """Returns the FLOP per second of a square matrix product with every core; a multiply-add counts as two."""
    a, b = torch.randn(2, size, size).to(device, dtype).unbind(0)
    return 2 * size**3 / _median(lambda: a @ b, device)


def copy_rate(size: int = 2**28, device: torch.device = CPU) -> float:
    """Returns the bytes read plus written per second when every core copies that many bytes."""
    a, b = torch.zeros(2, size, dtype=torch.uint8, device=device).unbind(0)
    return 2 * size / _median(lambda: b.copy_(a), device)


def wait(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _median(work: Callable[[], object], device: torch.device = CPU, rounds: int = 5) -> float:
    times = []
    for turn in range(rounds + 1):
        begin = time.perf_counter()
        work()
        wait(device)
        if turn:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
