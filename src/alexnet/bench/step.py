"""One training step of AlexNet, against the network written down literally and against torchvision's."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torchvision.models import alexnet

from alexnet.bench.limits import matmul_rate
from alexnet.bench.measure import Row, compare
from alexnet.bench.script import transcription
from alexnet.models import AlexNet
from alexnet.models.summary import summarize
from alexnet.training.optim import sgd

BF16 = torch.cpu._is_avx512_bf16_supported()


def measure(batch: int = 64, rounds: int = 3, width: float = 1.0) -> Iterator[Row]:
    """Each in the precision and layout that it would be run in: ours channels-last and, where the processor has it, in
    bfloat16 with fused SGD; the others as they are usually written.
    """
    x, labels = torch.randn(batch, 3, 227, 227), torch.randint(1000, (batch,))
    last = x.contiguous(memory_format=torch.channels_last)
    network = AlexNet(width=width)
    make = partial(sgd, lr=1e-4, bias_lr=2.0, bias_decay=False)
    ours = _step(network.to(memory_format=torch.channels_last), make, last, labels, BF16)  # type: ignore[call-overload]
    limit = matmul_rate(torch.bfloat16 if BF16 else torch.float32) / flops(network)
    plain = partial(_plain_sgd, lr=1e-4)
    yield compare(
        "step_vs_transcription", "images/s", ours, _step(transcription(width), plain, x, labels), limit, rounds
    )
    yield compare("step_vs_torchvision", "images/s", ours, _step(alexnet(), plain, x, labels), limit, rounds)
    without = AlexNet(width=width, lrn=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    yield compare("lrn_cost", "images/s", ours, _step(without, make, last, labels, BF16), limit, rounds)


def flops(network: AlexNet) -> int:
    """Of a step, a picture: forward, and backward twice as much, but no gradient of the picture itself."""
    summary = summarize(network, torch.zeros(1, *network.input_shape))
    return 3 * summary.flops - summary.rows[0].flops


def _plain_sgd(network: nn.Module, lr: float) -> SGD:
    return SGD(network.parameters(), lr, momentum=0.9, weight_decay=5e-4)


def _step(
    network: nn.Module, make: Callable[[nn.Module], Optimizer], x: Tensor, labels: Tensor, half: bool = False
) -> Callable[[], int]:
    optimizer = make(network)

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = cross_entropy(network(x).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return len(x)

    return step
