"""Compares one training step of AlexNet with the paper's layers in plain torch, and with torchvision's network."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torchvision.models import alexnet

from alexnet.benchmarks.limits import CPU, matmul_rate
from alexnet.benchmarks.measure import Row, compare
from alexnet.benchmarks.script import transcription
from alexnet.cores import has_bfloat16
from alexnet.models import AlexNet
from alexnet.models.summary import summarize
from alexnet.training.optim import sgd

BF16 = has_bfloat16()


def measure(batch: int = 64, rounds: int = 3, width: float = 1.0, device: torch.device = CPU) -> Iterator[Row]:
    """Yields rows of the training step, each network in the precision and layout that it would be run in.

    Ours is channels-last and, where the device has it, in bfloat16 with fused SGD; the others are as they are usually
    written.
    """
    mine = ours(batch, width, device=device)
    dtype = torch.bfloat16 if _has_bf16(device) else torch.float32
    rate = matmul_rate(dtype, device=device)
    limit = rate / flops(AlexNet(width=width))
    against = partial(compare, unit="images/s", ours=mine, limit=limit, rounds=rounds)
    yield against("step_vs_transcription", baseline=transcribed(batch, width, device))
    yield against("step_vs_torchvision", baseline=_plain(alexnet().to(device), batch, device))
    yield against("lrn_cost", baseline=ours(batch, width, lrn=False, device=device))
    if device.type == "cpu" and Path("/proc/self/status").exists():
        yield _peak_memory(batch, width)


def ours(
    batch: int, width: float = 1.0, *, lrn: bool = True, device: torch.device = CPU, compiled: bool = False
) -> Callable[[], int]:
    """Returns a training step on so many images. Calling it returns their number."""
    network = AlexNet(width=width, lrn=lrn).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        network.compile()
    optimizer = sgd(network, lr=1e-4, bias_lr_multiplier=2.0, bias_decay=False)
    x, labels = _batch(batch, device)
    x = x.contiguous(memory_format=torch.channels_last)
    return partial(_step, network, optimizer, x, labels, half=_has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    return BF16 if device.type == "cpu" else True


def transcribed(batch: int, width: float = 1.0, device: torch.device = CPU, *, half: bool = False) -> Callable[[], int]:
    """Returns a training step of the paper's layers in plain torch. Calling it returns the number of images."""
    return _plain(transcription(width).to(device), batch, device, half=half)


def _plain(network: nn.Module, batch: int, device: torch.device = CPU, *, half: bool = False) -> Callable[[], int]:
    optimizer = SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
    return partial(_step, network, optimizer, *_batch(batch, device), half=half)


def _batch(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3, 227, 227, device=device), torch.randint(1000, (size,), device=device)


def _step(network: nn.Module, optimizer: Optimizer, x: Tensor, labels: Tensor, *, half: bool) -> int:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        loss = cross_entropy(network(x).float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return len(x)


def _peak_memory(batch: int, width: float) -> Row:
    """Returns the peak memory, in MB, of a process that imports torch and makes five steps."""
    peaks = []
    for side in ("ours", "transcribed"):
        code = (
            f"from alexnet.malloc import keep_freed_memory; from alexnet.benchmarks.step import {side}\n"
            f"keep_freed_memory(); step = {side}({batch}, {width}); [step() for _ in range(5)]\n"
            "print(open('/proc/self/status').read())"  # resource.getrusage counts what forked it, too
        )
        status = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)  # type: ignore[index]
    mine, its = peaks
    return Row("peak_memory", mine, its, "MB", mine / its, None, (mine, mine), (its, its))


def flops(network: AlexNet) -> int:
    """Returns the FLOP per image of a step: forward, and twice that backward, without the gradient of the image."""
    summary = summarize(network, torch.zeros(1, *network.input_shape))
    return 3 * summary.flops - summary.rows[0].flops
