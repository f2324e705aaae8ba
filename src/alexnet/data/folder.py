"""Trees of class folders: train/CLASS/*.jpg."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.data.decode import decode
from alexnet.data.splits import Source, Split, split_off
from alexnet.errors import UserError

FOLDERS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}
NO_CLASSES = {"__MACOSX", "__pycache__"}
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


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
    return Source(listed.classes, listed.state, listed.splits | split_off(train, {"train": 1.0, **missing}))


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
