import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet.models import AlexNet

SMALL: dict[str, Any] = {"num_classes": 7, "in_channels": 2, "image_size": 67, "width": 1 / 16}


def build(seed: int = 0, **arguments: Any) -> AlexNet:
    torch.manual_seed(seed)
    return AlexNet(**(SMALL | arguments))


@pytest.mark.parametrize(("groups", "parameters"), [(2, 60_965_224), (1, 62_378_344)])
def test_parameter_count_of_the_paper(groups: int, parameters: int) -> None:
    assert sum(p.numel() for p in AlexNet(groups=groups).parameters()) == parameters


@pytest.mark.parametrize("overlapping_pooling", [True, False])
def test_shapes_of_the_slides(overlapping_pooling: bool) -> None:
    expected = {
        "conv1": (96, 55, 55), "norm1": (96, 55, 55), "pool1": (96, 27, 27),
        "conv2": (256, 27, 27), "norm2": (256, 27, 27), "pool2": (256, 13, 13),
        "conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6),
        "flatten": (9216,), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    }  # fmt: skip
    network, seen = AlexNet(overlapping_pooling=overlapping_pooling), {}
    for name, layer in [*network.features.named_children(), *network.classifier.named_children()]:
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    with torch.no_grad():
        network(torch.zeros(1, 3, 227, 227))
    assert {name: seen[name] for name in expected} == expected


def test_equals_a_network_written_out_by_hand() -> None:
    """The default network against torch's own layers in the paper's order, in float64."""
    network = build(groups=2).double().eval()
    f, c = network.features, network.classifier
    lrn = nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)  # torch divides alpha by 5; the paper's 1e-4 is not divided
    x = torch.randn(3, 2, 67, 67, dtype=torch.float64)
    h = nn.functional.max_pool2d(lrn(f.conv1(x).relu()), 3, 2)
    h = nn.functional.max_pool2d(lrn(f.conv2(h).relu()), 3, 2)
    h = f.conv5(f.conv4(f.conv3(h).relu()).relu()).relu()
    h = nn.functional.max_pool2d(h, 3, 2).flatten(1)
    torch.testing.assert_close(network(x), c.fc8(c.fc7(c.fc6(h).relu()).relu()))


