"""Initial weights that depend on the seed and their own name alone, whatever else a network has."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alexnet.rng import generator


def init_weights(network: nn.Module, rule: Callable[[str, nn.Module], tuple[float, float]]) -> None:
    """Initialises every convolution and linear layer: weights from N(0, std), and one value for all biases.

    `rule(name, layer)` says (std, bias). The global generator gives one number for the whole network, and each
    layer draws from a stream of (that number, its own name): with the same torch.manual_seed, the layers that two
    variants of a network share start from the same weights, whatever else was switched on or off.

    Layers on the meta device, which costs no useless draw, come to the default device; those that the rule is not
    for start as their own reset_parameters has it.

    Raises:
        TypeError: for a layer on the meta device that has parameters or buffers and no reset_parameters.
    """
    seed = int(torch.randint(2**62, ()))
    for name, layer in network.named_modules():
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        meta = any(tensor.is_meta for tensor in own)
        if meta:
            layer.to_empty(device=torch.get_default_device(), recurse=False)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std, bias = rule(name, layer)
            with torch.no_grad():  # drawn on the CPU, so that the device does not change the weights
                draw = torch.empty(layer.weight.shape, device="cpu").normal_(0, std, generator=generator(seed, name))
                layer.weight.copy_(draw)
                if layer.bias is not None:
                    layer.bias.fill_(bias)
        elif meta:
            if not hasattr(layer, "reset_parameters"):
                raise TypeError(f"{name} is on the meta device, and a {type(layer).__name__} has no reset_parameters")
            layer.reset_parameters()


def kaiming(name: str, layer: nn.Module) -> tuple[float, float]:
    """N(0, sqrt(2 / fan_in)) and no bias (He, Zhang, Ren and Sun, ICCV 2015): a rule for `init_weights`."""
    fan_in = layer.weight[0].numel()  # type: ignore[operator, index, union-attr]
    return math.sqrt(2 / fan_in), 0.0


def with_named_seeds(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that `make` gives, each parameter drawn from a stream of (seed, its own name).

    Torch initialises layers one after the other from one generator, so that a layer more changes the weights of all
    that follow. So the network is made twice: once to see which parameter every draw is for, and, if there was any,
    once more with the draws of each parameter from its own stream. How the weights are distributed remains the
    network's own matter. A draw that ends in no parameter comes from the generator as torch.manual_seed(seed) sets it.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        with _Watch() as watch:
            network = make()
        names = watch.names(network)
        if not any(names):  # it has drawn for each parameter itself, as init_weights does
            return network
        torch.manual_seed(seed)
        with _Redraw(seed, names):
            return make()


def _draws(function: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the operation takes numbers from the global generator."""
    return torch.Tag.nondeterministic_seeded in function.tags and kwargs.get("generator") is None


class _Watch(TorchDispatchMode):
    """Notes which draws every tensor is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.made_of: dict[int, set[int]] = {}  # storage: numbers of the draws
        self.alive: list[Tensor] = []  # so that no storage's address is used again

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        numbers: set[int] = set()
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                numbers |= self.made_of.get(_storage(tensor), set())
        if _draws(function, kwargs):
            numbers = {self.count}
            self.count += 1
        for tensor in tree_leaves(result) if numbers else ():
            if isinstance(tensor, Tensor):
                self.made_of[_storage(tensor)] = numbers
                self.alive.append(tensor)
        return result

    def names(self, network: nn.Module) -> list[str | None]:
        """For every draw, the first parameter or buffer that is made of it."""
        found: list[str | None] = [None] * self.count
        for name, tensor in reversed([*network.named_parameters(), *network.named_buffers()]):
            for number in self.made_of.get(_storage(tensor), ()):
                found[number] = name
        return found


class _Redraw(TorchDispatchMode):
    def __init__(self, seed: int, names: list[str | None]) -> None:
        super().__init__()
        self.seed, self.names = seed, iter(names)
        self.drawn: Counter[str] = Counter()  # of every parameter

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = next(self.names, None) if _draws(function, kwargs) else None
        if name is None:
            return function(*args, **kwargs)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(generator(self.seed, f"{name}/{self.drawn[name]}").initial_seed())
            self.drawn[name] += 1
            return function(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
