"""The windows of a picture that a test looks at: section 4.1 of the paper."""

import torch
from torch import Tensor

from alexnet.errors import ArgumentError

CROPS = (1, 5, 10)


def check_crops(value: object) -> int:
    if isinstance(value, bool) or value not in CROPS:
        raise ArgumentError(
            f"crops={value}: must be 1 (the centre), 5 (the corners and the centre) or 10 (and their mirror images)"
        )
    return int(value)  # type: ignore[call-overload]


def windows(pictures: Tensor, side: int, crops: int) -> list[Tensor]:
    """Of pictures (N, C, size, size): the `crops` windows (N, C, side, side), in torchvision's order: the corners, top
    left, top right, bottom left and bottom right, then the centre, then the same of the mirrored picture. The centre is
    where one crop has it, half a pixel up and left where it cannot be the middle.
    """
    spare = pictures.shape[-1] - side
    places = [(0, 0), (0, spare), (spare, 0), (spare, spare), (spare // 2, spare // 2)][0 if crops > 1 else 4 :]
    images = (pictures, pictures.flip(-1)) if crops == 10 else (pictures,)
    return [x[..., top : top + side, left : left + side] for x in images for top, left in places]


def averaged(logits: list[Tensor]) -> Tensor:
    """Of the logits (N, num_classes) of each window: the logarithm of the mean of their softmax; of one, as it is."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([scores.softmax(1) for scores in logits]).mean(0).log()
