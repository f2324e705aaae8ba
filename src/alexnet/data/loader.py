"""Makes batches of a split: which samples, in which order, cut out of the stored images."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from alexnet.cores import available_cores
from alexnet.data.packed import PackedSplit
from alexnet.rng import generator, uniform
from alexnet.validation import check_int

# One column of random numbers for each thing that is drawn for a sample, so that switching one off leaves the others.
RANDOM_COLUMNS = (
    *("top", "left", "flip", "vertical_flip", "area", "ratio"),
    *("brightness", "contrast", "saturation", "hue", "pca1", "pca2", "pca3"),
    *("own1", "own2", "own3", "own4"),  # of whatever augmentation is added
    *("mix", "mix_share", "mix_top", "mix_left", "mix_kind"),
    *("erase", "erase_area", "erase_ratio", "erase_top", "erase_left", "op1", "op2", "op3", "op4"),
)


def by_column(rand: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Returns a batch's random numbers, (N, len(RANDOM_COLUMNS)), by column name, each (N,), on the device."""
    return dict(zip(RANDOM_COLUMNS, rand.to(device).T, strict=True))


T = TypeVar("T")
# Images, labels and random numbers; of a batch whose images are mixed, also the row of each one's partner.
Batch = tuple["Tensor | CropBoxes", Tensor, Tensor] | tuple["Tensor | CropBoxes", Tensor, Tensor, Tensor]
Sample = tuple[int, ...]  # epoch and index; of a batch whose images are mixed, also the row of the partner, or -1


class CropBoxes(NamedTuple):
    """Windows not yet cut: int64 (N, 3) of each one's row in the packed array and its top left corner."""

    boxes: Tensor
    side: int

    def crop(self, stored: Tensor) -> Tensor:
        """Cuts the windows out of images uint8 (n, size, size, C). Returns (N, C, side, side), channels-last."""
        row, top, left = self.boxes.T[:, :, None, None]
        span = torch.arange(self.side, device=stored.device)
        return stored[row, top + span[:, None], left + span].permute(0, 3, 1, 2)


