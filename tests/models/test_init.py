import torch
from torch import nn

from alexnet.models.init import init_weights


def two_layers(first: int) -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(3, first), "b": nn.Conv2d(2, 4, 3)})


def test_each_layer_draws_from_its_own_stream() -> None:
    networks = []
    for first in (5, 50):
        torch.manual_seed(2)
        network = two_layers(first)
        torch.manual_seed(2)
        init_weights(network, lambda name, layer: (0.5, 0.25))
        networks.append(network)
    assert torch.equal(networks[0]["b"].weight, networks[1]["b"].weight)
    assert not torch.equal(networks[0]["a"].weight.flatten()[:15], networks[0]["b"].weight.flatten()[:15])
    assert (networks[0]["a"].bias == 0.25).all()


def test_the_rule_says_the_spread() -> None:
    network = nn.Linear(300, 300)
    init_weights(network, lambda name, layer: (0.02, 1.0))
    assert abs(network.weight.std().item() - 0.02) < 3e-4
