"""torchvision's data sets, downloaded and unpacked once, even when processes are killed meanwhile."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.datasets import imagenet

from alexnet.data.sources.folder import Reading, list_files
from alexnet.data.sources.layout import find_classes, find_split
from alexnet.data.splits import Source, array_split, notes_on_classes, stratified_split
from alexnet.errors import UserError
from alexnet.io import wait_for

# What torchvision fetches, and how many classes it has.
DOWNLOADS = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100, "imagenette": 10, "imagenet": 1000}
UNPACKING = ".unpacking"  # while there is such a folder beside a data set, it is not yet whole
FAULTS = (OSError, RuntimeError, EOFError, ValueError, tarfile.TarError)  # of what is not there, or damaged
WANTED = {
    "mnist": "the four *-ubyte.gz files of MNIST into {root}/MNIST/raw",
    "fashion_mnist": "the four *-ubyte.gz files of Fashion-MNIST into {root}/FashionMNIST/raw",
    "cifar10": "cifar-10-python.tar.gz into {root}",
    "cifar100": "cifar-100-python.tar.gz into {root}",
    "imagenette": "imagenette2.tgz into {root}",
    "imagenet": "ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or folders "
    "train/CLASS and val/CLASS, into {root}",
}


def downloaded(source: str, root: Path, reading: Reading = Reading()) -> Source:  # noqa: B008
    """Opens one of torchvision's data sets, or the same images as a tree of class folders.

    A tenth of the training images is for validation (a fiftieth of ImageNet's); the official test or validation images
    are the test set.
    """
    share = {"train": 0.98, "val": 0.02} if source == "imagenet" else {"train": 0.9, "val": 0.1}
    held_out = "val" if source in ("imagenette", "imagenet") else "test"
    if held_out == "val" or find_split(root, "train"):
        train, test = (_official_folder(source, root, split) for split in ("train", held_out))
        classes = find_classes(train)
        listed = list_files({"train": train, "test": test}, classes, reading)
        splits = stratified_split(listed.splits["train"], share) | {"test": listed.splits["test"]}
        return replace(listed, splits=splits, notes=[*listed.notes, *notes_on_classes(listed)])
    sets = _open_sets(source, root)
    splits = {}
    for name, dataset in sets.items():
        images = torch.as_tensor(dataset.data)  # MNIST (N, H, W), CIFAR (N, H, W, 3)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
        splits[name] = array_split(images, np.asarray(dataset.targets))
    classes = [str(name) for name in sets["train"].classes]
    return Source(classes, source, stratified_split(splits["train"], share) | {"test": splits["test"]})


def _open_sets(source: str, root: Path) -> dict[str, Any]:
    """Opens torchvision's training and test set, and downloads them if they are not there.

    Those that are, are read without a lock: the jobs of a sweep would read them one after the other.
    """
    kinds = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    make = partial(kinds[source], root)
    if not (root / UNPACKING).exists():
        with suppress(*FAULTS):
            return {"train": make(train=True), "test": make(train=False)}
    with _fetching(source, root), _unpacking(root):
        return {"train": make(train=True, download=True), "test": make(train=False, download=True)}


def _official_folder(source: str, root: Path, split: str) -> Path:
    """Returns the folder of a split's class folders; of Imagenette and ImageNet it is unpacked from archives."""

    def found() -> Path | None:
        above = (root, root / "imagenette2") if source == "imagenette" else (root,)
        return next(filter(None, (find_split(path, split) for path in above)), None)

    if folder := found():
        return folder
    if split == "test":
        raise UserError(f"data.root={root}: has training images in folders, but no test/CLASS/*.jpg")
    with _fetching(source, root), _unpacking(root) as part:
        if folder := found():  # by another process meanwhile
            return folder
        if source == "imagenette":
            archive = root / "imagenette2.tgz"
            (part / archive.name).symlink_to(archive.absolute())  # it is taken from there, or downloaded to there
            datasets.Imagenette(part, download=True)
            return (part / "imagenette2").rename(root / "imagenette2") / split
        if not (root / imagenet.META_FILE).exists():
            imagenet.parse_devkit_archive(root)
        parse = {"train": imagenet.parse_train_archive, "val": imagenet.parse_val_archive}[split]
        parse(root, folder=f"{part.name}/{split}")
        return (part / split).rename(root / split)


@contextmanager
def _unpacking(root: Path) -> Iterator[Path]:
    """Yields a folder below `root` to unpack in: torchvision takes a partly unpacked data set for a whole one."""
    folder = root / UNPACKING
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


@contextmanager
def _fetching(source: str, root: Path) -> Iterator[None]:
    """Holds a lock during a download, so that one process downloads at a time.

    Whatever stops it becomes one error that says what to fetch and where to put it.
    """
    lock = FileLock(root / ".lock")
    with suppress(OSError):  # what others may only read needs no lock: nobody fetches anything into it
        root.mkdir(parents=True, exist_ok=True)
        wait_for(lock, f"fetches {source} into {root}")
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # Python's default from 3.14 on
    try:
        yield
    except FAULTS as error:
        reason = " ".join(str(error).split())[:150]
        wanted = WANTED[source].format(root=root)
        raise UserError(
            f"data={source} cannot be fetched: {reason}\nPut {wanted}, or name its folder, data.root=FOLDER"
        ) from error
    finally:
        tarfile.TarFile.extraction_filter = before
        lock.release()
