"""Compares the loader with torchvision's: ImageFolder, PIL and a DataLoader with one worker per core."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from alexnet.benchmarks.limits import copy_rate
from alexnet.benchmarks.measure import Row, compare
from alexnet.cores import available_cores, has_bfloat16
from alexnet.data import Augment, ImageDataModule
from alexnet.data.decode import decode
from alexnet.data.packing import pack_on_disk
from alexnet.data.sources.folder import Reading, open_folder
from alexnet.data.sources.synthetic import fake
from alexnet.data.transforms import Normalize

CORES = available_cores()
Sides = tuple[Callable[[], int], Callable[[], int]]  # ours and the baseline's
PAPER = Augment(crop=True, flip=0.5, pca=0.1)


def measure(
    photos: Path | None, size: int = 256, crop: int = 227, count: int = 2000, least: int = 4000, rounds: int = 5
) -> Iterator[Row]:
    """Yields a row for each way of loading images, against torchvision's.

    Args:
        photos: a folder of images, scaled to a shorter side of `size` and repeated to `count`; None: made-up ones.
        size: side of a stored image in pixels.
        crop: side of a window in pixels.
        count: number of images.
        least: images of ours in a round.
        rounds: of each comparison.
    """
    versus = partial(compare, unit="images/s", rounds=rounds)
    crops, ready = partial(_crops, at_least=least), partial(_ready, at_least=least)
    shape: Any = {"size": size, "crop": crop, "batch_size": 128, "augment": PAPER}
    with tempfile.TemporaryDirectory() as temporary:
        root, originals, cache = (Path(temporary, name) for name in ("photos", "originals", "cache"))
        _laid_out(photos, root, count, size)
        data = ImageDataModule("folder", str(root), cache_dir=str(cache), **shape)
        data.setup()
        transform = _transform(size, crop, data.normalize)
        through_baseline = partial(_through, _image_folder(root, transform))
        limit = copy_rate() / (2 * crop * crop * 3)
        yield versus("loader_crops", ours=partial(crops, data), baseline=through_baseline, limit=limit)
        yield versus("loader_batches", ours=partial(ready, data), baseline=through_baseline)
        assert data.packed
        from alexnet.data.streaming import write_stream  # optional

        write_stream(data.packed, data.splits, Path(temporary, "stream"))
        stream = ImageDataModule("stream", f"{temporary}/stream", num_workers=0, **shape)
        stream.setup()
        yield versus("loader_stream", ours=partial(ready, stream), baseline=through_baseline)
        _laid_out(photos, originals, count)
        unpacked = ImageDataModule("folder", str(originals), packed=False, cache_dir=str(cache), **shape)
        unpacked.setup()
        through_originals = partial(_through, _image_folder(originals, transform))
        yield versus("loader_unpacked", ours=partial(ready, unpacked), baseline=through_originals)
        if size == 256:
            mine, theirs = _cifar(25 * least)
            yield versus("cifar_batches", ours=mine, baseline=theirs)
        mine, theirs = _packing(root, cache, size)
        yield versus("packing", ours=mine, baseline=theirs)


def measure_large(
    photos: Path | None, count: int = 200, size: tuple[int, int] = (4000, 3000), rounds: int = 3
) -> Iterator[Row]:
    """Yields rows on photographs as large as a camera's: decoded at each use, and packed.

    Args:
        photos: a folder of images, each repeated side by side until it fills `size`, so that a large file has as much
            detail as a photograph; None: made-up ones.
        count: number of images.
        size: width and height of an image in pixels.
        rounds: of each comparison.
    """
    versus = partial(compare, unit="images/s", rounds=rounds)
    shape: Any = {"size": 256, "crop": 227, "batch_size": 64, "augment": PAPER, "packed": False}
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary, "photos"), Path(temporary, "cache")
        _laid_out(photos, root, count)
        for file in root.rglob("*.jpg"):
            _repeat(file, *size)
        whole, scaled = (ImageDataModule("folder", str(root), scaled_decoding=on, **shape) for on in (False, True))
        whole.setup()
        scaled.setup()
        baseline = partial(_through, _image_folder(root, _transform(256, 227, whole.normalize), batch=64))
        yield versus("large_whole", ours=partial(_ready, whole, at_least=1), baseline=baseline)
        yield versus("large_scaled", ours=partial(_ready, scaled, at_least=1), baseline=baseline)
        pack = partial(_pack, root, cache, 256)
        ours, baseline = partial(pack, Reading(min_side=256)), partial(pack, Reading())
        yield versus("large_packing_scaled", ours=ours, baseline=baseline)


def _repeat(file: Path, width: int, height: int) -> None:
    """Fills an image of that size with copies of the one in `file`, and writes it there."""
    with Image.open(file) as image:
        small = np.asarray(image.convert("RGB"))
    times = math.ceil(height / small.shape[0]), math.ceil(width / small.shape[1]), 1
    Image.fromarray(np.tile(small, times)[:height, :width]).save(file, quality=90)


def _image_folder(folder: Path, transform: transforms.Compose, batch: int = 128) -> DataLoader:
    images = ImageFolder(folder, transform)
    return DataLoader(images, batch, shuffle=True, num_workers=CORES, persistent_workers=True)


def _crops(data: ImageDataModule, at_least: int) -> int:
    done = 0
    while done < at_least:
        done += _through(data.train_dataloader())
    return done


def _ready(data: ImageDataModule, at_least: int) -> int:
    done = 0
    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    while done < at_least:
        for images, labels, rand in data.train_dataloader():
            data.preprocess(images, rand, dtype)
            done += len(labels)
    return done


def _through(loader: DataLoader) -> int:
    return sum(len(batch[1]) for batch in loader)


def _cifar(at_least: int) -> Sides:
    """Returns both sides for 32x32 images in memory: batches of 512, crops of 24; torchvision goes through PIL."""
    data = ImageDataModule("fake", num_classes=10, size=32, crop=24, batch_size=512, augment=PAPER)
    data.setup()
    train = data.splits["train"]
    many = np.tile(np.arange(len(train)), max(1, at_least // 5000))
    data.splits["train"] = train.take(many)
    arrays = train.images[train.rows[many]]
    baseline = _Arrays(arrays, _transform(32, 24, data.normalize))
    loader = DataLoader(baseline, 512, shuffle=True, num_workers=CORES, persistent_workers=True)
    return partial(_ready, data, at_least), partial(_through, loader)


class _Arrays(Dataset):
    def __init__(self, arrays: np.ndarray, transform: transforms.Compose) -> None:
        self.arrays, self.transform = arrays, transform

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), i


def _packing(root: Path, cache: Path, size: int) -> Sides:
    """Returns both sides of packing: packing onto disk, and decoding alone, each with every core."""
    files = sorted(p for p in root.rglob("*.jpg"))

    def baseline() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with ThreadPoolExecutor(CORES) as pool:
            done = sum(1 for _ in pool.map(decode, files))
        torch.set_num_threads(threads)
        return done

    return partial(_pack, root, cache, size, Reading()), baseline


def _pack(root: Path, cache: Path, size: int, reading: Reading) -> int:
    shutil.rmtree(cache, ignore_errors=True)
    packed = pack_on_disk(open_folder(root, reading), cache / "set", size, 3, "error")
    return sum(map(len, packed.splits.values()))


def _transform(size: int, crop: int, normalize: Normalize) -> transforms.Compose:
    """Returns torchvision's transforms. Resize does nothing to an image that has the size already."""
    steps = [transforms.Resize(size), transforms.RandomCrop(crop), transforms.RandomHorizontalFlip()]
    return transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(normalize.mean.tolist(), normalize.std.tolist())]
    )


def _laid_out(photos: Path | None, root: Path, count: int, size: int | None = None) -> None:
    """Writes JPEGs into two class folders below `root`, the shorter side `size` pixels, or unchanged with None."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    if photos:
        files = sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    else:
        images, files = fake(256, 3, 10).splits["train"], []
        for i in range(min(count, 200)):
            files.append(root.with_name(f"{i}.jpg"))
            Image.fromarray(images.read(i).permute(1, 2, 0).numpy()).save(files[-1])
    laid = [root / "ab"[i % 2] / f"{i}.jpg" for i in range(max(count, len(files)))]
    for file, path in zip(files, laid, strict=False):
        with Image.open(file) as image:
            if size in (None, min(image.size)):
                shutil.copy(file, path)
            else:
                scaled = ImageOps.scale(image.convert("RGB"), size / min(image.size), Image.Resampling.BILINEAR)
                scaled.save(path, quality=90)
    for i in range(len(files), len(laid)):
        shutil.copy(laid[i % len(files)], laid[i])
