"""Where pictures come from: each source lists its pictures by split, and decodes one when asked."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as tv
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import datasets
from torchvision.datasets import imagenet
from torchvision.datasets.utils import download_and_extract_archive
from torchvision.io import ImageReadMode, decode_image

from alexnet.checks import UserError
from alexnet.rng import stream

FOLDERS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}
NO_CLASSES = {"__MACOSX", "__pycache__"}
THIN = 8  # times longer than wide: what is cut off before such a picture is resized is far from the centre
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
# What torchvision fetches, and how many classes it has.
DOWNLOADS = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100, "imagenette": 10, "imagenet": 1000}
SOURCES = ("digits", *DOWNLOADS, "folder", "fake", "stream")


@dataclass(frozen=True)
class Split:
    """Pictures of one split: `read(i)` gives picture i as uint8 (C, H, W), C being 1 or 3, of any size."""

    labels: NDArray[np.int64]
    names: Sequence[str]
    read: Callable[[int], Tensor]

    def take(self, index: NDArray[np.int64]) -> "Split":
        return Split(self.labels[index], [self.names[i] for i in index], partial(_taken, self.read, index))


@dataclass(frozen=True)
class Source:
    """classes: their names. state: changes whenever the pictures do. splits: train, and perhaps val and test."""

    classes: list[str]
    state: str
    splits: dict[str, Split]


def _item(images: Tensor, i: int) -> Tensor:
    return images[i]


def _taken(read: Callable[[int], Tensor], index: NDArray[np.int64], i: int) -> Tensor:
    return read(int(index[i]))


def stratified(labels: NDArray[np.int64], shares: dict[str, float]) -> dict[str, NDArray[np.int64]]:
    """Sample numbers per split, each class cut by the same shares in an order that never changes.

    The first split gets what rounding leaves. It does not depend on the run's seed: runs must be comparable.
    """
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in shares}
    first, *others = shares
    for label in np.unique(labels):
        members = shuffled(np.flatnonzero(labels == label), f"split/{label}")
        n = len(members)
        for name in others:
            count = round(shares[name] * n)
            parts[name].append(members[:count])
            members = members[count:]
        parts[first].append(members)
    return {name: np.sort(np.concatenate(members)) for name, members in parts.items()}


def subset(labels: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Sample numbers of `fraction` of every class, at least one of each. A smaller subset lies within a larger one."""
    chosen = []
    for label in np.unique(labels):
        members = shuffled(np.flatnonzero(labels == label), f"fraction/{label}")
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))


