"""Collects what the last hidden layer of any network gives."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def capture_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the last hidden layer's activations (N, D) in float32, a tensor for each forward pass.

    They are what the last linear layer to run is given, of AlexNet fc7 after its ReLU. Where that is a row for each of
    several places in an image, they follow one another. Of a network without such a layer nothing is collected.
    """
    collected: list[Tensor] = []
    latest: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        latest[:] = given[:1]

    def collect(module: nn.Module, given: tuple[Tensor, ...], output: Any) -> None:
        if latest and len(latest[0]) == len(given[0]):
            collected.append(latest[0].detach().float().flatten(1))
        latest.clear()

    with ExitStack() as stack:
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                stack.callback(layer.register_forward_pre_hook(keep).remove)
        stack.callback(network.register_forward_hook(collect).remove)
        yield collected
