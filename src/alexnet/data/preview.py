"""What augmentation does to one image."""

import torch
from torch import Tensor

from alexnet.data.loader import RANDOM_COLUMNS
from alexnet.data.transforms import Augment
from alexnet.errors import ArgumentError
from alexnet.rng import uniform
from alexnet.validation import check_int


def augmented(image: Tensor, augment: Augment, crop: int, count: int = 6, seed: int = 0) -> Tensor:
    """One image as training would see it in `count` epochs.

    The colour noise is along the principal components of this image's own colours, in place of a training set's.

    Args:
        image: uint8 (C, size, size).
        augment: what is done to it; erasing, which is of normalised images, is left out.
        crop: side of the window that the network sees.
        count: how many variants.
        seed: of all that is drawn.

    Returns:
        float32 (count, C, crop, crop) in [0, 1].

    Raises:
        ArgumentError: for an image of another kind, or smaller than its window.
    """
    if image.ndim != 3 or image.dtype != torch.uint8 or image.shape[1] != image.shape[2]:
        raise ArgumentError(f"image: must be uint8 (C, size, size), not {image.dtype} {tuple(image.shape)}")
    size = image.shape[-1]
    if check_int("crop", crop, 1) > size:
        raise ArgumentError(f"crop={crop}: must be at most {size}, the side of the image")
    check_int("count", count, 1)
    rand = torch.from_numpy(uniform(seed, 0, range(count), len(RANDOM_COLUMNS)))
    images = image.expand(count, -1, -1, -1)
    if not augment.rescale:  # which cuts its own windows
        images = torch.stack([_window(image, place, crop) for place in _places(rand, size - crop, random=augment.crop)])
    x = augment(images, rand, crop)
    if not x.is_floating_point():
        x = x.float() / 255
    values, vectors = torch.linalg.eigh(torch.cov(image.flatten(1) / 255.0).reshape(len(image), len(image)))
    noise = augment.noise(rand, values.clamp(min=0), vectors)
    return (x + noise[:, :, None, None]).clamp(0, 1)


def _places(rand: Tensor, spare: int, *, random: bool) -> list[list[int]]:
    """The top left corner of each window."""
    if not random:
        return [[spare // 2, spare // 2]] * len(rand)
    corners: list[list[int]] = (rand[:, :2] * (spare + 1)).long().tolist()
    return corners


def _window(image: Tensor, place: list[int], side: int) -> Tensor:
    top, left = place
    return image[:, top : top + side, left : left + side]
