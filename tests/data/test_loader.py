import itertools
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.data import ImageDataModule
from alexnet.data.loader import (
    RANDOM_COLUMNS,
    CropBoxes,
    EpochSampler,
    RandomCropDataset,
    ShardedBatchSampler,
    class_balance,
)
from alexnet.data.packed import PackedSplit
from alexnet.data.prefetch import PrefetchLoader, in_thread
from alexnet.data.transforms import Augment
from alexnet.errors import UserError
from tests.conftest import slow


def stored_split(n: int = 23, size: int = 12) -> PackedSplit:
    draw = np.random.default_rng(0)
    rows = draw.permutation(n + 5)[:n]
    return PackedSplit(draw.integers(0, 256, (n + 5, size, size, 2), dtype=np.uint8), rows, np.arange(n))


def stored_image(stored: PackedSplit, i: int) -> np.ndarray:
    return stored.images[stored.rows[i]].transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "batch_size", "world_size"), [(23, 4, 1), (23, 4, 2), (21, 4, 4), (5, 5, 5), (3, 8, 2)]
)
def test_the_ranks_together_see_the_batches_that_one_process_sees(size: int, batch_size: int, world_size: int) -> None:
    for epoch in range(3):
        sampler = EpochSampler(size, 4, shuffle=True)
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == [(epoch, i) for i in range(size)]
        shares = [ShardedBatchSampler(sampler, batch_size, rank, world_size) for rank in range(world_size)]
        steps = list(zip(*shares, strict=True))
        assert len(steps) == len(shares[0])
        for step, parts in enumerate(steps):
            whole = order[step * batch_size : (step + 1) * batch_size]
            assert sorted(sample for part in parts for sample in part) == sorted(whole)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_rank_without_samples_gets_an_empty_batch() -> None:
    data = ImageDataModule(
        "fake", num_classes=3, size=20, crop=16, augment=Augment(flip=0.5, rescale=1, brightness=0.4)
    )
    data.setup()
    images, labels, rand = data.train_dataloader().dataset.__getitems__([])
    assert (images.dtype, labels.dtype, len(rand)) == (torch.uint8, torch.int64, 0)
    assert data.preprocess(images, rand).shape == (0, 3, 16, 16)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(50, seed, shuffle=True)
        sampler.set_epoch(epoch)
        return [i for _, i in sampler]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert [i for _, i in EpochSampler(5, 1, shuffle=False)] == [0, 1, 2, 3, 4]


def test_balanced_classes_are_drawn_as_often() -> None:
    """As many samples as there are, in an order of (seed, epoch) alone."""
    labels = np.repeat([0, 1, 2], [900, 90, 10])

    def epoch(number: int) -> list[int]:
        sampler = EpochSampler(1000, 4, shuffle=True, weights=class_balance(labels))
        sampler.set_epoch(number)
        return [index for _, index in sampler]

    found = labels[np.concatenate([epoch(number) for number in range(30)])]
    assert np.bincount(found) / 10_000 == pytest.approx(1, abs=0.03)
    assert epoch(3) == epoch(3) != epoch(4)
    assert len(epoch(0)) == 1000


def test_the_training_split_alone_is_balanced() -> None:
    data = ImageDataModule("digits", channels=1, size=20, crop=16, sampler="balanced")
    data.setup()
    drawn = [int(label) for batch in data.train_dataloader() for label in batch[1]]
    assert np.bincount(drawn).tolist() != np.bincount(data.splits["train"].labels).tolist()
    assert len(drawn) == len(data.splits["train"])
    tested = [int(label) for batch in data.test_dataloader() for label in batch[1]]
    assert tested == data.splits["test"].labels.tolist()


def test_crops_are_windows_of_the_images() -> None:
    stored = stored_split()
    images, labels, rand = RandomCropDataset(stored, 9, seed=3, random=True).__getitems__(
        [(5, i) for i in (7, 0, 22, 7)]
    )
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [7, 0, 22, 7]
    assert rand.shape == (4, len(RANDOM_COLUMNS))
    assert torch.equal(images[0], images[3])
    for image, i, (top, left) in zip(images, labels, (rand[:, :2] * 4).long(), strict=True):
        assert np.array_equal(image, stored_image(stored, i)[:, top : top + 9, left : left + 9])
    centre, *_ = RandomCropDataset(stored, 8, seed=3).__getitems__([(0, 1)])
    assert np.array_equal(centre[0], stored_image(stored, 1)[:, 2:10, 2:10])
    whole, *_ = RandomCropDataset(stored, 8, seed=3, random=True, whole=True).__getitems__([(0, 1)])
    assert np.array_equal(whole[0], stored_image(stored, 1))


