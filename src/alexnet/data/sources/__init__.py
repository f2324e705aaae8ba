"""Where images come from, by name."""

from pathlib import Path

from alexnet.data.sources.folder import Reading, open_folder
from alexnet.data.sources.synthetic import digits, fake
from alexnet.data.sources.torchvision import DOWNLOADS, downloaded
from alexnet.data.splits import Source

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
        return open_folder(root, reading)
    return downloaded(source, root, reading)
