"""RandAugment (Cubuk et al., 2020) on a batch, with a different operation for each image.

torchvision's RandAugment draws one operation for all images that it is given. Here the images that have drawn the same
one are given to torchvision's functional together.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import functional as f

BINS = 31  # magnitudes, 0 to 30

Operation = Callable[[Tensor], Tensor]


def operations(magnitude: int, side: int) -> list[Operation]:
    """Returns torchvision's 14 operations: those with a direction once for each, and the others twice, to balance them.

    Args:
        magnitude: 0 to 30.
        side: of the images, in pixels.
    """
    slope, shift, angle, factor = (_strength(most, magnitude) for most in (0.3, 150 / 331 * side, 30.0, 0.9))
    shear = math.degrees(math.atan(slope))
    bits, threshold = 8 - round(_strength(4.0, magnitude)), 255 - _strength(255.0, magnitude)
    found: list[Operation] = []
    for sign in (1, -1):
        found += [
            lambda x: x,
            _affine(shear=[sign * shear, 0.0], center=[0, 0]),
            _affine(shear=[0.0, sign * shear], center=[0, 0]),
            _affine(translate=[sign * int(shift), 0]),
            _affine(translate=[0, sign * int(shift)]),
            partial(f.rotate, angle=sign * angle),
            partial(f.adjust_brightness, brightness_factor=1 + sign * factor),
            partial(f.adjust_saturation, saturation_factor=1 + sign * factor),
            partial(f.adjust_contrast, contrast_factor=1 + sign * factor),
            partial(f.adjust_sharpness, sharpness_factor=1 + sign * factor),
            partial(f.posterize, bits=bits),
            partial(f.solarize, threshold=threshold),
            f.autocontrast,
            f.equalize,
        ]
    return found


def _strength(most: float, magnitude: int) -> float:
    """Returns the strength of an operation that has `most` at magnitude 30, with torchvision's rounding."""
    return float(torch.linspace(0, most, BINS)[magnitude])


def rand_augment(images: Tensor, u: Tensor, magnitude: int) -> Tensor:
    """Returns a copy of images uint8 (N, C, H, W) with one operation done to each. On a GPU the host waits for it once.

    u: in (0, 1), (N,), which says each one's operation.
    """
    known = operations(magnitude, images.shape[-1])
    chosen = (u * len(known)).long().cpu()
    images = images.clone(memory_format=torch.preserve_format)
    for number in chosen.unique().tolist():
        index = (chosen == number).nonzero().flatten().to(images.device)
        images[index] = known[number](images[index])
    return images


def _affine(**arguments: list[float] | list[int]) -> Operation:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return partial(f.affine, **(still | arguments))  # type: ignore[arg-type]
