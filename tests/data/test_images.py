"""data.source by _target_: images of one's own, and those that a CSV file lists."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from alexnet.data import ImageDataModule
from alexnet.data.decode import decode
from alexnet.data.sources.csv_file import CsvImages
from alexnet.errors import ArgumentError, UserError
from alexnet.training.build import build_components
from alexnet.training.run import train
from tests.conftest import slow
from tests.training.test_run import TINY

Config = Callable[..., DictConfig]


class Squares:
    """Grey images of three brightnesses, as somebody else would write them."""

    classes = ("dark", "grey", "light")

    def __init__(self, count: int = 60) -> None:
        self.names = [f"square {i}" for i in range(count)]
        self.labels = [i % 3 for i in range(count)]

    def read(self, i: int) -> Any:
        return torch.full((1, 20, 20), 60 + 60 * (i % 3), dtype=torch.uint8)


class Changed(Squares):
    """With one thing changed: of class attributes, since a config gives plain values."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(30)
        vars(self).update(changed)


class OfAllKinds(Squares):
    def __init__(self, folder: str) -> None:
        super().__init__(12)
        self.folder = Path(folder)
        Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(self.folder / "clear.png")

    def read(self, i: int) -> Any:
        path = self.folder / "clear.png"
        return (str(path), path, Image.open(path), torch.zeros(3, 20, 20, dtype=torch.uint8))[i % 4]


def test_a_share_to_test_on() -> None:
    data = opened(Squares(), test_fraction=0.4)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 27, "val": 9, "test": 24}
    assert data.info.fingerprint != opened(Squares()).info.fingerprint
    with pytest.raises(ArgumentError, match=r"^test_fraction=0.4"):
        opened(Changed(splits=["train"] * 24 + ["test"] * 6), test_fraction=0.4)


def opened(source: Any, **arguments: Any) -> ImageDataModule:
    data = ImageDataModule(source, size=20, crop=20, **{"packed": False} | arguments)
    data.setup()
    return data


def stored(data: ImageDataModule, split: str) -> np.ndarray:
    """Its images in the order of the source, (N, size, size, C)."""
    part = data.splits[split]
    return np.stack([part.images[int(row)] for row in part.rows])


def test_images_of_ones_own_are_split_like_a_folder() -> None:
    data = opened(Squares(), channels=1)
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()} == {
        "train": [14, 14, 14], "val": [3, 3, 3], "test": [3, 3, 3],
    }  # fmt: skip
    assert (data.num_classes, data.source, data.info.classes) == (3, "Squares", ["dark", "grey", "light"])
    assert np.array_equal(stored(data, "val")[:, 0, 0, 0], 60 + 60 * data.splits["val"].labels)


def test_splits_of_ones_own() -> None:
    source = Squares(30)
    vars(source)["splits"] = ["train"] * 20 + ["test"] * 10
    data = opened(source)
    assert len(data.splits["test"]) == 10
    assert data.packed
    assert data.packed.names["test"] == source.names[20:]
    assert len(data.splits["train"]) + len(data.splits["val"]) == 20


def test_what_read_may_return(tmp_path: Path) -> None:
    """A tensor, a PIL image or a file, all decoded alike: the transparent pixels are white."""
    found = np.concatenate([stored(opened(OfAllKinds(str(tmp_path))), split) for split in ("train", "val", "test")])
    assert sorted(np.unique(found)) == [0, 255]
    assert (found[:, 0, 0, 0] == 0).sum() == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 1, 2]}, "labels must be whole numbers, one for each of 30"),
        ({"labels": [0.5] * 30}, "labels must be whole numbers"),
        ({"classes": ["a", "b", "a"]}, "classes has a twice"),
        ({"classes": ["a"], "labels": [0] * 30}, "at least two classes are needed, and it has a"),
        ({"kind": "numbers", "labels": [[1e300] * 3] * 30}, r"dark of square 0 is 1e.300, and must be a finite number"),
        ({"labels": [0, 1, 3] * 10}, "square 2 has the label 3, and there are 3 classes"),
        ({"labels": [0, 1] * 15}, "no images to train on of light"),
        ({"splits": ["train", "dev"] * 15}, "splits has dev; known are train, val, test"),
        ({"splits": ["test"] * 30}, "has no training images"),
    ],
)
def test_attributes_that_do_not_suit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"source=Changed: {message}"):
        opened(Changed(**changed))


def test_an_image_of_another_kind_is_the_users_own_bug() -> None:
    source = Squares()
    vars(source)["read"] = lambda i: torch.zeros(20, 20)
    with pytest.raises(TypeError, match=r"Squares.read\(\d+\): must be uint8"):
        opened(source)


def test_packed_again_when_the_state_changes(tmp_path: Path) -> None:
    places = []
    for state in ("a", "a", "b"):
        source = Squares()
        vars(source)["state"] = state
        data = opened(source, packed=True, cache_dir=str(tmp_path))
        assert data.cache_path
        places.append((data.cache_path / "images.npy").stat().st_mtime_ns)
    assert places[0] == places[1] != places[2]


