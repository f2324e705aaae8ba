"""Mixes training images with others of their batch, and their labels with them.

One of one's own serves as well: any object that is called as `mix(images, labels, rand)` and returns images and soft
labels, see Mix.
"""

from typing import Protocol

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from alexnet.data.functional import in_boxes, per_image
from alexnet.data.loader import by_column
from alexnet.validation import check_float

Pair = tuple[Tensor, Tensor]
QUANTILES = 4096


class Mix(Protocol):
    """Interface of what mixes the images of a batch."""

    def __call__(self, images: Pair, labels: Pair, rand: Tensor) -> Pair:
        """Mixes each image with its partner.

        Args:
            images: of each sample its own input and its partner's, each (N, C, H, W).
            labels: likewise, each float32 (N, num_classes), 1 for the class and 0 elsewhere.
            rand: a sample's own uniform numbers, (N, len(RANDOM_COLUMNS)).

        Returns:
            Images (N, C, H, W) of the same dtype, and soft labels float32 (N, num_classes).
        """


class _Mix:
    """Mixes both images of a pair, weighted pixel by pixel.

    Args:
        prob: the share of the samples that are mixed.
    """

    def __init__(self, prob: float) -> None:
        self.prob = check_float("prob", prob, 0, 1)

    def weights(self, u: dict[str, Tensor], height: int, width: int) -> Tensor:
        """Returns each image's own weight per pixel, (N, 1, height, width) or (N, 1, 1, 1). u: by RANDOM_COLUMNS."""
        raise NotImplementedError

    def __call__(self, images: Pair, labels: Pair, rand: Tensor) -> Pair:
        own, partner = images
        u = by_column(rand, own.device)
        weights = self.weights(u, *own.shape[-2:])
        weights = weights.where(per_image(u["mix"] < self.prob), 1.0)
        mixed = torch.lerp(partner.float(), own.float(), weights)
        return mixed.to(own.dtype), torch.lerp(labels[1], labels[0], weights.mean((1, 2, 3))[:, None])


class MixUp(_Mix):
    """The weighted mean of two images, and of their labels (Zhang et al., ICLR 2018, section 2).

    Args:
        alpha: the own image's weight is drawn from Beta(alpha, alpha): the larger alpha, the nearer it is to one half.
        prob: the share of the samples that are mixed.
    """

    def __init__(self, alpha: float = 1.0, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.share = _BetaShare("alpha", alpha)

    def weights(self, u: dict[str, Tensor], height: int, width: int) -> Tensor:
        return per_image(self.share(u["mix_share"]))


class CutMix(_Mix):
    """A rectangle is the partner's, and so is its part of the label (Yun et al., ICCV 2019, section 3.1).

    Its centre is anywhere, and what lies outside the image is cut off, as in torchvision's CutMix.

    Args:
        alpha: the part that stays, before that, is drawn from Beta(alpha, alpha); above 0.
        prob: the share of the samples that are mixed.
    """

    def __init__(self, alpha: float = 1.0, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.share = _BetaShare("alpha", alpha)

    def weights(self, u: dict[str, Tensor], height: int, width: int) -> Tensor:
        return _outside_box(u, self.share(u["mix_share"]), height, width)


class MixUpCutMix(_Mix):
    """Does MixUp or CutMix to each image, chosen at random.

    Args:
        mixup_alpha, cutmix_alpha: alpha of each.
        cutmix: the share of the mixed samples that CutMix is for.
        prob: the share of the samples that are mixed.
    """

    def __init__(
        self, mixup_alpha: float = 1.0, cutmix_alpha: float = 1.0, cutmix: float = 0.5, prob: float = 1.0
    ) -> None:
        super().__init__(prob)
        self.cutmix = check_float("cutmix", cutmix, 0, 1)
        self.mixup_share = _BetaShare("mixup_alpha", mixup_alpha)
        self.cutmix_share = _BetaShare("cutmix_alpha", cutmix_alpha)

    def weights(self, u: dict[str, Tensor], height: int, width: int) -> Tensor:
        box = _outside_box(u, self.cutmix_share(u["mix_share"]), height, width)
        mean = per_image(self.mixup_share(u["mix_share"]))
        return box.where(per_image(u["mix_kind"] < self.cutmix), mean)


class _BetaShare:
    """Converts uniform numbers to Beta(alpha, alpha) by a table of its quantiles. name: of alpha in an error."""

    def __init__(self, name: str, alpha: float) -> None:
        alpha = check_float(name, alpha, 0.01, 1000)
        middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
        self.table = torch.from_numpy(betaincinv(alpha, alpha, middles)).float()

    def __call__(self, uniform: Tensor) -> Tensor:
        if self.table.device != uniform.device:
            self.table = self.table.to(uniform.device)
        return self.table[(uniform * QUANTILES).long()]


def _outside_box(u: dict[str, Tensor], share: Tensor, height: int, width: int) -> Tensor:
    """Returns 1 for pixels outside a box that takes 1 - share of the image, 0 inside: (N, 1, height, width)."""
    half = (1 - share).sqrt() / 2  # of its side, as a part of the image's
    rows, columns = _around(u["mix_top"], half, height), _around(u["mix_left"], half, width)
    return (~in_boxes(rows, columns, height, width)).float()


def _around(centre: Tensor, half: Tensor, size: int) -> Pair:
    """Returns the first place in a box and the first after it, of `size`. centre, half: as parts of `size`."""
    middle, reach = (centre * size).floor(), (half * size).floor()
    return middle - reach, middle + reach
