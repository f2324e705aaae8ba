"""Section 4.1's windows, against torchvision's."""

import random

import pytest
import torch
from torchvision.transforms import FiveCrop, TenCrop

from alexnet.data.transforms import check_crops, log_mean_softmax, multi_crop


@pytest.mark.parametrize("seed", range(8))
def test_the_windows_are_torchvisions(seed: int) -> None:
    """All of them where the centre is in the middle; else the centre is half a pixel off, as torchvision rounds."""
    draw = random.Random(seed)
    side = draw.randrange(1, 40)
    spare = 2 * draw.randrange(20) + seed % 2
    images = torch.randint(0, 256, (draw.randrange(1, 4), draw.choice((1, 3)), side + spare, side + spare)).byte()
    for crops, theirs in ((5, FiveCrop(side)), (10, TenCrop(side))):
        ours, expected = multi_crop(images, side, crops), theirs(images)
        assert len(ours) == crops
        for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
            assert torch.equal(a, b) or (spare % 2 and i % 5 == 4)
    (centre,) = multi_crop(images, side, 1)
    assert torch.equal(centre, multi_crop(images, side, 5)[4])


def test_the_mean_of_the_softmax_counts() -> None:
    """Not the mean of the logits: one window that is very sure does not outvote two that are not."""
    logits = [torch.tensor([[20.0, 0, 0]]), torch.tensor([[0.0, 2, 0]]), torch.tensor([[0.0, 2, 0]])]
    by_hand = torch.stack([torch.softmax(x.double(), 1) for x in logits]).mean(0)
    assert torch.allclose(log_mean_softmax(logits).exp().double(), by_hand, atol=1e-6)
    assert log_mean_softmax(logits).argmax() == 1
    assert torch.stack(logits).mean(0).argmax() == 0
    assert log_mean_softmax(logits[:1]) is logits[0]
    sure = torch.tensor([[0.0, 300, 200]])
    assert torch.allclose(log_mean_softmax([sure, sure]), sure - 300), "the loss stays finite, and so does the order"


@pytest.mark.parametrize("value", [0, 2, 11, -1, True, 10.5, "ten", None, [1]])
def test_other_numbers_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"crops=.*: must be 1 "):
        check_crops("crops", value)