class RandomCropDataset(Dataset[Batch]):
    """Windows of `crop` pixels, cut out of the packed images a whole batch at a time.

    A sample is asked for as (epoch, index), so that a worker process needs to know nothing else. Returns images uint8
    (N, C, crop, crop) in channels-last memory, labels int64 (N,) and the samples' random numbers float32
    (N, len(RANDOM_COLUMNS)).

    With `paired` a sample is (epoch, index, row of its partner), as with_partners gives them, and the rows, int64 (n,),
    are returned too. The images from n on are only partners.

    Args:
        random: windows at random places; in the centre otherwise.
        whole: the stored images as they are; augmentation cuts the windows itself.
        cut: False gives CropBoxes instead of images, to be cut out of images that live on the device.
        pinned: images are cut into memory that a GPU reads by itself, in this process.
    """

    def __init__(
        self,
        split: PackedSplit,
        crop: int,
        seed: int,
        *,
        random: bool = False,
        whole: bool = False,
        cut: bool = True,
        pinned: bool = False,
        paired: bool = False,
    ) -> None:
        self.split, self.seed, self.random, self.cut, self.pinned = split, seed, random, cut, pinned
        self.paired = paired
        self.side = split.images.shape[1] if whole else crop

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, samples: list[Sample]) -> Batch:
        batch = self._load(samples)
        if not self.paired:
            return batch
        partners = [sample[2] for sample in samples if sample[2] >= 0]
        return *batch, torch.tensor(partners, dtype=torch.int64)

    def _load(self, samples: list[Sample]) -> tuple[Tensor | CropBoxes, Tensor, Tensor]:
        index = np.array([sample[1] for sample in samples], np.int64)
        epoch = samples[0][0] if samples else 0  # a batch never spans two epochs
        rand = uniform(self.seed, epoch, index, len(RANDOM_COLUMNS))
        stored, side = self.split.images, self.side
        spare = stored.shape[1] - side
        if self.random:
            corners = (rand[:, :2] * (spare + 1)).astype(np.int64)
        else:
            corners = np.full((len(index), 2), spare // 2)
        places = np.column_stack([self.split.rows[index], corners])
        labels, numbers = torch.from_numpy(self.split.labels[index]), torch.from_numpy(rand)
        if not self.cut:
            return CropBoxes(torch.from_numpy(places), side), labels, numbers
        shape = (len(index), side, side, stored.shape[3])
        if self.pinned:
            cut = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:
            cut = torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for huge pages, which torch does not
        images = cut.numpy()
        for i, (row, top, left) in enumerate(places.tolist()):
            images[i] = stored[row, top : top + side, left : left + side]
        return cut.permute(0, 3, 1, 2), labels, numbers


class EpochSampler(Sampler[Sample]):
    """Yields (epoch, index) of every sample once, in order, or shuffled by (seed, epoch) alone.

    Lightning calls set_epoch.

    Args:
        weights: how likely each sample is to be drawn; then as many samples are, with replacement.
        same_order: every epoch has the order of the first.
        chunks: of each sample, the number of the chunk that it must be read with: then one chunk follows another, in
            an order of each epoch's own, and the samples are shuffled within them.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        shuffle: bool,
        chunks: NDArray[np.int64] | None = None,
        same_order: bool = False,
        weights: Tensor | None = None,
    ) -> None:
        self.size, self.seed, self.shuffle, self.chunks = size, seed, shuffle, chunks
        self.same_order, self.weights = same_order, weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Sample]:
        order = torch.arange(self.size)
        if self.shuffle:
            epoch = 0 if self.same_order else self.epoch
            draw = generator(self.seed, f"order/{epoch}")
            if self.weights is None:
                order = torch.randperm(self.size, generator=draw)
            else:
                order = torch.multinomial(self.weights, self.size, replacement=True, generator=draw)
            if self.chunks is not None:
                place = torch.randperm(int(self.chunks.max(initial=0)) + 1, generator=draw)
                order = order[place[self.chunks[order]].argsort(stable=True)]
        yield from ((self.epoch, i) for i in order.tolist())


def class_balance(labels: NDArray[np.int64]) -> Tensor:
    """Returns each sample's probability of being drawn if all classes are to be equally likely, for EpochSampler."""
    return torch.from_numpy(1 / np.bincount(labels)[labels])


class ShardedBatchSampler(Sampler[list[Sample]]):
    """Yields one rank's share of each batch of `sampler`.

    It is every world_size-th sample: together the ranks see the batches that one process sees. A batch of fewer samples
    than ranks leaves some of them none.

    Args:
        sampler: the samples of all ranks, in their order.
        batch_size: of all ranks together.
        rank, world_size: which of how many ranks this one is.
        start: an epoch, and how many of its first batches are left out, since they have been seen before.
        paired: each sample comes with its partner, see with_partners.
    """

    def __init__(
        self,
        sampler: EpochSampler,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: tuple[int, int] = (0, 0),
        *,
        paired: bool = False,
    ) -> None:
        self.sampler, self.batch_size, self.rank, self.world_size = sampler, batch_size, rank, world_size
        self.start, self.paired = start, paired

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[Sample]]:
        epoch, done = self.start
        if self.sampler.epoch != epoch:
            done = 0
        samples = islice(self.sampler, done * self.batch_size, None)
        while batch := list(islice(samples, self.batch_size)):
            if self.paired:
                yield with_partners(batch, self.rank, self.world_size)
            else:
                yield batch[self.rank :: self.world_size]

    def positions(self, batch: int, n: int) -> list[int]:
        """Returns the places, in the order of `sampler`, of the n samples that this rank has of a batch."""
        first = batch * self.batch_size + self.rank
        return [first + i * self.world_size for i in range(n)]


def with_partners(batch: list[Sample], rank: int = 0, world_size: int = 1) -> list[Sample]:
    """Returns one rank's samples of a batch, each with its partner.

    They are (epoch, index, row of its partner in the list returned), and after them, with the row -1, come the partners
    that other ranks have.

    A sample's partner is half a batch further on, the same one for any number of ranks. Where twice that number divides
    the batch, the partner is of the same rank, and no image is loaded twice.
    """
    n = len(batch)
    own = list(range(rank, n, world_size))
    partners = [(place + n // 2) % n for place in own]
    others = sorted({*partners} - {*own})
    rows = {place: row for row, place in enumerate([*own, *others])}
    mixed = [(*batch[place], rows[partner]) for place, partner in zip(own, partners, strict=True)]
    return [*mixed, *((*batch[place], -1) for place in others)]


def check_num_workers(num_workers: Any, *, packed: bool) -> int:
    """Returns the number of processes that load images. None means 0 for packed images, else one per core."""
    cores = available_cores()
    if num_workers is None:
        cores_of_rank = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        return 0 if packed else cores_of_rank
    return check_int("num_workers", num_workers, 0, 8 * cores)


def ignore_signals_in_worker(worker: int) -> None:
    """Ignores signals sent to all processes by a terminal or SLURM: the run handles them, and needs its workers."""
    for sent in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(sent, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != run.pid:
        pass
    os._exit(0)