def test_batch_norm_equals_a_network_written_out_by_hand() -> None:
    """In training, by the formula: each channel less its mean over images and places, by its standard deviation."""
    network = build(batch_norm=True, lrn=False, dropout=0).double()
    f, c = network.features, network.classifier

    def normalised(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        layer.weight.data.uniform_(0.5, 2)
        layer.bias.data.normal_()
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = layer.weight.view(1, -1, 1, 1), layer.bias.view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = torch.randn(3, 2, 67, 67, dtype=torch.float64)
    h = nn.functional.max_pool2d(normalised(f.conv1(x), f.bn1).relu(), 3, 2)
    h = nn.functional.max_pool2d(normalised(f.conv2(h), f.bn2).relu(), 3, 2)
    for conv, norm in ((f.conv3, f.bn3), (f.conv4, f.bn4), (f.conv5, f.bn5)):
        h = normalised(conv(h), norm).relu()
    h = nn.functional.max_pool2d(h, 3, 2).flatten(1)
    torch.testing.assert_close(network(x), c.fc8(c.fc7(c.fc6(h).relu()).relu()))
    assert not any(name.startswith("bn3") for name, _ in build(batch_norm=True, remove="conv3").named_modules())


def test_batch_norm_draws_no_weights_anew() -> None:
    plain, other = build(5).state_dict(), build(5, batch_norm=True).state_dict()
    assert {key for key in other if key not in plain} == {
        f"features.bn{i}.{name}"
        for i in range(1, 6)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert all(torch.equal(plain[name], other[name]) for name in plain if name != "_extra_state")
    with pytest.raises(ValueError, match="batch_norm is True there and None here"):
        build().load_state_dict(other)


SOURCE: dict[str, Any] = {
    "lrn_divide_alpha": True, "lrn_window": "tower", "init": "2012", "order": "2012", "map_norm": True,
    "partial_windows": True,
}  # fmt: skip


def test_equals_the_2012_source_written_out_by_hand() -> None:
    """layers-145.cfg, one GPU after the other, with torch's functions in float64. 66 pixels leave a partial window."""
    network = build(image_size=66, width=1 / 8, **SOURCE).double().eval()
    f, c = network.features, network.classifier
    x = torch.randn(3, 2, 66, 66, dtype=torch.float64)

    def cmrnorm(maps: torch.Tensor) -> torch.Tensor:
        return nn.functional.local_response_norm(maps, 5, 1e-4, 0.75, 2.0)

    def rnorm(maps: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(maps**2, 5, stride=1, padding=2)
        return maps / (1 + 1e-3 * mean) ** 0.75

    def conv(layer: nn.Module, maps: torch.Tensor, tower: int, padding: int, stride: int = 1) -> torch.Tensor:
        weight, bias = layer.weight.chunk(2)[tower], layer.bias.chunk(2)[tower]
        return nn.functional.conv2d(maps, weight, bias, stride, padding)

    pool2 = []
    for tower in (0, 1):
        conv1 = conv(f.conv1, nn.functional.pad(x, (0, 1, 0, 1)), tower, 0, 4)
        pool1 = nn.functional.max_pool2d(cmrnorm(conv1), 3, 2).relu()
        conv2 = conv(f.conv2, pool1, tower, 2).relu()
        pool2.append(nn.functional.max_pool2d(rnorm(cmrnorm(conv2)), 3, 2))
    pool5 = []
    for tower in (0, 1):
        conv3 = conv(f.conv3, torch.cat(pool2, 1), tower, 1).relu()
        conv5 = conv(f.conv5, conv(f.conv4, conv3, tower, 1).relu(), tower, 1)
        pool5.append(nn.functional.max_pool2d(conv5, 3, 2).relu())
    fc6 = c.fc6(torch.cat(pool5, 1).flatten(1)).relu()
    torch.testing.assert_close(network(x), c.fc8(c.fc7(fc6).relu()))


def test_the_2012_network_is_the_papers() -> None:
    """Its shapes from 224 pixels, the number of its parameters, and how they start."""
    network = AlexNet(image_size=224, **SOURCE)
    assert sum(p.numel() for p in network.parameters()) == 60_965_224
    with torch.no_grad():
        sides = {}
        h = torch.zeros(1, 3, 224, 224)
        for name, layer in network.features.named_children():
            h = layer(h)
            sides[name] = h.shape[-1]
    assert [sides[name] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [55, 27, 27, 13, 13, 6]
    order = "edge conv1 norm1 pool1 act1 conv2 act2 norm2 map2 pool2 conv3 act3 conv4 act4 conv5 pool5 act5"
    assert list(sides) == order.split()
    for name, parameter in network.named_parameters():
        layer = name.split(".")[1]
        if name.endswith("bias"):
            assert (parameter == (layer in ("conv2", "conv4", "conv5", "fc6", "fc7"))).all(), name
        else:
            std = 0.03 if layer in ("conv3", "conv4", "conv5") else 0.01
            assert parameter.std().item() == pytest.approx(std, rel=0.02)
            assert parameter.mean().item() == pytest.approx(0, abs=5 * std / parameter.numel() ** 0.5)


def test_the_one_gpu_network() -> None:
    """layers-145-half.cfg: half the kernels in conv1 to conv4, one tower, and as many units above."""
    shapes = {name: tuple(p.shape) for name, p in AlexNet(groups=1, half=True).named_parameters() if p.dim() > 1}
    assert list(shapes.values()) == [
        (48, 3, 11, 11), (128, 48, 5, 5), (192, 128, 3, 3), (192, 192, 3, 3), (256, 192, 3, 3),
        (4096, 9216), (4096, 4096), (1000, 4096),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="half=true: is the network of one GPU, so groups=2 must be 1"):
        AlexNet(half=True)


@pytest.mark.parametrize("removed", ["conv3", "conv4", "conv5"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_removed(removed: str, groups: int) -> None:
    network = build(groups=groups, remove=removed)
    left = {name for name, _ in network.features.named_children()}
    gone = {name for name, _ in build(groups=groups).features.named_children()} - left
    assert gone == {removed, f"act{removed[-1]}"}
    assert network(torch.zeros(2, 2, 67, 67)).shape == (2, 7)
    activations = sum(isinstance(layer, nn.ReLU) for layer in network.features)
    assert activations == 4, "one after every convolution"
    with pytest.raises(ValueError, match="remove=conv2: must be one of conv3, conv4, conv5"):
        build(remove="conv2")


VARIANTS = [
    {"lrn": False}, {"lrn_size": 3}, {"lrn_alpha": 1e-2}, {"lrn_beta": 0.5}, {"lrn_k": 1.0}, {"dropout": 0},
    {"groups": 1}, {"activation": "tanh"}, {"activation": "sigmoid"}, {"overlapping_pooling": False},
    {"lrn_divide_alpha": True}, {"lrn_window": "tower"}, {"lrn_window": "own"}, {"lrn_window": "map"},
    {"order": "2012"}, {"map_norm": True}, {"init": "paper"},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_toggle_changes_the_output(variant: dict[str, Any]) -> None:
    x = torch.randn(4, 2, 67, 67, generator=torch.Generator().manual_seed(3)) * 30
    outputs = []
    for network in (build(), build(**variant)):
        torch.manual_seed(1)
        outputs.append(network(x))
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize("variant", VARIANTS[:-1], ids=str)  # another initialisation is meant to change the weights
def test_a_toggle_changes_no_other_layers_weights(variant: dict[str, Any]) -> None:
    plain, other = (dict(build(5, **v).named_parameters()) for v in ({}, variant))
    assert plain.keys() == other.keys()
    shared = [name for name in plain if plain[name].shape == other[name].shape]
    different = {name for name in plain if name not in shared}
    assert different == ({f"features.conv{i}.weight" for i in (2, 4, 5)} if "groups" in variant else set())
    assert all(torch.equal(plain[name], other[name]) for name in shared)
    torch.manual_seed(5)
    build(5, **variant)
    after = torch.rand(3)
    build(5)
    assert torch.equal(after, torch.rand(3)), "what is drawn after the network must not depend on its toggles"


def test_another_seed_and_a_second_network_differ() -> None:
    torch.manual_seed(0)
    first, second = AlexNet(**SMALL), AlexNet(**SMALL)
    assert not torch.equal(first.features.conv1.weight, second.features.conv1.weight)
    assert not torch.equal(first.features.conv1.weight, build(1).features.conv1.weight)
    assert torch.equal(first.features.conv1.weight, build(0).features.conv1.weight)


@pytest.mark.parametrize("init", ["kaiming", "paper"])
def test_initial_weights(init: str) -> None:
    network = AlexNet(num_classes=100, width=0.5, init=init)
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}  # paper, section 5
    for name, layer in [*network.features.named_children(), *network.classifier.named_children()]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            n, fan_in = layer.weight.numel(), layer.weight[0].numel()
            std = 0.01 if init == "paper" else (2 / fan_in) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
            assert layer.weight.mean().item() == pytest.approx(0, abs=5 * std / n**0.5)
            assert (layer.bias == float(init == "paper" and name in ones)).all()


def test_dropout_false_and_zero_are_off() -> None:
    for off in (0, 0.0, False):
        network = build(dropout=off)
        assert not [m for m in network.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in build(dropout=0.3).modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups=3: conv2"),
        ({"groups": 0}, "groups=0"),
        ({"width": 0.001}, "width=0.001: leaves conv1 0"),
        ({"width": 0.003, "groups": 1}, "width=0.003: leaves conv1 0"),
        ({"activation": ["relu"]}, "activation="),
        ({"width": -1}, "width=-1"),
        ({"image_size": 66}, "image_size=66: pool5 would get 2x2 .* at least 67"),
        ({"image_size": 38, "overlapping_pooling": False}, "image_size=38: pool5 .* at least 39"),
        ({"image_size": 8}, "image_size=8: conv1 would get 8x8 .* 11x11"),
        ({"image_size": 227.5}, "image_size=227.5"),
        ({"activation": "gelu"}, "activation=gelu: must be one of relu, tanh, sigmoid"),
        ({"init": "zero"}, "init=zero: must be one of kaiming, paper"),
        ({"dropout": 1}, "dropout=1"),
        ({"dropout": True}, "dropout=True"),
        ({"dropout": "0.5"}, "dropout=0.5"),
        ({"lrn": 1}, "lrn=1: must be true or false"),
        ({"lrn_size": 0}, "lrn_size=0"),
        ({"lrn_k": 0}, "lrn_k=0"),
        ({"overlapping_pooling": "yes"}, "overlapping_pooling=yes"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"batch_norm": 1}, "batch_norm=1: must be true or false"),
        ({"batch_norm": True, "devices": ["cpu", "cpu"], "lrn": False}, "batch_norm=true: not with devices"),
    ],
)
def test_values_that_fit_no_layer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize(("overlapping_pooling", "least"), [(True, 67), (False, 39)])
def test_the_smallest_input_works(overlapping_pooling: bool, least: int) -> None:
    network = build(image_size=least, overlapping_pooling=overlapping_pooling)
    assert network(torch.zeros(2, 2, least, least)).shape == (2, 7)


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 64, 64\).*\(N, 2, 67, 67\)"):
        build()(torch.zeros(1, 2, 64, 64))


def test_weights_of_another_variant_are_refused() -> None:
    """A network without LRN has the same keys and shapes as one with it: loading would give a wrong number."""
    for variant in (
        {"lrn": False}, {"activation": "tanh"}, {"overlapping_pooling": False}, {"lrn_k": 1.0}, {"order": "2012"},
        {"lrn_window": "own"}, {"lrn_divide_alpha": True}, {"map_norm": True}, {"partial_windows": True},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(variant))} is"):
            build().load_state_dict(build(**variant).state_dict())
    build(dropout=0).load_state_dict(build(dropout=0.5).state_dict())  # the same function in eval mode


def test_copies_and_moves_like_any_module() -> None:
    network = copy.deepcopy(build()).to(memory_format=torch.channels_last).bfloat16()
    assert network(torch.zeros(1, 2, 67, 67).bfloat16()).dtype == torch.bfloat16


def test_needs_neither_lightning_nor_hydra() -> None:
    code = (
        "import sys; from alexnet.models import AlexNet; from alexnet.models.lrn import LocalResponseNorm;"
        "bad = {'pytorch_lightning', 'hydra', 'omegaconf', 'torchmetrics'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
