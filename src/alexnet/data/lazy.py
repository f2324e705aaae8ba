"""Images that stay in their files and are decoded each time they are used: data.packed=false."""

import hashlib
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.data.decode import Range, bounds, resize_and_center_crop, to_uint8
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.data.packing import list_jobs, pack_in_memory
from alexnet.data.splits import Source
from alexnet.errors import UserError, escape_control_chars


class LazyDecodedImages:
    """Has the interface of an array of packed images, and decodes an image each time a window of it is read."""

    def __init__(self, source: Source, size: int, channels: int, value_range: Range | None) -> None:
        self.jobs = list_jobs(source)
        self.shape = (len(self.jobs), size, size, channels)
        self.background, self.value_range = source.background, value_range

    def __getitem__(self, place: Any) -> NDArray[np.uint8]:
        row, *window = place if isinstance(place, tuple) else (place,)
        split, i = self.jobs[row]
        try:
            image = split.read(i)
            if image.dtype != torch.uint8:
                image = to_uint8(image, self.value_range or bounds(image), self.background)
            return resize_and_center_crop(image, self.shape[1], self.shape[3])[tuple(window)]
        except (OSError, RuntimeError) as error:
            which = f"data: cannot read {escape_control_chars(split.names[i])}: {error}"
            raise UserError(f"{which}. data.packed=true finds every such image beforehand") from None


def open_lazily(source: Source, size: int, channels: int) -> PackedDataset:
    """Returns a data set whose images stay in their files.

    The statistics are those of at most 1,000 training images, and the fingerprint is of names, sizes and times.
    """
    train = source.splits[source.measured]
    some = train.take(np.unique(np.linspace(0, len(train.labels) - 1, 1000).astype(np.int64)))
    sample = pack_in_memory(replace(source, splits={source.measured: some}), size, channels, "skip")
    images = cast(NDArray[np.uint8], LazyDecodedImages(source, size, channels, sample.info.value_range))
    splits, start = {}, 0
    for name, split in source.splits.items():
        splits[name] = PackedSplit(images, np.arange(start, start + len(split.labels)), split.labels)
        start += len(split.labels)
    fingerprint = hashlib.sha256(source.state.partition(":")[0].encode()).hexdigest()  # the same on another disk
    names = {name: list(split.names) for name, split in source.splits.items()}
    info = replace(sample.info, fingerprint=fingerprint, broken=[])
    return PackedDataset(splits, info, names, sample.mean_image, source.notes)
