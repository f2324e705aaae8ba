"""What augmentation does to one image, against what a run does to it."""

from typing import Any

import pytest
import torch

from alexnet.data import Augment, ImageDataModule, augmented
from alexnet.errors import ArgumentError

IMAGE = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_windows_are_cut_out_of_the_image() -> None:
    found = (augmented(IMAGE, Augment(), crop=32, count=20) * 255).round().byte()
    windows = IMAGE.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 9, 9, 32, 32)
    same = (windows[None] == found[:, :, None, None]).all(dim=(1, 4, 5))  # of each variant, which places fit
    assert same.flatten(1).sum(1).tolist() == [1] * 20
    assert len(same.flatten(1).int().argmax(1).unique()) > 10
    (centre,) = augmented(IMAGE, Augment(crop=False), crop=32, count=1)
    assert torch.equal((centre * 255).round().byte(), IMAGE[:, 4:36, 4:36])


@pytest.mark.parametrize(
    "augment",
    [Augment(flip=0.5), Augment(rescale=0.2), Augment(crop=False, color_jitter=0.4, hue=0.2), Augment(rand_augment=2)],
)
def test_it_is_what_a_run_does(augment: Augment) -> None:
    """The same draws, of an image that is stored whole."""
    data = ImageDataModule("fake", channels=3, size=40, crop=40, num_classes=4, seed=5, augment=augment)
    data.setup()
    rows = data.splits["train"].rows[:6]
    images = torch.from_numpy(data.splits["train"].images[rows]).permute(0, 3, 1, 2)
    inputs = data.normalize.denormalize(data.training_inputs(0, list(range(6))))
    for i in range(6):
        mine = augmented(images[i], augment, crop=40, count=6, seed=5)[i]
        torch.testing.assert_close(mine, inputs[i].clamp(0, 1), rtol=0, atol=2e-5)


def test_colour_noise_is_along_the_images_own_components() -> None:
    """One colour is added to all pixels: that of one direction, where all pixels lie on one line."""
    line = (torch.tensor([1.0, 2.0, 3.0])[:, None, None] * torch.linspace(20, 80, 1600).reshape(1, 40, 40)).byte()
    found = augmented(line, Augment(crop=False, pca=1.0), crop=40, count=4)
    added = found - line / 255
    inside = ((found > 0) & (found < 1)).all(1)
    for noise, seen in zip(added, inside, strict=True):
        color = noise[:, seen]
        assert color.std(1).max() < 1e-5
        direction = color.mean(1) / color.mean(1).norm()
        assert abs(direction @ torch.tensor([1.0, 2.0, 3.0]) / 14**0.5) > 0.999


@pytest.mark.parametrize(
    ("image", "arguments"),
    [
        (IMAGE.float(), {}),
        (IMAGE[:, :30], {}),
        (IMAGE[0], {}),
        (IMAGE, {"crop": 41}),
        (IMAGE, {"crop": 0}),
        (IMAGE, {"count": 0}),
    ],
)
def test_mistakes(image: torch.Tensor, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be"):
        augmented(image, Augment(), **({"crop": 32} | arguments))
