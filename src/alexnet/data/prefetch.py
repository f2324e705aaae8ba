"""Copies the next batch to the GPU while this one is used."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import torch
from lightning_fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from alexnet.data.loader import Batch, CropBoxes, RandomCropDataset, ignore_signals_in_worker

T = TypeVar("T")


class PrefetchLoader(DataLoader[Batch]):
    """A DataLoader of a RandomCropDataset that copies the next batch to the device while this one is used.

    It is copied in a stream of its own, beside the kernels of the one that computes. Without worker processes, a thread
    cuts the images beside the training, too. The batches and their order stay the same.

    Args:
        crops: the dataset.
        device: of CUDA; None does none of it.
        **kwargs: DataLoader's.
    """

    def __init__(self, crops: RandomCropDataset, *, device: torch.device | None = None, **kwargs: Any) -> None:
        super().__init__(crops, collate_fn=_as_it_is, worker_init_fn=ignore_signals_in_worker, **kwargs)
        self.device = device
        self.side: torch.cuda.Stream | None = None

    def __iter__(self) -> Any:
        return super().__iter__() if self.device is None else self._ahead()

    def _ahead(self) -> Iterator[Batch]:
        assert self.device is not None
        if self.side is None:
            self.side = torch.cuda.Stream(self.device)
        side, ahead = self.side, None
        batches: Iterator[Batch] = super().__iter__()
        if not self.num_workers:  # pinned memory is of the current device, which is a thread's own
            batches = in_thread(batches, partial(torch.cuda.set_device, self.device))
        for batch in batches:
            with torch.cuda.stream(side):
                copied = move_data_to_device(batch, self.device), side.record_event()
            if ahead:
                yield self._arrived(*ahead)
            ahead = copied
        if ahead:
            yield self._arrived(*ahead)

    def _arrived(self, batch: Batch, copied: torch.cuda.Event) -> Batch:
        """Returns the batch once it is copied, and keeps its memory until the computing stream has used it."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(copied)
        for part in batch:
            (part.boxes if isinstance(part, CropBoxes) else part).record_stream(computing)
        return batch


def in_thread(values: Iterable[T], first: Callable[[], object], most: int = 2) -> Iterator[T]:
    """Yields the items of `values` in their order. A thread makes the next while the last are used.

    Errors are raised where their value would be; the thread ends with the iterator.

    Args:
        values: are taken by the thread.
        first: is called in the thread before.
        most: how many values wait, at most.
    """
    made, ended = queue.Queue[tuple[T | None, BaseException | None] | None](most), threading.Event()

    def put(what: tuple[T | None, BaseException | None] | None) -> None:
        while not ended.is_set():
            with suppress(queue.Full):
                return made.put(what, timeout=0.1)

    def make() -> None:
        try:
            first()
            for value in values:
                put((value, None))
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 (it is raised where the value would be)
            put((None, error))

    threading.Thread(target=make, daemon=True).start()
    try:
        while (found := made.get()) is not None:
            value, error = found
            if error is not None:
                raise error
            yield cast(T, value)
    finally:
        ended.set()


def _as_it_is(batch: Any) -> Any:
    return batch
