"""Shows what augmentation does to one image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.data.loader import RandomCropDataset
from alexnet.data.packed import PackedSplit
from alexnet.data.transforms import Augment, Normalize
from alexnet.errors import ArgumentError
from alexnet.validation import check_int


def augmented(image: Tensor, augment: Augment, crop: int, count: int = 6, seed: int = 0) -> Tensor:
    """Returns one image as training would see it in `count` epochs.

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
    zeros, channels = np.zeros(count, np.int64), len(image)
    split = PackedSplit(image.permute(1, 2, 0)[None].numpy(), rows=zeros, labels=zeros)
    dataset: Any = RandomCropDataset(split, crop, seed, random=augment.crop, whole=augment.rescale > 0)
    images, _, rand = dataset.__getitems__([(0, i) for i in range(count)])
    values, vectors = torch.linalg.eigh(torch.cov(image.flatten(1) / 255.0).reshape(channels, channels))
    noise = augment.noise(rand, values.clamp(min=0), vectors)
    as_it_is = Normalize(torch.zeros(channels), torch.ones(channels))
    return as_it_is(augment(images, rand, crop), noise=noise).clamp(0, 1)
