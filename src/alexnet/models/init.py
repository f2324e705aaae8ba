"""Initial weights that depend only on the seed and the layer's name, whatever else a network has."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from alexnet.rng import generator

# Operations of torch and torch.nn.init that fill a tensor with random numbers.
DRAWS_IN_PLACE = {
    *("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"),
    *("trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"),
}


def init_weights(
    network: nn.Module,
    rule: Callable[[str, nn.Module], tuple[float, float]],
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.Linear),
) -> None:
    """Initialises every layer of these kinds: weights from N(0, std), and one value for all biases.

    `rule(name, layer)` says (std, bias). The global generator gives one number for the whole network, and each
    layer draws from a stream of (that number, its own name): with the same torch.manual_seed, the layers that two
    variants of a network share start from the same weights, whatever else was switched on or off.

    Layers on the meta device, which costs no useless draw, come to the default device; those that the rule is not
    for start as their own reset_parameters has it.

    Raises:
        TypeError: for a layer on the meta device that has parameters or buffers and no reset_parameters.
    """
    if torch.get_default_device().type == "meta":  # shapes are asked for, and no weights
        return
    seed = int(torch.randint(2**62, ()))
    for name, layer in network.named_modules():
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        meta = any(tensor.is_meta for tensor in own)
        if meta:
            layer.to_empty(device=torch.get_default_device(), recurse=False)
        if isinstance(layer, kinds):
            std, biases = rule(name, layer)
            weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, layer.bias)
            with torch.no_grad():  # drawn on the CPU, so that the device does not change the weights
                weight.copy_(torch.empty(weight.shape, device="cpu").normal_(0, std, generator=generator(seed, name)))
                if bias is not None:
                    bias.fill_(biases)
        elif meta:
            if not hasattr(layer, "reset_parameters"):
                raise TypeError(f"{name} is on the meta device, and a {type(layer).__name__} has no reset_parameters")
            layer.reset_parameters()


def kaiming(name: str, layer: nn.Module) -> tuple[float, float]:
    """Returns N(0, sqrt(2 / fan_in)) and no bias (He, Zhang, Ren and Sun, ICCV 2015): a rule for `init_weights`."""
    weight = cast(Tensor, layer.weight)
    fan_in = cast(int, getattr(layer, "fan_in", weight[0].numel()))  # a layer of another layout says it itself
    return math.sqrt(2 / fan_in), 0.0


def with_named_seeds(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Returns the network that `make` makes, each parameter drawn by a generator of (seed, its own name).

    Torch initialises layers one after the other from one generator, so that one more layer changes the weights of all
    that follow. So the network is made twice: once to see which tensor every draw fills, and, if these are parameters
    or buffers, once more with a generator for each. How the weights are distributed remains the network's own matter.
    A parameter that is computed from a draw, such as 0.02 * torch.randn(n), comes from the global generator as
    torch.manual_seed(seed) sets it.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        with _Draws() as first:
            network = make()
        names = first.names(network)
        if not any(names):  # it has drawn for each parameter itself, as init_weights does
            return network
        torch.manual_seed(seed)
        with _Draws(seed, names):
            return make()


class _Draws(TorchFunctionMode):
    """Records which tensor each in-place draw fills; with names, draws for each from its own generator.

    Args:
        names: for every draw, the parameter or buffer that it is for; None draws from the global generator.
    """

    def __init__(self, seed: int = 0, names: Sequence[str | None] = ()) -> None:
        super().__init__()
        self.seed, self.next_names = seed, iter(names)
        self.filled: list[Tensor] = []  # alive, so that no storage's address is used again
        self.drawn: Counter[str] = Counter()  # of every name

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(function, "__name__", "") in DRAWS_IN_PLACE and kwargs.get("generator") is None:
            filled = args[0] if args else kwargs["tensor"]
            self.filled.append(filled)
            name = next(self.next_names, None)
            if name is not None:
                kwargs["generator"] = generator(self.seed, f"{name}/{self.drawn[name]}")
                self.drawn[name] += 1
        return function(*args, **kwargs)

    def names(self, network: nn.Module) -> list[str | None]:
        """Returns for every draw the first parameter or buffer whose storage it fills.

        It is None for one that a later draw overwrites.
        """
        name_of: dict[int, str] = {}
        for name, tensor in reversed([*network.named_parameters(), *network.named_buffers()]):
            name_of[tensor.untyped_storage().data_ptr()] = name
        last = {(tensor.data_ptr(), tensor.numel()): draw for draw, tensor in enumerate(self.filled)}
        found: list[str | None] = [None] * len(self.filled)
        for draw in last.values():
            found[draw] = name_of.get(self.filled[draw].untyped_storage().data_ptr())
        return found
