"""A packed data set: its images in one uint8 array, in memory or mapped from disk, and what is known about them."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Range
from alexnet.data.splits import CLASS, LABELS

FORMAT = 4  # raised whenever the files below change their meaning: an older cache is then rebuilt


@dataclass(frozen=True)
class PackedSplit:
    """One split: image i is images[rows[i]], uint8 (size, size, C), and labels[i] its label, see splits.Split.

    file: the array on disk that `images` maps, which another process then maps too instead of getting a copy.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[Any]
    file: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        images = None if self.file else self.images
        return _images, (images, self.rows, self.labels, self.file)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def chunks(self) -> NDArray[np.int64] | None:
        """Returns the chunk of each image, if images are better read together with their neighbours: Streamed."""
        chunks = getattr(self.images, "chunks", None)
        return None if chunks is None else chunks[self.rows]

    def take(self, index: NDArray[np.int64]) -> "PackedSplit":
        return PackedSplit(self.images, self.rows[index], self.labels[index], self.file)


def _images(images: Any, rows: Any, labels: Any, file: Path | None) -> PackedSplit:
    if file is not None:
        images = map_images(file)
    return PackedSplit(images, rows, labels, file)


def map_images(file: Path) -> NDArray[np.uint8]:
    """Maps the packed images of a data set from the disk, read-only."""
    return np.asarray(np.load(file, mmap_mode="r"))  # a plain array on the map slices faster


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set beside its images, as plain values.

    mean (C) and covariance (C, C) are of the training images' channels in [0, 1]; fingerprint is the SHA-256 of all
    images and labels in order; state is the source's at the time of packing; broken lists what could not be read;
    value_range is what images with more than 8 bits were scaled from; notes are for the user; kind is what a label is,
    of splits.KINDS; repeated says of each split but the training images' how many of its images are among those too.
    """

    classes: list[str]
    mean: list[float]
    covariance: list[list[float]]
    fingerprint: str
    state: str
    broken: list[str]
    format: int = FORMAT
    value_range: Range | None = None
    notes: list[str] = field(default_factory=list)
    kind: str = CLASS
    repeated: dict[str, int] = field(default_factory=dict)

    def label_text(self, label: Any) -> str:
        """Returns an image's label in words: its class, the labels that hold, or its numbers by name."""
        if self.kind == CLASS:
            return self.classes[label]
        if self.kind == LABELS:
            return ", ".join(name for name, holds in zip(self.classes, label, strict=True) if holds > 0.5)
        return ", ".join(f"{name} {value:.3g}" for name, value in zip(self.classes, label, strict=True))


@dataclass(frozen=True)
class PackedDataset:
    """A packed data set. mean_image: of training images, float32 (size, size, C), 0 to 255. notes: on unused files."""

    splits: dict[str, PackedSplit]
    info: DatasetInfo
    names: dict[str, list[str]]
    mean_image: NDArray[np.float32]
    notes: list[str] = field(default_factory=list)

    def names_of(self, split: str, rows: NDArray[np.int64]) -> list[str]:
        """Returns the names of images of a split, which may be in any order."""
        return [self.names[split][place] for place in np.searchsorted(self.splits[split].rows, rows).tolist()]


@contextmanager
def appears_whole(folder: Path) -> Iterator[Path]:
    """Yields a temporary directory that is renamed to `folder` once it is all on disk, and removed on an error.

    One process at a time.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.iterdir():  # a crash of the machine must not leave images of zeros under a right name
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
        if folder.exists():  # a process that has it mapped goes on with it
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def save(packed: PackedDataset, folder: Path) -> None:
    """Writes everything but the images."""
    for name, split in packed.splits.items():
        np.savez(folder / f"{name}.npz", rows=split.rows, labels=split.labels)
    np.save(folder / "mean.npy", packed.mean_image)
    (folder / "names.json").write_text(json.dumps(packed.names), encoding="utf-8")
    (folder / "about.json").write_text(json.dumps(asdict(packed.info), indent=1), encoding="utf-8")


def read_info(folder: Path) -> DatasetInfo:
    """Returns what `save` has written about a data set."""
    return DatasetInfo(**json.loads((folder / "about.json").read_text(encoding="utf-8")))


def load(folder: Path, images: NDArray[np.uint8], file: Path | None = None) -> PackedDataset:
    """Returns what `save` has written, with the images. Raises FileNotFoundError if a part is missing."""
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    splits = {}
    for name in names:
        with np.load(folder / f"{name}.npz") as arrays:
            splits[name] = PackedSplit(images, arrays["rows"], arrays["labels"], file)
    return PackedDataset(splits, read_info(folder), names, np.load(folder / "mean.npy"))
