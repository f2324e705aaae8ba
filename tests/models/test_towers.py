import copy
from typing import Any

import pytest
import torch

from alexnet.models import AlexNet

SMALL: dict[str, Any] = {"num_classes": 7, "in_channels": 2, "image_size": 67, "width": 1 / 16, "lrn_window": "tower"}
TWO = [["cpu", "cpu"], ["cpu", "cuda:0"], ["cuda:0", "cuda:1"], ["cuda:1", "cuda:0"]]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"order": "2012", "map_norm": True, "partial_windows": True, "image_size": 70, "init": "2012"},
    {"lrn_size": 8, "overlapping_pooling": False, "activation": "tanh", "remove": "conv4"},
    {"lrn": False, "lrn_window": "channels", "remove": "conv3"},
    {"lrn_window": "map", "lrn_size": 3, "width": 1 / 8, "remove": "conv5", "init": "paper"},
]


def build(**arguments: Any) -> AlexNet:
    torch.manual_seed(0)
    return AlexNet(**(SMALL | arguments))


def loss_of(network: AlexNet, x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)  # of the dropout
    return network(x).square().sum()


@pytest.mark.parametrize("devices", TWO, ids="+".join)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equal_to_the_undivided_network_gradients_and_dropout_included(
    variant: dict[str, Any], devices: list[str]
) -> None:
    if torch.cuda.device_count() <= max(int(name[-1]) if name != "cpu" else -1 for name in devices):
        pytest.skip("too few GPUs")
    whole, divided = build(**variant).double(), build(**variant, devices=devices).double()
    x = torch.randn(5, *whole.input_shape, dtype=torch.float64)
    for network in (whole, divided) if devices == ["cpu", "cpu"] else (whole.eval(), divided.eval()):
        loss_of(network, x).backward()
    torch.testing.assert_close(divided(x), whole(x)) if not whole.training else None
    for name, layer in whole.named_modules():
        for kind, expected in layer.named_parameters(recurse=False):
            there = divided.get_submodule(name)
            halves = [there.a, there.b] if hasattr(there, "a") else [there]
            found = torch.cat([getattr(half, kind).grad.cpu() for half in halves])
            torch.testing.assert_close(found, expected.grad, rtol=1e-9, atol=1e-9 * float(expected.grad.abs().max()))
    assert [str(p.device) for p in divided.features.conv1.parameters()] == [devices[0]] * 2 + [devices[1]] * 2


def test_the_state_dict_is_the_undivided_networks_both_ways() -> None:
    whole, divided = build(), build(devices=["cpu", "cpu"])
    assert divided.state_dict().keys() == whole.state_dict().keys()
    assert all(torch.equal(value, divided.state_dict()[key]) for key, value in whole.named_parameters())
    torch.manual_seed(9)
    other = AlexNet(**SMALL)
    divided.load_state_dict(other.state_dict())
    x = torch.randn(2, *whole.input_shape)
    torch.testing.assert_close(divided.eval()(x), other.eval()(x))
    whole.load_state_dict(divided.state_dict())
    assert torch.equal(whole.eval()(x), other(x))
    with pytest.raises(ValueError, match="another variant: lrn is False there"):
        divided.load_state_dict(build(lrn=False).state_dict())


def test_towers_meet_at_conv3_and_not_before() -> None:
    network = build(devices=["cpu", "cpu"]).eval()
    seen: dict[str, torch.Tensor] = {}
    for name in ("pool2", "conv3"):
        layer = network.features.get_submodule(name)
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output[0]}))
    x = torch.randn(2, *network.input_shape)
    network(x)
    before = dict(seen)
    with torch.no_grad():
        network.features.conv2.b.weight.mul_(2)
    network(x)
    assert torch.equal(seen["pool2"], before["pool2"]), "tower a knows nothing of tower b's conv2"
    assert not torch.equal(seen["conv3"], before["conv3"])


def test_moved_and_copied_it_stays_divided() -> None:
    network = build(devices=["cpu", "meta"])
    network._apply(lambda t: torch.zeros(t.shape))  # a move, which a tensor on meta itself does not take part in
    assert [str(p.device) for p in network.features.conv1.parameters()] == ["cpu", "cpu", "meta", "meta"]
    assert network.bfloat16().features.conv1.b.weight.dtype == torch.bfloat16
    copied = copy.deepcopy(build(devices=["cpu", "cpu"])).eval()
    assert copied(torch.zeros(1, *copied.input_shape)).shape == (1, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"devices": ["cpu"]}, r"devices=\['cpu'\]: must be two"), ({"devices": "cpu"}, "devices=cpu: must be two"),
     ({"devices": ["cpu", "gpu"]}, "no gpu here"), ({"devices": ["cpu", 3.5]}, "no 3.5 here"),
     ({"devices": ["cpu", "cuda:99"]}, r"no cuda:99 here \(.*\); this machine has cpu"),
     ({"groups": 1}, "groups=1: must be 2 with devices"),
     ({"lrn_window": "channels"}, "lrn_window=channels: looks into the other tower"),
     ({"lrn_window": "own"}, "lrn_window=own: looks into the other tower"),
     ({"width": 0.25 + 1 / 4096}, "fc6 has 1025 outputs")],
)  # fmt: skip
def test_towers_that_do_not_suit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**({"devices": ["cpu", "cpu"]} | arguments))
