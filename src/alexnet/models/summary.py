"""Summarises a network layer by layer: shapes, parameters and multiplications."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet.errors import ArgumentError
from alexnet.models.lrn import LocalResponseNorm


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name: in the network.
        kind: its class.
        shape: of its output for one image.
        parameters: their number.
        flops: floating-point operations of one forward pass of one image, two for each multiply-add of convolutions,
            linear layers and other matrix products (torch.utils.flop_counter); what comes between them counts as 0, as
            the literature has it, and so does local response normalisation.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network.

    Attributes:
        rows: the layers.
        output: of the network for the example, (1, ...).
        parameters, flops: of the whole network, which may hold more than its layers do, or use one of them several
            times.
    """

    rows: list[Row]
    output: Tensor
    parameters: int
    flops: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the network's output for one image."""
        return tuple(self.output.shape[1:])


def summarize(network: nn.Module, example: Tensor) -> Summary:
    """Returns a row for every layer that `example` (1, C, H, W) passes through, in that order.

    Raises:
        ArgumentError: for an output that is no tensor.
    """
    seen: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    names = {layer: name for name, layer in network.named_modules() if not list(layer.children())}

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Any) -> None:
        seen.append((names[layer], layer, tuple(output.shape[1:]) if isinstance(output, Tensor) else ()))

    hooks = [layer.register_forward_hook(note) for layer in names]
    training, fast = network.training, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, which the counter does not know
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = network.eval()(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        network.train(training)
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor):
        raise ArgumentError(f"gives a {type(output).__name__}; a tensor is needed, one row of logits for each image")
    counts = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
    root = type(network).__name__
    flops = {name: counts.get(f"{root}.{name}".rstrip("."), 0) for name in names.values()}
    normalisation = {name for layer, name in names.items() if isinstance(layer, LocalResponseNorm)}
    rows, shown = [], set()
    for name, layer, shape in seen:
        again = name in shown
        shown.add(name)
        parameters = 0 if again else sum(p.numel() for p in layer.parameters())
        own = 0 if again or name in normalisation else flops[name]
        rows.append(Row(name, type(layer).__name__, shape, parameters, own))
    return Summary(
        rows,
        output,
        sum(p.numel() for p in network.parameters()),
        counter.get_total_flops() - sum(flops[name] for name in normalisation),
    )


def table(summary: Summary) -> str:
    """Returns the rows as text, with the whole network's last."""
    lines = [f"{'layer':22}{'':20}{'output':>16}{'parameters':>14}{'MFLOP':>10}"]
    for row in [*summary.rows, Row("total", "", (), summary.parameters, summary.flops)]:
        shape = " x ".join(map(str, row.shape))
        parameters = f"{row.parameters:,}" if row.parameters else ""
        flops = f"{row.flops / 1e6:,.1f}" if row.flops else ""
        lines.append(f"{row.name:22}{row.kind:20}{shape:>16}{parameters:>14}{flops:>10}".rstrip())
    return "\n".join(lines)
