"""Images of the user's own: any object that lists its images and reads one of them."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alexnet.data.decode import from_pil
from alexnet.data.sources.folder import Reading
from alexnet.data.sources.labels import note_on_similar
from alexnet.data.splits import CLASS, KINDS, NUMBERS, Source, Split, hold_out, strata
from alexnet.errors import ArgumentError, escape_control_chars
from alexnet.validation import check_choice, first_repeated

SPLITS = ("train", "val", "test")


class ImageSource(Protocol):
    """Interface of what `data.source` may name by its _target_.

    It may also have `splits`, of every image train, val or test (a split that has none gets 15% of the training images
    of every class); `state`, a text that changes whenever the images do, which are then packed again; `name`, what to
    call the data set; `notes`, what the user should know of what is not used; and `kind`, what a label is: class (the
    default), labels or numbers.

    Attributes:
        classes: the names of the classes; of kind=labels or numbers those of the labels or numbers.
        names: of every image, for messages.
        labels: of every image, its class's place in `classes`; of kind=labels a row of 0 and 1, one for each of
            `classes`; of kind=numbers a row of numbers.
    """

    classes: Sequence[str]
    names: Sequence[str]
    labels: Sequence[Any]

    def read(self, i: int) -> Tensor | Image.Image | Path | str:
        """Returns image i: uint8 (C, H, W) with C 1 or 3, of any size; or a PIL image, or the path of an image file.

        Raises:
            OSError: where it cannot be read; `data.on_broken` says what then.
        """


def open_images(images: ImageSource, reading: Reading, test_fraction: float | None = None) -> Source:
    """Opens an ImageSource. Splits that it does not have are split off the training images: see splits.hold_out.

    Raises:
        ArgumentError: where its attributes do not suit each other.
    """
    classes, names = [str(name) for name in images.classes], [str(name) for name in images.names]
    if twice := first_repeated(classes):
        raise _error(images, f"classes has {twice} twice, and names must differ")
    kind = check_choice("source.kind", getattr(images, "kind", CLASS), KINDS)
    if kind == CLASS and len(classes) < 2:
        raise _error(images, f"at least two classes are needed, and it has {', '.join(classes) or 'none'}")
    labels = _checked_labels(images, len(names)) if kind == CLASS else _checked_rows(images, kind, len(names))
    splits = _checked_splits(images, len(names))
    every = Split(labels, names, partial(_read, images, reading))
    found = {split: every.take(np.flatnonzero(splits == split)) for split in SPLITS if split in splits}
    if test_fraction is not None and "test" in found:
        raise ArgumentError(f"test_fraction={test_fraction}: {source_name(images)} has test images; leave it empty")
    if "train" not in found:
        raise _error(images, "has no training images")
    has_images = strata(found["train"].labels) if kind == CLASS else range(len(classes))
    if empty := sorted({*range(len(classes))} - {*has_images}):
        raise _error(images, f"no images to train on of {', '.join(classes[label] for label in empty)}")
    known = [kind, classes, names, labels.tolist(), splits.tolist(), str(getattr(images, "state", "")), str(reading)]
    state = hashlib.sha256(json.dumps(known).encode(errors="surrogateescape")).hexdigest()
    notes = [*getattr(images, "notes", ()), *note_on_similar(classes)]
    whole = Source(classes, state, found, notes, reading.background, files=True, kind=kind)
    return hold_out(whole, test_fraction)


def source_name(images: ImageSource) -> str:
    """Returns what to call the data set."""
    return str(getattr(images, "name", type(images).__name__))


def _error(images: ImageSource, text: str) -> ArgumentError:
    return ArgumentError(f"source={source_name(images)}: {text}")


def _checked_labels(images: ImageSource, n: int) -> Any:
    labels = np.asarray(images.labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise _error(images, f"labels must be whole numbers, one for each of {n} names")
    outside = (labels < 0) | (labels >= len(images.classes))
    if outside.any():
        i = int(outside.argmax())
        raise _error(
            images,
            f"{escape_control_chars(str(images.names[i]))} has the label {labels[i]}, and there are "
            f"{len(images.classes)} classes, from 0",
        )
    return labels.astype(np.int64)


def _checked_rows(images: ImageSource, kind: str, n: int) -> Any:
    """Returns labels of kind labels or numbers as float32 (n, classes)."""
    try:
        given = np.asarray(images.labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _error(images, f"labels of kind {kind} must be rows of numbers: {error}") from error
    if given.shape != (n, len(images.classes)):
        raise _error(images, f"labels must be {(n, len(images.classes))}, and are {given.shape}")
    with np.errstate(over="ignore"):  # it becomes infinite, and is refused below
        rows = given.astype(np.float32)
    wrong = ~np.isfinite(rows) if kind == NUMBERS else (rows != 0) & (rows != 1)
    if wrong.any():
        i, j = (int(place[0]) for place in np.nonzero(wrong))
        allowed = "a finite number of 32 bits" if kind == NUMBERS else "0 or 1"
        name = escape_control_chars(str(images.names[i]))
        raise _error(images, f"{images.classes[j]} of {name} is {given[i, j]:g}, and must be {allowed}")
    return rows


def _checked_splits(images: ImageSource, n: int) -> Any:
    splits = getattr(images, "splits", None)
    if splits is None:
        return np.full(n, "train")
    found = np.asarray(splits, dtype=str)
    if found.shape != (n,):
        raise _error(images, f"splits must be one for each of {n} names")
    if unknown := sorted({*found.tolist()} - {*SPLITS}):
        raise _error(images, f"splits has {', '.join(unknown)}; known are {', '.join(SPLITS)}")
    return found


def _read(images: ImageSource, reading: Reading, i: int) -> Tensor:
    found = images.read(i)
    if isinstance(found, str | Path):
        return reading.decode(Path(found))
    if isinstance(found, Image.Image):
        return from_pil(found, background=reading.background, value_range=reading.value_range)
    if not isinstance(found, Tensor) or found.dtype != torch.uint8 or found.dim() != 3 or len(found) not in (1, 3):
        kind = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"{source_name(images)}.read({i}): must be uint8 (1 or 3, H, W), and is {kind}")
    return found
