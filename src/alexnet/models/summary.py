"""A network layer by layer: shapes, parameters, and arithmetic to stand beside its accuracy."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """One layer. flops: floating-point operations of one forward pass of one image, two for each multiply-add of
    convolutions and linear layers; what comes between them counts as 0, as the literature has it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


def summarize(network: nn.Module, example: Tensor) -> list[Row]:
    """Every layer that `example` (1, C, H, W) passes through, in that order."""
    rows: list[Row] = []
    names = {layer: name for name, layer in network.named_modules() if not list(layer.children())}

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(p.numel() for p in layer.parameters())
        flops = 0
        if isinstance(layer, nn.Conv2d | nn.Linear):
            flops = 2 * output.numel() * math.prod(layer.weight.shape[1:])
        rows.append(Row(names[layer], type(layer).__name__, tuple(output.shape[1:]), parameters, flops))

    hooks = [layer.register_forward_hook(note) for layer in names]
    training = network.training
    with torch.no_grad():
        network.eval()(example)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return rows


def table(rows: list[Row]) -> str:
    """The rows as text, with their sum."""
    lines = [f"{'layer':22}{'':20}{'output':>16}{'parameters':>14}{'MFLOP':>10}"]
    for row in [*rows, Row("total", "", (), sum(r.parameters for r in rows), sum(r.flops for r in rows))]:
        shape = " x ".join(map(str, row.shape))
        parameters = f"{row.parameters:,}" if row.parameters else ""
        flops = f"{row.flops / 1e6:,.1f}" if row.flops else ""
        lines.append(f"{row.name:22}{row.kind:20}{shape:>16}{parameters:>14}{flops:>10}".rstrip())
    return "\n".join(lines)