def test_a_run_on_images_of_ones_own(config: Config, tmp_path: Path) -> None:
    """evaluate.py runs no class that a checkpoint names, unless it is trusted."""
    cfg = config(*TINY, f"run_dir={tmp_path}/run", "data.channels=1")
    cfg.data.source = OmegaConf.create({"_target_": "tests.data.test_images.Squares", "count": 90})
    cfg.data.num_classes = None
    train(cfg)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["source"] == "Squares"
    evaluate = pytest.importorskip("alexnet.inference.evaluate").evaluate
    with pytest.raises(UserError, match=r"trusted=\[tests\] allows it"):
        evaluate(tmp_path / "run", {})
    out, _ = evaluate(tmp_path / "run", {"trusted": ["tests"]})
    assert json.loads((out / "evaluation.json").read_text())["data"]["pictures"] == 12


def test_a_mistyped_argument_of_ones_own_class(config: Config) -> None:
    cfg = config(*TINY)
    cfg.data.source = OmegaConf.create({"_target_": "tests.data.test_images.Squares", "counts": 3})
    with pytest.raises(UserError, match=r"data.source.counts: Squares has no such argument. Did you mean count\?"):
        build_components(cfg)


def write_csv(file: Path, columns: str, *rows: str) -> str:
    file.write_text("\n".join([columns, *rows]) + "\n")
    return str(file)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """images/0.png to images/29.png, and labels.csv of classes 2, 10 and 9 with a split."""
    (tmp_path / "images").mkdir()
    rows = []
    for i in range(30):
        Image.new("RGB", (20, 20), (i, 2 * i, 0)).save(tmp_path / "images" / f"{i}.png")
        rows.append([f"images/{i}.png", (2, 10, 9)[i % 3], ("Training", "valid", "test")[i // 10]])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return tmp_path / "labels.csv"


def test_a_csv_file(listed: Path) -> None:
    """Numbers are classes in their own order; every row is read where its split says."""
    data = opened(CsvImages(str(listed)))
    assert data.info.classes == ["2", "9", "10"]
    for number, split in enumerate(("train", "val", "test")):
        rows = range(10 * number, 10 * number + 10)
        assert data.splits[split].labels.tolist() == [(0, 2, 1)[i % 3] for i in rows]
        expected = [decode(listed.parent / "images" / f"{i}.png").permute(1, 2, 0).numpy() for i in rows]
        assert np.array_equal(stored(data, split), expected)


def test_columns_and_files_of_other_names(tmp_path: Path, listed: Path) -> None:
    """As competitions have them: ids without an ending, the classes' names in another file, spaces after commas."""
    file = write_csv(tmp_path / "train.csv", "id, species", *(f"{i}, {i % 2}" for i in range(30)))
    write_csv(tmp_path / "names.csv", "species,name", "0,howler", '1,"marmoset, silvery"', "2,unused")
    names = CsvImages(file, path="id", label="species", class_file="names.csv", pattern="images/{}.png")
    data = opened(names)
    assert data.info.classes == ["howler", "marmoset, silvery"]
    assert len(data.splits["test"]) == 4
    named = write_csv(tmp_path / "b.csv", "path;label;title", "images/0.png;1;x", "images/1.png;0;y")
    assert CsvImages(named, class_name="title", delimiter=";").classes == ["y", "x"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_whatever_is_between_the_columns(mark: str, tmp_path: Path) -> None:
    """A spreadsheet writes semicolons where the comma is the decimal point."""
    file = write_csv(tmp_path / "labels.csv", f"path{mark}label", f"0.png{mark}wren", f"1.png{mark}crane")
    images = CsvImages(file)
    assert ([*images.names], [*images.classes]) == (["0.png", "1.png"], ["crane", "wren"])


def test_paths_that_windows_has_written(listed: Path) -> None:
    expected = stored(opened(CsvImages(str(listed))), "test")
    listed.write_text(listed.read_text().replace("images/", "images\\"))
    assert np.array_equal(stored(opened(CsvImages(str(listed))), "test"), expected)


def test_a_class_too_small_to_divide_is_named(listed: Path) -> None:
    """Such as a label that was mistyped once."""
    rows = [line.rpartition(",")[0] for line in listed.read_text().splitlines()]  # without the split
    listed.write_text("\n".join([*rows[:-1], "images/29.png,nan"]))
    notes = [note for note in opened(CsvImages(str(listed))).notes if note.endswith("classes: nan")]
    assert [note.partition(":")[0] for note in notes] == ["val", "test"]


@pytest.mark.parametrize(("share", "said"), [(0.8, True), (0.5, False)])
def test_a_class_that_most_test_images_are_of_is_named(listed: Path, share: float, said: bool) -> None:
    paths = [line.partition(",")[0] for line in listed.read_text().splitlines()]
    common = round(share * len(paths))
    labels = ["label", *["fine"] * common, *["cracked"] * (len(paths) - 1 - common)]
    listed.write_text("\n".join(f"{path},{label}" for path, label in zip(paths, labels, strict=True)))
    source = opened(CsvImages(str(listed)))
    assert any(note.startswith("test: ") and "fine" in note for note in source.notes) == said


@slow
def test_a_run_on_a_csv_file(listed: Path, config: Config, tmp_path: Path) -> None:
    """It is the same run in another folder, and evaluate.py finds its images again."""
    cfg = config("data=csv", f"data.root={listed}", "model.width=0.0625", "trainer.max_epochs=1", "logger=none",
                 "data.size=70", "data.crop=67", f"run_dir={tmp_path}/run")  # fmt: skip
    train(cfg)
    evaluate = pytest.importorskip("alexnet.inference.evaluate").evaluate
    out, _ = evaluate(tmp_path / "run", {})
    assert json.loads((out / "evaluation.json").read_text())["as_in_training"] is True
    moved = tmp_path / "moved"
    moved.mkdir()
    listed.rename(moved / "labels.csv")
    (listed.parent / "images").rename(moved / "images")
    out, _ = evaluate(tmp_path / "run", {"data.root": str(moved / "labels.csv")}, out=tmp_path / "again")
    assert json.loads((out / "evaluation.json").read_text())["data"]["pictures"] == 10


@pytest.mark.parametrize(
    ("columns", "row", "arguments", "message"),
    [
        ("file,label", "images/0.png,1", {}, "path=path: .* has no such column. Its columns are file, label"),
        ("path,labels", "images/0.png,1", {}, "label=label: .* Did you mean labels?"),
        ("path,label", "images/0.png,", {}, "row 4 has nothing in the column label"),
        ("path,label", "images/0.png", {}, "row 4 has nothing in the column label"),
        ("path,label", "images/0.png,1", {"split": "fold"}, "split=fold: .* has no such column"),
        ("path,label,split", "images/0.png,1,3", {}, "split=split: row 4 of .* has 3; known are train, val, test"),
        ("path,label,split", "images/1.png,1,test", {}, "rows 2 and 4 are the same image, images/1.png, for train and"),
        ("path,label", "images/1.png,1", {}, "rows 2 and 4 are the same image"),
        ("path,label,name", "images/0.png,1,x", {"class_name": "name"}, "row 4 of .* calls the label 1 x, .* a"),
        ("path,label", "images/0.png,1", {"class_file": "names.csv"}, "has no name for the label 1"),
        ("path,label", "images/0,1.png,1", {}, "row 4 has more values than there are columns"),
        ("path,label,label", "images/0.png,1,2", {}, "has two columns label"),
        ("path,label", "images/0.png,1", {"pattern": "x"}, "pattern=x: must have {} in it"),
    ],
)
def test_mistakes_in_a_csv_file(
    columns: str, row: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    n = columns.count(",") - 1
    first = [f"images/{i}.png,{i}" + ",".join(["", ("train", "a")["name" in columns]][: n + 1]) for i in (1, 2)]
    file = write_csv(tmp_path / "labels.csv", columns, *first, row)
    write_csv(tmp_path / "names.csv", "label,name", "2,two")
    with pytest.raises(ArgumentError, match=message):
        CsvImages(file, **arguments)


def test_numbers_are_classes_in_their_order_before_names(tmp_path: Path) -> None:
    rows = [f"{i}.png,{label}" for i, label in enumerate(["b", "10", "--1", "-2", "9"])]
    file = write_csv(tmp_path / "labels.csv", "path,label", *rows)
    assert CsvImages(file).classes == ["-2", "9", "10", "--1", "b"]


def test_two_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = [f"{i}.png,{i},{name}" for i, name in enumerate(("crane", "crane", "wren"))]
    file = write_csv(tmp_path / "labels.csv", "path,label,name", *rows)
    assert CsvImages(file, class_name="name").classes == ["crane (0)", "crane (1)", "wren"]


def test_files_that_are_not_there(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "3.png").unlink()
    with pytest.raises(UserError, match=r"labels.csv, row 5: no such file: .*3.png"):
        opened(CsvImages(str(listed)), packed=True, cache_dir=str(tmp_path / "cache"))
    data = opened(CsvImages(str(listed)), packed=True, cache_dir=str(tmp_path / "cache"), on_broken="skip")
    assert len(data.splits["train"]) == 9
    (tmp_path / "empty.csv").write_text("path,label\n")
    with pytest.raises(ArgumentError, match="has no rows"):
        CsvImages(str(tmp_path / "empty.csv"))
    (tmp_path / "latin.csv").write_bytes(b"path,label\n\xe9.png,1\n")
    with pytest.raises(ArgumentError, match="no CSV file of UTF-8"):
        CsvImages(str(tmp_path / "latin.csv"))
