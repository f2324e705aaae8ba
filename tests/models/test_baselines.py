"""model=torchvision and model=timm: other people's networks, as they make them, started by seed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torchvision import models

from alexnet.checkpoint import network_class, rebuild
from alexnet.errors import ArgumentError, UserError
from alexnet.models import baselines
from alexnet.models.init import with_named_seeds
from alexnet.training.build import build_components
from alexnet.training.run import train

SMALL = ("data=fake", "data.size=36", "data.crop=32")


def test_a_network_is_torchvisions_own() -> None:
    torch.manual_seed(0)
    theirs = models.shufflenet_v2_x0_5(num_classes=7)
    torch.manual_seed(0)
    ours = baselines.torchvision("shufflenet_v2_x0_5", 7)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    deep = baselines.torchvision("convnext_tiny", 7, options={"stochastic_depth_prob": 0.7})
    assert any(getattr(layer, "p", 0) == pytest.approx(0.7) for layer in deep.modules())


def make(kind: str, classes: int, options: dict[str, Any] | None = None) -> nn.Module:
    if kind == "timm":
        pytest.importorskip("timm")
        return baselines.timm("convnext_atto", classes, options=options)
    return baselines.torchvision("shufflenet_v2_x0_5", classes, options=options)


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_layers_that_are_shared_start_from_the_same_weights(kind: str) -> None:
    """Whatever else was drawn before them."""
    few, many = (with_named_seeds(lambda n=n: make(kind, n), 5).state_dict() for n in (3, 10))
    other = with_named_seeds(lambda: make(kind, 3), 6).state_dict()
    shared = [key for key in few if few[key].shape == many[key].shape]
    assert len(few) - len(shared) == 2, "all but the head's weight and bias"
    assert all(torch.equal(few[key], many[key]) for key in shared)
    drawn = [key for key in shared if few[key].ndim == 4]
    assert len(drawn) > 10
    assert not any(torch.equal(few[key], other[key]) for key in drawn)


def test_weights_of_a_file(tmp_path: Path, config: Callable[..., DictConfig]) -> None:
    """All but the head of other classes; the images are normalised as ImageNet's."""
    state = baselines.torchvision("resnet18", 4).state_dict()
    torch.save(state, tmp_path / "theirs.pth")
    start = ("model=torchvision", *SMALL, f"model.weights={tmp_path}/theirs.pth", "model.new_head=true")
    cfg = config(*start)
    components = build_components(cfg)
    for key, value in components.network.state_dict().items():
        assert torch.equal(value, state[key]) == (not key.startswith("fc."))
    assert (cfg.data.mean, cfg.data.std) == (baselines.IMAGENET["mean"], baselines.IMAGENET["std"])
    assert any("data.mean=[0.485, 0.456, 0.406]" in note for note in components.notes)


def test_weights_of_a_safetensors_file(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    pytest.importorskip("timm")
    theirs = baselines.timm("convnext_atto", 4)
    save_file(theirs.state_dict(), tmp_path / "a.safetensors")
    ours: Any = baselines.timm("convnext_atto", 4, weights=f"{tmp_path}/a.safetensors")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    assert ours.pretrained_statistics == baselines.IMAGENET


def test_auxiliary_classifiers_are_left_out(tmp_path: Path, config: Callable[..., DictConfig]) -> None:
    """Weights of torchvision give the same outputs as with torchvision's own builder and normalisation."""
    torch.manual_seed(0)
    theirs = models.GoogLeNet(10, transform_input=True, init_weights=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    cfg = config("model=torchvision", "model.name=googlenet", *SMALL, f"model.weights={tmp_path}/theirs.pth")
    network = build_components(cfg).network
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(baselines.IMAGENET[name])[:, None, None] for name in ("mean", "std"))
    our_mean, our_std = (torch.tensor(list(cfg.data[name]))[:, None, None] for name in ("mean", "std"))
    ours = network.eval()((pixels - our_mean) / our_std)
    torch.testing.assert_close(ours, theirs((pixels - mean) / std), rtol=1e-4, atol=1e-5)
    assert isinstance(network.train()(torch.zeros(2, 3, 32, 32)), torch.Tensor)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_googlenet_is_trained_without_auxiliary_classifiers(
    auxiliary: bool, tmp_path: Path, config: Callable[..., DictConfig]
) -> None:
    data = ("data=fake", "data.size=68", "data.crop=64", "data.batch_size=2", "debug=fdr", f"outputs={tmp_path}")
    cfg = config("model=torchvision", "model.name=googlenet", *data)
    if not auxiliary:
        train(cfg)
        return
    cfg.model.options = {"aux_logits": True, "init_weights": False}
    with pytest.raises(UserError, match="model: gives a GoogLeNetOutputs in training"):
        train(cfg)


@pytest.mark.parametrize("name", ["baselines.torchvision", "TorchvisionAlexNet"])
def test_a_checkpoint_of_a_new_head_is_loaded(name: str) -> None:
    """By then there are no weights to start from."""
    model = {"_target_": f"alexnet.models.{name}", "num_classes": 3, "weights": "/gone.pth", "new_head": True}
    model |= {"name": "resnet18", "options": None} if "baselines" in name else {"image_size": 63}
    made = network_class(model["_target_"])
    arguments = {k: v for k, v in model.items() if k != "_target_"} | {"weights": None, "new_head": False}
    state = {f"network.{key}": value for key, value in made(**arguments).state_dict().items()}
    network = rebuild({"config": {"model": model}, "state_dict": state}, "x")
    assert all(torch.equal(value, state[f"network.{key}"]) for key, value in network.state_dict().items())


def test_a_checkpoint_may_name_no_other_function_of_the_library() -> None:
    with pytest.raises(ArgumentError, match="no network class"):
        network_class("alexnet.models.baselines.read_weights")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, r"name=resnet81: torchvision has no such classifier. Did you mean resnet18\?"),
        ({"name": "fcn_resnet50"}, "name=fcn_resnet50: torchvision has no such classifier"),
        ({"in_channels": 1}, "in_channels=1: torchvision's networks take 3"),
        ({"options": {"depth": 3}}, "options={'depth': 3}: .*unexpected keyword argument 'depth'"),
        ({"new_head": True}, "new_head=true: there are no weights"),
        ({"weights": "V9"}, "weights=V9: must be IMAGENET1K_V1, DEFAULT, or a file that is there"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        baselines.torchvision(**{"name": "resnet18", "num_classes": 3} | arguments)


def test_mistakes_with_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    (tmp_path / "broken.pth").write_text("text")
    for arguments, message in (
        ({"name": "convnext_ato"}, r"Did you mean convnext_atto\?"),
        ({"weights": "DEFAULT"}, "weights=DEFAULT: must be a file that is there"),
        ({"weights": f"{tmp_path}/broken.pth"}, "no state dict that can be read safely"),
        ({"options": {"depth": 3}}, "options={'depth': 3}"),
    ):
        with pytest.raises(ArgumentError, match=message):
            baselines.timm(**{"name": "convnext_atto", "num_classes": 3} | arguments)
