"""Pictures decoded once, into one uint8 array with all that is known of them, in memory or mapped from disk."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from alexnet.data.decode import fit
from alexnet.data.splits import Source, Split
from alexnet.errors import UserError, printable
from alexnet.files import wait_for

FORMAT = 4  # raised whenever the files below change their meaning: an older cache is then built anew


@dataclass(frozen=True)
class Pictures:
    """One split: picture i is images[rows[i]], uint8 (size, size, C), and labels[i] its class.

    file: the array on disk that `images` maps, which another process then maps too instead of getting a copy.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    file: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        images = None if self.file else self.images
        return _pictures, (images, self.rows, self.labels, self.file)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def chunks(self) -> NDArray[np.int64] | None:
        """Of each picture, where it lies, if pictures are better read together with their neighbours: Streamed."""
        chunks = getattr(self.images, "chunks", None)
        return None if chunks is None else chunks[self.rows]

    def take(self, index: NDArray[np.int64]) -> "Pictures":
        return Pictures(self.images, self.rows[index], self.labels[index], self.file)


def _pictures(images: Any, rows: Any, labels: Any, file: Path | None) -> Pictures:
    return Pictures(_map(file) if file else images, rows, labels, file)


def _map(file: Path) -> NDArray[np.uint8]:
    return np.asarray(np.load(file, mmap_mode="r"))  # a plain array on the map slices faster


@dataclass(frozen=True)
class About:
    """What is known of a data set beside its pictures, as plain values.

    mean (C) and covariance (C, C) are of the training pictures' channels in [0, 1]; fingerprint is the SHA-256 of all
    pictures and labels in order; state is the source's at the time of packing; broken lists what could not be read.
    """

    classes: list[str]
    mean: list[float]
    covariance: list[list[float]]
    fingerprint: str
    state: str
    broken: list[str]
    format: int = FORMAT


@dataclass(frozen=True)
class Packed:
    """mean_image: of the training pictures, float32 (size, size, C), 0 to 255."""

    splits: dict[str, Pictures]
    about: About
    names: dict[str, list[str]]
    mean_image: NDArray[np.float32]

    def names_of(self, split: str, rows: NDArray[np.int64]) -> list[str]:
        """Of pictures of a split, in any order."""
        return [self.names[split][place] for place in np.searchsorted(self.splits[split].rows, rows).tolist()]


def pack_in_memory(source: Source, size: int, channels: int, on_broken: str = "error") -> Packed:
    return _pack(source, size, channels, on_broken, lambda shape: np.empty(shape, np.uint8))


