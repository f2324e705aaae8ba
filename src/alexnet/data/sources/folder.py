"""Trees of class folders: train/CLASS/*.jpg."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.data.decode import Range, decode, is_image
from alexnet.data.sources.labels import names_of_folders, note_on_similar
from alexnet.data.sources.layout import find_classes, find_splits
from alexnet.data.sources.walk import LeftOut, is_ignored, walk
from alexnet.data.splits import Source, Split, hold_out, notes_on_classes
from alexnet.errors import ArgumentError, UserError, escape_control_chars


@dataclass(frozen=True)
class Reading:
    """How image files are decoded: see `decode`."""

    background: str | None = "white"
    value_range: Range | None = None
    min_side: int | None = None

    def __str__(self) -> str:
        """Returns what a data set's state is made of: without min_side as before there was one."""
        plain = f"Reading(background={self.background!r}, value_range={self.value_range!r})"
        return plain if self.min_side is None else f"{plain} {self.min_side}"

    def decode(self, path: Path) -> Tensor:
        """Decodes an image file. Raises OSError if it cannot be read."""
        return decode(path, background=self.background, value_range=self.value_range, min_side=self.min_side)


def training_classes(root: Path) -> list[str]:
    """Returns the class names of a tree. Raises ArgumentError for a tree without classes to train on."""
    try:
        layout = find_splits(root)
        if "train" in layout.splits:
            return find_classes(layout.splits["train"])
    except OSError as error:
        raise ArgumentError(
            f"root={root}: cannot read {escape_control_chars(str(error.filename))}: {error.strerror}"
        ) from error
    raise ArgumentError(f"root={root}: has {', '.join(layout.splits)}, but no train or training with class folders")


def open_folder(root: Path, reading: Reading = Reading(), test_fraction: float | None = None) -> Source:  # frozen
    """Opens a tree of class folders. What has no folder is split off the training images: see splits.hold_out.

    Raises:
        UserError: for a tree without training images, or one that can be read in two ways.
    """
    with _readable(root):
        classes, layout = training_classes(root), find_splits(root)
        if test_fraction is not None and "test" in layout.splits:
            raise UserError(
                f"data.test_fraction={test_fraction}: the test images are in {layout.splits['test']}; leave it empty"
            )
        listed = list_files(layout.splits, classes, reading)
        called, labels_file = names_of_folders(layout.splits["train"], classes, root)
    train = listed.splits["train"]
    left_out = listed.notes[0] if listed.notes else "no files"
    if not len(train.labels):
        raise UserError(f"data.root={root}: no images in {layout.splits['train']}; {left_out}")
    if empty := sorted({*range(len(classes))} - set(train.labels.tolist())):
        names = ", ".join(classes[label] for label in empty)
        raise UserError(
            f"data.root={root}: no images to train on in the class folders {names} ({left_out}). "
            "Convert their images to a format such as PNG, or remove the folders"
        )
    notes, state = [*layout.notes, *listed.notes], listed.state
    if called:
        classes = [called[folder] for folder in classes]
        notes.append(f"classes are called by {labels_file}")
        state = f"{hashlib.sha256(repr(classes).encode()).hexdigest()} {state}"
    notes += note_on_similar(classes)
    whole = Source(classes, state, listed.splits, notes, reading.background, files=True)
    return hold_out(whole, test_fraction)


def open_test_folder(root: Path, classes: list[str], reading: Reading = Reading()) -> Source:
    """Opens a tree of class folders whose images are all for testing: those of its test folder if it has one.

    Args:
        root: of the tree.
        classes: the network's. The tree may lack some of them.
        reading: how image files are decoded.

    Raises:
        UserError: for a tree without labelled test images, or with other classes.
    """
    with _readable(root):
        layout = find_splits(root, classes)
        place = layout.splits.get("test")
        if not layout.named:
            place = root
        if place is None:
            names = ", ".join(layout.splits)
            raise UserError(
                f"data.root={root}: has {names}, but no test. Name the folder to test on, such as "
                f"data.root={next(iter(layout.splits.values()))}"
            )
        listed = list_files({"test": place}, _folders_of(classes, place), reading)
    if not len(listed.splits["test"].labels):
        raise UserError(f"data.root={root}: no labelled images in {place}; expected CLASS/*.jpg in it")
    notes = [*layout.notes, *listed.notes, *notes_on_classes(listed)]
    return Source(classes, listed.state, listed.splits, notes, reading.background, files=True)


def _folders_of(classes: list[str], place: Path) -> list[str]:
    """Returns the folders in `place` of a network's classes, whose names may come from a labels file."""
    folders = find_classes(place)
    if set(folders) <= set(classes):
        return classes
    names, _ = names_of_folders(place, folders, place.parent.parent)
    folder_of = {name: folder for folder, name in names.items()}
    return [folder_of.get(name, name) for name in classes]


def list_files(folders: dict[str, Path], classes: list[str], reading: Reading = Reading()) -> Source:
    """Lists every image file below the class folders.

    The state is made of names, sizes and times, not of contents: what a copy of the folder shares, and after a colon
    what tells that a file was replaced under the same size and time.
    """
    changed = hashlib.sha256()
    identity = f"{sorted(folders)} {classes} {reading}"
    state, splits = hashlib.sha256(identity.encode(errors="surrogateescape")), {}
    left_out = LeftOut()
    for split, folder in folders.items():
        found = find_classes(folder)
        if unknown := sorted(set(found) - set(classes)):
            raise UserError(f"data.root: {folder} has classes that training images lack: {', '.join(unknown)}")
        _count_loose(folder, left_out)
        files: list[tuple[str, int]] = []
        for label, name in enumerate(classes):
            for entry in sorted(walk(folder / name, left_out, (os.path.realpath(folder),)), key=lambda e: e.path):
                info = entry.stat()
                path = os.path.relpath(entry.path, folder)
                files.append((path, label))
                changed.update(f"{info.st_ctime_ns} ".encode())
                state.update(f"{split}/{path}\0{info.st_size}\0{info.st_mtime_ns}\0".encode(errors="surrogateescape"))
        names = [path for path, _ in files]
        labels = np.array([label for _, label in files], np.int64)
        splits[split] = Split(labels, names, partial(_read, folder, names, reading))
    notes = [f"files were left out: {left_out}"] if left_out.counts else []
    return Source(classes, f"{state.hexdigest()}:{changed.hexdigest()}", splits, notes, reading.background, files=True)


def _count_loose(folder: Path, left_out: LeftOut) -> None:
    """Counts the files that lie beside the class folders and so have no label."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ignored(entry.name) or entry.is_dir():
                continue
            why = "images outside class folders" if is_image(entry.path) else None
            left_out.add(entry, why)


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(f"data.{error}") from error
    except OSError as error:
        where = escape_control_chars(str(error.filename or root))
        raise UserError(f"data.root={root}: cannot read {where}: {error.strerror}") from error


def _read(folder: Path, names: list[str], reading: Reading, i: int) -> Tensor:
    return reading.decode(folder / names[i])
