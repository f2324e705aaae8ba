"""What is done to a batch of images on the device: augmentation, normalisation, and the windows of a test."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import rgb_to_grayscale

from alexnet.data.functional import adjust_hue, affine, flipped, in_boxes, per_image, resized_crop
from alexnet.data.loader import RANDOM_COLUMNS, by_column
from alexnet.data.randaugment import BINS, rand_augment
from alexnet.errors import ArgumentError
from alexnet.validation import check_bool, check_float, check_int

CROPS = (1, 5, 10)
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)  # torchvision's RandomErasing


class Augment:
    """Crop, flip, rescale, RandAugment, colour jitter, colour noise, erasing. 0 or False turns each of them off.

    Args:
        crop: windows at random places (paper, section 4.1); in the centre if False.
        flip: probability of a left-right mirror image (section 4.1).
        vertical_flip: probability of an upside-down one.
        rescale: least share of the image's area that a window takes, scaled to the network's input; its shape
            varies from 3:4 to 4:3, as in torchvision's RandomResizedCrop.
        rand_augment: operations of RandAugment on each image (Cubuk et al., 2020), at most 4; 2 in torchvision.
        rand_augment_magnitude: how strong each of them is, 0 to 30.
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
        erase: probability that a rectangle of the normalised image becomes 0, which is the mean (Zhong et al., 2020).
            Its area and shape are drawn as by torchvision's RandomErasing; one that is too large is cut to the image.

    The order is the one above. Each operation on one image is torchvision's functional of the same name.

    Raises:
        ArgumentError: for a value out of range.
    """

    def __init__(
        self,
        *,
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
        rand_augment: int = 0,
        rand_augment_magnitude: int = 9,
        erase: float = 0.0,
    ) -> None:
        self.crop = check_bool("crop", crop)
        self.flip = check_float("flip", flip, 0, 1, allow_false=True)
        self.vertical_flip = check_float("vertical_flip", vertical_flip, 0, 1, allow_false=True)
        self.rescale = check_float("rescale", rescale, 0, 1, allow_false=True)
        jitter = check_float("color_jitter", color_jitter, 0, 1, allow_false=True)
        self.brightness = _strength("brightness", brightness, jitter)
        self.contrast = _strength("contrast", contrast, jitter)
        self.saturation = _strength("saturation", saturation, jitter)
        self.hue = check_float("hue", hue, 0, 0.5, allow_false=True)
        self.pca = check_float("pca", pca, 0, 100, allow_false=True)
        self.pca_sqrt = check_bool("pca_sqrt", pca_sqrt)
        self.pca_divide = check_bool("pca_divide", pca_divide)
        self.pca_epochs = None if pca_epochs is None else check_int("pca_epochs", pca_epochs, 0)
        self.rand_augment = check_int("rand_augment", rand_augment, 0, 4)
        self.magnitude = check_int("rand_augment_magnitude", rand_augment_magnitude, 0, BINS - 1)
        self.erase = check_float("erase", erase, 0, 1, allow_false=True)

    def __call__(self, images: Tensor, rand: Tensor, crop: int) -> Tensor:
        """Augments uint8 (N, C, H, W) to (N, C, crop, crop): uint8 where no colour changes, else float32 in [0, 1].

        Colour noise and erasing are not in it: `noise`, `erase_boxes`.

        rand: uniform numbers (N, len(RANDOM_COLUMNS)).
        """
        u = by_column(rand, images.device)
        for name, p, axis in (("flip", self.flip, -1), ("vertical_flip", self.vertical_flip, -2)):
            if p:
                images = flipped(images, u[name] < p, axis)
        if self.rescale:
            images = resized_crop(images.float() / 255, *self._windows(u, images.shape[-1]), crop)
        if self.rand_augment:
            if images.is_floating_point():
                images = (images * 255).round_().byte()
            for i in range(self.rand_augment):
                images = rand_augment(images, u[f"op{i + 1}"], self.magnitude)
        if self.brightness or self.contrast or self.saturation or self.hue:
            return self._jitter(images, u)
        return images

    def _jitter(self, images: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Returns images, uint8 or float32 in [0, 1], with changed colours, as float32."""
        x = images if images.is_floating_point() else images.float() / 255
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

    def erase_boxes(self, x: Tensor, rand: Tensor) -> Tensor:
        """Returns normalised images (N, C, H, W) in which a rectangle of some is 0."""
        if not self.erase:
            return x
        u, size = by_column(rand, x.device), x.shape[-1]
        low, high = ERASED_AREA
        area = size * size * (low + (high - low) * u["erase_area"])
        low, high = ERASED_RATIO
        ratio = low * (high / low) ** u["erase_ratio"]
        rows = _place(u["erase_top"], (area * ratio).sqrt(), size)
        columns = _place(u["erase_left"], (area / ratio).sqrt(), size)
        return x.masked_fill(in_boxes(rows, columns, size, size) & per_image(u["erase"] < self.erase), 0)

    def color_noise_active(self, epoch: int) -> bool:
        return self.pca > 0 and (self.pca_epochs is None or epoch < self.pca_epochs)

    def divisor(self, epoch: int) -> float:
        """Returns what an image is divided by after the mean is subtracted and the noise added."""
        if self.pca_divide and self.color_noise_active(epoch):
            return 1 + self.pca
        return 1

    def noise(self, rand: Tensor, eigenvalues: Tensor, eigenvectors: Tensor, epoch: int = 0) -> Tensor:
        """Returns what the paper's colour noise adds to every pixel of each image, in [0, 1]: (N, C).

        eigenvalues (C,) and eigenvectors (C, C), one a column. Without `pca` it is 0.
        """
        if not self.color_noise_active(epoch):
            return eigenvalues.new_zeros(len(rand), len(eigenvalues))
        u = rand[:, RANDOM_COLUMNS.index("pca1") :][:, : len(eigenvalues)]
        if u.device.type == "mps":  # which has no ndtri
            u = u.cpu()
        a = torch.special.ndtri(u).to(eigenvalues.device) * self.pca
        if self.pca_sqrt:
            eigenvalues = eigenvalues.sqrt()
        return (a * eigenvalues) @ eigenvectors.T

    def _windows(self, u: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns top, left, height and width of one window per sample, in whole pixels within size x size."""
        area = size * size * (self.rescale + (1 - self.rescale) * u["area"])
        ratio = (4 / 3) ** (2 * u["ratio"] - 1)
        height = (area / ratio).sqrt().round().clamp(1, size)
        width = (area * ratio).sqrt().round().clamp(1, size)
        if not self.crop:
            return ((size - height) / 2).floor(), ((size - width) / 2).floor(), height, width
        return (u["top"] * (size - height + 1)).floor(), (u["left"] * (size - width + 1)).floor(), height, width


def _strength(name: str, value: float | None, jitter: float) -> float:
    """Returns the strength of one kind of jitter; None stands for that of all."""
    if value is None:
        return jitter
    return check_float(name, value, 0, 1, allow_false=True)


def _place(u: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns start and end of a stretch of a length, at most `size`, placed anywhere by u in (0, 1)."""
    length = length.round().clamp(max=size)
    start = (u * (size - length + 1)).floor()
    return start, start + length


def _factor(u: Tensor, strength: float) -> Tensor:
    return per_image(1 - strength + 2 * strength * u)


def _gray(x: Tensor) -> Tensor:
    return rgb_to_grayscale(x) if x.shape[1] == 3 else x


class Normalize:
    """Subtracts each channel's mean and divides by its standard deviation.

    With a mean image, it is the values from 0 to 255 less that image (paper, section 2).

    Args:
        mean, std: of each channel of the training images, in [0, 1], (C,).
        mean_image: float32 (C, H, W), 0 to 255; None: channels are normalised.
    """

    def __init__(self, mean: Tensor, std: Tensor, mean_image: Tensor | None = None) -> None:
        self.mean, self.std, self.mean_image = mean, std, mean_image

    @classmethod
    def from_description(cls, info: Mapping[str, Any]) -> "Normalize":
        """Returns the normalisation that a checkpoint's "data" describes."""
        return cls(torch.tensor(info["mean"]), torch.tensor(info["std"]), info.get("mean_image"))

    def __call__(
        self, images: Tensor, dtype: torch.dtype = torch.float32, noise: Tensor | None = None, divisor: float = 1
    ) -> Tensor:
        """Normalises images.

        Args:
            images: (N, C, H, W), uint8, or float32 in [0, 1].
            dtype: of the result.
            noise: (N, C) of [0, 1], added to each pixel.
            divisor: what the result is divided by.

        Returns:
            (N, C, H, W), channels-last.
        """
        if self.mean.device != images.device:
            self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
            if self.mean_image is not None:
                self.mean_image = self.mean_image.to(images.device)
        unit, shift, image = self.std, -self.mean, self.mean_image
        if image is not None:
            unit, shift = torch.full_like(self.std, 1 / 255), torch.zeros_like(self.mean)
        shift = shift.expand(len(images), -1)
        if noise is not None:
            shift = shift + noise
        if divisor != 1:
            unit = unit * divisor
            if image is not None:
                image = image / divisor
        scale = 1 / (unit * 255) if images.dtype == torch.uint8 else 1 / unit
        return affine(images, scale, shift / unit, image, dtype)

    def denormalize(self, x: Tensor) -> Tensor:
        """Returns the image (N, C, H, W) in [0, 1] from which a network's input was made, with its noise."""
        if self.mean_image is not None:
            return (x + self.mean_image) / 255
        return x * self.std[:, None, None] + self.mean[:, None, None]


def check_statistic(name: str, values: object, channels: int) -> list[float] | None:
    """Returns `values` as one number for each channel. Raises ArgumentError for anything else but None."""
    if values is None:
        return None
    if not isinstance(values, Sequence) or len(values) != channels:
        raise ArgumentError(f"{name}={values}: must be a number for each of {channels} channels, in [0, 1]")
    least = 1e-6 if name == "std" else 0
    return [check_float(name, value, least, 1) for value in values]


def check_crops(name: str, value: object) -> int:
    """Returns the number of windows of each test image. Raises ArgumentError unless it is one of CROPS."""
    if isinstance(value, bool) or value not in CROPS:
        raise ArgumentError(
            f"{name}={value}: must be 1 (the centre), 5 (the corners and the centre) or 10 (and their mirror images)"
        )
    return int(value)  # type: ignore[call-overload]


def multi_crop(images: Tensor, side: int, crops: int) -> list[Tensor]:
    """Cuts windows out of images (N, C, size, size), each (N, C, side, side).

    They are in torchvision's order: the corners, top left, top right, bottom left and bottom right, then the centre,
    then the same of the mirrored image. The centre is where one crop has it, half a pixel up and left where it cannot
    be the middle.
    """
    spare = images.shape[-1] - side
    corners = [(0, 0), (0, spare), (spare, 0), (spare, spare)]
    centre = (spare // 2, spare // 2)
    places = [centre] if crops == 1 else [*corners, centre]
    views = [images]
    if crops == 10:
        views.append(images.flip(-1))
    return [x[..., top : top + side, left : left + side] for x in views for top, left in places]


def log_mean_softmax(logits: list[Tensor]) -> Tensor:
    """Returns the log of the mean softmax of several windows' logits, each (N, num_classes); of one, its logits."""
    if len(logits) == 1:
        return logits[0]
    logs = torch.stack([scores.log_softmax(1) for scores in logits])  # a share below float32's least is not lost
    return logs.logsumexp(0) - math.log(len(logits))
