"""Data sets that need no download: scikit-learn's handwritten digits, and made-up images."""

import torch
from torch.nn.functional import interpolate

from alexnet.data.splits import Source, array_split, hold_out
from alexnet.rng import generator


def digits(test_fraction: float | None = None) -> Source:
    """Returns scikit-learn's handwritten digits: 1,797 grey images of 8x8, split 70/15/15; see splits.hold_out."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    raw = load_digits()
    images = torch.from_numpy(raw.images * (255 / 16)).round().to(torch.uint8)[:, None]  # the values are 0..16
    splits = {"train": array_split(images, raw.target)}
    return hold_out(Source([str(c) for c in range(10)], "digits", splits), test_fraction)


def fake(size: int, channels: int, num_classes: int) -> Source:
    """Returns blurred noise around one pattern per class: something to learn, for trying things without images."""
    draw = generator(0, "fake")
    patterns = torch.rand(num_classes, channels, 4, 4, generator=draw)
    splits = {}
    for name, n in {"train": 512, "val": 128, "test": 128}.items():
        labels = torch.arange(n) % num_classes
        noise = torch.rand(n, channels, 4, 4, generator=draw)
        images = interpolate((patterns[labels] + noise) * 127.5, size=(size, size), mode="bilinear")
        splits[name] = array_split(images.to(torch.uint8), labels.numpy())
    return Source([f"class {c}" for c in range(num_classes)], "fake", splits)
