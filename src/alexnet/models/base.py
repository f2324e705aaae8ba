"""What the networks share: their input, their variant, and errors about weights of another network."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from alexnet.errors import ArgumentError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
SHOWN = 3  # differences of each kind that an error names
EXTRA = "_extra_state"  # torch's key of what get_extra_state gives


class Network(nn.Module):
    """Base of the networks. Checks its input, and refuses weights that were trained in another variant.

    It is `features`, then `classifier`, unless it has a `forward` of its own.

    Attributes:
        input_shape: (C, H, W).
        variant: settings that the weights alone do not show, since a network without LRN has the same keys and shapes
            as one with it. They lie in the state dict, as extra state.
    """

    features: nn.Sequential
    classifier: nn.Sequential
    input_shape: tuple[int, int, int]
    variant: dict[str, Any]

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.input_shape)
        logits: Tensor = self.classifier(self.features(x))
        return logits

    def get_extra_state(self) -> dict[str, Any]:
        return self.variant

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Checks the variant of loaded weights, also inside another module. Raises ArgumentError for another one."""
        raise_mismatch(variant_differences(self, state))

    def load_state_dict(  # torch's arguments, of which booleans may come by position
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,  # noqa: FBT001, FBT002
        assign: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """As torch's, but raises ArgumentError naming the first settings and layers that differ."""
        if strict:
            check_weights(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)


def sequential(**layers: nn.Module | None) -> nn.Sequential:
    """Returns nn.Sequential of the named layers, without those that are None."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def check_input(x: Tensor, shape: tuple[int, int, int]) -> None:
    """Raises ArgumentError unless `x` is (N, *shape)."""
    if x.shape[1:] != shape:
        built_for = ", ".join(map(str, shape))
        raise ArgumentError(f"input of shape {tuple(x.shape)}: this network was built for (N, {built_for})")


def variant_differences(network: Network, state: dict[str, Any]) -> list[str]:
    """Returns what differs between a network's variant and that of saved weights, a text per setting."""
    found = []
    for key in network.variant | state:
        here, there = network.variant.get(key), state.get(key)
        if here != there:
            found.append(f"{key} is {there} there and {here} here")
    return found


def shape_differences(network: nn.Module, state: Mapping[str, Any]) -> list[str]:
    """Returns the layers in which saved weights do not fit a network, a text per layer."""
    found = []
    own = {key: value for key, value in network.state_dict().items() if key != EXTRA}
    for key, value in own.items():
        if key not in state:
            found.append(f"{key} is not there")
        elif not isinstance(state[key], Tensor) or state[key].shape != value.shape:
            found.append(f"{key} is {tuple(getattr(state[key], 'shape', ()))} there and {tuple(value.shape)} here")
    return found + [f"{key} is not here" for key in state if key not in own and key != EXTRA]


def check_weights(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Raises ArgumentError naming the first settings and layers in which these weights do not fit."""
    theirs = state.get(EXTRA)
    settings = []
    if isinstance(network, Network) and isinstance(theirs, dict):
        settings = variant_differences(network, theirs)
    raise_mismatch(settings, shape_differences(network, state))


def raise_mismatch(*found: list[str]) -> None:
    """Raises ArgumentError with the first differences of each kind, if there are any."""
    if any(found):
        shown = [difference for kind in found for difference in kind[:SHOWN]]
        more = sum(map(len, found)) - len(shown)
        if more:
            shown[-1] += f", and {more} more"
        raise ArgumentError(f"these weights belong to another variant: {', '.join(shown)}")


def last_layer(network: nn.Module) -> str:
    """Returns the name of the last layer that has weights, whose outputs are the classes."""
    return [name.rpartition(".")[0] for name, _ in network.named_parameters()][-1]


def load_weights(network: nn.Module, state: Mapping[str, Any], *, new_head: bool = False) -> None:
    """Loads a state dict; with `new_head` without the last layer, where the classes are others.

    Raises:
        ArgumentError: for weights of another network; where only the last layer differs, it offers new_head.
    """
    last = last_layer(network)
    own = network.state_dict()
    head = {key: own[key] for key in (f"{last}.weight", f"{last}.bias") if key in own}
    rest = dict(state) | head
    if shape_differences(network, state) and not shape_differences(network, rest) and not new_head:
        there, here = (len(weights[f"{last}.weight"]) for weights in (state, own))
        raise ArgumentError(
            f"these weights are for {there} classes, here are {here}: new_head=true re-initialises {last}"
        )
    check_weights(network, taken := rest if new_head else state)
    network.load_state_dict(taken)
