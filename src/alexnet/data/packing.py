"""Decodes the images of a source once, on all cores, into one array in memory or on disk, and measures them."""

import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text
from torch import Tensor

from alexnet.cores import available_cores
from alexnet.data.decode import FEW_LEVELS, Range, bounds, few_levels, resize_and_center_crop, to_uint8
from alexnet.data.packed import (
    FORMAT,
    DatasetInfo,
    PackedDataset,
    PackedSplit,
    appears_whole,
    load,
    map_images,
    read_info,
    save,
)
from alexnet.data.splits import CLASS, Source, Split
from alexnet.errors import UserError, escape_control_chars
from alexnet.io import wait_for

CHUNK = 2**18  # bytes of images that a packing thread takes at a time: many small ones, or a large one
QUEUED = 4096  # chunks that are handed to the packing threads at a time
TOGETHER = 8  # pixels whose products are taken at a time

Shape = tuple[int, int, int, int]  # images, size, size, channels


class Store(Protocol):
    """Where packed images go: `images`, uint8 (N, size, size, C), and a method that writes a block of them."""

    images: NDArray[np.uint8]

    def write(self, row: int, block: NDArray[np.uint8]) -> None:
        """Writes `block`, (n, size, size, C), as the images row to row + n."""


class InMemory:
    """A `Store` in memory."""

    def __init__(self, shape: Shape) -> None:
        self.images = np.empty(shape, np.uint8)

    def write(self, row: int, block: NDArray[np.uint8]) -> None:
        """See Store."""
        self.images[row : row + len(block)] = block


class OnDisk:
    """A `Store` in a file of NumPy's format.

    It is written and not mapped: each new page of a map stops the thread, which takes longer than decoding.
    """

    def __init__(self, file: Path, shape: Shape) -> None:
        array = np.lib.format.open_memmap(file, "w+", np.uint8, shape)  # writes the header
        self.images, self.start = np.asarray(array), array.offset
        self.descriptor = os.open(file, os.O_WRONLY)

    def write(self, row: int, block: NDArray[np.uint8]) -> None:
        """See Store."""
        rest, place = block.data.cast("B"), self.start + row * self.images[0].nbytes
        while len(rest):
            written = os.pwrite(self.descriptor, rest, place)
            rest, place = rest[written:], place + written

    def close(self) -> None:
        """Closes the file."""
        os.close(self.descriptor)


def pack_in_memory(source: Source, size: int, channels: int, on_broken: str = "error") -> PackedDataset:
    """Decodes every image of a source into memory. See pack_on_disk."""
    return _pack(source, InMemory(_shape(source, size, channels)), on_broken)


def pack_on_disk(source: Source, folder: Path, size: int, channels: int, on_broken: str) -> PackedDataset:
    """Returns the packed images in `folder`. Decodes them first if they are not there or the source has changed.

    Only one process packs at a time; the others wait for it. The folder appears whole, so that it is read without a
    lock: the jobs of a sweep would open it one after the other.

    Args:
        source: the images as they are now.
        folder: what may be written, and is `images.npy` and what packed.save writes.
        size: the shorter side is scaled to so many pixels, and the centre is cut out.
        channels: 3, or 1 for grey.
        on_broken: `error`, or `skip` for leaving out what cannot be decoded.

    Raises:
        UserError: for images that cannot be decoded, all of them named, and for a folder that cannot be written.
    """
    try:
        if complete := _open(folder, source, on_broken):
            return complete
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        wait_for(lock, f"packs {folder}")
        try:
            return _open(folder, source, on_broken) or _build(source, folder, size, channels, on_broken)
        finally:
            lock.release()
    except OSError as error:
        problem = f"data.cache_dir: cannot write {folder}: {error.strerror}"
        raise UserError(f"{problem}. Choose data.cache_dir=FOLDER") from error


def _shape(source: Source, size: int, channels: int) -> Shape:
    return len(list_jobs(source)), size, size, channels


