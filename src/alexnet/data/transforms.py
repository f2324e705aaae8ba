"""What is done to images on the device, a batch at a time: augmentation, normalisation, and the crops of a test."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.functional import rgb_to_grayscale

from alexnet.data.loader import RANDOM_COLUMNS
from alexnet.errors import ArgumentError
from alexnet.validation import check_bool, check_float, check_int

CHUNK = 700_000  # numbers normalised at a time on the CPU, so that they stay in its cache
CROPS = (1, 5, 10)


class Augment:
    """Crop, flip, rescale, colour jitter and colour noise. 0 or False turns each of them off.

    Args:
        crop: windows at random places (paper, section 4.1); in the centre if False.
        flip: probability of a left-right mirror image (section 4.1).
        vertical_flip: probability of an upside-down one.
        rescale: least share of the image's area that a window takes, scaled to the network's input; its shape
            varies from 3:4 to 4:3, as in torchvision's RandomResizedCrop.
        color_jitter: strength of brightness, contrast and saturation, each a factor from [1 - s, 1 + s].
        brightness, contrast, saturation: the strength of one of them, in place of color_jitter.
        hue: largest turn of the colour circle, up to 0.5. Grey images have no saturation or hue to change.
        pca: standard deviation of a_i in the paper's colour noise (section 4.1), 0.1 there: to every pixel of an
            image, sum over i of p_i a_i l_i is added, where p_i and l_i are the eigenvectors and eigenvalues of the
            covariance of the training set's channels in [0, 1].
        pca_sqrt: the square root of l_i in its place, as the 2012 source has it.
        pca_divide: the image, less the mean and with its noise, is divided by 1 + pca, as in the 2012 source
            (convdata.py), "so that the overall scale of the training data doesn't become too different".
        pca_epochs: the noise ends after so many epochs, 68 in the log of 2012; None: never.

    The order is the one above. Each operation on one image is torchvision's functional of the same name.

    Raises:
        ArgumentError: for a value out of range.
    """

    def __init__(
        self,
        crop: bool = True,
        flip: float = 0.0,
        vertical_flip: float = 0.0,
        rescale: float = 0.0,
        color_jitter: float = 0.0,
        brightness: float | None = None,
        contrast: float | None = None,
        saturation: float | None = None,
        hue: float = 0.0,
        pca: float = 0.0,
        pca_sqrt: bool = False,
        pca_divide: bool = False,
        pca_epochs: int | None = None,
    ) -> None:
        self.crop = check_bool("crop", crop)
        self.flip = check_float("flip", flip, 0, 1, allow_false=True)
        self.vertical_flip = check_float("vertical_flip", vertical_flip, 0, 1, allow_false=True)
        self.rescale = check_float("rescale", rescale, 0, 1, allow_false=True)
        jitter = check_float("color_jitter", color_jitter, 0, 1, allow_false=True)
        self.brightness = (
            jitter if brightness is None else check_float("brightness", brightness, 0, 1, allow_false=True)
        )
        self.contrast = jitter if contrast is None else check_float("contrast", contrast, 0, 1, allow_false=True)
        self.saturation = (
            jitter if saturation is None else check_float("saturation", saturation, 0, 1, allow_false=True)
        )
        self.hue = check_float("hue", hue, 0, 0.5, allow_false=True)
        self.pca = check_float("pca", pca, 0, 100, allow_false=True)
        self.pca_sqrt = check_bool("pca_sqrt", pca_sqrt)
        self.pca_divide = check_bool("pca_divide", pca_divide)
        self.pca_epochs = None if pca_epochs is None else check_int("pca_epochs", pca_epochs, 0)

    def __call__(self, images: Tensor, rand: Tensor, crop: int) -> Tensor:
        """uint8 (N, C, H, W) to (N, C, crop, crop): still uint8 where nothing but crops and flips was asked for, else
        float32 in [0, 1]. Colour noise is not in it: `noise`.

        draws: uniform numbers (N, len(RANDOM_COLUMNS)).
        """
        u = dict(zip(RANDOM_COLUMNS, rand.to(images.device).T, strict=True))
        for name, p, axis in (("flip", self.flip, -1), ("vertical_flip", self.vertical_flip, -2)):
            if p:
                images = flipped(images, u[name] < p, axis)
        if not (self.rescale or self.brightness or self.contrast or self.saturation or self.hue):
            return images
        x = images.float() / 255
        if self.rescale:
            x = resized_crop(x, *self._windows(u, images.shape[-1]), crop)
        if self.brightness:
            x = (x * _factor(u["brightness"], self.brightness)).clamp_(0, 1)
        if self.contrast:
            mean = _gray(x).mean((1, 2, 3), keepdim=True)
            x = mean.lerp(x, _factor(u["contrast"], self.contrast)).clamp_(0, 1)
        if self.saturation and x.shape[1] == 3:
            x = _gray(x).lerp(x, _factor(u["saturation"], self.saturation)).clamp_(0, 1)
        if self.hue and x.shape[1] == 3:
            x = adjust_hue(x, (2 * u["hue"] - 1) * self.hue)
        return x

    def color_noise_active(self, epoch: int) -> bool:
        return self.pca > 0 and (self.pca_epochs is None or epoch < self.pca_epochs)

    def divisor(self, epoch: int) -> float:
        """What an image is divided by, less the mean and with its noise."""
        return 1 + self.pca if self.pca_divide and self.color_noise_active(epoch) else 1

    def noise(self, rand: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, epoch: int = 0) -> Tensor:
        """What the paper's colour noise adds to every pixel of each image, in [0, 1]: (N, C).

        eigenvalues (C,) and eigenvectors (C, C), one a column. Without `pca` it is 0.
        """
        if not self.color_noise_active(epoch):
            return eigenvalues.new_zeros(len(rand), len(eigenvalues))
        u = rand[:, RANDOM_COLUMNS.index("pca1") :][:, : len(eigenvalues)]
        u = u.cpu() if u.device.type == "mps" else u  # which has no ndtri
        a = torch.special.ndtri(u).to(eigenvalues.device) * self.pca
        return (a * (eigenvalues.sqrt() if self.pca_sqrt else eigenvalues)) @ eigenvectors.T

    def _windows(self, u: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """top, left, height and width of one window per sample in whole pixels, within size x size."""
        area = size * size * (self.rescale + (1 - self.rescale) * u["area"])
        ratio = (4 / 3) ** (2 * u["ratio"] - 1)
        height, width = (side.round().clamp(1, size) for side in ((area / ratio).sqrt(), (area * ratio).sqrt()))
        if not self.crop:
            return ((size - height) / 2).floor(), ((size - width) / 2).floor(), height, width
        return (u["top"] * (size - height + 1)).floor(), (u["left"] * (size - width + 1)).floor(), height, width


def flipped(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """A copy of the images, in which the chosen ones are mirrored."""
    if images.device.type != "cpu":  # indexing with a mask would make the host wait for the device
        return torch.where(_each(chosen), images.flip(axis), images)
    result = images.clone(memory_format=torch.preserve_format)
    if images.shape[1:].numel() < 50_000:
        result[chosen] = images[chosen].flip(axis)
    else:  # one large image at a time stays in the cache: three times as fast
        for i in chosen.nonzero().flatten().tolist():
            result[i] = images[i].flip(axis)
    return result


def resized_crop(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, side: int) -> Tensor:
    """torchvision's resized_crop (bilinear, not antialiased), with another window for each sample."""
    steps = (torch.arange(side, device=x.device) + 0.5) / side

    def positions(start: Tensor, length: Tensor, size: int) -> Tensor:  # pixel centres, never outside the window
        p = (steps * length[:, None] - 0.5).clamp(min=0).minimum(length[:, None] - 1) + start[:, None]
        return (2 * p + 1) / size - 1  # to grid_sample's -1..1

    rows, columns = positions(top, height, x.shape[-2]), positions(left, width, x.shape[-1])
    grid = torch.stack((columns[:, None].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)), -1)
    return grid_sample(x, grid, padding_mode="border", align_corners=False)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """torchvision's adjust_hue for RGB in [0, 1]: (N, 3, H, W), each sample turned by its own part of the circle."""
    value, minimum = x.amax(1), x.amin(1)
    chroma = value - minimum
    r, g, b = (value[:, None] - x).div(chroma.clamp(min=1e-12)[:, None]).unbind(1)  # 0 in the largest channel
    largest = x.argmax(1)
    sixths = torch.where(largest == 0, b - g, torch.where(largest == 1, 2 + r - b, 4 + g - r))
    hue = (sixths / 6 + turn[:, None, None]) % 1
    # Channel n of HSV to RGB is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    n = torch.arange(5.0, 0.0, -2.0, device=x.device)  # 5, 3 and 1, made there: copying them makes the host wait
    k = (n[:, None, None] + 6 * hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _each(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def _factor(u: Tensor, strength: float) -> Tensor:
    return _each(1 - strength + 2 * strength * u)


def _gray(x: Tensor) -> Tensor:
    return rgb_to_grayscale(x) if x.shape[1] == 3 else x


class Normalize:
    """Each channel less its mean and over its standard deviation; or, with a mean image, the values from 0 to 255 less
    that image (paper, section 2).

    Args:
        mean, std: of each channel of the training images, in [0, 1], (C,).
        mean_image: float32 (C, H, W), 0 to 255; None: channels are normalised.
    """

    def __init__(self, mean: Tensor, std: Tensor, mean_image: Tensor | None = None) -> None:
        self.mean, self.std, self.mean_image = mean, std, mean_image

    @classmethod
    def from_description(cls, info: Mapping[str, Any]) -> "Normalize":
        """The one that a checkpoint's "data" is about."""
        return cls(torch.tensor(info["mean"]), torch.tensor(info["std"]), info.get("mean_image"))

    def __call__(
        self, images: Tensor, dtype: torch.dtype = torch.float32, noise: Tensor | None = None, divisor: float = 1
    ) -> Tensor:
        """images: (N, C, H, W), uint8, or float32 in [0, 1]. noise: (N, C) of [0, 1], added to each pixel. over: what
        the result is divided by. Returns (N, C, H, W) of dtype, channels-last.
        """
        if self.mean.device != images.device:
            self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
            self.mean_image = None if self.mean_image is None else self.mean_image.to(images.device)
        unit, shift, image = self.std, -self.mean, self.mean_image
        if image is not None:
            unit, shift = torch.full_like(self.std, 1 / 255), torch.zeros_like(self.mean)
        shift = shift.expand(len(images), -1)
        shift = shift if noise is None else shift + noise
        if divisor != 1:
            unit, image = unit * divisor, None if image is None else image / divisor
        scale = 1 / (unit * 255) if images.dtype == torch.uint8 else 1 / unit
        return _affine(images, scale, shift / unit, image, dtype)

    def denormalize(self, x: Tensor) -> Tensor:
        """The image (N, C, H, W) in [0, 1] that a network's input was made of, with its noise."""
        if self.mean_image is not None:
            return (x + self.mean_image) / 255
        return x * self.std[:, None, None] + self.mean[:, None, None]


def _affine(images: Tensor, scale: Tensor, shift: Tensor, subtract: Tensor | None, dtype: torch.dtype) -> Tensor:
    """images (N, C, H, W) times scale (C,) plus shift (N, C), less another image (C, H, W), computed in float32, given
    in `dtype`, channels-last.

    A row of pixels is one run of W x C numbers in memory, so scale and shift are laid out as such rows.
    """
    n, c, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(n, height, width * c)
    out = torch.empty(pixels.shape, dtype=dtype, device=images.device)
    scale, shift = scale.repeat(width), shift.repeat(1, width)[:, None]
    chunk = max(1, CHUNK // (height * width * c)) if images.device.type == "cpu" else n
    subtract = None if subtract is None else subtract.permute(1, 2, 0).reshape(height, width * c)
    work = torch.empty(chunk, height, width * c, device=images.device)
    for x, s, y in zip(pixels.split(chunk), shift.split(chunk), out.split(chunk), strict=True):
        done = torch.addcmul(s, work[: len(x)].copy_(x), scale, out=work[: len(x)])
        y.copy_(done if subtract is None else done.sub_(subtract))
    return out.view(n, height, width, c).permute(0, 3, 1, 2)


def check_crops(name: str, value: object) -> int:
    if isinstance(value, bool) or value not in CROPS:
        raise ArgumentError(
            f"{name}={value}: must be 1 (the centre), 5 (the corners and the centre) or 10 (and their mirror images)"
        )
    return int(value)  # type: ignore[call-overload]


def multi_crop(images: Tensor, side: int, crops: int) -> list[Tensor]:
    """Of images (N, C, size, size): the `crops` windows (N, C, side, side), in torchvision's order: the corners, top
    left, top right, bottom left and bottom right, then the centre, then the same of the mirrored image. The centre is
    where one crop has it, half a pixel up and left where it cannot be the middle.
    """
    spare = images.shape[-1] - side
    places = [(0, 0), (0, spare), (spare, 0), (spare, spare), (spare // 2, spare // 2)][0 if crops > 1 else 4 :]
    views = (images, images.flip(-1)) if crops == 10 else (images,)
    return [x[..., top : top + side, left : left + side] for x in views for top, left in places]


def log_mean_softmax(logits: list[Tensor]) -> Tensor:
    """Of the logits (N, num_classes) of each window: the logarithm of the mean of their softmax; of one, as it is."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([scores.softmax(1) for scores in logits]).mean(0).log()