@slow
@pytest.mark.parametrize("packed", [True, False])
def test_workers_that_are_not_forked(packed: bool, image_folder: Path, tmp_path: Path) -> None:
    """As on macOS: everything that a worker needs is pickled, and the packed array mapped anew, not copied."""
    data = ImageDataModule(
        "folder", str(image_folder), size=24, crop=20, packed=packed, cache_dir=str(tmp_path / "cache")
    )
    data.setup()
    train = data.splits["train"]
    samples = [(0, i) for i in range(len(train))]
    crops = RandomCropDataset(train, 20, 1, random=True)
    assert len(pickle.dumps(crops)) < (3000 if packed else 100_000)
    loader = PrefetchLoader(
        crops, batch_size=len(train), sampler=EpochSampler(len(train), 1, shuffle=False), num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    (batch,) = list(loader)
    assert all(torch.equal(a, b) for a, b in zip(batch, crops.__getitems__(samples), strict=True))


@pytest.mark.parametrize("whole", [True, False])
def test_places_are_cut_into_the_same_windows(whole: bool) -> None:
    draw = np.random.default_rng(0)
    for _ in range(10):
        crop, channels = int(draw.integers(1, 12)), int(draw.choice([1, 3]))
        stored = draw.integers(0, 256, (20, 12, 12, channels), np.uint8)
        some = PackedSplit(stored, draw.permutation(20)[:15], np.arange(15))
        samples = [(3, int(i)) for i in draw.integers(0, 15, draw.integers(0, 9))]
        images, *others = RandomCropDataset(some, crop, 1, random=True, whole=whole).__getitems__(samples)
        places, *the_same = RandomCropDataset(some, crop, 1, random=True, whole=whole, cut=False).__getitems__(samples)
        assert isinstance(places, CropBoxes)
        cut = places.crop(torch.from_numpy(stored))
        assert torch.equal(cut, images)
        assert cut.shape == images.shape
        assert cut.is_contiguous(memory_format=torch.channels_last)
        assert all(map(torch.equal, others, the_same))


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_copied_ahead_are_the_same(workers: int) -> None:
    def batches(device: torch.device | None) -> list[tuple[torch.Tensor, ...]]:
        loader = PrefetchLoader(
            RandomCropDataset(stored_split(), 9, 4, random=True),
            batch_size=4,
            sampler=EpochSampler(23, 4, shuffle=True),
            num_workers=workers,
            pin_memory=True,
            device=device,
        )
        return [tuple(part.clone() for part in batch) for _ in range(2) for batch in loader]

    for ours, theirs in zip(batches(torch.device("cuda")), batches(None), strict=True):
        assert all(a.is_cuda and torch.equal(a.cpu(), b) for a, b in zip(ours, theirs, strict=True))


def test_every_corner_of_the_image_is_reached() -> None:
    dataset = RandomCropDataset(stored_split(1, 5), 4, seed=0, random=True)
    corners = {dataset.__getitems__([(epoch, 0)])[0].numpy().tobytes() for epoch in range(60)}
    assert len(corners) == 4


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    def batches(workers: int) -> list[tuple[torch.Tensor, ...]]:
        sampler = EpochSampler(23, 4, shuffle=True)
        loader = PrefetchLoader(
            RandomCropDataset(stored_split(), 9, 4, random=True),
            batch_size=4,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        result = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            result += list(loader)
        return result

    plain, other = batches(0), batches(workers)
    assert len(plain) == 12
    assert all(torch.equal(a, b) for x, y in zip(plain, other, strict=True) for a, b in zip(x, y, strict=True))
    assert not torch.equal(plain[0][0], plain[6][0]), "another epoch, other images"


def test_an_epoch_goes_on_after_its_first_batches() -> None:
    """However often it is asked for, and no other epoch is short of them."""
    sampler = EpochSampler(20, 1, shuffle=True)
    sampler.set_epoch(4)
    every, rest = ShardedBatchSampler(sampler, 3), ShardedBatchSampler(sampler, 3, start=(4, 5))
    iter(rest)  # as a DataLoader with workers does, which then asks again
    assert list(rest) == list(rest) == list(every)[5:]
    assert len(rest) == 7
    sampler.set_epoch(5)
    assert list(rest) == list(every)


def test_a_thread_gives_the_same_in_the_same_order() -> None:
    where = []
    assert list(in_thread(iter(range(100)), lambda: where.append(threading.get_ident()))) == list(range(100))
    assert where
    assert where != [threading.get_ident()]


def test_an_error_in_a_thread_comes_where_its_value_would_be() -> None:
    def values() -> Iterator[int]:
        yield from (1, 2)
        raise UserError("cannot read")

    found = in_thread(values(), int)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(UserError, match="cannot read"):
        next(found)


def test_a_thread_ends_with_its_iterator() -> None:
    before = threading.active_count()
    values = in_thread(itertools.count(), int)
    assert next(values) == 0
    assert threading.active_count() == before + 1
    values.close()
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.05)
    assert threading.active_count() == before
