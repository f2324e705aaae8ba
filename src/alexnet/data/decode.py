"""From a picture file to a square of the size that is stored."""

from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as tv
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_image

THIN = 8  # times longer than wide: what is cut off before such a picture is resized is far from the centre


def decode(path: Path) -> Tensor:
    """A picture file as RGB, uint8 (3, H, W), turned as its camera says. Raises OSError if it cannot be read.

    torchvision reads plain JPEGs, which it does fastest; PIL reads every other kind.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                data = torch.from_numpy(np.fromfile(path, np.uint8))
                return decode_image(data, ImageReadMode.RGB, apply_exif_orientation=True)
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels of 32 bits (mode {image.mode}) have no known range")
            upright = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # PIL's own conversion cuts off everything above 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            array = np.array(upright.convert("RGB"))
            return torch.from_numpy(array).permute(2, 0, 1)
    except Exception as error:  # for damaged files PIL raises nearly every kind
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error


def fit(picture: Tensor, size: int, channels: int) -> NDArray[np.uint8]:
    """Shorter side to `size`, then the centre (paper, section 2): uint8 (C, H, W) to (size, size, channels)."""
    if picture.shape[0] != channels:
        if channels == 3:
            picture = picture.expand(channels, -1, -1)
        elif torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2]):
            picture = picture[:1]  # the weights of the colours add up to 0.9999: a grey picture would get darker
        else:
            picture = tv.rgb_to_grayscale(picture)
    height, width = picture.shape[1:]
    if max(height, width) > THIN * min(height, width):  # resizing all of a strip of 6000x1 would take gigabytes
        picture = tv.center_crop(picture, [min(height, THIN * width), min(width, THIN * height)])
        height, width = picture.shape[1:]
    if min(height, width) != size:  # in whole numbers, as PIL does: by way of float32 it takes four times as long
        scaled = [size * side // min(height, width) for side in (height, width)]
        picture = interpolate(picture[None], scaled, mode="bilinear", antialias=True)[0]
    return tv.center_crop(picture, [size, size]).permute(1, 2, 0).numpy()
