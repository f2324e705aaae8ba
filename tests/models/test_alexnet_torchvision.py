"""torchvision's network under this project's roof."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import DictConfig

from alexnet.models import TorchvisionAlexNet
from alexnet.training.build import build_components


@pytest.mark.parametrize("classes", [1000, 7])
def test_its_weights_fit_and_give_the_same_logits(classes: int) -> None:
    torch.manual_seed(0)
    theirs, ours = torchvision.models.alexnet(num_classes=classes), TorchvisionAlexNet(classes)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), theirs.eval()(x))
    theirs.load_state_dict(ours.state_dict())
    assert sum(p.numel() for p in TorchvisionAlexNet().parameters()) == 61_100_840, "as the reference has it"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """torch.hub's folder with random weights in the place of ImageNet's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(1)
    state = torchvision.models.alexnet().state_dict()
    torch.save(state, tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    return state


def test_a_run_starts_from_its_weights(hub: dict[str, torch.Tensor], config: Callable[..., DictConfig]) -> None:
    """All but the head of another number of classes, which is drawn."""
    cfg = config("model=alexnet_torchvision", "model.weights=IMAGENET1K_V1", "model.new_head=true", "data=fake")
    network = build_components(cfg).network
    for key, value in network.state_dict().items():
        assert torch.equal(value, hub[key]) == (not key.startswith("classifier.6"))
    head = network.state_dict()["classifier.6.weight"]
    assert head.shape == (10, 4096)
    assert head.std() > 0
    assert torch.equal(
        TorchvisionAlexNet(weights="IMAGENET1K_V1").state_dict()["classifier.6.bias"], hub["classifier.6.bias"]
    )


def test_weights_from_a_file(hub: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(hub, tmp_path / "mine.pth")
    network = TorchvisionAlexNet(weights=str(tmp_path / "mine.pth"))
    assert all(torch.equal(value, hub[key]) for key, value in network.state_dict().items())


def test_what_does_not_fit(hub: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, other = tmp_path / "broken.pth", tmp_path / "other.pth"
    broken.write_bytes(b"text")
    torch.save({"1.weight": torch.zeros(3)}, other)
    for arguments, message in (
        ({"weights": "V9"}, "weights=V9: must be IMAGENET1K_V1, DEFAULT, or a file that is there"),
        (
            {"weights": "IMAGENET1K_V1", "in_channels": 1},
            "weights=IMAGENET1K_V1: are for 3 channels, and the input has 1",
        ),
        (
            {"weights": "IMAGENET1K_V1", "num_classes": 7},
            "weights=IMAGENET1K_V1: .* for 1000 classes, here are 7: new_head=true re-initialises classifier.6",
        ),
        ({"new_head": True}, "new_head=true: there are no weights"),
        ({"weights": str(broken)}, "broken.pth: no state dict that can be read safely"),
        ({"weights": str(other)}, "other.pth: .* another variant: features.0.weight is not there, .*, and 14 more"),
        ({"image_size": 62}, "image_size=62: must be a whole number of at least 63"),
        ({"dropout": 2}, "dropout=2: must be a number of at least 0 and at most 0.99"),
    ):
        with pytest.raises(ValueError, match=message):
            TorchvisionAlexNet(**arguments)  # type: ignore[arg-type]
    assert TorchvisionAlexNet(3, 1, 63)(torch.zeros(1, 1, 63, 63)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"this network was built for \(N, 3, 224, 224\)"):
        TorchvisionAlexNet()(torch.zeros(1, 3, 227, 227))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"cannot be fetched \(no route to host\); put https.*alexnet-owt.*\.pth at "):
        TorchvisionAlexNet(weights="IMAGENET1K_V1")
