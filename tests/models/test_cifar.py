import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

from alexnet.models import CifarNet
from alexnet.models.base import Network


def pooled(x: Tensor, kind: str) -> Tensor:
    """cuda-convnet's, window by window: 3x3 with stride 2, cut off at the right and the lower edge."""
    outputs = math.ceil((x.shape[-1] - 3) / 2) + 1
    rows = []
    for i in range(outputs):
        cells = [x[..., 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].flatten(-2) for j in range(outputs)]
        rows.append(torch.stack([cell.amax(-1) if kind == "max" else cell.mean(-1) for cell in cells], -1))
    return torch.stack(rows, -2)


def normalised(x: Tensor, size: int = 3, alpha: float = 5e-5) -> Tensor:
    """Its rnorm: a / (1 + alpha / 9 * sum of a^2 over 3x3 places of the same map)^0.75."""
    y = torch.empty_like(x)
    for i in range(x.shape[-2]):
        for j in range(x.shape[-1]):
            window = x[..., max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            y[..., i, j] = x[..., i, j] / (1 + alpha / size**2 * window.square().sum((-2, -1))) ** 0.75
    return y


@pytest.mark.parametrize(("channels", "size"), [(3, 24), (1, 27)])
def test_equals_the_file_written_out_by_hand(channels: int, size: int) -> None:
    network = CifarNet(7, channels, size).double()
    x = 100 * torch.randn(2, channels, size, size, dtype=torch.float64)  # so that the norms have something to do
    w = dict(network.named_parameters())

    def layer(name: str) -> list[Tensor]:
        return [w[f"{name}.weight"], w[f"{name}.bias"]]

    y = normalised(pooled(conv2d(x, *layer("features.conv1"), padding=2), "max").relu())
    y = normalised(pooled(conv2d(y, *layer("features.conv2"), padding=2).relu(), "mean"))
    y = pooled(conv2d(y, *layer("features.conv3"), padding=2).relu(), "mean")
    torch.testing.assert_close(network(x), linear(y.flatten(1), *layer("classifier.fc4")))


def test_shapes_and_parameters() -> None:
    for overlapping in (True, False):
        network, seen = CifarNet(overlapping_pooling=overlapping), []
        for layer in network.features.children():
            layer.register_forward_hook(lambda _, __, output, seen=seen: seen.append(tuple(output.shape[1:])))
        network(torch.zeros(1, 3, 24, 24))
        assert list(dict.fromkeys(seen)) == [(32, 24, 24), (32, 12, 12), (32, 6, 6), (64, 6, 6), (64, 3, 3)]
        assert sum(p.numel() for p in network.parameters()) == 32 * 76 + 32 * 801 + 64 * 801 + 10 * (64 * 9 + 1)


def test_channels() -> None:
    network = CifarNet(channels=[8, 12, 5])
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    assert shapes == [(8, 3, 5, 5), (12, 8, 5, 5), (5, 12, 5, 5), (10, 5 * 9)]
    assert network(torch.zeros(1, 3, 24, 24)).shape == (1, 10)


def test_batch_norm() -> None:
    """After each convolution; the weights that both have are the same."""
    torch.manual_seed(0)
    plain = CifarNet().state_dict()
    torch.manual_seed(0)
    network = CifarNet(batch_norm=True)
    assert [name for name, _ in network.features.named_children()] == [
        *("conv1", "bn1", "pool1", "act1", "norm1"),
        *("conv2", "bn2", "act2", "pool2", "norm2"),
        *("conv3", "bn3", "act3", "pool3"),
    ]
    state = network.state_dict()
    assert all(torch.equal(plain[name], state[name]) for name in plain if name != "_extra_state")
    with pytest.raises(ValueError, match="batch_norm is True there and None here"):
        CifarNet().load_state_dict(state)
    y = network.features[:2](torch.randn(9, 3, 24, 24) * 100 + 30)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(32), atol=1e-3, rtol=0)


def test_initial_weights() -> None:
    for init, stds in (("2012", [1e-4, 0.01, 0.01, 0.01]), ("kaiming", [(2 / n) ** 0.5 for n in (75, 800, 800, 576)])):
        weights = [p for p in CifarNet(init=init).parameters() if p.ndim > 1]
        assert [float(p.std()) for p in weights] == pytest.approx(stds, rel=0.06)
        assert not any(p.any() for p in CifarNet(init=init).parameters() if p.ndim == 1)


@pytest.mark.parametrize(
    "variant",
    [{"lrn": False}, {"lrn_window": "channels"}, {"lrn_window": "own"}, {"lrn_size": 5}, {"lrn_divide_alpha": False},
     {"activation": "tanh"}, {"activation": "sigmoid"}, {"overlapping_pooling": False}],
    ids=str,
)  # fmt: skip
def test_every_toggle_changes_the_output_and_no_weights(variant: dict[str, Any]) -> None:
    check_toggle(CifarNet, variant)


def check_toggle(make: Callable[..., Network], variant: dict[str, Any]) -> None:
    """A variant has the weights of the plain network, and other outputs; and neither takes the other's weights."""
    networks = []
    for arguments in ({}, variant):
        torch.manual_seed(0)
        networks.append(make(**arguments))
    plain, other = networks
    for (name, a), (same, b) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(a, b)
    x = 100 * torch.randn(2, 3, 24, 24)
    assert not torch.allclose(plain(x), other(x), rtol=1e-3)
    with pytest.raises(ValueError, match=f"another variant: .*{next(iter(variant))} is"):
        plain.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 7}, "image_size=7: must be a whole number of at least 8"), ({"lrn_alpha": -1}, "lrn_alpha=-1"),
     ({"lrn_window": "tower"}, "lrn_window=tower: must be one of channels, own, map"),
     ({"channels": [32, 64]}, r"channels=\[32, 64\]: must be three"), ({"channels": 64}, "channels=64: must be three"),
     ({"channels": [32, 0, 64]}, "channels=0: must be a whole number"),
     ({"init": "paper"}, "init=paper"), ({"lrn": 1}, "lrn=1"), ({"batch_norm": "on"}, "batch_norm=on"),
     ({"activation": "gelu"}, "activation=gelu")],
)  # fmt: skip
def test_values_that_fit_no_layer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CifarNet(**arguments)
