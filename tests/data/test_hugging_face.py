"""data=hf: data sets of Hugging Face's datasets, small ones that are made here."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.data import ImageDataModule
from alexnet.data.sources.hugging_face import HuggingFaceImages
from alexnet.errors import ArgumentError

pytestmark = pytest.mark.skipif(find_spec("datasets") is None, reason="needs datasets")


def split(count: int, label: Any = None, start: int = 0) -> Any:
    """Images whose red is their number, of the classes ant and bee in turn; or of what `label` gives."""
    import datasets  # takes seconds, in every process that collects tests

    labels = [i % 2 if label is None else label(i) for i in range(count)]
    images = [Image.new("RGB", (20, 20), (start + i, 0, 0)) for i in range(count)]
    kind = datasets.ClassLabel(names=["ant", "bee"]) if label is None else datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def saved(folder: Path, **splits: Any) -> str:
    import datasets

    datasets.DatasetDict(splits).save_to_disk(folder)
    return str(folder)


def opened(source: Any) -> ImageDataModule:
    data = ImageDataModule(source, size=20, crop=20, packed=False)
    data.setup()
    return data


def test_a_saved_data_set(tmp_path: Path) -> None:
    """By its own splits; the one that training has no use for is named."""
    root = saved(tmp_path / "d", train=split(30), validation=split(4, start=100), unsupervised=split(2))
    data = opened(HuggingFaceImages(root))
    assert (data.info.classes, data.source) == (["ant", "bee"], "hf")
    assert data.notes[0] == "the split unsupervised is not used"
    assert data.splits["val"].labels.tolist() == [0, 1, 0, 1]
    val = data.splits["val"]
    assert [int(val.images[int(row)][0, 0, 0]) for row in val.rows] == [100, 101, 102, 103]
    assert len(data.splits["train"]) + len(data.splits["test"]) == 30


def test_names_that_are_texts_and_a_split_without_labels(tmp_path: Path) -> None:
    import datasets

    unlabelled = split(3).cast_column("label", datasets.Value("int64")).map(lambda _: {"label": -1})
    numbers = split(12).cast_column("label", datasets.Value("int64"))
    images = HuggingFaceImages(saved(tmp_path / "a", train=numbers, test=unlabelled))
    assert images.notes == ["the split test has no labels, and is not used"]
    assert images.classes == ["0", "1"]
    texts = HuggingFaceImages(saved(tmp_path / "b", train=split(3, "cab".__getitem__)))
    assert (texts.classes, texts.labels) == (["a", "b", "c"], [2, 0, 1])


def test_the_state_is_that_of_the_files(tmp_path: Path) -> None:
    root = saved(tmp_path / "d", train=split(12))
    before = HuggingFaceImages(root).state
    assert HuggingFaceImages(root).state == before
    saved(tmp_path / "e", train=split(12, start=50))
    assert HuggingFaceImages(str(tmp_path / "e")).state != before


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    split(12).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert np.bincount(HuggingFaceImages(str(tmp_path)).labels).tolist() == [6, 6]


def test_mistakes(tmp_path: Path) -> None:
    root = saved(tmp_path / "d", train=split(6))
    for arguments, message in (
        ({"image": "imag"}, r"image=imag: the data set has no such column. Did you mean image\?"),
        ({"image": "label"}, "image=label: this column holds"),
        ({"root": None}, "path is missing"),
        ({"root": str(tmp_path / "none")}, "root=.*none: cannot be loaded"),
    ):
        with pytest.raises(ArgumentError, match=message):
            HuggingFaceImages(**{"root": root} | arguments)
    some = split(6, lambda i: None if i == 4 else "x")
    with pytest.raises(ArgumentError, match="label=label: row 4 of train has None, and no class"):
        HuggingFaceImages(saved(tmp_path / "e", train=some))
    with pytest.raises(ArgumentError, match="has no split train, validation or test with labels"):
        HuggingFaceImages(saved(tmp_path / "f", unsupervised=split(2)))
