"""AlexNet's two towers on two devices, as on the two GPUs of 2012 (paper, section 3.2 and figure 2)."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils import skip_init

from alexnet.errors import ArgumentError
from alexnet.models.lrn import LocalResponseNorm

Halves = tuple[Tensor, Tensor]


def check_devices(devices: Any) -> None:
    """Raises ArgumentError unless `devices` names two devices that are here."""
    shown = list(devices) if isinstance(devices, list | tuple) else devices
    if not isinstance(shown, list) or len(shown) != 2:
        raise ArgumentError(
            f"devices={shown}: must be two, one for each tower, such as [cuda:0,cuda:1]; null: no split"
        )
    for name in shown:
        try:
            torch.empty(1, device=name)
        except (RuntimeError, AssertionError, TypeError) as error:
            why = str(error).splitlines()[0].rstrip(".")
            raise ArgumentError(f"devices={shown}: no {name} here ({why:.100}); this machine has {_here()}") from None


def _here() -> str:
    kind = torch.accelerator.current_accelerator()
    return ", ".join(["cpu", *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))])


def split(features: nn.Sequential, classifier: nn.Sequential, devices: Sequence[str]) -> tuple[nn.Sequential, ...]:
    """Returns the same network with each layer in two halves.

    Activations cross over where a layer sees both towers: to conv3 and to the fully connected layers. fc8 is whole, on
    the first device. Keys of the state dict stay as they are.

    Raises:
        ArgumentError: for a layer that cannot be halved.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(split=Split(devices))
    for name, layer in features.named_children():
        sees_both = isinstance(layer, nn.Conv2d) and layer.groups == 1 and name != "conv1"
        layers[name] = _halved(name, layer, devices, sees_both=sees_both)
    *others, (last_name, last) = classifier.named_children()
    linear: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in others:
        linear[name] = _halved(name, layer, devices, sees_both=isinstance(layer, nn.Linear))
    return nn.Sequential(layers), nn.Sequential(linear | {"join": Join(), last_name: last.to(devices[0])})


def _halved(name: str, layer: nn.Module, devices: Sequence[str], *, sees_both: bool) -> nn.Module:
    if isinstance(layer, nn.Dropout):
        return TowerDropout(layer.p)
    a, b = copy.deepcopy(layer), copy.deepcopy(layer)
    if isinstance(layer, nn.Conv2d | nn.Linear):
        if len(layer.weight) % 2:
            raise ArgumentError(f"devices: {name} has {len(layer.weight)} outputs, and the towers have half each")
        a, b = (_half(layer, i) for i in range(2))
    elif isinstance(layer, LocalResponseNorm):  # of its tower alone
        for half in (a, b):
            assert isinstance(half, LocalResponseNorm)
            half.groups = 1
    return Towers(a.to(devices[0]), b.to(devices[1]), sees_both=sees_both)


def _half(layer: nn.Conv2d | nn.Linear, i: int) -> nn.Module:
    outputs = len(layer.weight) // 2
    half: nn.Module
    if isinstance(layer, nn.Linear):
        half = skip_init(nn.Linear, layer.in_features, outputs)
    else:
        groups = max(layer.groups // 2, 1)
        channels = layer.weight.shape[1] * groups
        half = skip_init(nn.Conv2d, channels, outputs, layer.kernel_size, layer.stride, layer.padding, groups=groups)
    half.load_state_dict({key: value.chunk(2)[i] for key, value in layer.state_dict().items()})
    return half


class Split(nn.Module):
    """Copies the image to each tower's device."""

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__()
        self.devices = tuple(map(torch.device, devices))

    def forward(self, x: Tensor) -> Halves:
        a, b = self.devices
        return x.to(a), x.to(b)


class Towers(nn.Module):
    """One layer of both towers, a and b as in layers-145.cfg: (N, C / 2, ...) of each to the same of each.

    sees_both: both halves of the input go to each tower.
    """

    def __init__(self, a: nn.Module, b: nn.Module, *, sees_both: bool) -> None:
        super().__init__()
        self.a, self.b, self.sees_both = a, b, sees_both
        self.register_state_dict_post_hook(_merge)
        self.register_load_state_dict_pre_hook(_share_out)

    def forward(self, halves: Halves) -> Halves:
        a, b = halves
        if self.sees_both:
            a, b = torch.cat((a, b.to(a.device)), 1), torch.cat((a.to(b.device), b), 1)
        return self.a(a), self.b(b)


class TowerDropout(nn.Module):
    """Dropout of a layer in two halves with one mask for both.

    The generators of two GPUs, seeded alike, would drop the same units of both towers. It is the mask that the
    undivided network draws.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, halves: Halves) -> Halves:
        if not self.training:
            return halves
        a, b = halves
        mask = dropout(a.new_ones(len(a), a.shape[1] + b.shape[1]), self.p)
        return a * mask[:, : a.shape[1]], b * mask[:, a.shape[1] :].to(b.device)


class Join(nn.Module):
    """Concatenates both towers on the first one's device."""

    def forward(self, halves: Halves) -> Tensor:
        a, b = halves
        return torch.cat((a, b.to(a.device)), 1)


def _merge(layer: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}a.")]:
        name = key.removeprefix(f"{prefix}a.")
        a, b = state.pop(key), state.pop(f"{prefix}b.{name}")
        state[prefix + name] = torch.cat((a, b.to(a.device)))


def _share_out(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in ("weight", "bias"):
        if prefix + name in state:
            state[f"{prefix}a.{name}"], state[f"{prefix}b.{name}"] = state.pop(prefix + name).chunk(2)
