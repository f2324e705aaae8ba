"""Reads the image files that a user names, in batches, on all cores while the network runs."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from alexnet.cores import available_cores
from alexnet.data.decode import SIXTEEN_BITS, bounds, resize_and_center_crop, to_uint8
from alexnet.data.loader import ignore_signals_in_worker
from alexnet.data.sources.folder import Reading
from alexnet.data.sources.walk import LeftOut, walk

BATCH = 64
FEW = 2 * BATCH  # are decoded sooner than worker processes start

Decoded = tuple[int, Tensor | str]  # an image's number, and the image, or why it cannot be read


def named_files(asked: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Returns the named files in their order, and messages on what is wrong with the rest.

    A folder stands for the images below it, whose other files are counted, and - for what standard input names, a line
    each.
    """
    files, problems = [], []
    for name in asked:
        names = sys.stdin.read().splitlines() if name == "-" else [name]
        for path in map(Path, names):
            if not path.is_dir():
                files.append(path)
                continue
            left_out = LeftOut()
            found = sorted(Path(entry.path) for entry in walk(path, left_out))
            files += found
            if left_out.counts:
                problems.append(f"{path}: files that are no images were left out: {left_out}")
            elif not found:
                problems.append(f"{path}: no images in this folder")
    return files, problems


class Files(Dataset[Decoded]):
    """Decodes each file to uint8 (channels, size, size), or returns why it cannot be read."""

    def __init__(self, files: Sequence[Path], size: int, channels: int, reading: Reading) -> None:
        self.files, self.size, self.channels, self.reading = files, size, channels, reading

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Decoded:
        if not self.files[i].is_file():
            return i, f"{self.files[i]}: no such file"
        try:
            image = resize_and_center_crop(self._decode(self.files[i]), self.size, self.channels)
        except (OSError, RuntimeError) as error:
            return i, f"{self.files[i]}: cannot be read: {error}"
        return i, torch.from_numpy(image).permute(2, 0, 1)

    def _decode(self, file: Path) -> Tensor:
        image = self.reading.decode(file)
        if image.dtype == torch.uint8:
            return image
        low, high = bounds(image)
        if not 0 <= low <= high <= SIXTEEN_BITS or high <= SIXTEEN_BITS / 2:  # else its highest bit is in use
            raise OSError(f"its values are from {low:g} to {high:g}; say which range they have: data.value_range=HIGH")
        return to_uint8(image, (0, SIXTEEN_BITS), self.reading.background)


def batches(
    files: Sequence[Path], size: int, channels: int, reading: Reading
) -> Iterable[tuple[list[int], Tensor, list[str]]]:
    """Reads image files in batches.

    Each batch is the numbers of the images that can be read, these as uint8 (N, channels, size, size), and what is
    wrong with the others.
    """
    are_few = len(files) <= FEW
    num_workers = 0 if are_few else available_cores()
    loader = DataLoader(
        Files(files, size, channels, reading),
        BATCH,
        collate_fn=_collated,
        num_workers=num_workers,
        worker_init_fn=ignore_signals_in_worker,
    )
    return track(loader, "predicting", console=Console(stderr=True), disable=are_few, transient=True)


def _collated(batch: list[Decoded]) -> tuple[list[int], Tensor, list[str]]:
    images = {i: found for i, found in batch if isinstance(found, Tensor)}
    problems = [found for _, found in batch if isinstance(found, str)]
    return list(images), torch.stack([*images.values()]) if images else torch.empty(0), problems
