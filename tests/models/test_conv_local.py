from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, pad

from alexnet.models import ConvLocalNet
from alexnet.models.conv_local import LocallyConnected2d
from tests.models.test_cifar import check_toggle, pooled


def local(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """cuda-convnet's, place by place: at each the window around it, by a kernel and biases of its own."""
    n, channels, height, width = x.shape
    padded = pad(x, (1, 1, 1, 1))
    out = len(bias) // (height * width)
    y = x.new_empty(n, out, height, width)
    for i in range(height):
        for j in range(width):
            place = i * width + j
            kernel = weight[place].view(3, 3, channels, out).permute(3, 2, 0, 1)
            window = padded[:, :, i : i + 3, j : j + 3]
            y[:, :, i, j] = conv2d(window, kernel).flatten(1) + bias[place * out : (place + 1) * out]
    return y


def normalised(x: Tensor) -> Tensor:
    """Its rnorm over five maps: a / (1 + 0.001 / 5 * sum of a^2)^0.75."""
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        y[:, c] = x[:, c] / (1 + 1e-3 / 5 * x[:, max(c - 2, 0) : c + 3].square().sum(1)) ** 0.75
    return y


@pytest.mark.parametrize(("channels", "size"), [(3, 24), (1, 13)])
def test_equals_the_files_written_out_by_hand(channels: int, size: int) -> None:
    for lrn in (True, False):
        network = ConvLocalNet(7, channels, size, lrn=lrn).double()
        x = 100 * torch.randn(2, channels, size, size, dtype=torch.float64)  # so that the norms have something to do
        w = dict(network.named_parameters())

        def layer(name: str, w: dict[str, Any] = w) -> list[Tensor]:
            return [w[f"{name}.weight"], w[f"{name}.bias"]]

        y = conv2d(x, *layer("features.conv1"), padding=2).relu()
        y = pooled(normalised(y) if lrn else y, "max")
        y = conv2d(y, *layer("features.conv2"), padding=2).relu()
        y = pooled(normalised(y) if lrn else y, "max")
        y = local(local(y, *layer("features.local3")).relu(), *layer("features.local4")).relu()
        torch.testing.assert_close(network(x), linear(y.flatten(1), *layer("classifier.fc5")))


def test_a_layer_of_equal_kernels_is_a_convolution() -> None:
    layer = LocallyConnected2d(3, 4, 5, 3)
    kernel, bias = torch.randn(4, 3, 3, 3), torch.randn(4)
    with torch.no_grad():
        layer.weight.copy_(kernel.permute(2, 3, 1, 0).reshape(27, 4))
        layer.bias.copy_(bias.repeat(25))
    for x in (torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(layer(x), conv2d(x, kernel, bias, padding=1))


def test_shapes_and_parameters() -> None:
    for overlapping in (True, False):
        network, seen = ConvLocalNet(overlapping_pooling=overlapping), []
        for layer in network.features.children():
            layer.register_forward_hook(lambda _, __, output, seen=seen: seen.append(tuple(output.shape[1:])))
        network(torch.zeros(1, 3, 24, 24))
        assert list(dict.fromkeys(seen)) == [(64, 24, 24), (64, 12, 12), (64, 6, 6), (32, 6, 6)]
        local3, local4 = 36 * 32 * (64 * 9 + 1), 36 * 32 * (32 * 9 + 1)
        parameters = 64 * 76 + 64 * 1601 + local3 + local4 + 10 * (32 * 36 + 1)
        assert sum(p.numel() for p in network.parameters()) == parameters


def test_initial_weights() -> None:
    fan_in = (75, 1600, 576, 288, 1152)
    for init, stds in (("2012", [1e-4, 0.01, 0.04, 0.04, 0.01]), ("kaiming", [(2 / n) ** 0.5 for n in fan_in])):
        network = ConvLocalNet(init=init)
        weights = [p for p in network.parameters() if p.ndim > 1]
        assert [p.std().item() for p in weights] == pytest.approx(stds, rel=0.06)
        assert not any(p.any() for p in network.parameters() if p.ndim == 1)


@pytest.mark.parametrize(
    "variant",
    [{"lrn": False}, {"lrn_window": "map"}, {"lrn_window": "own"}, {"lrn_size": 3}, {"lrn_divide_alpha": False},
     {"activation": "tanh"}, {"overlapping_pooling": False}],
    ids=str,
)  # fmt: skip
def test_every_toggle_changes_the_output_and_no_weights(variant: dict[str, Any]) -> None:
    check_toggle(ConvLocalNet, variant)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 3}, "image_size=3: must be a whole number of at least 4"), ({"lrn_alpha": -1}, "lrn_alpha=-1"),
     ({"lrn_window": "tower"}, "lrn_window=tower: must be one of channels, own, map"),
     ({"init": "paper"}, "init=paper"), ({"lrn": 1}, "lrn=1"), ({"activation": "gelu"}, "activation=gelu")],
)  # fmt: skip
def test_values_that_fit_no_layer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvLocalNet(**arguments)
