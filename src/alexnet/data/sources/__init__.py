"""Where images come from, by name or as an object of one's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from alexnet.data.sources.folder import Reading, open_folder, open_test_folder, training_classes
from alexnet.data.sources.images import ImageSource, open_images, source_name
from alexnet.data.sources.synthetic import digits, fake
from alexnet.data.sources.torchvision import DOWNLOADS, downloaded
from alexnet.data.splits import CLASS, Source
from alexnet.validation import check_choice

SOURCES = ("digits", *DOWNLOADS, "folder", "fake", "stream")
Made = tuple[int, int, int | None]  # of the images that `fake` makes: size, channels, number of classes


def name_and_kind(source: str | ImageSource) -> tuple[str, str]:
    """Returns what a source is called, and what its labels are, of splits.KINDS.

    Raises:
        ArgumentError: for a name that is not one of SOURCES.
    """
    if isinstance(source, str) or source is None:
        return check_choice("source", source, SOURCES), CLASS
    return source_name(source), getattr(source, "kind", CLASS)


def find_source(
    source: str | ImageSource, root: Path, made: Made, reading: Reading, test_classes: list[str] | None = None
) -> tuple[Callable[[], Source], int | None]:
    """Returns what opens a source, one of SOURCES but `stream` or an ImageSource, and how many classes it has.

    Args:
        root: the folder of images, or where downloads go.
        reading: how image files are decoded.
        test_classes: see ImageDataModule.

    Raises:
        ArgumentError: for a folder that is not there, or an ImageSource whose attributes do not suit each other.
    """
    if not isinstance(source, str):
        opened = open_images(source, reading)
        return lambda: opened, len(opened.classes)
    if source == "folder" and test_classes is not None:
        return partial(open_test_folder, root, test_classes, reading), len(test_classes)
    if source == "folder":
        return partial(open_folder, root, reading), len(training_classes(root))
    number = {"digits": 10, "fake": made[2], **DOWNLOADS}[source]
    return partial(open_source, source, root, *made, reading), number


def open_source(
    source: str,
    root: Path,
    size: int,
    channels: int,
    num_classes: int | None,
    reading: Reading = Reading(),  # noqa: B008
) -> Source:
    """Opens `digits`, `fake` or a download; the arguments are those of find_source."""
    if source == "digits":
        return digits()
    if source == "fake":
        assert num_classes is not None
        return fake(size, channels, num_classes)
    return downloaded(source, root, reading)
