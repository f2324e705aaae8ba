from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from alexnet import models
from alexnet.errors import UserError
from alexnet.models.init import init_weights, with_named_seeds
from alexnet.training.build import build_components


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


class ResNet(nn.Module):
    """A second network: its toggles change how many layers it has, and it initialises them in every way there is."""

    def __init__(self, batch_norm: bool = True, skip: bool = True, width: int = 8, by_rule: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), *([nn.BatchNorm2d(width)] if batch_norm else []))
        if skip:
            self.shortcut = nn.Conv2d(width, width, 1)
        self.scale = nn.Parameter(0.1 * torch.randn(width, 1, 1))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.attention = nn.MultiheadAttention(width, 2)
        self.head = nn.Linear(width, 5)
        nn.init.orthogonal_(self.trunk.weight)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        if by_rule:
            init_weights(self, lambda name, layer: (0.3, 0.0))


@pytest.mark.parametrize("by_rule", [True, False])
@pytest.mark.parametrize("toggle", [{"batch_norm": False}, {"skip": False}, {"batch_norm": False, "skip": False}])
def test_what_two_variants_share_starts_alike(toggle: dict[str, bool], by_rule: bool) -> None:
    whole = with_named_seeds(lambda: ResNet(by_rule=by_rule), 3).state_dict()
    other = with_named_seeds(lambda: ResNet(**toggle, by_rule=by_rule), 3).state_dict()
    shared = whole.keys() & other.keys()
    assert {"scale", "trunk.weight", "trunk.bias", "attention.in_proj_weight", "head.weight"} <= shared
    for key in shared:
        assert torch.equal(whole[key], other[key]), key
    another = with_named_seeds(lambda: ResNet(by_rule=by_rule), 4).state_dict()
    assert not torch.equal(whole["trunk.weight"], another["trunk.weight"])


def test_each_parameter_has_its_own_numbers_and_the_spread_its_network_gives_it() -> None:
    network = with_named_seeds(lambda: ResNet(width=64), 0)
    state = network.state_dict()
    flat = [state[key].flatten()[:4].tolist() for key in ("stem.0.weight", "trunk.weight", "head.weight", "scale")]
    assert len({tuple(row) for row in flat}) == 4
    rows = state["trunk.weight"].flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(64))
    assert 0.015 < state["head.weight"].std() < 0.022
    assert (state["norm.weight"] == 1).all()
    state = torch.random.get_rng_state()
    with_named_seeds(ResNet, 0)
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator is left alone"


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_other_peoples_networks(name: str) -> None:
    """They keep their own spread, and another head changes nothing else."""
    make = partial(torchvision.models.get_model, name)
    ours, theirs, other = (
        with_named_seeds(make, 1).state_dict(),
        make().state_dict(),
        with_named_seeds(lambda: make(num_classes=7), 1),
    )
    for key, value in ours.items():
        if value.numel() > 1000 and value.std() > 0:
            assert value.std().item() == pytest.approx(theirs[key].std().item(), rel=0.1), key
    same = {key for key, value in other.state_dict().items() if torch.equal(value, ours[key])}
    assert len(ours.keys() - same) <= 2, "the head's weight and bias"


def test_no_layer_stays_without_values() -> None:
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain

    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Embedding(5, 8))
        unknown = nn.Sequential(nn.Linear(3, 3), Gain())
    init_weights(network, lambda name, layer: (0.1, 0.0))
    assert (network[1].weight == 1).all()
    assert (network[1].running_var == 1).all()
    assert network[2].weight.std() > 0.5
    with pytest.raises(TypeError, match="1 is on the meta device, and a Gain has no reset_parameters"):
        init_weights(unknown, lambda name, layer: (0.1, 0.0))
    init_weights(ordinary := nn.Sequential(nn.Linear(3, 3), Gain()), lambda name, layer: (0.1, 0.0))
    assert (ordinary[1].gain == 1).all()


@pytest.mark.parametrize("name", models.__all__)
def test_shapes_without_weights(name: str) -> None:
    network = getattr(models, name)
    with torch.device("meta"):
        shapes = dict(network().named_parameters())
    assert all(parameter.is_meta for parameter in shapes.values())
    expected = {name: parameter.shape for name, parameter in network().named_parameters()}
    assert {name: parameter.shape for name, parameter in shapes.items()} == expected


def no_network() -> None:
    pass


@pytest.mark.parametrize(
    ("target", "named"), [("torch.nn.LazyLinear", "model: weight "), ("tests.models.test_init.no_network", "NoneType")]
)
def test_what_is_no_network(target: str, named: str, config: Callable[..., DictConfig]) -> None:
    cfg = config("data=fake")
    cfg.model = OmegaConf.create({"_target_": target} | ({"out_features": 10} if "Lazy" in target else {}))
    with pytest.raises(UserError, match=named):
        build_components(cfg)
