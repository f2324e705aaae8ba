import math

import pytest
import torch
import torchvision.transforms.functional as tv
from torch import Tensor
from torchvision.transforms import RandAugment

from alexnet.data.functional import adjust_hue, resized_crop
from alexnet.data.loader import RANDOM_COLUMNS
from alexnet.data.transforms import Augment
from alexnet.rng import uniform

EIGENVALUES, EIGENVECTORS = torch.tensor([0.01, 0.03, 0.2]), torch.linalg.qr(torch.eye(3) + 0.3)[0]


def batch(seed: int, n: int = 12, channels: int = 3, size: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.from_numpy(uniform(seed, 0, range(n), len(RANDOM_COLUMNS)))


def augmented(augment: Augment, images: Tensor, rand: Tensor) -> Tensor:
    """In [0, 1], colour noise included."""
    before = images.clone()
    x = augment(images, rand, images.shape[-1])
    assert torch.equal(images, before), "what was given is left as it was"
    x = x / 255 if x.dtype == torch.uint8 else x
    return x + augment.noise(rand, EIGENVALUES, EIGENVECTORS)[:, : x.shape[1], None, None]


def column(rand: Tensor, name: str) -> Tensor:
    return rand[:, RANDOM_COLUMNS.index(name)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [24, 150])  # large images are mirrored one by one
@pytest.mark.parametrize(("name", "operation"), [("flip", tv.hflip), ("vertical_flip", tv.vflip)])
def test_flips(name: str, operation, size: int, seed: int) -> None:
    images, rand = batch(seed, size=size)
    result = augmented(Augment(**{name: 0.4}), images, rand)
    flipped = column(rand, name) < 0.4
    assert 0 < flipped.sum() < len(images)
    for x, y, yes in zip(images, result, flipped, strict=True):
        assert torch.equal((operation(x) if yes else x) / 255, y)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_jitter_is_torchvisions(name: str, channels: int, seed: int) -> None:
    images, rand = batch(seed, channels=channels)
    strength = 0.3 + 0.2 * seed
    alone = {"brightness": 0, "contrast": 0, "saturation": 0} | {name: strength}
    for augment in (Augment(**alone), Augment(color_jitter=strength, **{k: 0 for k in alone if k != name})):
        result = augmented(augment, images, rand)
        for x, y, u in zip(images, result, column(rand, name), strict=True):
            factor = 1 - strength + 2 * strength * u.item()
            torch.testing.assert_close(y, getattr(tv, f"adjust_{name}")(x / 255, factor), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_hue_is_torchvisions(seed: int) -> None:
    images, rand = batch(seed)
    images[0] = images[0, :1]  # a grey image has no hue
    images[1] = 0
    result = augmented(Augment(hue=0.5), images, rand)
    for x, y, u in zip(images, result, column(rand, "hue"), strict=True):
        torch.testing.assert_close(y, tv.adjust_hue(x / 255, u.item() - 0.5), atol=2e-5, rtol=0)
    assert torch.equal(adjust_hue(images / 255, torch.zeros(12)).mul(255).round().byte(), images)


@pytest.mark.parametrize("seed", range(6))
def test_resized_crop_is_torchvisions(seed: int) -> None:
    images, _ = batch(seed, n=10, size=30)
    x, side = images / 255, 5 + 7 * seed
    generator = torch.Generator().manual_seed(seed)
    height, width = torch.randint(1, 31, (2, 10), generator=generator)
    top = (torch.rand(10, generator=generator) * (31 - height)).long()
    left = (torch.rand(10, generator=generator) * (31 - width)).long()
    result = resized_crop(x, top.float(), left.float(), height.float(), width.float(), side)
    for i in range(10):
        box = (int(top[i]), int(left[i]), int(height[i]), int(width[i]))
        expected = tv.resized_crop(x[i], *box, [side, side], antialias=False)
        torch.testing.assert_close(result[i], expected, atol=1e-4, rtol=0)


def test_rescale_takes_windows_of_the_stated_area_and_shape() -> None:
    rand = torch.from_numpy(uniform(0, 0, range(2000), len(RANDOM_COLUMNS)))
    u = dict(zip(RANDOM_COLUMNS, rand.T, strict=True))
    top, left, height, width = Augment(rescale=0.3)._windows(u, 200)
    area, ratio = height * width / 200**2, width / height
    assert 0.29 < area.min() < 0.32
    assert area.max() <= 1
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 200).all()
    top, left, height, width = Augment(rescale=0.3, crop=False)._windows(u, 200)
    assert ((top - (200 - height - top)).abs() <= 1).all(), "without random crops the windows lie in the middle"


@pytest.mark.parametrize("square_root", [False, True])
def test_colour_noise_is_the_papers_formula(square_root: bool) -> None:
    images, rand = batch(1, n=6)
    result = augmented(Augment(pca=0.1, pca_sqrt=square_root), images, rand).double()
    normal = torch.distributions.Normal(0.0, 0.1)
    for x, y, u in zip(images.double() / 255, result, rand.double(), strict=True):
        expected = x.clone()
        for i in range(3):  # add p_i a_i l_i, a_i from N(0, 0.1), the same for every pixel
            a = normal.icdf(u[RANDOM_COLUMNS.index(f"pca{i + 1}")])
            size = math.sqrt(EIGENVALUES[i]) if square_root else EIGENVALUES[i]
            expected += (EIGENVECTORS[:, i] * a * size)[:, None, None]
        torch.testing.assert_close(y, expected, atol=1e-6, rtol=0)


def test_each_draw_has_its_own_column() -> None:
    """Switching one operation off must leave what is drawn for the others."""
    images, rand = batch(0)
    flips = augmented(Augment(flip=0.5), images, rand)
    both = augmented(Augment(flip=0.5, pca=0.1), images, rand)
    noise = (both - flips).flatten(2)
    assert (noise.amax(2) - noise.amin(2)).max() < 1e-6, "the same flips, and one colour added to each image"


def test_everything_at_once_on_one_channel() -> None:
    images, rand = batch(0, channels=1)
    augment = Augment(crop=True, flip=0.5, vertical_flip=0.5, rescale=0.4, color_jitter=0.3, hue=0.2, pca=0.1)
    result = augment(images, rand, 17)
    assert result.shape == (12, 1, 17, 17)
    assert result.isfinite().all()
    assert augment.noise(rand, EIGENVALUES[:1], torch.ones(1, 1)).shape == (12, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"flip": 1.5}, "flip=1.5"), ({"crop": 1}, "crop=1"), ({"hue": 0.6}, "hue=0.6"), ({"pca": -1}, "pca=-1"),
     ({"rescale": 2}, "rescale=2"), ({"color_jitter": "much"}, "color_jitter=much"), ({"contrast": -1}, "contrast=-1")],
)  # fmt: skip
def test_values_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**arguments)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augment_does_what_torchvisions_does(channels: int, magnitude: int) -> None:
    """Every image becomes one of what torchvision makes of it, and all of these come up."""
    images, _ = batch(1, n=1, channels=channels)
    theirs = RandAugment(num_ops=1, magnitude=magnitude)
    torch.manual_seed(0)
    expected = {theirs(images[0]).numpy().tobytes() for _ in range(400)}
    rand = torch.from_numpy(uniform(2, 0, range(400), len(RANDOM_COLUMNS)))
    found = Augment(rand_augment=1, rand_augment_magnitude=magnitude)(images.expand(400, -1, -1, -1), rand, 24)
    assert found.dtype == torch.uint8
    assert {image.numpy().tobytes() for image in found} == expected


