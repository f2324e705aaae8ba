"""Where pictures come from. Each source gives its splits as uint8 arrays, and its class names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track
from torch.nn.functional import interpolate

from alexnet.checks import UserError
from alexnet.rng import stream

SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Pictures:
    """One split: images uint8 (N, C, size, size), labels int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> "Pictures":
        return Pictures(self.images[index], self.labels[index])


Splits = dict[str, Pictures]


def stratified(labels: NDArray[np.int64], shares: dict[str, float]) -> dict[str, NDArray[np.int64]]:
    """Sample numbers per split, each class cut by the same shares in an order that never changes.

    The first split gets what rounding leaves. It does not depend on the run's seed: runs must be comparable.
    """
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in shares}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[torch.randperm(len(members), generator=stream(0, f"split/{label}")).numpy()]
        for name in reversed(shares):
            count = round(shares[name] * len(np.flatnonzero(labels == label))) if name != next(iter(shares)) else None
            parts[name].append(members[:count])
            members = members[len(members) if count is None else count :]
    return {name: np.sort(np.concatenate(members)) for name, members in parts.items()}


def digits(size: int) -> tuple[Splits, list[str]]:
    """scikit-learn's handwritten digits: 1,797 grey pictures of 8x8, split 70/15/15, scaled up to `size`."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    raw = load_digits()
    small = torch.from_numpy(raw.images)[:, None].float() * (255 / 16)  # the values are 0..16
    big = interpolate(small, size=(size, size), mode="bilinear").round_().clamp_(0, 255).to(torch.uint8).numpy()
    whole = Pictures(big, raw.target.astype(np.int64))
    parts = stratified(whole.labels, {"train": 0.7, "val": 0.15, "test": 0.15})
    return {name: whole.take(index) for name, index in parts.items()}, [str(c) for c in range(10)]


def fake(size: int, channels: int, num_classes: int) -> tuple[Splits, list[str]]:
    """Blurred noise around one pattern per class: something to learn, for trying things without pictures."""
    draw = stream(0, "fake")
    patterns = torch.rand(num_classes, channels, 4, 4, generator=draw)
    splits = {}
    for name, n in {"train": 512, "val": 128, "test": 128}.items():
        labels = torch.arange(n) % num_classes
        noise = torch.rand(n, channels, 4, 4, generator=draw)
        images = interpolate((patterns[labels] + noise) * 127.5, size=(size, size), mode="bilinear")
        splits[name] = Pictures(images.to(torch.uint8).numpy(), labels.numpy())
    return splits, [f"class {c}" for c in range(num_classes)]


def find_folders(root: Path) -> dict[str, Path]:
    """The folder of each split under `root`: train/ or training/ and so on, or `root` itself as the only one."""
    if not root.is_dir():
        raise ValueError(
            f"root={root}: no such folder. Name one with train/CLASS/*.jpg, and the same for val and test if there are"
        )
    found = {s: root / name for s, names in SPLITS.items() for name in names if (root / name).is_dir()}
    found = found or {"train": root}
    if "train" not in found:
        raise ValueError(f"root={root}: has {', '.join(p.name for p in found.values())}, but no train or training")
    if not find_classes(found["train"]):
        raise ValueError(f"root={root}: {found['train']} holds no class folders; expected CLASS/*.jpg in it")
    return found


def find_classes(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def folder(root: Path, size: int) -> tuple[Splits, list[str]]:
    """A tree of class folders, decoded into memory as RGB: shorter side to `size`, then the centre (paper, section 2).

    A split that has no folder of its own is taken from the training pictures by a fixed stratified rule.
    """
    folders = find_folders(root)
    classes = find_classes(folders["train"])
    files = {name: list(_files(path, classes)) for name, path in folders.items()}
    splits: Splits = {}
    broken: list[str] = []
    for name, members in files.items():
        images = np.empty((len(members), 3, size, size), np.uint8)
        for i, (path, _) in enumerate(track(members, f"reading {folders[name]}", disable=not members)):
            try:
                images[i] = _decode(path, size)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                broken.append(f"{path}: {error}")
        splits[name] = Pictures(images, np.array([label for _, label in members], np.int64))
    if broken:
        raise UserError(f"data.root={root}: {len(broken)} pictures cannot be read:\n" + "\n".join(broken))
    if not len(splits["train"]):
        raise UserError(f"data.root={root}: no pictures in {folders['train']} ({', '.join(sorted(EXTENSIONS))})")
    missing = {name: 0.15 for name in ("val", "test") if name not in splits}
    if missing:
        parts = stratified(splits["train"].labels, {"train": 0.0, **missing})
        splits |= {name: splits["train"].take(index) for name, index in parts.items()}
    return splits, classes


def _files(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    unknown = sorted(set(find_classes(folder)) - set(classes))
    if unknown:
        raise UserError(f"data.root: {folder} has classes that the training pictures lack: {', '.join(unknown)}")
    for label, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")) if (folder / name).is_dir() else ():
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                yield path, label


def _decode(path: Path, size: int) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)  # scales the shorter side, cuts the centre
    return np.asarray(image).transpose(2, 0, 1)
