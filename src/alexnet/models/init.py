"""Initial weights, each layer from its own stream of random numbers."""

from collections.abc import Callable

import torch
from torch import nn

from alexnet.rng import stream


def init_weights(network: nn.Module, rule: Callable[[str, nn.Module], tuple[float, float]]) -> None:
    """Gives every convolution and linear layer weights from N(0, std) and one value for all its biases.

    `rule(name, layer)` says (std, bias). The global generator gives one number for the whole network, and each
    layer draws from a stream of (that number, its own name): with the same torch.manual_seed, the layers that two
    variants of a network share start from the same weights, whatever else was switched on or off.
    """
    seed = int(torch.randint(2**62, ()))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std, bias = rule(name, layer)
            with torch.no_grad():  # drawn on the CPU, so that the device does not change the weights
                draw = torch.empty(layer.weight.shape, device="cpu").normal_(0, std, generator=stream(seed, name))
                layer.weight.copy_(draw)
                if layer.bias is not None:
                    layer.bias.fill_(bias)
