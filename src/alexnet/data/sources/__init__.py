"""The sources of images, by name or as an object of the user's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from alexnet.data.sources.folder import Reading, open_folder, open_test_folder, training_classes
from alexnet.data.sources.images import ImageSource, open_images, source_name
from alexnet.data.sources.synthetic import digits, fake
from alexnet.data.sources.torchvision import DOWNLOADS, downloaded
from alexnet.data.splits import CLASS, Source
from alexnet.errors import ArgumentError
from alexnet.validation import check_choice, check_test_fraction

SOURCES = ("digits", *DOWNLOADS, "folder", "fake", "stream")
Made = tuple[int, int, int | None]  # of the images that `fake` makes: size, channels, number of classes


def name_and_kind(source: str | ImageSource) -> tuple[str, str]:
    """Returns a source's name, and the kind of its labels, of splits.KINDS.

    Raises:
        ArgumentError: for a name that is not one of SOURCES.
    """
    if isinstance(source, str) or source is None:
        return check_choice("source", source, SOURCES), CLASS
    return source_name(source), getattr(source, "kind", CLASS)


def find_source(
    source: str | ImageSource,
    root: Path,
    made: Made,
    reading: Reading,
    test_fraction: float | None = None,
    test_classes: list[str] | None = None,
) -> tuple[Callable[[], Source], int | None]:
    """Returns a function that opens a source, and its number of classes.

    Args:
        source: one of SOURCES but `stream`, or an ImageSource.
        root: the folder of images, or where downloads go.
        made: size, channels and number of classes of made-up images.
        reading: how image files are decoded.
        test_fraction: see ImageDataModule.
        test_classes: see ImageDataModule.

    Raises:
        ArgumentError: for a folder that is not there, an ImageSource whose attributes do not suit each other, or a
            test_fraction out of range, or of images that have been split.
    """
    if test_fraction is not None:
        check_test_fraction("test_fraction", test_fraction)
    if not isinstance(source, str):
        opened = open_images(source, reading, test_fraction)
        return lambda: opened, len(opened.classes)
    if source == "folder" and test_classes is not None:
        return partial(open_test_folder, root, test_classes, reading), len(test_classes)
    if source == "folder":
        classes = training_classes(root)
        if len(classes) == 1:
            raise ArgumentError(f"root={root}: at least two classes are needed, and it has {classes[0]}")
        return partial(open_folder, root, reading, test_fraction), len(classes)
    if source == "digits":
        return partial(digits, test_fraction), 10
    if test_fraction is not None:
        raise ArgumentError(f"test_fraction={test_fraction}: {source} has test images of its own; leave it empty")
    if source == "fake":
        size, channels, num_classes = made
        return partial(fake, size, channels, num_classes or 0), num_classes
    return partial(downloaded, source, root, reading), DOWNLOADS[source]
