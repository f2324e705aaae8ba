import math
from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, linear

from alexnet.models import LeNet


def test_every_shape_of_the_slides() -> None:
    expected = {
        "conv1": (6, 28, 28), "subsample2": (6, 14, 14), "conv3": (16, 10, 10), "subsample4": (16, 5, 5),
        "conv5": (120, 1, 1), "fc6": (84,), "output": (10,),
    }  # fmt: skip
    network, seen = LeNet(), {}
    for name, layer in [*network.features.named_children(), *network.classifier.named_children()]:
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    network(torch.zeros(1, 1, 32, 32))
    assert {name: seen[name] for name in expected} == expected
    counts = [6 * 26, 16 * (6 * 25 + 1), 120 * (16 * 25 + 1), 84 * 121, 10 * 85]
    assert sum(p.numel() for p in network.parameters()) == sum(counts) == 61_706


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 41)])
def test_equals_a_network_written_out_by_hand(activation: str, channels: int, size: int) -> None:
    network = LeNet(7, channels, size, activation=activation).double()
    act = getattr(torch, activation)
    x = torch.randn(3, channels, size, size, dtype=torch.float64)
    w = dict(network.named_parameters())

    def layer(name: str) -> list[torch.Tensor]:
        return [w[f"{name}.weight"], w[f"{name}.bias"]]

    y = avg_pool2d(act(conv2d(x, *layer("features.conv1"))), 2)
    y = avg_pool2d(act(conv2d(y, *layer("features.conv3"))), 2)
    y = act(conv2d(y, *layer("features.conv5"))).flatten(1)
    y = linear(act(linear(y, *layer("classifier.fc6"))), *layer("classifier.output"))
    torch.testing.assert_close(network(x), y)


def test_starts_alike_whatever_the_activation() -> None:
    networks = []
    for activation in ("sigmoid", "relu"):
        torch.manual_seed(0)
        networks.append(LeNet(activation=activation))
    for (name, a), b in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert float(a.std()) == pytest.approx(math.sqrt(2 / a[0].numel()), rel=0.2), name
        else:
            assert not a.any()
    with pytest.raises(ValueError, match="another variant: activation is relu there and sigmoid here"):
        networks[0].load_state_dict(networks[1].state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 31}, "image_size=31: must be a whole number of at least 32"),
     ({"num_classes": 0}, "num_classes=0"),
     ({"in_channels": 0}, "in_channels=0"), ({"activation": "sigmod"}, "activation=sigmod.*Did you mean sigmoid")],
)  # fmt: skip
def test_values_that_fit_no_layer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeNet(**arguments)
    with pytest.raises(ValueError, match=r"\(1, 1, 28, 28\): this network was built for \(N, 1, 32, 32\)"):
        LeNet()(torch.zeros(1, 1, 28, 28))
