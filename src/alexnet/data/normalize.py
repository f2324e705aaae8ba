"""From uint8 pictures to a network's input, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CHUNK = 700_000  # numbers normalised at a time on the CPU, so that they stay in its cache


class Normalize:
    """Each channel less its mean and over its standard deviation; or, with a mean image, the values from 0 to 255 less
    that image (paper, section 2).

    Args:
        mean, std: of each channel of the training pictures, in [0, 1], (C,).
        mean_image: float32 (C, H, W), 0 to 255; None: channels are normalised.
    """

    def __init__(self, mean: Tensor, std: Tensor, mean_image: Tensor | None = None) -> None:
        self.mean, self.std, self.mean_image = mean, std, mean_image

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> "Normalize":
        """The one that a checkpoint's "data" is about."""
        return cls(torch.tensor(about["mean"]), torch.tensor(about["std"]), about.get("mean_image"))

    def __call__(
        self, images: Tensor, dtype: torch.dtype = torch.float32, noise: Tensor | None = None, over: float = 1
    ) -> Tensor:
        """images: (N, C, H, W), uint8, or float32 in [0, 1]. noise: (N, C) of [0, 1], added to each pixel. over: what
        the result is divided by. Gives (N, C, H, W) of dtype, channels-last.
        """
        if self.mean.device != images.device:
            self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
            self.mean_image = None if self.mean_image is None else self.mean_image.to(images.device)
        unit, shift, image = self.std, -self.mean, self.mean_image
        if image is not None:
            unit, shift = torch.full_like(self.std, 1 / 255), torch.zeros_like(self.mean)
        shift = shift.expand(len(images), -1)
        shift = shift if noise is None else shift + noise
        if over != 1:
            unit, image = unit * over, None if image is None else image / over
        scale = 1 / (unit * 255) if images.dtype == torch.uint8 else 1 / unit
        return _affine(images, scale, shift / unit, image, dtype)

    def shown(self, x: Tensor) -> Tensor:
        """The picture (N, C, H, W) in [0, 1] that a network's input was made of, with its noise."""
        if self.mean_image is not None:
            return (x + self.mean_image) / 255
        return x * self.std[:, None, None] + self.mean[:, None, None]


def _affine(images: Tensor, scale: Tensor, shift: Tensor, less: Tensor | None, dtype: torch.dtype) -> Tensor:
    """images (N, C, H, W) times scale (C,) plus shift (N, C), less another image (C, H, W), computed in float32, given
    in `dtype`, channels-last.

    A row of pixels is one run of W x C numbers in memory, so scale and shift are laid out as such rows.
    """
    n, c, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(n, height, width * c)
    out = torch.empty(pixels.shape, dtype=dtype, device=images.device)
    scale, shift = scale.repeat(width), shift.repeat(1, width)[:, None]
    chunk = max(1, CHUNK // (height * width * c)) if images.device.type == "cpu" else n
    less = None if less is None else less.permute(1, 2, 0).reshape(height, width * c)
    work = torch.empty(chunk, height, width * c, device=images.device)
    for x, s, y in zip(pixels.split(chunk), shift.split(chunk), out.split(chunk), strict=True):
        done = torch.addcmul(s, work[: len(x)].copy_(x), scale, out=work[: len(x)])
        y.copy_(done if less is None else done.sub_(less))
    return out.view(n, height, width, c).permute(0, 3, 1, 2)