def _build(source: Source, folder: Path, size: int, channels: int, on_broken: str) -> PackedDataset:
    shape = _shape(source, size, channels)
    with appears_whole(folder) as part:
        need, free = int(np.prod(shape)), shutil.disk_usage(part).free
        if need > 0.98 * free:
            raise UserError(
                f"data.cache_dir={folder.parent}: {need / 1e9:.2f} GB are needed, and {free / 1e9:.2f} GB are free. "
                "Choose data.cache_dir=FOLDER on a larger disk, a smaller data.size, or data.packed=false"
            )
        with closing(OnDisk(part / "images.npy", shape)) as store:
            save(_pack(source, store, on_broken), part)
    opened = _open(folder, source, on_broken)
    assert opened is not None
    return opened


def _open(folder: Path, source: Source, on_broken: str) -> PackedDataset | None:
    """Returns the data set in `folder`, if it has this format and is of the source as it is now; else None."""
    try:
        info = read_info(folder)
        if info.format != FORMAT or info.state != source.state or (info.broken and on_broken == "error"):
            return None
        packed = load(folder, map_images(folder / "images.npy"), folder / "images.npy")
        if read_info(folder) != info:  # another process has put a newer one into its place
            return None
        return replace(packed, notes=source.notes)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, EOFError, BadZipFile):
        return None


def _pack(source: Source, store: Store, on_broken: str) -> PackedDataset:
    """Decodes every image with all cores, and measures it while it is still in the processor's cache."""
    packer = _Packer(source, store)
    packer.pack()
    missing = [packer.broken[row] for row in sorted(packer.broken)]
    if missing and on_broken == "error":
        raise UserError(
            f"data: {len(missing)} of {len(packer.jobs)} images cannot be read (data.on_broken=skip leaves them out):\n"
            + "\n".join(missing)
        )
    splits, names, start = {}, {}, 0
    images, digest = store.images, hashlib.sha256()
    for name, split in source.splits.items():
        rows = np.array([r for r in range(start, start + len(split.labels)) if r not in packer.broken], np.int64)
        splits[name] = PackedSplit(images, rows, split.labels[rows - start])
        names[name] = [split.names[r - start] for r in rows]
        header = f"{name} {images.shape[1:]}".encode()
        digest.update(header + packer.digests[rows].tobytes() + splits[name].labels.tobytes())
        start += len(split.labels)
    keys = packer.digests[:, :8].copy().view(np.uint64)[:, 0]  # 64 of 256 bits: no two images share them
    repeated, notes = _find_repeated(splits, names, keys)
    if source.kind == CLASS:
        notes += _find_contradictions(splits, names, keys)
    rows = splits[source.measured].rows
    if not len(rows):
        raise UserError(f"data: none of the {len(packer.jobs)} images can be read")
    pixels = len(rows) * packer.size**2
    images_sum: NDArray[np.int64] = np.sum(np.stack(packer.sums), 0, dtype=np.int64)
    mean = images_sum.sum((0, 1)) / pixels / 255
    covariance = sum(packer.products[row] for row in sorted(packer.products)) / pixels / 255**2 - np.outer(mean, mean)
    info = DatasetInfo(
        source.classes,
        mean.tolist(),
        covariance.tolist(),
        digest.hexdigest(),
        source.state,
        missing,
        value_range=packer.value_range,
        notes=[*packer.notes(), *notes],
        kind=source.kind,
        repeated=repeated,
    )
    return PackedDataset(splits, info, names, (images_sum / len(rows)).astype(np.float32), source.notes)


