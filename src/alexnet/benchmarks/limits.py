"""What the machine allows: multiplications and memory."""

import statistics
import time
from collections.abc import Callable

import torch

CPU = torch.device("cpu")


def matmul_rate(dtype: torch.dtype, size: int = 2048, device: torch.device = CPU) -> float:
    """FLOP a second of a square matrix product with every core, a multiply-add being two."""
    a, b = torch.randn(2, size, size).to(device, dtype).unbind(0)
    return 2 * size**3 / _median(lambda: a @ b, device)


def copy_rate(size: int = 2**28, device: torch.device = CPU) -> float:
    """Bytes read plus bytes written a second, copying that many with every core."""
    a, b = torch.zeros(2, size, dtype=torch.uint8, device=device).unbind(0)
    return 2 * size / _median(lambda: b.copy_(a), device)


def wait(device: torch.device) -> None:
    """Until it has done what was asked of it."""
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
