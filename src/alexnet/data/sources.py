"""Where pictures come from, by name."""

from pathlib import Path

import torch
from torch.nn.functional import interpolate

from alexnet.data.downloads import DOWNLOADS, downloaded
from alexnet.data.folder import Reading, folder
from alexnet.data.splits import Source, array_split, split_off
from alexnet.rng import stream

SOURCES = ("digits", *DOWNLOADS, "folder", "fake", "stream")


def open_source(
    source: str,
    root: Path,
    size: int,
    channels: int,
    num_classes: int,
    reading: Reading = Reading(),  # noqa: B008
) -> Source:
    """Opens one of SOURCES.

    Args:
        root: the folder of images, or where downloads go.
        size, channels, num_classes: of the images that `fake` makes.
        reading: how image files are decoded.
    """
    if source == "digits":
        return digits()
    if source == "fake":
        return fake(size, channels, num_classes)
    if source == "folder":
        return folder(root, reading)
    return downloaded(source, root, reading)


def digits() -> Source:
    """scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, split 70/15/15."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    raw = load_digits()
    images = torch.from_numpy(raw.images * (255 / 16)).round().to(torch.uint8)[:, None]  # the values are 0..16
    parts = split_off(array_split(images, raw.target), {"train": 0.7, "val": 0.15, "test": 0.15})
    return Source([str(c) for c in range(10)], "digits", parts)


def fake(size: int, channels: int, num_classes: int) -> Source:
    """Blurred noise around one pattern per class: something to learn, for trying things without pictures."""
    draw = stream(0, "fake")
    patterns = torch.rand(num_classes, channels, 4, 4, generator=draw)
    splits = {}
    for name, n in {"train": 512, "val": 128, "test": 128}.items():
        labels = torch.arange(n) % num_classes
        noise = torch.rand(n, channels, 4, 4, generator=draw)
        images = interpolate((patterns[labels] + noise) * 127.5, size=(size, size), mode="bilinear")
        splits[name] = array_split(images.to(torch.uint8), labels.numpy())
    return Source([f"class {c}" for c in range(num_classes)], "fake", splits)