class _Rate(ProgressColumn):
    """Images per second, computed only when the bar is drawn: after every image it would take 0.1 ms."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


class _Scratch(threading.local):
    """Memory that a thread packs one chunk after the other in: fresh memory costs a page fault for every page.

    Attributes:
        images: uint8 (n, size, size, C).
        numbers: float32, as many as images has, and up to the next row of TOGETHER pixels.
        sum: uint32 (size, size, C), of the images that were measured; it holds 16 million of them.
    """

    def __init__(self, shape: Shape, sums: list[NDArray[np.uint32]]) -> None:
        pixels = shape[0] * shape[1] * shape[2]
        self.images = np.empty(shape, np.uint8)
        self.numbers = torch.empty(-(-pixels // TOGETHER), TOGETHER * shape[3])
        self.sum = np.zeros(shape[1:], np.uint32)
        sums.append(self.sum)


class _Packer:
    """Fills a store from a source, on all cores.

    Attributes:
        jobs: row r is image i of a split, (split, i) = jobs[r].
        products: of each chunk, by its first row, the sum over its measured images' pixels of x x^T, (C, C).
        sums: of each thread, the sum of its measured images: whole numbers, which add up in any order.
        digests: SHA-256 of each image, (N, 32).
        broken: what is wrong with the images that cannot be read, by row.
        deep: of images with more than 8 bits whose files do not say their values' range, the values' bounds, by row.
        few: how many levels those images have that have few, by row.
        value_range: of the deep images; of the measured ones.
    """

    def __init__(self, source: Source, store: Store) -> None:
        self.source, self.store, self.jobs = source, store, list_jobs(source)
        n, self.size, _, self.channels = store.images.shape
        self.chunk = max(1, CHUNK // (self.size**2 * self.channels))
        self.products: dict[int, NDArray[np.float64]] = {}
        self.digests = np.zeros((n, 32), np.uint8)
        self.sums: list[NDArray[np.uint32]] = []
        self.scratch = _Scratch((self.chunk, *store.images.shape[1:]), self.sums)
        self.broken: dict[int, str] = {}
        self.deep: dict[int, Range] = {}
        self.few: dict[int, int] = {}
        self.value_range: Range | None = None

    def pack(self) -> None:
        rows = range(len(self.jobs))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # images are worked on side by side, each by one thread
        columns = *Progress.get_default_columns(), MofNCompleteColumn(), _Rate()
        try:
            with Progress(*columns, disable=len(rows) < 2000) as bar, ThreadPoolExecutor(available_cores()) as pool:
                self._pack_rows(rows, "packing", bar, pool)
                if self.deep:
                    self.value_range = self._range_of_deep()
                    self._pack_rows(sorted(self.deep), "scaling", bar, pool)
        finally:
            torch.set_num_threads(threads)

    def _pack_rows(self, rows: Sequence[int], label: str, bar: Progress, pool: ThreadPoolExecutor) -> None:
        task = bar.add_task(label, total=len(rows))
        queued = self.chunk * QUEUED
        for start in range(0, len(rows), queued):  # the pool keeps what is not yet begun in memory
            some = rows[start : start + queued]
            chunks = [some[first : first + self.chunk] for first in range(0, len(some), self.chunk)]
            for done in pool.map(self._pack_chunk, chunks):
                bar.advance(task, done)

    def _pack_chunk(self, rows: Sequence[int]) -> int:
        """Packs one chunk. Returns the number of its images, read or not."""
        images = self.scratch.images[: len(rows)]
        packed = [place for place, row in enumerate(rows) if self._read(row, images[place])]
        for place in packed:
            self.digests[rows[place]] = np.frombuffer(hashlib.sha256(images[place].data).digest(), np.uint8)
        if isinstance(rows, range) and len(packed) == len(rows):  # one after the other, and all there
            self.store.write(rows[0], images)
        else:
            for place in packed:
                self.store.write(rows[place], images[place : place + 1])
        split = self.source.splits[self.source.measured]
        measured = [place for place in packed if self.jobs[rows[place]][0] is split]
        if measured:
            some = images if len(measured) == len(images) else images[measured]  # which is a copy
            self._measure(rows[measured[0]], some)
        return len(rows)

    def _measure(self, row: int, images: NDArray[np.uint8]) -> None:
        self.products[row] = _products(images, self.scratch.numbers)
        for image in images:
            np.add(self.scratch.sum, image, out=self.scratch.sum)

    def _read(self, row: int, image: NDArray[np.uint8]) -> bool:
        """Decodes one image into `image`, (size, size, C). Returns whether it could be read."""
        split, i = self.jobs[row]
        try:
            decoded = split.read(i)
            if decoded.dtype != torch.uint8:
                if self.value_range is None:
                    self.deep[row] = bounds(decoded)
                    return False
                decoded = to_uint8(decoded, self.value_range, self.source.background)
            image[...] = resize_and_center_crop(decoded, self.size, self.channels)
        except (OSError, RuntimeError) as error:
            self.broken[row] = escape_control_chars(f"{split.names[i]}: {error}")
            return False
        if self.source.files:
            levels = few_levels(decoded)
            if levels is not None:
                self.few[row] = levels
        return True

    def _range_of_deep(self) -> Range:
        """Returns 0, or less, and the largest value of images with more than 8 bits; of the measured split if any."""
        split = self.source.splits[self.source.measured]
        measured = [found for row, found in self.deep.items() if self.jobs[row][0] is split]
        found = np.array(measured or list(self.deep.values()))
        low, high = min(0.0, float(found[:, 0].min())), float(found[:, 1].max())
        return low, high if high > low else low + 1

    def notes(self) -> list[str]:
        """Returns what the user should know about the images."""
        notes = []
        if self.value_range:
            low, high = self.value_range
            notes.append(
                f"{len(self.deep):,} images have more than 8 bits a channel: values from {low:g} to {high:g}, the "
                "largest of the data set, become 0 to 255 (data.value_range=[LOW,HIGH] sets it)"
            )
        if self.few:
            row = min(self.few, key=lambda row: self.few[row])
            split, i = self.jobs[row]
            name = escape_control_chars(split.names[i])
            notes.append(
                f"{len(self.few):,} of {len(self.jobs):,} images have fewer than {FEW_LEVELS} levels, such as {name} "
                f"({self.few[row]}): they may look black, or have lost their detail"
            )
        return notes


def list_jobs(source: Source) -> list[tuple[Split, int]]:
    """Returns (split, i) for each row of the packed array: image i of a split, one split after the other."""
    return [(split, i) for split in source.splits.values() for i in range(len(split.labels))]


def _find_repeated(
    splits: dict[str, PackedSplit], names: dict[str, list[str]], keys: NDArray[np.uint64]
) -> tuple[dict[str, int], list[str]]:
    """Returns how many images of each split are training images too, pixel for pixel, and notes that say so."""
    repeated: dict[str, int] = {}
    notes: list[str] = []
    if "train" not in splits:
        return repeated, notes
    known = keys[splits["train"].rows]
    others = {name: split for name, split in splits.items() if name != "train"}
    for name, split in others.items():
        found = np.flatnonzero(np.isin(keys[split.rows], known))
        if not len(found):
            continue
        repeated[name] = len(found)
        first = found[0]
        other = np.flatnonzero(known == keys[split.rows[first]])[0]
        pair = " and the training image ".join(map(escape_control_chars, (names[name][first], names["train"][other])))
        notes.append(
            f"{len(found):,} of {len(split.rows):,} {name} images are training images too, pixel for pixel, such as "
            f"{pair}: {name} figures are better than those of new images would be"
        )
    return repeated, notes


def _find_contradictions(
    splits: dict[str, PackedSplit], names: dict[str, list[str]], keys: NDArray[np.uint64]
) -> list[str]:
    """Returns a note if images of several classes are the same, pixel for pixel."""
    images = np.concatenate([keys[split.rows] for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    order = np.lexsort((labels, images))
    same = images[order[1:]] == images[order[:-1]]
    places = np.flatnonzero(same & (labels[order[1:]] != labels[order[:-1]]))
    if not len(places):
        return []
    called = [name for split in splits for name in names[split]]
    pair = " and ".join(escape_control_chars(called[i]) for i in order[places[0] : places[0] + 2])
    count = len(np.unique(images[order[places]]))
    return [
        f"images in several classes, pixel for pixel: {count:,}, such as {pair}; all but one of the classes are wrong"
    ]


def _products(images: NDArray[np.uint8], numbers: Tensor) -> NDArray[np.float64]:
    """Returns the sum of x x^T over the pixels x of uint8 images (N, size, size, C), as (C, C).

    Matrix multiplication is slow at matrices of 3 columns, so 8 pixels are one row, of whose 8C x 8C products the
    blocks on the diagonal count. numbers: float32 of at least as many such rows, which are written.
    """
    c = images.shape[-1]
    rows = numbers[: -(-images.size // numbers.shape[1])]
    flat = rows.view(-1)
    flat[: images.size] = torch.from_numpy(images).view(-1)
    flat[images.size :] = 0
    blocks = (rows.T @ rows).double().view(TOGETHER, c, TOGETHER, c)
    return blocks.diagonal(dim1=0, dim2=2).sum(-1).numpy()
