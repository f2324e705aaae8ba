"""A source: images by split, decoded when they are read, and functions that divide images among splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.errors import escape_control_chars
from alexnet.rng import generator

HELD_OUT = 0.15  # of the training images, for each split that a source does not have
FREQUENT = 2 / 3  # a share of one class from which accuracy alone says little
CLASS, LABELS, NUMBERS = KINDS = ("class", "labels", "numbers")  # what an image's label is


@dataclass(frozen=True)
class Split:
    """Images of one split.

    Attributes:
        labels: int64 (N,), a class each; or float32 (N, outputs), 1 for each of several labels that holds, or numbers.
        names: of each image, such as its path.
        read: gives image i as uint8 (C, H, W), C being 1 or 3, of any size; or as values whose range is not known, as
            `decode` does.
    """

    labels: NDArray[Any]
    names: Sequence[str]
    read: Callable[[int], Tensor]

    def take(self, index: NDArray[np.int64]) -> "Split":
        return Split(self.labels[index], [self.names[i] for i in index], partial(_taken, self.read, index))


@dataclass(frozen=True)
class Source:
    """A data set before it is packed.

    Attributes:
        classes: their names, or those of the labels or numbers.
        state: changes whenever the images do.
        splits: train, and perhaps val and test; or test alone.
        notes: what the user should know of files that are not used.
        background: the colour behind transparent pixels; see `decode`.
        kind: what a label is, of KINDS.
        files: whether the images come from files of somebody's own, which may hold anything.
    """

    classes: list[str]
    state: str
    splits: dict[str, Split]
    notes: list[str] = field(default_factory=list)
    background: str | None = "white"
    files: bool = False
    kind: str = CLASS

    @property
    def measured(self) -> str:
        """The split whose statistics are taken: train, or the only one."""
        return "train" if "train" in self.splits else next(iter(self.splits))


def strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Returns what must be divided evenly: the class of each sample, or 0 for all where there are no classes."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def stratified_indices(labels: NDArray[np.int64], shares: dict[str, float]) -> dict[str, NDArray[np.int64]]:
    """Returns sample numbers per split. Each class is divided by the same shares, in an order that never changes.

    The first split gets what rounding leaves. It does not depend on the run's seed: runs must be comparable.
    """
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in shares}
    first, *others = shares
    for label in np.unique(labels):
        members = shuffled(np.flatnonzero(labels == label), f"split/{label}")
        n = len(members)
        for name in others:
            count = round(shares[name] * n)
            parts[name].append(members[:count])
            members = members[count:]
        parts[first].append(members)
    return {name: np.sort(np.concatenate(members)) for name, members in parts.items()}


def subset(labels: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Returns sample numbers of `fraction` of every class, at least one. A smaller subset lies within a larger one."""
    chosen = []
    for label in np.unique(labels):
        members = shuffled(np.flatnonzero(labels == label), f"fraction/{label}")
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))


def shuffled(members: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """Returns the members in an order that depends on their number and on `name` alone."""
    return members[torch.randperm(len(members), generator=generator(0, name)).numpy()]


def array_split(images: Tensor, labels: NDArray[np.int64]) -> Split:
    """Returns the split of images (N, C, H, W) that lie in memory."""
    return Split(labels.astype(np.int64), [str(i) for i in range(len(labels))], partial(_item, images))


def stratified_split(split: Split, shares: dict[str, float]) -> dict[str, Split]:
    """Returns parts of a split, each with its share of every class."""
    return {name: split.take(index) for name, index in stratified_indices(strata(split.labels), shares).items()}


def hold_out(source: Source, test_fraction: float | None = None) -> Source:
    """Returns the source with a val and a test split.

    One that it does not have gets 15% of the training images of every class, or test `test_fraction` of them, which is
    another state of the images.
    """
    shares = {"val": HELD_OUT, "test": test_fraction or HELD_OUT}
    missing = {name: share for name, share in shares.items() if name not in source.splits}
    splits = source.splits | stratified_split(source.splits["train"], {"train": 1.0, **missing})
    state = source.state if test_fraction is None else f"{test_fraction} {source.state}"
    whole = replace(source, splits=splits, state=state)
    return replace(whole, notes=[*source.notes, *notes_on_classes(whole)])


def notes_on_classes(source: Source) -> list[str]:
    """Returns notes on classes that validation or test images lack, and on one that most test images are of."""
    notes = []
    for name, split in source.splits.items():
        if name == "train" or not len(split.labels) or source.kind != CLASS:
            continue
        counts = np.bincount(split.labels, minlength=len(source.classes))
        absent = [called for called, count in zip(source.classes, counts, strict=True) if not count]
        if absent:
            named = ", ".join(map(escape_control_chars, absent[:10]))
            notes.append(f"{name}: has no images of {len(absent)} classes: {named}")
        share = counts.max() / counts.sum()
        if name == "test" and FREQUENT <= share < 1:
            frequent = escape_control_chars(source.classes[counts.argmax()])
            notes.append(
                f"test: {share:.0%} of the images are of the class {frequent}, and always answering that is right as "
                "often. metrics=f1 counts all classes alike, and data.sampler=balanced trains on all alike"
            )
    return notes


def _item(images: Tensor, i: int) -> Tensor:
    return images[i]


def _taken(read: Callable[[int], Tensor], index: NDArray[np.int64], i: int) -> Tensor:
    return read(int(index[i]))