def shuffled(members: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    return members[torch.randperm(len(members), generator=stream(0, name)).numpy()]


def open_source(source: str, root: Path, size: int, channels: int, num_classes: int) -> Source:
    """The pictures of one of SOURCES. root: the folder of pictures, or where downloads go."""
    if source == "digits":
        return digits()
    if source == "fake":
        return fake(size, channels, num_classes)
    if source == "folder":
        return folder(root)
    return downloaded(source, root)


def digits() -> Source:
    """scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, split 70/15/15."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    raw = load_digits()
    images = torch.from_numpy(raw.images * (255 / 16)).round().to(torch.uint8)[:, None]  # the values are 0..16
    parts = _split_off(_array(images, raw.target), {"train": 0.7, "val": 0.15, "test": 0.15})
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
        splits[name] = _array(images.to(torch.uint8), labels.numpy())
    return Source([f"class {c}" for c in range(num_classes)], "fake", splits)


def downloaded(source: str, root: Path) -> Source:
    """torchvision's data sets, of each also a tree of class folders. A tenth of the training pictures is for validation
    (a fiftieth of ImageNet's); the official test or validation pictures are the test set.
    """
    share = {"train": 0.98, "val": 0.02} if source == "imagenet" else {"train": 0.9, "val": 0.1}
    held_out = "val" if source in ("imagenette", "imagenet") else "test"
    if held_out == "val" or any((root / name).is_dir() for name in FOLDERS["train"]):
        train, test = (_official_folder(source, root, split) for split in ("train", held_out))
        classes = find_classes(train)
        listed = list_files({"train": train, "test": test}, classes)
        splits = _split_off(listed.splits["train"], share) | {"test": listed.splits["test"]}
        return Source(classes, listed.state, splits)
    make = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }[source]
    with _fetching(source, root), _unpacking(root):
        sets = {name: make(root, train=name == "train", download=True) for name in ("train", "test")}
    splits = {}
    for name, pictures in sets.items():
        images = torch.as_tensor(pictures.data)  # MNIST (N, H, W), CIFAR (N, H, W, 3)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
        splits[name] = _array(images, np.asarray(pictures.targets))
    classes = [str(name) for name in sets["train"].classes]
    return Source(classes, source, _split_off(splits["train"], share) | {"test": splits["test"]})


def _official_folder(source: str, root: Path, split: str) -> Path:
    """The folder of a split's class folders; of Imagenette and ImageNet torchvision unpacks them out of archives."""

    def found() -> Path | None:
        above = (root, root / "imagenette2") if source == "imagenette" else (root,)
        return next((path / name for path in above for name in FOLDERS[split] if (path / name).is_dir()), None)

    if folder := found():
        return folder
    if split == "test":
        raise UserError(f"data.root={root}: has training pictures in folders, but no test/CLASS/*.jpg")
    with _fetching(source, root), _unpacking(root) as part:
        if folder := found():  # by another process meanwhile
            return folder
        if source == "imagenette":
            url, md5 = datasets.Imagenette._ARCHIVES["full"]
            download_and_extract_archive(url, root, part, md5=md5)
            return (part / "imagenette2").rename(root / "imagenette2") / split
        if not (root / imagenet.META_FILE).exists():
            imagenet.parse_devkit_archive(root)
        parse = {"train": imagenet.parse_train_archive, "val": imagenet.parse_val_archive}[split]
        parse(root, folder=f"{part.name}/{split}")
        return (part / split).rename(root / split)


WANTED = {
    "mnist": "the four *-ubyte.gz files of MNIST into {root}/MNIST/raw",
    "fashion_mnist": "the four *-ubyte.gz files of Fashion-MNIST into {root}/FashionMNIST/raw",
    "cifar10": "cifar-10-python.tar.gz into {root}",
    "cifar100": "cifar-100-python.tar.gz into {root}",
    "imagenette": "imagenette2.tgz into {root}",
    "imagenet": "ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or folders "
    "train/CLASS and val/CLASS, into {root}",
}


@contextmanager
def _unpacking(root: Path) -> Iterator[Path]:
    """A folder below `root` to unpack in. torchvision takes for whole what is there, though its process was killed."""
    folder = root / ".unpacking"
    if folder.exists():
        for archive in root.glob("*/raw/*.gz"):  # of MNIST, which are unpacked where they lie
            archive.with_suffix("").unlink(missing_ok=True)
        shutil.rmtree(folder)
    with suppress(OSError):  # all may be there already, and only to be read
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(lock: FileLock, what: str) -> None:
    """Acquires the lock, and says what its holder does if that takes a while."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another process {what}: waiting for it", flush=True)
        lock.acquire()


@contextmanager
def _fetching(source: str, root: Path) -> Iterator[None]:
    """Around a download, of one process at a time: whatever stops it becomes one error that says what to fetch and
    where to put it.
    """
    lock = FileLock(root / ".lock")
    with suppress(OSError):  # what others may only read needs no lock: nobody fetches anything into it
        root.mkdir(parents=True, exist_ok=True)
        wait_for(lock, f"fetches {source} into {root}")
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # which older versions of torchvision lack
    try:
        yield
    except (OSError, RuntimeError, EOFError, ValueError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())[:150]
        wanted = WANTED[source].format(root=root)
        raise UserError(
            f"data={source} cannot be fetched: {reason}\nPut {wanted}, or name its folder, data.root=FOLDER"
        ) from error
    finally:
        lock.release()


def find_folders(root: Path) -> dict[str, Path]:
    """The folder of each split under `root`: train/ or training/ and so on, or `root` itself as the only one."""
    if not root.is_dir():
        raise ValueError(
            f"root={root}: no such folder. Name one with train/CLASS/*.jpg, and the same for val and test if there are"
        )
    found = {s: root / name for s, names in FOLDERS.items() for name in names if (root / name).is_dir()}
    found = found or {"train": root}
    if "train" not in found:
        raise ValueError(f"root={root}: has {', '.join(p.name for p in found.values())}, but no train or training")
    if not find_classes(found["train"]):
        raise ValueError(f"root={root}: {found['train']} holds no class folders; expected CLASS/*.jpg in it")
    return found


def find_classes(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name not in NO_CLASSES)


def folder(root: Path) -> Source:
    """A tree of class folders. A split without a folder of its own gets 15% of the training pictures, stratified."""
    folders = find_folders(root)
    listed = list_files(folders, find_classes(folders["train"]))
    train = listed.splits["train"]
    if not len(train.labels):
        raise UserError(f"data.root={root}: no pictures in {folders['train']} ({', '.join(sorted(EXTENSIONS))})")
    if empty := sorted({*range(len(listed.classes))} - set(train.labels.tolist())):
        names = ", ".join(listed.classes[label] for label in empty)
        raise UserError(f"data.root={root}: no pictures to train on in the class folders {names}; remove them")
    missing = {name: 0.15 for name in ("val", "test") if name not in folders}
    return Source(listed.classes, listed.state, listed.splits | _split_off(train, {"train": 1.0, **missing}))


def list_files(folders: dict[str, Path], classes: list[str]) -> Source:
    """Every picture file below the class folders. The state is made of names, sizes and times, not of contents: what
    a copy of the folder shares, and after a colon what tells that a file was replaced under the same size and time.
    """
    changed = hashlib.sha256()
    state, splits = hashlib.sha256(f"{sorted(folders)} {classes}".encode(errors="surrogateescape")), {}
    for split, folder in folders.items():
        if unknown := sorted(set(find_classes(folder)) - set(classes)):
            raise UserError(f"data.root: {folder} has classes that training pictures lack: {', '.join(unknown)}")
        files: list[tuple[str, int]] = []
        for label, name in enumerate(classes):
            for entry in sorted(walk(folder / name, (os.path.realpath(folder),)), key=lambda entry: entry.path):
                info = entry.stat()
                path = os.path.relpath(entry.path, folder)
                files.append((path, label))
                changed.update(f"{info.st_ctime_ns} ".encode())
                state.update(f"{split}/{path}\0{info.st_size}\0{info.st_mtime_ns}\0".encode(errors="surrogateescape"))
        names = [path for path, _ in files]
        labels = np.array([label for _, label in files], np.int64)
        splits[split] = Split(labels, names, partial(_read, folder, names))
    return Source(classes, f"{state.hexdigest()}:{changed.hexdigest()}", splits)


def walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator["os.DirEntry[str]"]:
    """Picture files below `folder`, through links, but not through one that leads back to a folder above it."""
    here = os.path.realpath(folder)
    if here in above or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # .ipynb_checkpoints, and the ._0.jpg that macOS leaves
                continue
            if entry.is_dir():
                yield from walk(Path(entry.path), (*above, here))
            elif Path(entry.name).suffix.lower() in EXTENSIONS and entry.is_file():
                yield entry


def _read(folder: Path, names: list[str], i: int) -> Tensor:
    return decode(folder / names[i])


def decode(path: Path) -> Tensor:
    """A picture file as RGB, uint8 (3, H, W), turned as its camera says. Raises OSError if it cannot be read.

    torchvision reads plain JPEGs, which it does fastest; PIL reads every other kind.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                data = torch.from_numpy(np.fromfile(path, np.uint8))
                return decode_image(data, ImageReadMode.RGB, apply_exif_orientation=True)
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels of 32 bits (mode {image.mode}) have no known range")
            upright = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # PIL's own conversion cuts off everything above 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            array = np.array(upright.convert("RGB"))
            return torch.from_numpy(array).permute(2, 0, 1)
    except Exception as error:  # for damaged files PIL raises nearly every kind
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error


def fit(picture: Tensor, size: int, channels: int) -> NDArray[np.uint8]:
    """Shorter side to `size`, then the centre (paper, section 2): uint8 (C, H, W) to (size, size, channels)."""
    if picture.shape[0] != channels:
        if channels == 3:
            picture = picture.expand(channels, -1, -1)
        elif torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2]):
            picture = picture[:1]  # the weights of the colours add up to 0.9999: a grey picture would get darker
        else:
            picture = tv.rgb_to_grayscale(picture)
    height, width = picture.shape[1:]
    if max(height, width) > THIN * min(height, width):  # resizing all of a strip of 6000x1 would take gigabytes
        picture = tv.center_crop(picture, [min(height, THIN * width), min(width, THIN * height)])
        height, width = picture.shape[1:]
    if min(height, width) != size:  # in whole numbers, as PIL does: by way of float32 it takes four times as long
        scaled = [size * side // min(height, width) for side in (height, width)]
        picture = interpolate(picture[None], scaled, mode="bilinear", antialias=True)[0]
    return tv.center_crop(picture, [size, size]).permute(1, 2, 0).numpy()


def _array(images: Tensor, labels: NDArray[np.int64]) -> Split:
    return Split(labels.astype(np.int64), [str(i) for i in range(len(labels))], partial(_item, images))


def _split_off(split: Split, shares: dict[str, float]) -> dict[str, Split]:
    return {name: split.take(index) for name, index in stratified(split.labels, shares).items()}
