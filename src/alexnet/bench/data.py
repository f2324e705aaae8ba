"""The loader against torchvision's: ImageFolder, PIL and a DataLoader with one worker per core."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from alexnet.bench.limits import copy_rate
from alexnet.bench.measure import Row, compare
from alexnet.data import Augment, PictureData
from alexnet.data.packed import pack_on_disk
from alexnet.data.sources import decode, fake, folder

CORES = os.cpu_count() or 1
Sides = tuple[Callable[[], int], Callable[[], int]]  # ours and the peer's
PAPER = Augment(crop=True, flip=0.5, pca=0.1)


def measure(photos: Path | None, count: int = 2000, rounds: int = 5) -> Iterator[Row]:
    """photos: a folder of pictures, scaled to a shorter side of 256 and repeated to `count`; None: made-up ones."""
    versus = partial(compare, rounds=rounds)
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary) / "photos", Path(temporary) / "cache"
        _scaled(photos, root, count)
        data = PictureData("folder", str(root), batch_size=128, augment=PAPER, cache_dir=str(cache))
        data.setup()
        peer = ImageFolder(root, _transform(227, data.mean.tolist(), data.std.tolist()))
        loader = DataLoader(peer, 128, shuffle=True, num_workers=CORES, persistent_workers=True)
        through_peer = partial(_through, loader)
        window = 227 * 227 * 3
        yield versus("loader_crops", "images/s", partial(_crops, data), through_peer, copy_rate() / (2 * window))
        yield versus("loader_batches", "images/s", partial(_ready, data), through_peer)
        yield versus("cifar_batches", "images/s", *_cifar())
        yield versus("packing", "images/s", *_packing(root, cache))


def _crops(data: PictureData, at_least: int = 4000) -> int:
    done = 0
    while done < at_least:
        done += _through(data.train_dataloader())
    return done


def _ready(data: PictureData, at_least: int = 4000) -> int:
    done = 0
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    while done < at_least:
        for images, labels, draws in data.train_dataloader():
            data.ready(images, draws, dtype)
            done += len(labels)
    return done


def _through(loader: DataLoader) -> int:
    return sum(len(batch[1]) for batch in loader)


def _cifar() -> Sides:
    """32x32 pictures in memory, batches of 512, crops of 24; the peer goes through PIL, as torchvision's own does."""
    data = PictureData("fake", num_classes=10, size=32, crop=24, batch_size=512, augment=PAPER)
    data.setup()
    train = data.splits["train"]
    many = np.tile(np.arange(len(train)), 20)
    data.splits["train"] = train.take(many)
    arrays = train.images[train.rows[many]]
    peer = _Arrays(arrays, _transform(24, data.mean.tolist(), data.std.tolist()))
    loader = DataLoader(peer, 512, shuffle=True, num_workers=CORES, persistent_workers=True)
    return partial(_ready, data, 100_000), partial(_through, loader)


class _Arrays(Dataset):
    def __init__(self, arrays: np.ndarray, transform: transforms.Compose) -> None:
        self.arrays, self.transform = arrays, transform

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), i


def _packing(root: Path, cache: Path) -> Sides:
    """Packing onto disk against decoding alone, both with every core."""
    files = sorted(p for p in root.rglob("*.jpg"))

    def ours() -> int:
        shutil.rmtree(cache, ignore_errors=True)
        packed = pack_on_disk(partial(folder, root), cache / "set", 256, 3, "error")
        return sum(map(len, packed.splits.values()))

    def peer() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with ThreadPoolExecutor(CORES) as pool:
            done = sum(1 for _ in pool.map(decode, files))
        torch.set_num_threads(threads)
        return done

    return ours, peer


def _transform(crop: int, mean: list[float], std: list[float]) -> transforms.Compose:
    steps = [transforms.RandomCrop(crop), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(mean, std)])


def _scaled(photos: Path | None, root: Path, count: int) -> None:
    """JPEGs with a shorter side of 256 pixels, in two class folders below `root`."""
    if photos:
        files = sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        pictures = [Image.open(path).convert("RGB") for path in files]
    else:
        images = fake(256, 3, 10).splits["train"]
        pictures = [Image.fromarray(images.read(i).permute(1, 2, 0).numpy()) for i in range(200)]
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    scaled = []
    for i, picture in enumerate(pictures):
        path = root / "ab"[i % 2] / f"{i}.jpg"
        scale = 256 / min(picture.size)
        ImageOps.scale(picture, scale, Image.Resampling.BILINEAR).save(path, quality=90)
        scaled.append(path)
    for i in range(len(scaled), count):
        source = scaled[i % len(scaled)]
        shutil.copy(source, source.with_name(f"{i}.jpg"))
