"""Images of a data set of Hugging Face's `datasets`, from its hub or a folder."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from alexnet.data.sources.layout import SPLIT_WORDS
from alexnet.errors import ArgumentError, escape_control_chars, suggest


class HuggingFaceImages:
    """An ImageSource.

    Args:
        root: a folder that `save_to_disk` has written, or one that `load_dataset` reads; None: `path`.
        path: the name of a data set on the hub, such as ylecun/mnist, which is fetched.
        config: which of its configurations, if it has several.
        image: the column of images.
        label: the column of classes, with or without names.

    Raises:
        ArgumentError: for a data set that cannot be loaded, or has other columns.
    """

    name = "hf"

    def __init__(
        self,
        root: str | None = None,
        path: str | None = None,
        config: str | None = None,
        image: str = "image",
        label: str = "label",
    ) -> None:
        self.image = image
        self.notes: list[str] = []
        found = _load(root, path, config)
        self.sets: dict[str, Any] = {}
        for key, dataset in found.items():
            split = SPLIT_WORDS.get(str(key).lower())
            if split is None or split in self.sets:
                self.notes.append(f"the split {escape_control_chars(str(key))} is not used")
            else:
                _check_columns(dataset, image, label)
                self.sets[split] = dataset
        texts = {split: dataset[label][:] for split, dataset in self.sets.items()}
        for split in [split for split, values in texts.items() if set(values) <= {-1, None}]:
            self.notes.append(f"the split {split} has no labels, and is not used")
            del self.sets[split], texts[split]
        self.classes, numbers = _classes(next(iter(self.sets.values()), None), label, texts)
        self.rows = [(split, row) for split, values in texts.items() for row in range(len(values))]
        self.names = [f"{split} {row}" for split, row in self.rows]
        self.splits = [split for split, _ in self.rows]
        self.labels = []
        for split, row in self.rows:
            if texts[split][row] not in numbers:
                raise ArgumentError(f"label={label}: row {row} of {split} has {texts[split][row]}, and no class")
            self.labels.append(numbers[texts[split][row]])
        self.state = self._state()

    def read(self, i: int) -> Image.Image:
        split, row = self.rows[i]
        return self.sets[split][row][self.image]

    def _state(self) -> str:
        """Returns the names, sizes and modification times of the files that hold the rows."""
        state = hashlib.sha256()
        for split, dataset in self.sets.items():
            for file in dataset.cache_files:
                info = os.stat(file["filename"])
                state.update(f"{split} {Path(file['filename']).name} {info.st_size} {info.st_mtime_ns}\0".encode())
        return state.hexdigest()


def _load(root: str | None, path: str | None, config: str | None) -> dict[str, Any]:
    """Loads the splits of the data set."""
    try:
        import datasets
    except ImportError as error:
        raise ArgumentError("needs a package that is not installed: pip install datasets") from error
    if root is None and path is None:
        raise ArgumentError("path is missing: pass data.root=FOLDER, or data.source.path=NAME of a data set on the hub")
    key, place = ("root", root) if root is not None else ("path", path)
    try:
        if root is not None and any(Path(root, name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(root)
        else:
            found = datasets.load_dataset(str(place), config)
    except Exception as error:  # of every kind that its formats, the hub and the network raise
        reason = escape_control_chars(" ".join(str(error).split())[:300])
        raise ArgumentError(f"{key}={place}: cannot be loaded: {reason}") from error
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _check_columns(dataset: Any, image: str, label: str) -> None:
    import datasets

    known = list(dataset.features)
    for key, column in (("image", image), ("label", label)):
        if column not in known:
            near = suggest(column, known) or f" Its columns are {', '.join(known)}"
            raise ArgumentError(f"{key}={column}: the data set has no such column.{near}")
    if not isinstance(dataset.features[image], datasets.Image):
        raise ArgumentError(f"image={image}: this column holds {dataset.features[image]}, and no images")


def _classes(dataset: Any, label: str, texts: dict[str, Sequence[Any]]) -> tuple[list[str], dict[Any, int]]:
    """Returns the names of the classes, and the index of each value among them."""
    if dataset is None:
        raise ArgumentError("has no split train, validation or test with labels")
    names = getattr(dataset.features[label], "names", None)
    if names is not None:
        return list(names), {number: number for number in range(len(names))}
    values = sorted({value for column in texts.values() for value in column if value is not None})
    return [str(value) for value in values], {value: number for number, value in enumerate(values)}