def test_rand_augment_in_turn() -> None:
    """Each operation has a draw of its own, and the next one is done to its result."""
    images, rand = batch(3)
    twice = Augment(rand_augment=2)(images, rand, 24)
    once = Augment(rand_augment=1)(images, rand, 24)
    second = rand.clone()
    second[:, RANDOM_COLUMNS.index("op1")] = column(rand, "op2")
    assert torch.equal(twice, Augment(rand_augment=1)(once, second, 24))
    rescaled = Augment(rescale=0.5, rand_augment=1)(images, rand, 24)
    assert (rescaled.dtype, rescaled.shape) == (torch.uint8, images.shape)


def test_random_erasing_box_by_box() -> None:
    _, rand = batch(4, n=300)
    x = Augment(erase=0.4).erase_boxes(torch.ones(300, 2, 24, 24), rand)
    for i, image in enumerate(x):
        u = dict(zip(RANDOM_COLUMNS, rand[i].tolist(), strict=True))
        area = 24 * 24 * (0.02 + (0.33 - 0.02) * u["erase_area"])
        ratio = math.exp(math.log(0.3) + u["erase_ratio"] * (math.log(3.3) - math.log(0.3)))
        height, width = (min(round(math.sqrt(side)), 24) for side in (area * ratio, area / ratio))
        top, left = int(u["erase_top"] * (25 - height)), int(u["erase_left"] * (25 - width))
        expected = torch.ones(2, 24, 24)
        if u["erase"] < 0.4:
            expected[:, top : top + height, left : left + width] = 0
        assert torch.equal(image, expected)
    assert 80 < (x.mean((1, 2, 3)) < 1).sum() < 160