def pack_on_disk(open_source: Callable[[], Source], folder: Path, size: int, channels: int, on_broken: str) -> Packed:
    """The packed pictures in `folder`, decoded first if they are not there or the source has changed since.

    Only one process packs at a time; the others wait for it. The folder appears whole.
    """
    problem = f"data.cache_dir: cannot write {folder}: {{}}. Choose data.cache_dir=FOLDER"
    lock = FileLock(f"{folder}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        wait_for(lock, f"packs {folder}")
    except OSError as error:  # a cache that others may only read
        if complete := _open(folder, open_source().state, on_broken):
            return complete
        raise UserError(problem.format(error.strerror)) from error
    try:
        source = open_source()
        try:
            return _open(folder, source.state, on_broken) or _build(source, folder, size, channels, on_broken)
        except OSError as error:
            raise UserError(problem.format(error.strerror)) from error
    finally:
        lock.release()


class Unpacked:
    """Looks like an array of packed pictures, and decodes a picture each time that a window of it is asked for."""

    def __init__(self, source: Source, size: int, channels: int) -> None:
        self.jobs = _jobs(source)
        self.shape = (len(self.jobs), size, size, channels)

    def __getitem__(self, place: Any) -> NDArray[np.uint8]:
        row, *window = place if isinstance(place, tuple) else (place,)
        split, i = self.jobs[row]
        try:
            return fit(split.read(i), self.shape[1], self.shape[3])[tuple(window)]
        except (OSError, RuntimeError) as error:
            which = f"data: cannot read {printable(split.names[i])}: {error}"
            raise UserError(f"{which}. data.packed=true finds every such picture beforehand") from None


def unpacked(source: Source, size: int, channels: int) -> Packed:
    """The pictures as they lie in their files. The statistics are those of at most 1,000 training pictures, and the
    fingerprint is of names, sizes and times.
    """
    train = source.splits["train"]
    some = train.take(np.unique(np.linspace(0, len(train.labels) - 1, 1000).astype(np.int64)))
    sample = pack_in_memory(Source(source.classes, source.state, {"train": some}), size, channels, "skip")
    images, splits, start = cast(NDArray[np.uint8], Unpacked(source, size, channels)), {}, 0
    for name, split in source.splits.items():
        splits[name] = Pictures(images, np.arange(start, start + len(split.labels)), split.labels)
        start += len(split.labels)
    fingerprint = hashlib.sha256(source.state.partition(":")[0].encode()).hexdigest()  # the same on another disk
    names = {name: list(split.names) for name, split in source.splits.items()}
    return Packed(splits, replace(sample.about, fingerprint=fingerprint, broken=[]), names, sample.mean_image)


def _build(source: Source, folder: Path, size: int, channels: int, on_broken: str) -> Packed:
    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        need, free = int(np.prod(shape)), shutil.disk_usage(part).free
        if need > 0.98 * free:
            raise UserError(
                f"data.cache_dir={folder.parent}: {need / 1e9:.2f} GB are needed, and {free / 1e9:.2f} GB are free. "
                "Choose data.cache_dir=FOLDER on a larger disk, a smaller data.size, or data.packed=false"
            )
        array = np.lib.format.open_memmap(part / "images.npy", "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # a map onto a disk that fills up would end in SIGBUS, not in an error
            with open(part / "images.npy", "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(file.name))
        return np.asarray(array)

    with appears_whole(folder) as part:
        save(_pack(source, size, channels, on_broken, allocate), part)
    opened = _open(folder, source.state, on_broken)
    assert opened is not None
    return opened


@contextmanager
def appears_whole(folder: Path) -> Iterator[Path]:
    """Gives a folder to write to, which takes the place of `folder` once everything is on the disk, or goes.

    One process at a time.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for path in part.iterdir():  # a crash of the machine must not leave pictures of zeros under a right name
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


def save(packed: Packed, folder: Path) -> None:
    """Writes all but the pictures themselves."""
    for name, pictures in packed.splits.items():
        np.savez(folder / f"{name}.npz", rows=pictures.rows, labels=pictures.labels)
    np.save(folder / "mean.npy", packed.mean_image)
    (folder / "names.json").write_text(json.dumps(packed.names), encoding="utf-8")
    (folder / "about.json").write_text(json.dumps(asdict(packed.about), indent=1), encoding="utf-8")


def read_about(folder: Path) -> About:
    return About(**json.loads((folder / "about.json").read_text(encoding="utf-8")))


def load(folder: Path, images: NDArray[np.uint8], file: Path | None = None) -> Packed:
    """What `save` has written, with its pictures. Raises FileNotFoundError if a part of it is not there."""
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    splits = {}
    for name in names:
        with np.load(folder / f"{name}.npz") as arrays:
            splits[name] = Pictures(images, arrays["rows"], arrays["labels"], file)
    return Packed(splits, read_about(folder), names, np.load(folder / "mean.npy"))


def _open(folder: Path, state: str, on_broken: str) -> Packed | None:
    """What lies in `folder`, if it is of this format and of the source as it is now."""
    try:
        about = read_about(folder)
        if about.format != FORMAT or about.state != state or (about.broken and on_broken == "error"):
            return None
        return load(folder, _map(folder / "images.npy"), folder / "images.npy")
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, EOFError, BadZipFile):
        return None


def _pack(
    source: Source,
    size: int,
    channels: int,
    on_broken: str,
    allocate: Callable[[tuple[int, ...]], NDArray[np.uint8]],
) -> Packed:
    """Decodes every picture with all cores, and measures it while it is in the cache."""
    jobs = _jobs(source)
    n = len(jobs)
    images = allocate((n, size, size, channels))
    products = np.zeros((n, channels, channels))
    digests = np.zeros((n, 32), np.uint8)
    training, sums = source.splits["train"], threading.local()
    images_sums: list[NDArray[np.uint32]] = []  # one of each thread: whole numbers, which add up in any order
    broken: dict[int, str] = {}

    def work(row: int) -> None:
        split, i = jobs[row]
        try:
            images[row] = fit(split.read(i), size, channels)
        except (OSError, RuntimeError) as error:
            broken[row] = printable(f"{split.names[i]}: {error}")
            return
        if split is training:
            products[row] = _products(torch.from_numpy(images[row]))
            if not hasattr(sums, "image"):
                sums.image = np.zeros((size, size, channels), np.uint32)  # holds 16 million pictures
                images_sums.append(sums.image)
            np.add(sums.image, images[row], out=sums.image)
        digests[row] = np.frombuffer(hashlib.sha256(images[row].data).digest(), np.uint8)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # pictures are worked on side by side, each by one thread
    shown = *Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    try:
        with Progress(*shown, disable=n < 2000) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            task = bar.add_task("packing", total=n, rate="")
            for done, _ in enumerate(pool.map(work, range(n)), 1):
                if done % 64 == 0 or done == n:
                    bar.update(task, completed=done, rate=f"{bar.tasks[task].speed or 0:,.0f} pictures/s")
    finally:
        torch.set_num_threads(threads)

    missing = [broken[row] for row in sorted(broken)]
    if missing and on_broken == "error":
        raise UserError(
            f"data: {len(missing)} of {n} pictures cannot be read (data.on_broken=skip leaves them out):\n"
            + "\n".join(missing)
        )
    splits, names, start = {}, {}, 0
    digest = hashlib.sha256()
    for name, split in source.splits.items():
        rows = np.array([r for r in range(start, start + len(split.labels)) if r not in broken], np.int64)
        splits[name] = Pictures(images, rows, split.labels[rows - start])
        names[name] = [split.names[r - start] for r in rows]
        digest.update(f"{name} {images.shape[1:]}".encode() + digests[rows].tobytes() + splits[name].labels.tobytes())
        start += len(split.labels)
    rows = splits["train"].rows
    if not len(rows):
        raise UserError(f"data: none of the {n} pictures can be read")
    pixels = len(rows) * size * size
    images_sum: NDArray[np.int64] = np.sum(np.stack(images_sums), 0, dtype=np.int64)
    mean = images_sum.sum((0, 1)) / pixels / 255
    covariance = products[rows].sum(0) / pixels / 255**2 - np.outer(mean, mean)
    about = About(source.classes, mean.tolist(), covariance.tolist(), digest.hexdigest(), source.state, missing)
    return Packed(splits, about, names, (images_sum / len(rows)).astype(np.float32))


def _jobs(source: Source) -> list[tuple[Split, int]]:
    """Row r of the packed array is picture i of a split: (split, i) for every r, one split after the other."""
    return [(split, i) for split in source.splits.values() for i in range(len(split.labels))]


def _products(picture: torch.Tensor) -> NDArray[np.float64]:
    """Of uint8 (size, size, C): the sum over the pixels of x x^T, (C, C).

    Eight pixels are taken as one row, of whose 8C x 8C products the diagonal blocks count: matrix multiplication is
    slow at matrices of 3 columns.
    """
    size, _, c = picture.shape
    pixels = 8 if size % 8 == 0 else 1
    rows = picture.view(-1, pixels * c).float()
    return (rows.T @ rows).double().view(pixels, c, pixels, c).diagonal(dim1=0, dim2=2).sum(-1).numpy()
